"""Datasets of v2.0 and v2.1 become what lerobot's converter makes of them, in a new directory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fakes
import policyscope as ps
from bend import edit_json
from policyscope.commands.cli import main
from policyscope.commands.convert import convert
from policyscope.config import ConvertConfig
from policyscope.data.source import FrameSource
from policyscope.errors import InputError

LENGTHS = (5, 8, 6)


def aged(new: Path, old: Path) -> Path:
    """A dataset of v3.0 without videos in the layout of v2.1."""
    info = json.loads((new / "meta/info.json").read_text())
    info |= {
        "codebase_version": "v2.1",
        "total_chunks": 1,
        "total_videos": 0,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": None,
    }
    (old / "meta").mkdir(parents=True)
    (old / "meta/info.json").write_text(json.dumps(info))
    index = pd.read_parquet(new / "meta/episodes")
    stats, episodes = [], []
    for _, row in index.iterrows():
        nested: dict[str, Any] = {}
        for column in index.columns:
            if column.startswith("stats/"):
                _, feature, statistic = column.split("/")
                nested.setdefault(feature, {})[statistic] = _plain(row[column])
        number = int(row["episode_index"])
        stats.append({"episode_index": number, "stats": nested})
        tasks = [str(text) for text in row["tasks"]]
        episodes.append({"episode_index": number, "tasks": tasks, "length": int(row["length"])})
    tasks = [
        {"task_index": int(row["task_index"]), "task": str(text)}
        for text, row in pd.read_parquet(new / "meta/tasks.parquet").iterrows()
    ]
    for name, rows in (("episodes", episodes), ("tasks", tasks), ("episodes_stats", stats)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (old / f"meta/{name}.jsonl").write_text(text)
    table = pq.read_table(new / "data/chunk-000/file-000.parquet")
    folder = old / "data/chunk-000"
    folder.mkdir(parents=True)
    for number in range(len(LENGTHS)):
        rows = table.filter(pa.compute.equal(table.column("episode_index"), number))
        pq.write_table(rows, folder / f"episode_{number:06d}.parquet")
    return old


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, np.ndarray) else float(value)


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_dataset(
        tmp_path_factory.mktemp("new") / "d", lengths=LENGTHS, tasks=("push", "hold"), size=32
    )


@pytest.fixture(scope="module")
def old(new: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return aged(new, tmp_path_factory.mktemp("old") / "d")


def converted(root: Path, output: Path) -> Path:
    return convert(ConvertConfig(str(root), str(output)))


def content(root: Path) -> dict[str, Any]:
    """Everything in a dataset, by a file's name."""
    found: dict[str, Any] = {}
    for file in sorted(root.rglob("*")):
        name = file.relative_to(root).as_posix()
        if file.suffix == ".json":
            found[name] = json.loads(file.read_text())
        elif file.suffix == ".parquet":
            found[name] = pq.read_table(file).to_pydict()
        elif file.is_file():
            found[name] = file.read_bytes()
    return found


def test_it_is_lerobots_conversion(old: Path, tmp_path: Path) -> None:
    from lerobot.scripts.convert_dataset_v21_to_v30 import convert_dataset

    theirs = tmp_path / "theirs"
    shutil.copytree(old, theirs)
    convert_dataset("you/data", root=theirs, push_to_hub=False)
    before = content(old)
    ours = converted(old, tmp_path / "ours")
    assert content(ours) == content(theirs)
    assert content(old) == before, "the old one is only read"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ours", "theirs", "theirs_old"]


@pytest.mark.parametrize("lacking", ["all", "one", "v2.0"])
def test_statistics_that_are_missing_are_computed(
    lacking: str, new: Path, old: Path, tmp_path: Path
) -> None:
    root = tmp_path / "old"
    shutil.copytree(old, root)
    stats = root / "meta/episodes_stats.jsonl"
    if lacking == "one":
        stats.write_text("".join(stats.read_text().splitlines(keepends=True)[:-1]))
    else:
        stats.unlink()
        counts = {"total_chunks": None, "total_videos": None}
        edit_json("meta/info.json", lambda i: [i.pop(key) for key in counts])(root)
    if lacking == "v2.0":
        edit_json("meta/info.json", lambda i: i.update(codebase_version="v2.0"))(root)
    made = converted(root, tmp_path / "new")
    known, truth = (json.loads((d / "meta/stats.json").read_text()) for d in (made, new))
    assert known.keys() == truth.keys()
    for key, table in truth.items():
        for name, value in table.items():
            assert np.allclose(known[key][name], value, rtol=1e-5, atol=1e-4), (key, name)


def test_numbers_stay(new: Path, old: Path, tmp_path: Path) -> None:
    made = converted(old, tmp_path / "made")
    sources = [FrameSource(ps.DatasetConfig(root=str(d)), repo_id="d") for d in (made, new)]
    for episode in range(len(LENGTHS)):
        ours, theirs = (source.episode(episode) for source in sources)
        assert np.array_equal(ours.actions.values, theirs.actions.values)
        assert ours.tasks == theirs.tasks
    rows = [(1, 3, 0), (2, 0, 0)]
    pictures = [s.batch(rows, keys=frozenset({fakes.IMAGE})).observations[0] for s in sources]
    assert np.array_equal(pictures[0][fakes.IMAGE], pictures[1][fakes.IMAGE])


def test_a_rate_that_is_no_whole_number_stays(old: Path, tmp_path: Path) -> None:
    root = tmp_path / "old"
    shutil.copytree(old, root)
    edit_json("meta/info.json", lambda i: i.update(fps=12.5))(root)
    made = converted(root, tmp_path / "made")
    assert FrameSource(ps.DatasetConfig(root=str(made)), repo_id="d").facts.robot.fps == 12.5


def _without(name: str) -> Any:
    return lambda root: (root / name).unlink()


def _outside(root: Path) -> None:
    (root / "data/chunk-000/episode_000001.parquet").unlink()
    (root / "data/chunk-000/episode_000001.parquet").symlink_to("/etc/hostname")


def _fewer(root: Path) -> None:
    path = root / "meta/episodes.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        (_without("meta/tasks.jsonl"), "meta/tasks.jsonl"),
        (_without("data/chunk-000/episode_000002.parquet"), "episode_000002.parquet"),
        (_outside, "leads to"),
        (_fewer, "episodes 0 to N - 1"),
        (edit_json("meta/info.json", lambda i: i.update(codebase_version="v3.0")), "v3.0"),
        (edit_json("meta/info.json", lambda i: i.update(chunks_size=0)), "chunks_size"),
        (
            edit_json("meta/info.json", lambda i: i.update(data_path="../{episode_index}.parquet")),
            "inside the folder",
        ),
        (
            edit_json(
                "meta/info.json", lambda i: i["features"].update({"../x": i["features"]["action"]})
            ),
            "dots and dashes",
        ),
    ],
)
def test_what_cant_be_converted_is_one_line(
    bend: Any, said: str, old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "old"
    shutil.copytree(old, root)
    bend(root)
    with pytest.raises(SystemExit) as end:
        main(["convert", str(root), str(tmp_path / "made")])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old"], "nothing is left behind"


def test_never_in_place_and_never_over_another(old: Path, tmp_path: Path) -> None:
    for output in (old, tmp_path):
        with pytest.raises(InputError, match="not there yet"):
            converted(old, output)


def test_the_command_line(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["eval", "--policy.type", "hold_state", "--dataset.root", str(old)])
    assert end.value.code == 2
    assert f"policyscope convert {old} {old}-v30" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["convert", str(old), str(tmp_path / "made")])
    assert not end.value.code
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'made'}; policyscope check")


@pytest.mark.slow
@pytest.mark.parametrize("lacking", [False, True])
def test_real_videos(lacking: bool, shared: Path, tmp_path: Path) -> None:
    root = tmp_path / "old"
    shutil.copytree(shared / "datasets/g1-v21", root)
    if lacking:
        (root / "meta/episodes_stats.jsonl").unlink()
    made = converted(root, tmp_path / "made")
    found = ps.check_dataset(ps.CheckConfig(dataset=ps.DatasetConfig(root=str(made))))
    assert {finding.severity for finding in found.findings} <= {"info"}
    mine, theirs = (
        FrameSource(ps.DatasetConfig(root=str(d)), repo_id="g1")
        for d in (made, shared / "datasets/g1")
    )
    (camera,) = mine.facts.robot.cameras
    rows = [(0, 0, 0), (3, 100, 0), (7, 200, 0)]
    one, other = (s.batch(rows, keys=frozenset({camera})).observations[0] for s in (mine, theirs))
    assert np.array_equal(one[camera], other[camera])
    for key in ("action", "observation.state"):
        for name in ("mean", "std", "min", "max"):
            a, b = (s.facts.robot.stats[key][name] for s in (mine, theirs))
            assert np.allclose(a, b, atol=1e-5)
