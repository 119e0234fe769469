"""Datasets as strangers leave them: the numbers of the straight one, or one line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bend
import fakes
from bend import DATA, INDEX, INFO, STATE, STATS, TASKS, Bend, column, edit_json, edit_table
from policyscope.checks import dataset
from policyscope.checks.inputs import read_offline
from policyscope.config import DatasetConfig
from policyscope.config.parsing import parse_episodes
from policyscope.data.decoders import StoredPictures
from policyscope.data.files import Folder
from policyscope.data.seen import Moments
from policyscope.data.source import FrameSource
from policyscope.errors import InputError, UsageError
from policyscope.policies.split import label, trained_on
from policyscope.runs.record import read_record
from test_refusals import eval_words, one_line, run_cli

LENGTHS = (5, 7, 4, 6)
TEXTS = ("push the block", "hold still")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four episodes of two tasks, three named dims, no camera."""
    return fakes.write_dataset(
        tmp_path_factory.mktemp("straight") / "d",
        lengths=LENGTHS,
        dim=3,
        names=["x", "y", "z"],
        cameras=(),
        tasks=TEXTS,
    )


@pytest.fixture(scope="module")
def truth(straight: Path) -> dict[int, dict[str, Any]]:
    return bend.truth(straight)


def bent(straight: Path, tmp_path: Path, change: Bend) -> Path:
    root = tmp_path / "bent"
    shutil.copytree(straight, root)
    change(root)
    return root


def opened(root: Path, episodes: list[int] | None = None) -> FrameSource:
    source = FrameSource(DatasetConfig(repo_id="fake/data", root=str(root)), repo_id="fake/data")
    source.load(list(source.facts.lengths) if episodes is None else episodes)
    return source


def assert_same(source: FrameSource, truth: dict[int, dict[str, Any]]) -> None:
    assert list(source.facts.lengths) == list(truth)
    for index, known in truth.items():
        episode = source.episode(index)
        np.testing.assert_array_equal(episode.actions.values, known["action"])
        np.testing.assert_array_equal(episode.state, known["state"])
        np.testing.assert_array_equal(episode.timestamps, known["seconds"])
        assert episode.tasks == known["tasks"]


def wider(kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        for name in ("episode_index", "frame_index", "task_index", "index"):
            table = column(table, name, table.column(name).to_pylist(), kind)
        return table

    return change


def grouped(root: Path) -> None:
    """One row group for every two rows, none of which ends where an episode does."""
    pq.write_table(pq.read_table(root / DATA), root / DATA, row_group_size=2)


def nested(root: Path) -> None:
    """Actions as [3, 1] arrays, as `datasets` stores two dims."""
    table = pq.read_table(root / DATA)
    rows = [[[float(v)] for v in row] for row in table.column("action").to_pylist()]
    kind = pa.list_(pa.list_(pa.float32()))
    pq.write_table(column(table, "action", rows, kind), root / DATA)
    bend.feature("action", shape=[3, 1])(root)


def two_indices(root: Path) -> None:
    """The index in two files of different columns, the later episodes first."""
    table = pq.read_table(root / INDEX)
    pq.write_table(table.slice(2), root / INDEX)
    rest = table.slice(0, 2).drop_columns(["data/file_index"])
    pq.write_table(rest, root / INDEX.replace("file-000", "file-001"))


def renumbered(root: Path) -> None:
    """The same texts under other numbers, in another order."""
    edit_table(TASKS, lambda t: bend.backwards(column(t, "task_index", [7, 3], pa.int64())))(root)
    edit_table(
        DATA,
        lambda t: column(
            t, "task_index", [{0: 7, 1: 3}[i] for i in t.column("task_index").to_pylist()]
        ),
    )(root)


def texts_as_column(*extra: str) -> Bend:
    def change(table: pa.Table) -> pa.Table:
        frame = table.to_pandas()
        plain = pa.table({"task_index": frame["task_index"].tolist(), "task": frame.index.tolist()})
        for name in extra:
            plain = column(plain, name, ["?"] * len(plain))
        return plain

    return edit_table(TASKS, change)


def a_column(name: str, values: Callable[[int], list[Any]], **declared: Any) -> Bend:
    def change(root: Path) -> None:
        edit_table(DATA, lambda t: column(t, name, values(len(t))))(root)
        bend.feature(name, **declared)(root)

    return change


SAME: dict[str, Bend] = {
    "index backwards": edit_table(INDEX, bend.backwards),
    "index in two files, out of order": two_indices,
    "index twice": edit_table(INDEX, lambda t: pa.concat_tables([t, t.slice(1, 2)])),
    "index without tasks": edit_table(INDEX, lambda t: t.drop_columns(["tasks"])),
    "index without files": edit_table(
        INDEX, lambda t: t.drop_columns(["data/chunk_index", "data/file_index"])
    ),
    "index of floats": edit_table(
        INDEX,
        lambda t: column(t, "episode_index", [float(i) for i in range(len(t))], pa.float64()),
    ),
    "frames backwards": edit_table(DATA, bend.backwards),
    "frames shuffled": edit_table(
        DATA, bend.order(np.random.default_rng(0).permutation(sum(LENGTHS)).tolist())
    ),
    "row groups across episodes": grouped,
    "second file, index says so": bend.split_data(12, indices=[0, 0, 1, 1]),
    "second file, index is stale": bend.split_data(12),
    "second file, index names one that is not there": bend.split_data(12, indices=[0, 0, 9, 9]),
    "an episode across two files": bend.split_data(8),
    "two files, each the other's": bend.split_data(12, indices=[1, 1, 0, 0]),
    "numbers of 32 bits": edit_table(DATA, wider(pa.int32())),
    "numbers as floats": edit_table(DATA, wider(pa.float64())),
    "frames counted through": edit_table(
        DATA, lambda t: column(t, "frame_index", t.column("index").to_pylist())
    ),
    "tasks in another order": renumbered,
    "tasks backwards": edit_table(TASKS, bend.backwards),
    "texts as a column": texts_as_column(),
    "texts as a column beside another": texts_as_column("note"),
    "a text observation": a_column(
        "observation.note", lambda n: ["go on"] * n, dtype="string", shape=[1], names=None
    ),
    "an observation that is never there": a_column(
        "observation.extra", lambda n: [None] * n, dtype="float32", shape=[1], names=None
    ),
    "a ragged observation": a_column(
        "observation.tokens", lambda n: [[1] * (i % 3) for i in range(n)], dtype="int64", shape=[3]
    ),
    "an observation without a column": bend.feature("observation.lost", dtype="float32", shape=[2]),
    "arrays of two dims": nested,
    "counts left out": edit_json(
        INFO, lambda c: [c.pop(k) for k in ("total_episodes", "total_frames", "total_tasks")]
    ),
    "names as a mapping to indices": bend.feature("action", names={"z": 2, "x": 0, "y": 1}),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME.keys())
def test_the_same_numbers(
    change: Bend, straight: Path, truth: dict[int, dict[str, Any]], tmp_path: Path
) -> None:
    root = bent(straight, tmp_path, change)
    assert_same(opened(root), truth)
    config = fakes.config_for(root, "hold_state", tmp_path / "o")
    inputs = read_offline(config)
    assert [f.code for f in inputs.findings if f.severity == "error"] == []
    assert inputs.source.facts.robot.actions.names == ("x", "y", "z")
    first = {e: known["tasks"][0] for e, known in truth.items()}
    assert inputs.source.facts.episode_tasks == first


def with_values(key: str, kind: pa.DataType, values: Callable[[pa.Table], Any]) -> Bend:
    return edit_table(DATA, lambda t: column(t, key, values(t), kind))


def ragged(table: pa.Table) -> list[list[float]]:
    """As many numbers as there should be, in rows of two, four and three."""
    rows = table.column("action").to_pylist()
    rows[0], rows[1] = rows[0][:2], [*rows[1], rows[0][2]]
    return rows


REFUSED: dict[str, tuple[Bend, str]] = {
    "fewer episodes than counted": (
        bend.together(
            edit_table(INDEX, lambda t: t.slice(0, 2)), edit_table(DATA, lambda t: t.slice(0, 12))
        ),
        "4 episodes as meta/info.json says; found 2",
    ),
    "an episode missing in the middle": (
        edit_table(INDEX, bend.order([0, 1, 3])),
        "dataset_counts_contradict",
    ),
    "another recording beside it": (
        lambda root: shutil.copy(root / DATA, root / "data/chunk-000/file-007.parquet"),
        "22 rows in the files below data/, one for each frame of the index; found 22 more",
    ),
    "other frames than counted": (bend.info(total_frames=21), "21 frames as meta/info.json says"),
    "other length than the index": (
        edit_table(INDEX, lambda t: column(t, "dataset_to_index", [6, 12, 16, 22])),
        "5 frames in episode 0 as its length says; found 6",
    ),
    "an episode twice in the index": (
        edit_table(INDEX, lambda t: column(t, "episode_index", [0, 1, 1, 3])),
        "one description of episode 1; found two",
    ),
    "an index of texts": (
        edit_table(INDEX, lambda t: column(t, "episode_index", ["a", "b", "c", "d"])),
        "whole numbers in episode_index",
    ),
    "an index of fractions": (
        edit_table(INDEX, lambda t: column(t, "length", [5.5, 7, 4, 6], pa.float64())),
        "whole numbers in length",
    ),
    "an index with a hole": (
        edit_table(INDEX, lambda t: column(t, "length", [5, None, 4, 6], pa.int64())),
        "whole numbers in length",
    ),
    "no index": (lambda root: shutil.rmtree(root / "meta/episodes"), "meta/episodes"),
    "no lengths": (edit_table(INDEX, lambda t: t.drop_columns(["length"])), "a column length"),
    "too few frames": (edit_table(DATA, lambda t: t.slice(0, 20)), "found 4"),
    "frames twice": (
        edit_table(DATA, lambda t: column(t, "frame_index", [0] * len(t))),
        "frame_index 0 twice",
    ),
    "no frame_index": (
        edit_table(DATA, lambda t: t.drop_columns(["frame_index"])),
        "one column frame_index",
    ),
    "no actions": (edit_table(DATA, lambda t: t.drop_columns(["action"])), "one column action"),
    "actions twice": (
        edit_table(DATA, lambda t: t.append_column("action", t.column("action"))),
        "one column action; found 2",
    ),
    "another number of dims": (bend.feature("action", shape=[2], names=["x", "y"]), "action"),
    "ragged actions": (with_values("action", pa.list_(pa.float32()), ragged), "rows of 3 lengths"),
    "a missing action": (
        with_values(
            "action", pa.list_(pa.float32()), lambda t: [None, *t.column("action").to_pylist()[1:]]
        ),
        "action in episode 0",
    ),
    "texts as actions": (
        with_values("action", pa.list_(pa.string()), lambda t: [["a", "b", "c"]] * len(t)),
        "values of type string",
    ),
    "no feature named action": (
        edit_json(INFO, lambda c: c["features"].update(actions=c["features"].pop("action"))),
        "rename the column to action",
    ),
    "a task that is not there": (
        edit_table(DATA, lambda t: column(t, "task_index", [3] * len(t))),
        "found 3, which is not there",
    ),
    "no number for a task": (
        edit_table(DATA, lambda t: column(t, "task_index", [float("nan")] * len(t), pa.float64())),
        "no whole numbers",
    ),
    "no texts": (edit_table(TASKS, lambda t: t.drop_columns(["task"])), "one column of texts"),
    "two texts of one task": (
        edit_table(TASKS, lambda t: column(t, "task_index", [0, 0])),
        "one text of task 0",
    ),
    "no tasks": (lambda root: (root / TASKS).unlink(), "meta/tasks.parquet"),
    "v2's paths": (
        bend.info(data_path="data/train/episode_{episode_index:06d}.parquet"),
        "data_path in meta/info.json",
    ),
    "paths that lead out": (
        bend.info(data_path="../{chunk_index}/{file_index}.parquet"),
        "a path inside the folder",
    ),
    "an absolute path": (
        bend.info(data_path="/etc/{chunk_index}/{file_index}"),
        "a path inside the folder",
    ),
    "no tasks in their table": (edit_table(TASKS, lambda t: t.slice(0, 0)), "found 0, which"),
    "paths with attributes": (
        bend.info(data_path="data/{chunk_index.__class__}/{file_index}"),
        "data_path in meta/info.json",
    ),
    "paths of gigabytes": (
        bend.info(data_path="data/{chunk_index:999999999d}/{file_index}"),
        "data_path in meta/info.json",
    ),
    "no version": (edit_json(INFO, lambda c: c.pop("codebase_version")), "no codebase_version"),
    "v1.6": (bend.info(codebase_version="v1.6"), "convert a copy to v2.1"),
    "v2.1": (bend.info(codebase_version="v2.1"), "policyscope convert"),
    "a later version": (bend.info(codebase_version="v4.0"), "a newer policyscope"),
    "no rate": (edit_json(INFO, lambda c: c.pop("fps")), "fps in meta/info.json"),
    "a rate of zero": (bend.info(fps=0), "greater than 0; found 0"),
    "an endless rate": (bend.info(fps=float("inf")), "fps in meta/info.json"),
    "features as a list": (bend.info(features=[]), "features in meta/info.json"),
    "a negative dim": (bend.feature("action", shape=[-3]), "1 to 1000000 numbers a frame"),
    "a trillion dims": (bend.feature(STATE, shape=[10**6, 10**6]), "numbers a frame"),
    "a camera of a trillion pixels": (
        bend.feature("observation.image", dtype="image", shape=[10**6, 10**6, 3]),
        "at most 40000000 pixels",
    ),
    "a list for info.json": (lambda root: (root / INFO).write_text("[]"), "a JSON object"),
    "deeply nested": (lambda root: (root / INFO).write_text("[" * 10**5), "nested deeper"),
    "a FIFO for info.json": (
        lambda root: ((root / INFO).unlink(), os.mkfifo(root / INFO)),
        "without meta/info.json",
    ),
    "a FIFO for frames": (
        lambda root: ((root / DATA).unlink(), os.mkfifo(root / DATA)),
        "a regular file; found a FIFO",
    ),
    "a directory for tasks": (
        lambda root: ((root / TASKS).unlink(), (root / TASKS).mkdir()),
        "a regular file; found a directory",
    ),
    "frames outside": (
        lambda root: (
            shutil.move(root / DATA, root.parent / "away.parquet"),
            (root / DATA).symlink_to(root.parent / "away.parquet"),
        ),
        "a file inside the folder",
    ),
    "a link to itself": (
        lambda root: ((root / TASKS).unlink(), (root / TASKS).symlink_to(root / TASKS)),
        "meta/tasks.parquet",
    ),
}


@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_in_one_line(
    change: Bend, said: str, straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = bent(straight, tmp_path, change)
    assert run_cli(*eval_words(root, None, tmp_path / "out")) == 2
    one_line(capsys, said)


# ── statistics ────────────────────────────────────────────────────────

NAN = float("nan")
BAD_STATS: dict[str, tuple[Bend, str, str]] = {
    "NaN mean": (bend.stats("action", mean=[NAN] * 3), "dataset_stats_missing", "error"),
    "one null": (bend.stats("action", std=[1.0, None, 1.0]), "dataset_stats_missing", "error"),
    "infinite": (bend.stats("action", std=[float("inf")] * 3), "dataset_stats_missing", "error"),
    "negative std": (bend.stats("action", std=[-1.0] * 3), "dataset_stats_missing", "error"),
    "texts": (bend.stats("action", mean=["a", "b", "c"]), "dataset_stats_missing", "error"),
    "ragged": (bend.stats("action", mean=[[1.0], [2.0, 3.0]]), "dataset_stats_missing", "error"),
    "another size": (bend.stats("action", mean=[1.0], std=[1.0]), "dataset_stats_shape", "error"),
    "std 0 where it moves": (
        bend.stats("action", std=[0.0, 0.0, 0.0]),
        "dataset_stats_contradict",
        "error",
    ),
    "mean 0, std 1": (
        bend.stats("action", mean=[0.0] * 3, std=[1.0] * 3),
        "dataset_stats_contradict",
        "error",
    ),
    "of millimetres": (
        edit_json(
            STATS,
            lambda c: c["action"].update(
                {k: [1e3 * x for x in v] for k, v in c["action"].items() if k != "count"}
            ),
        ),
        "dataset_stats_contradict",
        "error",
    ),
    "a little stale": (
        edit_json(STATS, lambda c: c["action"].update(std=[1.3 * x for x in c["action"]["std"]])),
        "dataset_stats_contradict",
        "warning",
    ),
    "state": (
        bend.stats(STATE, mean=[0.0] * 3, std=[1.0] * 3),
        "dataset_state_stats_contradict",
        "warning",
    ),
}


@pytest.mark.parametrize(("change", "code", "severity"), BAD_STATS.values(), ids=BAD_STATS.keys())
def test_statistics_that_cant_be(
    change: Bend, code: str, severity: str, straight: Path, tmp_path: Path
) -> None:
    root = bent(straight, tmp_path, change)
    for episodes in (None, "1") if severity == "error" else (None,):
        config = fakes.config_for(root, "hold_state", tmp_path / "o", episodes=episodes)
        found = {f.code: f.severity for f in read_offline(config).findings}
        assert found.get(code) == severity, found


@pytest.mark.parametrize("root", ["/tmp/a\0b", "~nobody_at_all/x", "/tmp/" + "x" * 5000, "", "."])
def test_roots_that_are_none(root: str, tmp_path: Path) -> None:
    config = fakes.config_for(Path(root), "hold_state", tmp_path / "o")
    unnamed = DatasetConfig(root=root)
    for data in (config.dataset, unnamed):
        with pytest.raises(InputError, match=r"--dataset\.root"):
            read_offline(replace(config, dataset=data))


def test_straight_statistics_are_believed(straight: Path, tmp_path: Path) -> None:
    for episodes in (None, "0", "1,3"):
        config = fakes.config_for(straight, "hold_state", tmp_path / "o", episodes=episodes)
        codes = {f.code for f in read_offline(config).findings}
        assert not {c for c in codes if c.startswith("dataset_")}, codes


def test_real_statistics_are_believed(shared: Path, tmp_path: Path) -> None:
    for name, episodes in (
        ("pusht", "185:206"),
        ("pusht", "3"),
        ("g1", None),
        ("g1", "2"),
        ("aloha-sim-transfer-cube", None),
        ("aloha-sim-transfer-cube", "4"),
    ):
        root = shared / "datasets" / name
        config = fakes.config_for(root, "hold_state", tmp_path / "o", episodes=episodes)
        codes = {f.code for f in read_offline(config).findings}
        assert not {c for c in codes if c.startswith("dataset_")}, (name, codes)


# ── which episodes ────────────────────────────────────────────────────


def test_an_incomplete_index_shifts_no_split(data: Path, act: Path, tmp_path: Path) -> None:
    """Two tasks of three episodes: training with eval_split 0.3 saw 0 to 3, and holds out 4, 5."""
    policy = tmp_path / "p"
    shutil.copytree(act, policy)
    recorded = {"dataset": {"repo_id": "fake/data", "eval_split": 0.3}}
    (policy / "train_config.json").write_text(json.dumps(recorded))
    whole = read_offline(fakes.config_for(data, policy, tmp_path / "o"))
    assert (whole.trained, whole.episodes) == ({0, 1, 2, 3}, (4, 5))

    swapped = bent(data, tmp_path / "a", edit_table(INDEX, bend.backwards))
    inputs = read_offline(fakes.config_for(swapped, policy, tmp_path / "o"))
    assert (inputs.trained, inputs.episodes) == ({0, 1, 2, 3}, (4, 5))

    for at, kept in enumerate(([0, 1, 2, 3], [0, 2, 3, 5])):
        short = bent(data, tmp_path / str(at), edit_table(INDEX, bend.order(kept)))
        inputs = read_offline(fakes.config_for(short, policy, tmp_path / "o"))
        assert inputs.trained is None  # 2 and 3 would be called held out
        assert label(inputs.trained, inputs.episodes) == "unknown"
        assert inputs.episodes == tuple(kept)
        assert "dataset_counts_contradict" in [f.code for f in inputs.findings]

    recorded["dataset"] = {"repo_id": "fake/data", "episodes": [0, 3]}
    (policy / "train_config.json").write_text(json.dumps(recorded))
    assert trained_on(inputs.checkpoint, inputs.source.facts) is None  # as it was read
    inputs = read_offline(fakes.config_for(short, policy, tmp_path / "o"))
    assert (inputs.trained, inputs.episodes) == ({0, 3}, (2, 5))


def test_forced_numbers_of_an_incomplete_set_are_those_of_its_episodes(
    straight: Path, truth: dict[int, dict[str, Any]], tmp_path: Path
) -> None:
    root = bent(straight, tmp_path, edit_table(INDEX, bend.order([3, 1])))
    out = tmp_path / "out"
    words = eval_words(root, None, out, "--force", "--policy.chunk_size", "1")
    words += ["--dataset.action_units", "px"]
    assert run_cli(*words) == 1
    record = read_record(out)
    assert record["dataset"]["episodes"] == [1, 3]
    off = [np.abs(truth[e]["state"] - truth[e]["action"]).mean(axis=1) for e in (1, 3)]
    expected = np.concatenate(off).mean()
    assert record["summary"]["step1"]["mae"]["value"] == pytest.approx(expected, rel=1e-9)
    assert run_cli(*words, "--overwrite", "--dataset.episodes", "2:4") == 2


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0:99999999999999", "6 in"),
        ("99999999999999", "99999999999999 in"),
        ("5:0:-1,:7:2", "6 in"),
        ("4:-3:-2", "-2 in"),
        ("-1:3", "-1 in"),
        ("0:1000000000000:3", "6 in"),
    ],
)
def test_long_ranges_are_not_walked_through(text: str, found: str) -> None:
    with pytest.raises(UsageError, match=f"from 0 to 5; found {found}"):
        parse_episodes(text, 6)


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(-4, 4).filter(bool))
def test_the_first_number_outside_is_named(start: int, stop: int, step: int) -> None:
    picked = range(start, stop, step)
    outside = next((e for e in picked if not 0 <= e < 6), None)
    if not picked:
        return
    if outside is None:
        assert parse_episodes(f"{start}:{stop}:{step}", 6) == tuple(sorted(picked))
    else:
        with pytest.raises(UsageError, match=f"found {outside} in"):
            parse_episodes(f"{start}:{stop}:{step}", 6)


# ── precision, pictures, texts ────────────────────────────────────────


def test_motion_far_from_zero_is_kept(straight: Path, tmp_path: Path) -> None:
    """A thousandth of a unit at 4.5 million, which float32 rounds to half a unit."""
    steps = np.arange(sum(LENGTHS))[:, None] * np.array([1e-3, -2e-3, 5e-4])
    actions = 4.5e6 + steps

    def far(root: Path) -> None:
        rows, kind = actions.tolist(), pa.list_(pa.float64())
        edit_table(DATA, lambda t: column(t, "action", rows, kind))(root)
        edit_table(DATA, lambda t: column(t, STATE, (actions - 0.25).tolist(), kind))(root)
        for key, values in (("action", actions), (STATE, actions - 0.25)):
            bend.feature(key, dtype="float64")(root)
            table = {"mean": values.mean(0), "std": values.std(0)}
            table |= {"min": values.min(0), "max": values.max(0)}
            bend.stats(key, **{k: v.tolist() for k, v in table.items()})(root)

    root, out = bent(straight, tmp_path, far), tmp_path / "out"
    source = opened(root)
    np.testing.assert_array_equal(source.episode(1).actions.values, actions[5:12])
    words = eval_words(root, None, out, "--policy.chunk_size", "1", "--dataset.action_units", "m")
    assert run_cli(*words) == 0
    record = read_record(out)
    assert record["summary"]["step1"]["mae"]["value"] == pytest.approx(0.25, abs=1e-8)
    assert not [f for f in record["findings"] if f["code"].startswith("dataset_")]


def test_whole_numbers_and_halves_are_numbers(straight: Path, tmp_path: Path) -> None:
    for kind, dtype in ((pa.int16(), "int16"), (pa.float16(), "float16"), (pa.uint8(), "uint8")):
        values = np.arange(3 * sum(LENGTHS)).reshape(-1, 3).astype(dtype)
        stored = pa.array(list(values), pa.list_(kind))
        root = bent(
            straight,
            tmp_path / dtype,
            bend.together(
                edit_table(DATA, lambda t, s=stored: column(t, "action", s)),
                bend.feature("action", dtype=dtype),
            ),
        )
        got = opened(root).episode(1).actions.values
        np.testing.assert_array_equal(got, values[5:12].astype(np.float64))


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_dataset(tmp_path_factory.mktemp("pictured") / "d", lengths=(3, 4))


def with_pictures(change: Callable[[Any], tuple[Any, dict[str, Any]]]) -> Bend:
    """Every picture changed, and saved with the given arguments."""
    import io

    from PIL import Image

    def one(stored: dict[str, Any]) -> dict[str, Any]:
        image, saved = change(Image.open(io.BytesIO(stored["bytes"])))
        target = io.BytesIO()
        image.save(target, **{"format": "PNG", **saved})
        return {"bytes": target.getvalue(), "path": None}

    def edit(table: pa.Table) -> pa.Table:
        field = table.schema.field(fakes.IMAGE)
        rows = [one(stored) for stored in table.column(fakes.IMAGE).to_pylist()]
        at = table.schema.get_field_index(fakes.IMAGE)
        return table.set_column(at, field, pa.array(rows, field.type))

    return edit_table(DATA, edit)


def turned(orientation: int, *, squeeze: bool = False) -> Bend:
    """Pictures that a viewer turns, as telephones record them."""

    def change(image: Any) -> tuple[Any, dict[str, Any]]:
        image = image.resize((32, 64)) if squeeze else image
        exif = image.getexif()
        exif[0x0112] = orientation
        return image, {"exif": exif}

    shape = bend.feature(fakes.IMAGE, shape=[32, 64, 3]) if squeeze else (lambda _: None)
    return bend.together(with_pictures(change), shape)


@pytest.mark.parametrize(
    "change",
    [
        *(turned(n) for n in range(1, 9)),
        turned(6, squeeze=True),
        turned(8, squeeze=True),
        with_pictures(lambda image: (image, {"format": "JPEG", "quality": 90})),
        with_pictures(lambda image: (image, {"format": "WEBP", "lossless": True})),
        edit_table(DATA, bend.backwards),
        bend.split_data(4),
        bend.split_data(2),
        bend.feature(fakes.IMAGE, names=["height", "width", "channels"]),
    ],
)
def test_pictures_as_lerobot_decodes_them(change: Bend, pictured: Path, tmp_path: Path) -> None:
    from lerobot.datasets import LeRobotDataset

    from policyscope.data.pictures import unit_range

    root = bent(pictured, tmp_path, change)
    items = LeRobotDataset("fake/data", root=root)
    theirs = {
        (int(item["episode_index"]), int(item["frame_index"])): item[fakes.IMAGE]
        for item in (items[i] for i in range(7))
    }
    rows = [(e, f, 0) for e, n in enumerate((3, 4)) for f in range(n)]
    batch = opened(root).batch(rows, keys=frozenset({fakes.IMAGE}))
    seen = unit_range(batch.observations[0][fakes.IMAGE])
    for (episode, frame, _), picture in zip(rows, seen, strict=True):
        assert np.array_equal(picture, theirs[episode, frame])


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_dataset(tmp_path_factory.mktemp("filmed") / "d", lengths=LENGTHS, video=True)


@pytest.mark.parametrize(
    "change",
    [
        edit_table(DATA, bend.backwards),
        edit_table(INDEX, bend.backwards),
        bend.together(
            edit_table(DATA, bend.backwards), edit_table(INDEX, bend.order([2, 0, 3, 1]))
        ),
        bend.split_data(8),
        edit_table(INDEX, lambda t: pa.concat_tables([t, t])),
    ],
)
def test_videos_belong_to_episodes_by_value(change: Bend, filmed: Path, tmp_path: Path) -> None:
    rows = [(e, f, 0) for e, n in enumerate(LENGTHS) for f in (0, n // 2, n - 1)]
    seen = [
        opened(root).batch(rows, keys=frozenset({fakes.IMAGE, STATE})).observations[0]
        for root in (filmed, bent(filmed, tmp_path, change))
    ]
    for key in (fakes.IMAGE, STATE):
        np.testing.assert_array_equal(seen[0][key], seen[1][key])


def test_an_index_that_does_not_say_where_videos_are(filmed: Path, tmp_path: Path) -> None:
    for name, values in (("file_index", None), ("from_timestamp", None), ("file_index", [9] * 4)):
        key = f"videos/{fakes.IMAGE}/{name}"
        root = bent(
            filmed,
            tmp_path / f"{name}-{values}",
            edit_table(
                INDEX,
                lambda t, k=key, v=values: t.drop_columns([k]) if v is None else column(t, k, v),
            ),
        )
        with pytest.raises(InputError, match=r"observation\.image"):
            opened(root)


def escaping(path: str) -> Bend:
    def edit(table: pa.Table) -> pa.Table:
        field = table.schema.field(fakes.IMAGE)
        rows = [{"bytes": None, "path": path}] * len(table)
        at = table.schema.get_field_index(fakes.IMAGE)
        return table.set_column(at, field, pa.array(rows, field.type))

    return edit_table(DATA, edit)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (bend.feature(fakes.IMAGE, shape=[96, 64, 3]), "(96, 64, 3)"),
        (bend.feature(fakes.IMAGE, shape=[64, 64, 4]), "(64, 64, 4)"),
        (with_pictures(lambda image: (image.convert("L"), {})), "found (64, 64, 1)"),
        (with_pictures(lambda image: (image.resize((8, 64)), {})), "found (64, 8, 3)"),
        (with_pictures(lambda image: (image, {"format": "EPS"})), "cannot identify"),
        (escaping("/etc/hostname"), "a file inside the folder"),
        (escaping("../../../etc/hostname"), "a file inside the folder"),
        (escaping("meta"), "a regular file"),
    ],
)
def test_pictures_that_are_not_what_is_declared(
    change: Bend, said: str, pictured: Path, tmp_path: Path
) -> None:
    root = bent(pictured, tmp_path, change)
    with pytest.raises(InputError) as raised:
        opened(root).batch([(0, 0, 0), (1, 1, 0)], keys=frozenset({fakes.IMAGE}))
    assert said in str(raised.value)


def test_a_video_of_another_size_is_not_decoded(tmp_path: Path) -> None:
    root = fakes.write_dataset(tmp_path / "d", lengths=(3,), video=True)
    bend.feature(fakes.IMAGE, shape=[64, 48, 3])(root)
    with pytest.raises(InputError, match=r"\(64, 48, 3\).*found \(64, 64\) in the file"):
        opened(root).batch([(0, 0, 0)], keys=frozenset({fakes.IMAGE}))


def test_a_playlist_is_no_video(tmp_path: Path) -> None:
    """FFmpeg would open what it names."""
    root = fakes.write_dataset(tmp_path / "d", lengths=(3,), video=True)
    [video] = root.glob("videos/**/*.mp4")
    shutil.copy(video, tmp_path / "secret.mp4")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{tmp_path}/secret.mp4\n"
    video.write_text(playlist + "#EXT-X-ENDLIST\n")
    for backend in ("pyav", "torchcodec"):
        config = DatasetConfig(repo_id="fake/data", root=str(root), video_backend=backend)
        source = FrameSource(config, repo_id="fake/data")
        with pytest.raises(InputError, match=r"frames 0-0 of observation\.image"):
            source.batch([(0, 0, 0)], keys=frozenset({fakes.IMAGE}))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"b": 1, "a": 0, "c": 2}, ("a", "b", "c")),
        ({"arm": {"b": 1, "a": 0, "c": 2}}, ("a", "b", "c")),
        ([["a", "b"], ["c"]], ("a", "b", "c")),
        ({"left": ["a"], "right": ["b", "c"]}, ("a", "b", "c")),
        ([{"motors": ["a", "b", "c"]}], ("a", "b", "c")),
        ({"a": 0, "b": 0, "c": 2}, ("action[0]", "action[1]", "action[2]")),
        ({"a": 1, "b": 2, "c": 3}, ("action[0]", "action[1]", "action[2]")),
        (["a", "a", "c"], ("a[0]", "a[1]", "c")),
        ([0, 1, 2], ("action[0]", "action[1]", "action[2]")),
        ("abc", ("action[0]", "action[1]", "action[2]")),
    ],
)
def test_names_in_every_shape(
    names: Any, expected: tuple[str, ...], straight: Path, tmp_path: Path
) -> None:
    root = bent(straight, tmp_path, bend.feature("action", names=names))
    assert opened(root).facts.robot.actions.names == expected


def test_dims_are_found_by_mapped_names(straight: Path, tmp_path: Path) -> None:
    root = bent(straight, tmp_path, bend.feature("action", names={"z": 2, "x": 0, "y": 1}))
    config = fakes.config_for(root, "hold_state", tmp_path / "o", action_dims="z,x")
    assert read_offline(config).alignment.dataset_dims == (2, 0)


CONTRADICTED: dict[str, tuple[Bend, str]] = {
    "another rate": (bend.info(fps=30), "dataset_rate_contradicts"),
    "gaps": (
        edit_table(
            DATA,
            lambda t: column(t, "frame_index", [2 * i for i in range(len(t))]),
        ),
        "dataset_frames_missing",
    ),
    "a text that was edited": (
        edit_table(INDEX, lambda t: column(t, "tasks", [["go"]] * len(t))),
        "dataset_tasks_contradict",
    ),
    "more tasks than counted": (bend.info(total_tasks=1), "dataset_tasks_contradict"),
    "no task counted": (bend.info(total_tasks=0), "dataset_tasks_contradict"),
}


@pytest.mark.parametrize(("change", "code"), CONTRADICTED.values(), ids=CONTRADICTED.keys())
def test_contradictions_are_found(
    change: Bend, code: str, straight: Path, truth: dict[int, dict[str, Any]], tmp_path: Path
) -> None:
    root = bent(straight, tmp_path, change)
    inputs = read_offline(fakes.config_for(root, "hold_state", tmp_path / "o"))
    assert code in [f.code for f in inputs.findings]
    assert_same(inputs.source, truth)


# ── sizes, and who is asked ───────────────────────────────────────────


def test_a_table_of_a_billion_equal_rows_takes_no_memory(straight: Path, tmp_path: Path) -> None:
    """Runs of equal values take no room on disk: 21 million rows are a few kilobytes."""
    rows = 21_000_000

    def bomb(root: Path) -> None:
        short = pq.read_table(root / DATA).slice(0, 1)
        names = ["episode_index", "frame_index", "timestamp", "task_index"]
        plain = pa.table({n: pa.repeat(short.column(n)[0], rows) for n in names})
        pq.write_table(plain, root / DATA, compression="zstd", row_group_size=rows)

    root = bent(straight, tmp_path, bomb)
    assert (root / DATA).stat().st_size < 1_000_000
    before = pa.total_allocated_bytes()
    with pytest.raises(InputError):
        opened(root)
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_pictures_that_unpack_to_gigabytes_are_given_up(
    pictured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One picture in a dictionary, named by every row: 4 GB in memory, kilobytes on disk."""
    monkeypatch.setattr("policyscope.data.decoders._MOST_STORED", 64 << 20)
    monkeypatch.setattr("policyscope.data.decoders._AT_A_TIME", 16 << 20)

    def bomb(root: Path) -> None:
        n = 4000
        once = pa.DictionaryArray.from_arrays(
            pa.array([0] * n, pa.int32()), pa.array([b"\0" * 1_000_000])
        )
        pictures = pa.StructArray.from_arrays([once, pa.nulls(n, pa.string())], ["bytes", "path"])
        table = pa.table({fakes.IMAGE: pictures})
        options = {"compression": "zstd", "dictionary_pagesize_limit": 1 << 30}
        with pq.ParquetWriter(root / DATA, table.schema, store_schema=False, **options) as writer:
            writer.write_table(table, row_group_size=n)

    root = bent(pictured, tmp_path, bomb)
    assert (root / DATA).stat().st_size < 1_000_000
    folder = Folder(root, "d")
    most = pa.default_memory_pool().max_memory()
    pictures = StoredPictures(folder, DATA, fakes.IMAGE, (64, 64))
    with pytest.raises(InputError, match="at most 64 MiB; found more"):
        list(pictures.read([0]))
    pictures.close()
    assert pa.default_memory_pool().max_memory() < most + (256 << 20)


def test_a_hub_that_never_answers_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket
    import time

    import huggingface_hub.constants as hub
    from huggingface_hub import HfApi, snapshot_download  # noqa: F401  (imports take seconds)
    from lerobot.utils import constants

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(hub, "ENDPOINT", address)
        monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("policyscope.data.hub._PATIENCE_S", 0.2)
        monkeypatch.setattr(constants, "HF_LEROBOT_HOME", tmp_path / "home")
        monkeypatch.setattr(constants, "HF_LEROBOT_HUB_CACHE", tmp_path / "cache")
        begin = time.monotonic()
        with pytest.raises(InputError, match="on a reachable hub"):
            FrameSource(DatasetConfig(repo_id="nobody/nothing"), repo_id="nobody/nothing")
        assert time.monotonic() - begin < 10
        silent.setblocking(False)
        silent.accept()[0].close()  # it was asked, and kept silent
        begin = time.monotonic()  # nor one that falls silent after its first answer
        monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: None)
        with pytest.raises(InputError, match="on a reachable hub"):
            FrameSource(DatasetConfig(repo_id="nobody/nothing"), repo_id="nobody/nothing")
        assert time.monotonic() - begin < 10


def test_the_hub_never_writes_into_the_users_directory(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def fetched(*_: object, **__: object) -> str:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", fetched)
    for name in (TASKS, DATA, INFO, INDEX):
        root = bent(straight, tmp_path / name.replace("/", "-"), lambda r, n=name: (r / n).unlink())
        before = sorted(root.rglob("*"))
        with pytest.raises(InputError) as raised:
            opened(root)
        assert Path(name).parent.as_posix().split("/chunk")[0] in str(raised.value)
        assert sorted(root.rglob("*")) == before


def test_a_dataset_of_the_hub_is_read_from_its_cache(
    straight: Path,
    truth: dict[int, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Metadata first, then the files of the chosen episodes; links lead into the cache's blobs."""
    import huggingface_hub
    from lerobot.utils import constants

    snapshot = tmp_path / "cache" / "datasets--you--data" / "snapshots" / "abc"
    blobs = snapshot.parent.parent / "blobs"
    blobs.mkdir(parents=True)
    asked: list[list[str]] = []

    def download(_: str, **settings: Any) -> str:
        asked.append(settings["allow_patterns"])
        for number, file in enumerate(sorted(straight.rglob("*.*"))):
            name = file.relative_to(straight)
            if not any(name.match(p) or p == "meta/*" == f"{name.parts[0]}/*" for p in asked[-1]):
                continue
            shutil.copy(file, blobs / str(number))
            link, blob = snapshot / name, blobs / str(number)
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(os.path.relpath(blob, link.parent))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(constants, "HF_LEROBOT_HOME", tmp_path / "home")
    source = FrameSource(DatasetConfig(repo_id="you/data"), repo_id="you/data")
    assert not (snapshot / "data").exists()
    source.load(list(source.facts.lengths))
    assert_same(source, truth)
    assert asked == [["meta/*"], ["meta/*", DATA]]


# ── fuzz ──────────────────────────────────────────────────────────────

COLUMNS = {
    DATA: ("action", STATE, "timestamp", "frame_index", "episode_index", "index", "task_index"),
    INDEX: (
        "episode_index",
        "tasks",
        "length",
        "data/chunk_index",
        "data/file_index",
        "dataset_from_index",
        "dataset_to_index",
    ),
    TASKS: ("task_index", "task"),
}
tables = st.sampled_from(sorted(COLUMNS))


@st.composite
def table_bends(draw: st.DrawFn) -> tuple[str, Bend]:
    """One table with its rows in another order, or a column dropped, doubled or changed."""
    name = draw(tables)
    key = draw(st.sampled_from(COLUMNS[name]))
    what = draw(st.sampled_from(["shuffle", "cut", "double", "drop", "again", "null", "value"]))
    seed = draw(st.integers(0, 2**16))

    def change(table: pa.Table) -> pa.Table:
        rng = np.random.default_rng(seed)
        n = len(table)
        at = table.schema.get_field_index(key)
        if what == "shuffle":
            return table.take(pa.array(rng.permutation(n)))
        if what == "cut":
            return table.slice(0, int(rng.integers(0, n + 1)))
        if what == "double":
            return pa.concat_tables([table, table.slice(int(rng.integers(0, n + 1)), 1)])
        if at < 0:
            return table
        if what == "drop":
            return table.drop_columns([key])
        if what == "again":
            return table.append_column(key, table.column(key))
        values = table.column(key).to_pylist()
        if n:
            other = None if what == "null" else values[int(rng.integers(0, n))]
            values[int(rng.integers(0, n))] = other
        return column(table, key, values, table.schema.field(key).type)

    return f"{what} {name} {key} {seed}", edit_table(name, change)


@st.composite
def info_bends(draw: st.DrawFn) -> tuple[str, Bend]:
    key = draw(
        st.sampled_from(["total_episodes", "total_frames", "total_tasks", "fps", "data_path"])
    )
    value = draw(
        st.one_of(st.integers(-1, 30), st.none(), st.text(max_size=12), st.floats(), st.booleans())
    )
    return f"{key} {value!r}", bend.info(**{key: value})


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(bends=st.lists(st.one_of(table_bends(), info_bends()), min_size=1, max_size=3))
def test_bent_metadata_gives_equal_numbers_or_one_line(
    bends: list[tuple[str, Bend]],
    straight: Path,
    truth: dict[int, dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("fuzz") / "d"
    shutil.copytree(straight, root)
    try:
        for _, change in bends:
            change(root)
        config = fakes.config_for(root, "hold_state", root.parent / "o")
        try:
            inputs = read_offline(config)
        except InputError:  # one line, by its class
            return
        if any(f.severity == "error" for f in inputs.findings):
            return
        assert inputs.episodes == tuple(truth)
        value_changed = any(name.startswith("value data") for name, _ in bends)
        text_changed = any(name.startswith(f"value {TASKS}") for name, _ in bends)
        for index, known in truth.items():
            episode = inputs.source.episode(index)
            if not value_changed:
                np.testing.assert_array_equal(episode.actions.values, known["action"])
                np.testing.assert_array_equal(episode.state, known["state"])
            if not value_changed and not text_changed:
                assert episode.tasks == known["tasks"]
    finally:
        shutil.rmtree(root.parent)


# ── statistics against frames, by properties ──────────────────────────


@st.composite
def recordings(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """[N, 2] numbers of any place and size, float32 or float64, and how many of them are chosen."""
    n = draw(st.integers(2, 30))
    scale, place = 10.0 ** draw(st.integers(-6, 6)), draw(st.sampled_from([0.0, 1.0, -80.0, 4.5e6]))
    still = draw(st.booleans())
    values = draw(st.lists(st.integers(-1000, 1000), min_size=2 * n, max_size=2 * n))
    table = np.array(values).reshape(n, 2) / 1000 * scale + place
    table[:, 1] = table[0, 1] if still else table[:, 1]
    return table.astype(draw(st.sampled_from([np.float32, np.float64]))), draw(st.integers(1, n))


@settings(max_examples=400, deadline=None)
@given(recordings())
def test_true_statistics_are_never_contradicted(recording: tuple[np.ndarray, int]) -> None:
    """Whichever frames are chosen, and in whichever precision lerobot computed."""
    table, chosen = recording
    n = len(table)
    whole = Moments.of(table.astype(np.float64))
    some = Moments.of(table[:chosen].astype(np.float64))
    for precision in (table.dtype, np.float64):
        rough = table.astype(precision)
        stored = [rough.mean(0), rough.std(0), rough.min(0), rough.max(0)]
        declared = dataset._Declared(*(np.asarray(v, dtype=np.float64) for v in stored))
        for dim in (0, 1):
            said = dataset._contradiction(declared, some, dim, rest=n - chosen)
            assert said == ("", 0.0), (said, table)
    if chosen < n:
        both = some + Moments.of(table[chosen:].astype(np.float64))
        np.testing.assert_allclose(both.mean, whole.mean, rtol=1e-12, atol=1e-12)
        size = np.abs(table).max(0).astype(np.float64)
        assert (np.abs(both.std - whole.std) <= 1e-7 * size).all()


@settings(max_examples=200, deadline=None)
@given(recordings(), st.sampled_from([1e-3, 1e3]))
def test_statistics_in_another_unit_are_contradicted(
    recording: tuple[np.ndarray, int], factor: float
) -> None:
    table, chosen = recording
    seen = Moments.of(table[:chosen].astype(np.float64))
    if np.ptp(table[:chosen, 0]) <= 1e-3 * np.abs(table[:, 0]).max():
        return  # what hardly moves may be anything's
    values = table.astype(np.float64) * factor
    stored = [values.mean(0), values.std(0), values.min(0), values.max(0)]
    said = dataset._contradiction(dataset._Declared(*stored), seen, 0, rest=len(table) - chosen)
    wide = factor > 1 and values[:, 0].min() <= table[:chosen, 0].min()
    wide = wide and values[:, 0].max() >= table[:chosen, 0].max()
    assert said[0] or (wide and chosen < len(table))
