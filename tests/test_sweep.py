"""Sweeps: the same numbers as evaluations one by one, pictures decoded once, nothing run twice."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest

import fakes
from policyscope.checks.comparison import StoredRun, compare
from policyscope.checks.ranking import rank_offline, rank_success
from policyscope.commands.cli import main
from policyscope.commands.evaluate import evaluate
from policyscope.commands.sweep import sweep
from policyscope.config import DatasetConfig, RayConfig, SweepConfig
from policyscope.data import cameras as cameras_module
from policyscope.data.decoders import PyavDecoder
from policyscope.errors import UsageError
from policyscope.policies.series import find
from policyscope.runs.parts import SCOPES
from policyscope.runs.record import read_complete
from policyscope.runs.rows import RolloutRow
from policyscope.runs.sweep import SweepRecord, read_sweep, write_sweep
from policyscope.runs.values import Success
from policyscope.views.language import catalogue
from policyscope.views.sweep.words import MEASURES, STATUS, best_line
from policyscope.views.trackers import numbers_of, open_tracker

_CLOCKS = ("latency", "throughput", "environment")


# ── which checkpoints ─────────────────────────────────────────────────


def _shelf(root: Path, *steps: str, state: int | None = None) -> Path:
    """Folders as lerobot-train leaves them, without what is in the files."""
    for step in steps:
        model = root / "checkpoints" / step / "pretrained_model"
        model.mkdir(parents=True)
        for name in (
            "config.json",
            "model.safetensors",
            "policy_preprocessor.json",
            "policy_postprocessor.json",
        ):
            (model / name).write_text("{}")
        if state is not None:
            (model.parent / "training_state").mkdir()
            (model.parent / "training_state" / "training_step.json").write_text(
                json.dumps({"step": state})
            )
    return root


def _found(*words: str) -> list[tuple[str, int | None]]:
    return [(saved.name, saved.step) for saved in find(words).saved]


def test_checkpoints_in_the_order_of_their_steps_each_once(tmp_path: Path) -> None:
    root = _shelf(tmp_path / "x", "000900", "001000", "020000")
    (root / "checkpoints" / "last").symlink_to("020000")
    expected = [("000900", 900), ("001000", 1000), ("020000", 20000)]
    pattern = f"{root}/checkpoints/*/pretrained_model"
    unfolded = sorted(str(p) for p in (root / "checkpoints").glob("*/pretrained_model"))
    assert len(unfolded) == 4
    assert _found(pattern) == _found(str(root)) == _found(*unfolded) == expected
    assert _found(f"{root}/checkpoints/*") == _found(pattern, str(root)) == expected
    assert _found(f"{root}/checkpoints/last/pretrained_model") == expected[2:]
    assert _found(f"{root}/checkpoints/00*/pretrained_model") == expected[:2]


def test_links_that_lead_elsewhere_are_passed_over(tmp_path: Path) -> None:
    root, other = _shelf(tmp_path / "x", "000100"), _shelf(tmp_path / "y", "000200")
    (root / "checkpoints" / "000300").symlink_to(other / "checkpoints" / "000200")
    (root / "checkpoints" / "000400").mkdir()
    (root / "checkpoints" / "000400" / "pretrained_model").symlink_to(
        other / "checkpoints" / "000200" / "pretrained_model"
    )
    found = find([f"{root}/checkpoints/*/pretrained_model"])
    assert [saved.name for saved in found.saved] == ["000100"]
    assert len(found.passed_over) == 2
    assert _found(str(root)) == [("000100", 100)]


def test_steps_of_folders_that_do_not_say_them(tmp_path: Path) -> None:
    root = _shelf(tmp_path / "x", "final", state=7)
    assert _found(str(root)) == [("final", 7)]
    file = root / "checkpoints" / "final" / "training_state" / "training_step.json"
    for broken in ('{"step": -1}', '{"step": true}', '{"step": 1e3}', "[]", "{", "9" * 2**17):
        file.write_text(broken)
        assert _found(str(root)) == [("final", None)], broken[:20]
    _shelf(root, "e2", "e10", "../evil name")
    names = [name for name, _ in _found(f"{root}/checkpoints/*/pretrained_model")]
    assert names == ["e2", "e10", "final"]  # by name where a step is not known
    assert _found(f"{root}/evil*/pretrained_model") == [("evil-name", None)]


def test_names_of_several_trainings_stay_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _shelf(tmp_path / name, "000100")
    assert [name for name, _ in _found(f"{tmp_path}/*/checkpoints/*/pretrained_model")] == [
        "a-000100",
        "b-000100",
    ]


def test_an_adapter_is_a_whole_checkpoint(tmp_path: Path) -> None:
    root = _shelf(tmp_path / "x", "000100")
    (saved,) = find([str(root)]).saved
    (saved.path / "model.safetensors").rename(saved.path / "adapter_model.safetensors")
    assert saved.look() is None
    (saved.path / "adapter_config.json").write_text("{}")
    assert saved.look() is not None


def test_a_checkpoint_is_whole_once_nobody_writes_it(tmp_path: Path) -> None:
    root = _shelf(tmp_path / "x", "000100")
    (saved,) = find([str(root)]).saved
    weights = saved.path / "model.safetensors"
    seen = saved.look()
    assert seen is not None
    assert not saved.settled(seen, None)
    weights.write_text("{ }")
    later = saved.look()
    assert not saved.settled(later, seen)  # it grew between two looks
    assert saved.settled(later, saved.look())
    old = time.time() - 3600
    for file in saved.path.iterdir():
        os.utime(file, (old, old))
    assert saved.settled(saved.look(), None)
    weights.write_text("{  }")
    (saved.path.parent / "training_state").mkdir()
    (saved.path.parent / "training_state" / "training_step.json").write_text("{}")
    assert saved.settled(saved.look(), None)  # lerobot writes it last
    for name in ("config.json", "model.safetensors", "policy_preprocessor.json"):
        (saved.path / name).rename(tmp_path / name)
        assert saved.look() is None
        (tmp_path / name).rename(saved.path / name)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "checkpoints as words"),
        (("--policy.path", "x"), "checkpoints as words"),
        (("nowhere/*",), "none at nowhere"),
        (("x", "--until_step", "5"), "--follow beside it"),
        (("x", "--follow", "--poll", "0"), "--poll"),
        (("x", "--memory_gb", "nan"), "--memory_gb"),
        (("x", "--n_envs", "many"), "--n_envs"),
    ],
)
def test_bad_usage_is_one_line(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["sweep", *words, "--dataset.repo_id", "a/b", "--output_dir", str(tmp_path / "o")]
    with pytest.raises(SystemExit) as end:
        main(line)
    assert end.value.code == 2
    (told,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert told.startswith("error: ")
    assert said in told
    assert not (tmp_path / "o").exists()


# ── what a sweep does ─────────────────────────────────────────────────


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filmed") / "d"
    return fakes.write_dataset(root, lengths=(9, 12, 7, 10, 8, 11), video=True)


@pytest.fixture(scope="module")
def training(filmed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three checkpoints: two of the same type, and one whose weights are cut off."""
    root = tmp_path_factory.mktemp("training")
    for step in (100, 200):
        model = root / "checkpoints" / f"{step:06d}" / "pretrained_model"
        fakes.write_policy(model, filmed, "diffusion", seed=step)
    shutil.copytree(root / "checkpoints" / "000200", root / "checkpoints" / "000300")
    broken = root / "checkpoints" / "000300" / "pretrained_model" / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-1000])
    (root / "checkpoints" / "last").symlink_to("000200")
    return root


def _config(filmed: Path, out: Path, *checkpoints: Path | str, **settings: Any) -> SweepConfig:
    data = DatasetConfig(repo_id="fake/data", root=str(filmed), action_units="px")
    named = tuple(str(one) for one in checkpoints)
    return SweepConfig(
        checkpoints=named, dataset=data, output_dir=str(out), device="cpu", **settings
    )


class Counting(PyavDecoder):
    """A decoder that notes what it opens and decodes."""

    opened: ClassVar[Counter[str]] = Counter()
    decoded: ClassVar[Counter[tuple[str, float]]] = Counter()

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        self.opened[path.name] += 1
        self._file = path.name
        super().__init__(path, threads=threads)

    def read(self, seconds: Sequence[float]) -> Iterator[np.ndarray]:
        for second in seconds:
            self.decoded[self._file, round(second, 3)] += 1
        return super().read(seconds)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> type[Counting]:
    Counting.opened, Counting.decoded = Counter(), Counter()
    monkeypatch.setattr(cameras_module, "PyavDecoder", Counting)
    return Counting


def _told(run: Path) -> dict[str, Any]:
    record = json.loads((run / "run.json").read_text())
    return {key: value for key, value in record.items() if key not in _CLOCKS}


@pytest.fixture(scope="module")
def alone(filmed: Path, training: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkpoints, evaluated one by one."""
    root = tmp_path_factory.mktemp("alone")
    for step in ("000100", "000200"):
        path = training / "checkpoints" / step / "pretrained_model"
        evaluate(fakes.config_for(filmed, path, root / step, batch_size="4"))
    return root


def _same_as_alone(out: Path, alone: Path) -> None:
    for step in ("000100", "000200"):
        assert _told(out / "runs" / step) == _told(alone / step)
        mine, theirs = (
            pq.read_table(run / step / "predictions.parquet").drop_columns("model_call_s")
            for run in (out / "runs", alone)
        )
        assert mine.to_pylist() == theirs.to_pylist()
        assert not (out / "runs" / step / "parts").exists()


def test_each_picture_is_decoded_once_and_numbers_are_those_of_eval(
    filmed: Path, training: Path, alone: Path, tmp_path: Path, counting: type[Counting]
) -> None:
    out = tmp_path / "o"
    swept = sweep(_config(filmed, out, training, batch_size="4"))
    assert set(counting.decoded.values()) == {1}
    assert len(counting.decoded) == 57  # all frames
    assert max(counting.opened.values()) <= 2  # one for single calls, one for batches
    _same_as_alone(out, alone)
    record = read_sweep(out)
    assert record == swept.record
    assert [row.status for row in record.checkpoints] == ["complete", "complete", "failed"]
    assert "model.safetensors" in record.checkpoints[2].message
    for row in record.done:
        of = read_complete(out / str(row.run))
        assert row.error["executed"] == of.summary.executed.mae
        assert row.skill["chunk"] == of.skill["hold_state"].chunk
        assert (out / str(row.run) / "report.html").exists()
    page = (out / "sweep.html").read_text()
    assert page.count('href="runs/0') == 2
    # once more: nothing is opened, nothing changes
    stamps = {file: file.stat().st_mtime_ns for file in (out / "runs").rglob("*.parquet")}
    counting.opened.clear()
    again = sweep(_config(filmed, out, training, batch_size="4"))
    assert again.record.checkpoints == record.checkpoints
    assert not counting.opened
    assert stamps == {file: file.stat().st_mtime_ns for file in (out / "runs").rglob("*.parquet")}


@pytest.mark.slow
def test_on_ray_the_numbers_are_the_same(
    filmed: Path, training: Path, alone: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="policyscope[ray] is not installed")
    pattern = f"{training}/checkpoints/000[12]*/pretrained_model"
    ray = RayConfig(workers=2, cpus=1)
    sweep(_config(filmed, tmp_path / "o", pattern, batch_size="4", engine="ray", ray=ray))
    _same_as_alone(tmp_path / "o", alone)


def test_pictures_beyond_the_bound_are_walked_through_in_parts(
    filmed: Path, training: Path, alone: Path, tmp_path: Path, counting: type[Counting]
) -> None:
    out, picture = tmp_path / "o", 64 * 64 * 3
    pattern = f"{training}/checkpoints/000[12]*/pretrained_model"
    config = _config(filmed, out, pattern, memory_gb=30 * picture / 2**30, batch_size="4")
    sweep(config)
    _same_as_alone(out, alone)
    clips = {e for step in ("000100", "000200") for e in _played(out / "runs" / step)}
    again = sum((9, 12, 7, 10, 8, 11)[e] for e in clips)  # pages play some episodes once more
    assert sum(counting.decoded.values()) <= 57 + 2 * again


def _played(run: Path) -> set[int]:
    return set(pq.read_table(run / "clips.parquet", columns=["episode_index"])[0].to_pylist())


def test_another_option_is_another_run(filmed: Path, training: Path, tmp_path: Path) -> None:
    out, one = tmp_path / "o", training / "checkpoints" / "000100"
    sweep(_config(filmed, out, one, max_frames=12))
    kept = _told(out / "runs" / "000100")
    second = sweep(_config(filmed, out, one, max_frames=12, seed=5)).record.checkpoints[0]
    assert second.run == f"runs/000100-{str(second.key)[:8]}"
    assert _told(out / "runs" / "000100") == kept
    assert read_complete(out / second.run).plan.seed == 5
    with pytest.raises(UsageError, match="none at"):
        sweep(_config(filmed, out, tmp_path / "nothing"))


def test_a_sweep_of_broken_checkpoints_ends_with_the_first_error(
    filmed: Path, training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", str(training / "checkpoints" / "000300"), "--dataset.repo_id", "fake/data"]
    words += ["--dataset.root", str(filmed), "--output_dir", str(tmp_path / "o")]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert "model.safetensors" in capsys.readouterr().err.strip().splitlines()[-1]


def test_follow_takes_up_what_appears_while_it_waits(
    filmed: Path, training: Path, tmp_path: Path
) -> None:
    steps = tmp_path / "t" / "checkpoints"
    shutil.copytree(training / "checkpoints" / "000100", steps / "000100")
    half = steps / "000200" / "pretrained_model"
    half.mkdir(parents=True)
    whole = training / "checkpoints" / "000200" / "pretrained_model"
    shutil.copy(whole / "config.json", half)
    out = tmp_path / "o"
    config = _config(
        filmed, out, steps.parent, max_frames=12, follow=True, poll=0.1, until_step=200, timeout=60
    )

    def finish() -> None:
        """What a training does meanwhile."""
        while not (out / "sweep.json").exists() or read_sweep(out).status != "following":
            time.sleep(0.05)
        assert [row.name for row in read_sweep(out).checkpoints] == ["000100"]
        for file in whole.iterdir():
            shutil.copy(file, half)

    trainer = threading.Thread(target=finish)
    trainer.start()
    swept = sweep(config)
    trainer.join()
    assert swept.reached
    assert [row.step for row in swept.record.checkpoints] == [100, 200]
    assert swept.record.status == "complete"


def test_follow_ends_when_nothing_comes(
    filmed: Path, training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", "--follow", "--poll", "0.05", "--timeout", "0.2", "--max_frames", "12"]
    words += ["--dataset.repo_id", "fake/data", "--dataset.root", str(filmed)]
    words += ["--dataset.action_units", "px", "--output_dir", str(tmp_path / "o")]
    with pytest.raises(SystemExit) as end:
        main([*words, str(tmp_path / "nowhere")])
    assert end.value.code == 2
    assert "a whole checkpoint within 0.2 s" in capsys.readouterr().err
    shutil.copytree(training / "checkpoints" / "000100", tmp_path / "t" / "checkpoints" / "000100")
    with pytest.raises(SystemExit) as end:
        main([*words, str(tmp_path / "t"), "--until_step", "200"])
    assert end.value.code == 1
    assert "--until_step 200 did not come in time" in capsys.readouterr().err


# ── which is best ─────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def stored(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("stored")
    for kind in ("hold_state", "repeat_last", "dataset_mean"):
        evaluate(fakes.config_for(data, kind, root / kind))
    return {path.name: path for path in sorted(root.iterdir())}


@pytest.mark.parametrize("metric", ["executed.mae", "chunk.mse", "step1.nmae", "chunk.nmse"])
def test_who_is_alike_is_what_compare_says(metric: str, stored: dict[str, Path]) -> None:
    """`compare` reads the predictions, a sweep the stored sums."""
    scope, _, kind = metric.partition(".")
    ranked = rank_offline(stored, normalized=kind.startswith("n"))
    what = "skill" if kind.endswith("mse") else "error"
    best = next(b for b in ranked if b.measure == f"{scope}.{what}")
    runs = [StoredRun(path, read_complete(path), name) for name, path in stored.items()]
    compared = compare(runs[0], runs[1:], metric=metric)
    assert list(best.alike) == [list(stored)[i] for i in compared.leading]
    values = {
        name: read_complete(path).summary.of(scope).of(kind).value for name, path in stored.items()
    }
    assert best.name == min(values, key=lambda name: values[name])
    assert best.name in best.alike
    assert best.n == 6


def _episodes(*won: bool | None) -> list[RolloutRow]:
    known = {"task_group": "g", "task_id": 0, "task": "", "max_reward": 1.0, "sum_reward": 1.0}
    known |= {"demonstration": None, "max_coverage": None, "steps": 1, "ended": "", "detail": ""}
    known |= {"n_calls": 1, "attempts": 1, "faults": [], "sim_s": 0.0, "video": None}
    return [RolloutRow(episode=i, seed=i, success=w, **known) for i, w in enumerate(won)]


def test_success_is_ranked_on_the_seeds_that_all_ran() -> None:
    many, few = _episodes(*[True] * 20, None), _episodes(*[False] * 20, True)
    close = _episodes(*[True] * 19, False, True)
    (best,) = rank_success({"few": few, "close": close, "many": many})
    assert (best.name, best.n, list(best.alike)) == ("many", 20, ["close", "many"])
    (short,) = rank_success({"a": _episodes(True, True), "b": _episodes(False, False)})
    assert not short.able  # two seeds: no p value is small enough
    assert list(short.alike) == ["a", "b"]
    assert rank_success({"a": _episodes(None), "b": _episodes(True)}) == []


def test_nothing_is_called_best_that_no_test_shows() -> None:
    record = _swept(("a", "b", "c"))
    lines = {
        ("a",): "step 0 is best with",
        ("a", "b"): "cannot be told apart from it: step 1.",
        ("a", "b", "c"): "no other checkpoint can be told apart",
    }
    for alike, said in lines.items():
        best = _best(alike)
        text = best_line(record.model_copy(update={"best": [best]}), best)
        assert said in text
        assert ("is best" in text) == (alike == ("a",))
    assert "too few" in best_line(record, _best(("a", "b", "c")).model_copy(update={"able": False}))
    one = _swept(("a",))
    assert "the only checkpoint" in best_line(one, _best(("a",)))


def _best(alike: tuple[str, ...]) -> Any:
    from policyscope.runs.sweep import Best

    return Best(
        measure="executed.error", name="a", alike=alike, test="paired t over episodes", n=9,
        able=True,
    )  # fmt: skip


def _swept(names: tuple[str, ...]) -> SweepRecord:
    value = {"value": 1.0, "ci_low": 0.5, "ci_high": 2.0, "n_episodes": 9, "n_frames": 90}
    rows = [
        {"name": n, "step": i, "path": n, "key": "k", "status": "complete", "run": f"runs/{n}",
         "error": dict.fromkeys(SCOPES, value), "skill": dict.fromkeys(SCOPES, value)}
        for i, n in enumerate(names)
    ]  # fmt: skip
    return SweepRecord.model_validate(
        {
            "status": "complete",
            "dataset": {"repo_id": "a/b", "episodes": "0:9", "n_frames": 90, "fps": 10.0,
                        "split": "held_out"},
            "metric": "mae", "unit": "px", "chunk_size": 6, "n_action_steps": 3,
            "against": "hold_state", "checkpoints": rows, "best": [],
            "environment": {"versions": {}, "device": "cpu", "seed": 0, "command_line": ["x"]},
        }
    )  # fmt: skip


def test_words_that_no_call_names_are_in_the_catalogue() -> None:
    said = {*MEASURES.values(), *STATUS.values(), "paired t over episodes", "exact McNemar"}
    assert sorted(said - catalogue("zh").keys()) == []


def test_a_run_outside_the_sweep_is_no_part_of_its_record() -> None:
    for run in ("/etc", "../elsewhere", "runs/../x", "runs/a/b", "rollouts/x"):
        content = _swept(("a",)).to_json()
        content["checkpoints"][0]["run"] = run
        with pytest.raises(ValueError, match="run"):
            SweepRecord.model_validate(content)


def test_a_stored_sweep_is_drawn_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(tmp_path, _swept(("a", "b")))
    with pytest.raises(SystemExit) as end:
        main(["report", str(tmp_path), "--lang", "zh"])
    assert end.value.code == 0
    assert "MAE in px, skill against hold state" in capsys.readouterr().out
    assert 'lang="zh-Hans"' in (tmp_path / "sweep.html").read_text()


def test_a_page_of_somebody_else_is_not_drawn_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(tmp_path, _swept(("a",)))
    (tmp_path / "sweep.html").write_text("my notes")
    with pytest.raises(SystemExit) as end:
        main(["report", str(tmp_path)])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert (tmp_path / "sweep.html").read_text() == "my notes"


@pytest.mark.parametrize("key", ["against", "metric", "status", "schema_version", "skill"])
def test_a_sweep_that_says_what_no_sweep_says_is_one_line(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {**_swept(("a",)).to_json(), key: "<b>"}
    if key == "skill":
        content = _swept(("a",)).to_json()
        del content["checkpoints"][0]["skill"]["chunk"]
    (tmp_path / "sweep.json").write_text(json.dumps(content))
    with pytest.raises(SystemExit) as end:
        main(["report", str(tmp_path)])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert key in said
    assert said.count("\n") == 1


# ── trackers ──────────────────────────────────────────────────────────


class Notes:
    """A tracker that keeps what it is told; it breaks where it is told to."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []
        self.closed, self._breaks = False, breaks

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        if self._breaks:
            raise RuntimeError("no connection")
        self.told.append((step, dict(numbers)))

    def close(self) -> None:
        self.closed = True


def test_a_tracker_is_told_the_main_numbers_by_step(
    filmed: Path, training: Path, tmp_path: Path
) -> None:
    config = _config(filmed, tmp_path / "o", training, max_frames=30)
    notes = Notes()
    record = sweep(config, tracker=notes).record
    assert [step for step, _ in notes.told] == [100, 200]  # not the broken one
    assert notes.closed
    for row, (_, numbers) in zip(record.done, notes.told, strict=True):
        error, skill = row.error["executed"], row.skill["chunk"]
        assert numbers["executed/error"] == error.value
        assert numbers.get("executed/error_ci_high") == error.ci_high
        assert numbers["chunk/skill"] == skill.value
    broken = Notes(breaks=True)
    assert sweep(config, tracker=broken).record.checkpoints == record.checkpoints
    assert broken.closed


def test_numbers_that_may_mean_nothing_go_to_no_tracker() -> None:
    (row,) = _swept(("a",)).checkpoints
    ends = {"": 1.0, "_ci_low": 0.5, "_ci_high": 2.0}
    names = [f"{scope}/{what}" for scope in SCOPES for what in ("error", "skill")]
    assert numbers_of(row) == {f"{name}{end}": v for name in names for end, v in ends.items()}
    assert numbers_of(row.model_copy(update={"errors": ["lag"]})) == {}
    success = Success(k=3, n=4, rate=0.75, ci_low=0.3, ci_high=0.95, method="wilson")
    assert numbers_of(row.model_copy(update={"success": success, "error": {}, "skill": {}})) == {
        "success/rate": 0.75,
        "success/rate_ci_low": 0.3,
        "success/rate_ci_high": 0.95,
    }


@pytest.mark.parametrize("kind", ["wandb", "mlflow", "trackio"])
def test_a_tracker_that_is_not_installed_names_its_extra(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(UsageError, match=rf"pip install 'policyscope\[{kind}\]'"):
        open_tracker(kind, tmp_path, project="p", name="n")


@pytest.mark.slow
def test_mlflow_keeps_numbers_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for step in (100, 200):  # two runs of one experiment
        tracker = open_tracker("mlflow", tmp_path, project="p", name=str(step))
        assert tracker is not None
        tracker.log(step, {"executed/error": step / 100})
        tracker.close()
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("p")
    runs = client.search_runs([experiment.experiment_id])
    kept = {
        (m.step, m.value)
        for run in runs
        for m in client.get_metric_history(run.info.run_id, "executed/error")
    }
    assert kept == {(100, 1.0), (200, 2.0)}
    assert {run.info.status for run in runs} == {"FINISHED"}


def _logged(kind: str, folder: Path) -> None:
    """One number by a tracker in a process of its own: some write until the very end."""
    code = """if True:
        import sys
        from pathlib import Path
        from policyscope.views.trackers import open_tracker
        tracker = open_tracker(sys.argv[1], Path(sys.argv[2]), project="p", name="n")
        tracker.log(100, {"executed/error": 1.0})
        tracker.close()
    """
    elsewhere = ("WANDB_MODE", "TRACKIO_DIR")
    environment = {key: value for key, value in os.environ.items() if key not in elsewhere}
    words = [sys.executable, "-c", code, kind, str(folder)]
    done = subprocess.run(
        words, check=True, capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.stdout == ""  # which is for results


@pytest.mark.slow
def test_wandb_writes_offline_files(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    _logged("wandb", tmp_path)
    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"executed/error" in file.read_bytes()


@pytest.mark.slow
def test_trackio_writes_a_local_database(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    _logged("trackio", tmp_path)
    (file,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(file) as database:
        rows = database.execute("select step, metrics from metrics").fetchall()
    assert [(step, json.loads(metrics)["executed/error"]) for step, metrics in rows] == [(100, 1.0)]


# ── the repository's own recipe ───────────────────────────────────────

ASSETS = Path(__file__).parents[1] / "src" / "policyscope" / "assets"
RECIPE = Path(__file__).parents[1] / "examples" / "train_smolvla_pusht" / "train.py"
PLANNER = ("--dataset.repo_id", "policyscope/pusht-planner", "--dataset.episodes", "4:10")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six checkpoints of examples/train_smolvla_pusht in lerobot's folders, of one to six steps."""
    root = tmp_path_factory.mktemp("recipe")
    train = runpy.run_path(str(RECIPE))["main"]
    for steps in range(1, 7):
        words = [str(RECIPE), "--dataset_root", str(ASSETS / "pusht-planner")]
        words += ["--output_dir", str(root / "t"), "--episodes", "0:4", "--steps", str(steps)]
        words += ["--batch_size", "2", "--threads", "1"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", words)
            train()
        model = root / "checkpoints" / f"{steps:06d}" / "pretrained_model"
        model.parent.mkdir(parents=True)
        shutil.move(root / "t" / "checkpoint", model)
        shutil.rmtree(root / "t")
    (root / "checkpoints" / "last").symlink_to("000006")
    return root


def _words(out: Path, *more: str) -> list[str]:
    words = ["sweep", *PLANNER, "--dataset.root", str(ASSETS / "pusht-planner"), "--device", "cpu"]
    return [*words, "--batch_size", "8", "--output_dir", str(out), *more]


@pytest.mark.slow
def test_six_checkpoints_of_the_recipe_decode_each_picture_once(
    recipe: Path, tmp_path: Path, counting: type[Counting], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*_words(tmp_path / "o"), f"{recipe}/checkpoints/*/pretrained_model"])
    assert end.value.code == 0, capsys.readouterr().err
    record = read_sweep(tmp_path / "o")
    assert [row.step for row in record.done] == [1, 2, 3, 4, 5, 6]
    assert sum(counting.decoded.values()) == len(counting.decoded) == record.dataset.n_frames
    videos = list((ASSETS / "pusht-planner").rglob("*.mp4"))
    assert all(counting.opened[video.name] <= 2 for video in videos)  # single calls, and batches


@pytest.mark.slow
def test_a_sweep_killed_inside_a_checkpoint_goes_on(
    recipe: Path, tmp_path: Path, counting: type[Counting]
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "o"
    pattern = f"{recipe}/checkpoints/*/pretrained_model"
    with pytest.raises(SystemExit):
        main([*_words(whole), pattern])
    command = [sys.executable, "-m", "policyscope", *_words(out), pattern]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    third = out / "runs" / "000003" / "parts"
    while not list(third.glob("rows-*")) and not list(third.glob("episode-*")):
        assert run.poll() is None
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert read_sweep(out).status == "interrupted"
    stamps = {f: f.stat().st_mtime_ns for f in (out / "runs").rglob("predictions.parquet")}
    assert len(stamps) == 2
    held = {f.name for f in third.iterdir()}
    assert held
    counting.decoded.clear()
    with pytest.raises(SystemExit) as end:
        main([*_words(out), pattern])
    assert end.value.code == 0
    assert stamps == {f: f.stat().st_mtime_ns for f in stamps}  # these never ran again
    assert set(counting.decoded.values()) == {1}
    for run_dir in sorted((whole / "runs").iterdir()):
        assert _told(run_dir) == _told(out / "runs" / run_dir.name)
    record = read_sweep(out)
    assert (record.status, record.best) == ("complete", read_sweep(whole).best)


@pytest.mark.slow
def test_follow_takes_up_a_checkpoint_of_the_recipe_and_ends_on_ctrl_c(
    recipe: Path, tmp_path: Path
) -> None:
    steps, out = tmp_path / "t" / "checkpoints", tmp_path / "o"
    for name in ("000001", "000002"):
        shutil.copytree(recipe / "checkpoints" / name, steps / name)
    words = _words(out, "--follow", "--poll", "0.5", "--max_frames", "64", str(tmp_path / "t"))
    command = [sys.executable, "-m", "policyscope", *words]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def done() -> list[int | None]:
        return [row.step for row in read_sweep(out).done] if (out / "sweep.json").exists() else []

    def wait_for(*expected: int) -> None:
        while done() != list(expected):
            assert run.poll() is None, run.communicate()[1]
            time.sleep(0.1)

    wait_for(1, 2)
    shutil.copytree(recipe / "checkpoints" / "000003", steps / "000003")
    wait_for(1, 2, 3)
    while read_sweep(out).status != "following":
        time.sleep(0.05)
    time.sleep(1)
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 130, said
    assert said.strip().splitlines()[-1].startswith("interrupted: the same command with")
    assert "Traceback" not in said
    assert read_sweep(out).status == "interrupted"
    assert (out / "sweep.html").read_text().count('href="runs/0') == 3
