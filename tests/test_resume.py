"""A run that ends at any moment goes on, and ends as if nothing had happened."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import fakes
from policyscope import files
from policyscope.commands.check import check
from policyscope.commands.evaluate import evaluate
from policyscope.config import EvalConfig
from policyscope.engine import offline
from policyscope.engine.offline import Clock, plan_frames, predict_rows, rows_of
from policyscope.engine.progress import Watch
from policyscope.engine.timing import best_batch_size
from policyscope.errors import OutOfMemoryError, OutputError
from policyscope.policies import lerobot
from policyscope.policies.builtin import ReplayPolicy
from policyscope.runs import directory
from policyscope.runs.record import read_record

_TIMES = ("latency", "throughput", "environment")


class Killed(BaseException):
    """What nothing in the program may catch."""


def _config(data: Path, policy: Path, out: Path, **changes: Any) -> EvalConfig:
    return fakes.config_for(
        data, policy, out, batch_size="4", latency_calls=0, samples=2, **changes
    )


def _metrics(run: Path) -> bytes:
    record = read_record(run)
    return json.dumps({k: v for k, v in record.to_json().items() if k not in _TIMES}).encode()


def _predictions(run: Path) -> Any:
    return pq.read_table(run / "predictions.parquet").drop_columns(["model_call_s"])


@pytest.fixture(scope="module")
def unbroken(data: Path, smolvla: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluate(_config(data, smolvla, tmp_path_factory.mktemp("run") / "o")).directory


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Rows that the policy answered, over all tries."""
    rows: list[tuple[int, int, int]] = []
    plain = lerobot.LerobotPolicy.predict

    def predict(self, batch):
        answer = plain(self, batch)
        rows.extend(
            zip(
                batch.episode_index.tolist(),
                batch.frame_index.tolist(),
                batch.sample.tolist(),
                strict=True,
            )
        )
        return answer

    monkeypatch.setattr(lerobot.LerobotPolicy, "predict", predict)
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_write(
    seed: int,
    data: Path,
    smolvla: Path,
    unbroken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw, plain = random.Random(seed), files.sync
    monkeypatch.setattr(offline, "_FLUSH_S", draw.choice([0.0, 0.01]))
    left = 0

    def sync(path: Path) -> None:
        """Called before a file has its name, and after."""
        nonlocal left
        left -= 1
        if left <= 0 and (path.is_dir() or draw.random() < 0.5):
            if path.is_file():
                path.with_name(re.sub(r"\.\w{12}\.", ".0123456789ab.", path.name)).write_bytes(b"")
            raise Killed
        plain(path)

    monkeypatch.setattr(files, "sync", sync)
    config, kills = _config(data, smolvla, tmp_path / "o", resume=True), 0
    while True:
        left = draw.randint(4, 18)
        try:
            run = evaluate(config)
            break
        except Killed:
            kills += 1
    assert kills >= 3
    assert _metrics(run.directory) == _metrics(unbroken)
    assert _predictions(run.directory).equals(_predictions(unbroken))
    assert not list(run.directory.glob("**/*.tmp*"))
    assert not (run.directory / "parts").exists()


def test_no_row_is_predicted_twice(
    data: Path,
    smolvla: Path,
    unbroken: Path,
    asked: list[tuple[int, int, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(offline, "_FLUSH_S", 0.0)
    plain = directory.RunDirectory.hold
    calls = 0

    def hold(self, parts):
        nonlocal calls
        plain(self, parts)
        calls += 1
        if calls in (3, 7, 8, 20):
            raise Killed

    monkeypatch.setattr(directory.RunDirectory, "hold", hold)
    config = _config(data, smolvla, tmp_path / "o", resume=True)
    tries = 0
    while tries < 10:
        tries += 1
        try:
            evaluate(config)
            break
        except Killed:
            pass
    assert tries == 5
    cold = tries  # each try times one first call apart
    assert len(asked) - cold == len(_predictions(unbroken))
    assert _metrics(tmp_path / "o") == _metrics(unbroken)


@pytest.mark.slow
def test_sigkill_at_random_moments(
    data: Path, smolvla: Path, unbroken: Path, tmp_path: Path
) -> None:
    out, draw, kills = tmp_path / "o", random.Random(0), 0
    words = [sys.executable, "-m", "policyscope", "eval", "--policy.path", str(smolvla)]
    words += ["--dataset.repo_id", "fake/data", "--dataset.root", str(data), "--resume"]
    words += ["--output_dir", str(out), "--batch_size", "4", "--samples", "2"]
    words += ["--latency_calls", "0", "--dataset.action_units", "px"]
    code = (
        "import sys, time, torch; torch.set_num_threads(1)\n"
        "from policyscope.policies.lerobot import LerobotPolicy as P\n"
        "plain = P.predict\n"
        "P.predict = lambda self, batch: "
        "(print('asked', flush=True), time.sleep(0.05), plain(self, batch))[2]\n"
        "from policyscope.engine import offline; offline._FLUSH_S = 0.1\n"
        "from policyscope.commands.cli import main; main(sys.argv[1:])"
    )
    for _ in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", code, *words[3:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert child.stdout is not None
        child.stdout.readline()  # it has begun to predict, or ended
        try:
            child.wait(timeout=draw.uniform(0.1, 0.8) if kills < 4 else 120)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            kills += 1
        _, said = child.communicate()
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL, said.decode()
    assert kills >= 2
    assert _metrics(out) == _metrics(unbroken)


def fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fifth table that is written finds no room."""
    plain, room = pq.write_table, [5]

    def write(*args: Any, **kwargs: Any) -> None:
        room[0] -= 1
        if room[0] == 0:
            raise OSError(28, "No space left on device")
        plain(*args, **kwargs)

    monkeypatch.setattr(pq, "write_table", write)


def test_a_full_disk_loses_nothing(
    data: Path, smolvla: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline, "_FLUSH_S", 0.0)
    fill_the_disk(monkeypatch)
    config = _config(data, smolvla, tmp_path / "o", resume=True)
    with pytest.raises(OutputError, match="No space left"):
        evaluate(config)
    assert _metrics(evaluate(config).directory) == _metrics(unbroken)


class Small(ReplayPolicy):  # type: ignore[misc]
    """Runs out of memory above a batch of three."""

    sizes: list[int]

    def predict(self, batch):
        if len(batch) > 3:
            raise OutOfMemoryError("here", expected="memory", found="none", fix="less")
        self.sizes.append(len(batch))
        return super().predict(batch)


def test_memory_that_runs_out_halves_the_batch(data: Path, tmp_path: Path) -> None:
    source = check(fakes.config_for(data, "replay", tmp_path / "o")).source
    policy = Small(source, dims=(0, 1), horizon=6)
    policy.sizes = []
    rows = rows_of(plan_frames(source, (0, 1), max_frames=None), 1)
    parts = list(predict_rows(policy, source, rows, batch_size=8, clock=Clock(), progress=Watch()))
    assert policy.sizes == [2] * 10 + [1]
    assert [p.first for p in parts] == list(range(0, 21, 2))
    got = np.concatenate([p.actions.values for p in parts])
    chunks = [source.episode(e).chunks(6)[0].values for e in (0, 1)]
    assert np.array_equal(got, np.concatenate(chunks))


def test_memory_that_never_suffices_says_so(data: Path, tmp_path: Path) -> None:
    class Never(ReplayPolicy):  # type: ignore[misc]
        def predict(self, batch):
            del batch
            raise OutOfMemoryError("here", expected="memory", found="none", fix="less")

    source = check(fakes.config_for(data, "replay", tmp_path / "o")).source
    rows = rows_of(plan_frames(source, (0,), max_frames=None), 1)
    with pytest.raises(OutOfMemoryError):
        list(
            predict_rows(
                Never(source, dims=(0, 1)),
                source,
                rows,
                batch_size=8,
                clock=Clock(),
                progress=Watch(),
            )
        )


@pytest.mark.parametrize(("best", "limit"), [(8, 99), (32, 99), (2, 99), (64, 16)])
def test_the_search_finds_the_best_batch(best: int, limit: int, data: Path, tmp_path: Path) -> None:
    source = check(fakes.config_for(data, "replay", tmp_path / "o")).source

    class Timed(ReplayPolicy):  # type: ignore[misc]
        def predict(self, batch):
            n = len(batch)
            if n > limit:
                raise OutOfMemoryError("here", expected="memory", found="none", fix="less")
            answer = super().predict(batch)
            cost = 10 * (1 + abs(np.log2(n / best)))  # seconds a row
            return type(answer)(answer.actions, cost * n)

    rows = rows_of(plan_frames(source, tuple(range(6)), max_frames=None), 4)
    found = best_batch_size(Timed(source, dims=(0, 1)), source, rows, default=8)
    assert found == min(best, limit)


def test_stride(data: Path, tmp_path: Path) -> None:
    config = fakes.config_for(data, "hold_state", tmp_path / "o", stride=3)
    record = evaluate(config).record
    source = check(config).source
    table = pq.read_table(tmp_path / "o" / "predictions.parquet")
    assert record["dataset"]["n_frames"] == len(table)
    frames = table.column("frame_index").to_numpy()
    assert (frames % 3 == 0).all()
    errors = []
    for e, length in source.facts.lengths.items():
        episode = source.episode(e)
        assert episode.state is not None
        errors.append(np.abs(episode.state - episode.actions.values)[range(0, length, 3)])
    expected = np.concatenate(errors).mean()
    assert record["summary"]["step1"]["mae"]["value"] == pytest.approx(expected)


def test_the_player_of_a_strided_run_keeps_the_dataset_s_frames(data: Path, tmp_path: Path) -> None:
    from policyscope.runs.clips import read_clips
    from policyscope.views.offline.series import _played

    config = fakes.config_for(data, "replay", tmp_path / "o", stride=3, episodes="1")
    run = evaluate(config)
    actions = check(config).source.episode(1).actions.values
    stored = next(directory.RunDirectory(run.directory).stored())
    errors = {"native": np.arange(len(stored.frame_index), dtype=float)}
    played = _played(stored, "", errors, "", (), "", 1)
    assert played.n_frames == stored.frame_index[-1] + 1 == 10
    assert played.asked.tolist() == [0, 3, 6, 9]
    assert played.demonstrated is not None
    assert np.array_equal(played.demonstrated, actions[:10])
    assert np.isnan(played.errors["native"][[1, 2, 4]]).all()
    assert played.errors["native"][[0, 3, 6, 9]].tolist() == [0, 1, 2, 3]
    assert {clip.n_frames for clip in read_clips(run.directory)} == {10}
