"""Whatever ends a run, and whoever else wants its directory: nothing is lost, nothing mixes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import fakes
from hostile.zygote import Run, Zygote, zygote

_TIMES = ("latency", "throughput", "environment")
_CALLS = ("model_call_s",)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with zygote(tmp_path_factory.mktemp("zygote")) as started:
        yield started


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demonstrations") / "d"
    return fakes.write_dataset(folder, lengths=(30,) * 8, size=16)


def offline(data: Path, out: Path, *more: str, who: str = "hold_state") -> list[str]:
    words = ["eval", "--policy.type", who, "--policy.chunk_size", "6", "--latency_calls", "0"]
    words += ["--dataset.repo_id", "fake/data", "--dataset.root", str(data)]
    words += ["--dataset.action_units", "px", "--batch_size", "1", "--samples", "8"]
    return [*words, "--output_dir", str(out), *more]


def closed_loop(out: Path, *more: str, seed: int = 1000, n: int = 4) -> list[str]:
    words = ["rollout", "--policy.type", "hold_state", "--policy.chunk_size", "2"]
    words += ["--env.type", "gym", "--env.task", "fake_envs:fake_envs/Point-v0", "--n_envs", "2"]
    words += ["--n_episodes", str(n), "--seed", str(seed), "--latency_calls", "0"]
    words += ["--env.settings", '{"delay_s": 0.02}', "--batch_size", "1"]
    return [*words, "--video", "none", "--output_dir", str(out), *more]


def metrics(run: Path) -> str:
    """What must not depend on how a run came about."""
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "complete"
    for row in record.get("episodes", ()):
        row.pop("sim_s", None)  # seconds in the simulator
    for row in record.get("episodes", ()):
        row.pop("sim_s", None)
    return json.dumps({k: v for k, v in record.items() if k not in _TIMES}, sort_keys=True)


def tables(run: Path) -> list[Any]:
    names = sorted(p.name for p in run.glob("*.parquet") if p.name != "clips.parquet")
    read = [pq.read_table(run / name) for name in names]
    return [t.drop_columns([c for c in _CALLS if c in t.column_names]) for t in read]


def same(run: Path, other: Path) -> None:
    """Equal numbers, equal rows, and nothing left of the way there."""
    assert metrics(run) == metrics(other)
    for mine, theirs in zip(tables(run), tables(other), strict=True):
        assert repr(mine.to_pylist()) == repr(theirs.to_pylist())  # NaN is NaN here
    assert not (run / "parts").exists()
    assert not list(run.rglob("*.tmp*"))


def done(run: Run) -> None:
    assert run.wait() == 0, run.text()


@pytest.fixture(scope="module")
def whole(lines: Zygote, demonstrations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "o"
    done(lines.run(*offline(demonstrations, out)))
    return out


@pytest.fixture(scope="module")
def whole_rollout(lines: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "o"
    done(lines.run(*closed_loop(out)))
    return out


def killed_until_done(lines: Zygote, words: list[str], out: Path, seed: int, kills: int) -> int:
    """Run a command line with --resume, killed at random moments after it has begun."""
    draw, killed = random.Random(seed), 0
    for _ in range(kills + 1):
        run = lines.run(*words, "--resume")
        until = time.monotonic() + draw.uniform(0.05, 0.6)
        if killed < kills:
            while run.poll() is None and not (out / "parts").is_dir():
                time.sleep(0.005)
            while run.poll() is None and time.monotonic() < until:
                time.sleep(0.005)
            if run.poll() is None:
                run.kill()
                killed += 1
                run.wait()
                continue
        done(run)
        break
    return killed


@pytest.mark.parametrize("seed", range(2))
def test_offline_runs_killed_at_random(
    seed: int, lines: Zygote, demonstrations: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o"
    assert killed_until_done(lines, offline(demonstrations, out), out, seed, 4)
    same(out, whole)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
def test_offline_runs_killed_at_many_more(
    seed: int, lines: Zygote, demonstrations: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o"
    killed_until_done(lines, offline(demonstrations, out), out, seed, 10)
    same(out, whole)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_rollouts_killed_at_random(
    seed: int, lines: Zygote, whole_rollout: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o"
    assert killed_until_done(lines, closed_loop(out), out, seed, 3)
    same(out, whole_rollout)


def _children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(status.parent.name))
    return found


@pytest.mark.slow
def test_single_workers_killed_at_random(
    lines: Zygote, whole_rollout: Path, tmp_path: Path
) -> None:
    """Simulators that die are started again; their episodes come out the same."""
    draw, out, killed = random.Random(0), tmp_path / "o", 0
    run = lines.run(*closed_loop(out))
    while run.poll() is None:
        if killed < 3 and list(out.glob("parts/episode-*")):
            workers = [worker for server in _children(run.pid) for worker in _children(server)]
            if workers:  # children of the server that forks them
                with contextlib.suppress(ProcessLookupError):
                    os.kill(draw.choice(workers), signal.SIGKILL)
                killed += 1
                time.sleep(0.3)
        time.sleep(0.02)
    assert run.wait() == 0, run.text()
    assert killed
    mine, theirs = (json.loads((o / "run.json").read_text()) for o in (out, whole_rollout))
    for key in ("seed", "success", "max_reward", "sum_reward", "steps"):
        assert [e[key] for e in mine["episodes"]] == [e[key] for e in theirs["episodes"]]


# ── two runs, one directory ───────────────────────────────────────────


def _pair(lines: Zygote, first: list[str], second: list[str], delay_s: float) -> tuple[Run, Run]:
    runs = [lines.run(*first)]
    time.sleep(delay_s)
    runs.append(lines.run(*second))
    for run in runs:
        run.wait()
    return runs[0], runs[1]


def _one_ran(pair: tuple[Run, Run], out: Path, of: dict[int, Path]) -> None:
    """One run did all of its work; the other was refused in one line."""
    assert sorted(run.wait() for run in pair) == [0, 2], [run.text() for run in pair]
    winner = next(i for i, run in enumerate(pair) if run.status == 0)
    (line,) = pair[1 - winner].errors()
    assert "being written" in line or "a finished run" in line, line
    assert "Traceback" not in pair[1 - winner].text()
    same(out, of[winner])


@pytest.fixture(scope="module")
def other(lines: Zygote, demonstrations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("other") / "o"
    done(lines.run(*offline(demonstrations, out, who="repeat_last")))
    return out


def _offline_pairs(
    lines: Zygote, data: Path, of: dict[int, Path], scratch: Path, seeds: range
) -> None:
    for seed in seeds:
        out, draw = scratch / str(seed), random.Random(seed)
        more = ["--overwrite"] if seed % 3 == 0 else []
        first = offline(data, out, *more)
        second = offline(data, out, *more, who="repeat_last")
        pair = _pair(lines, first, second, draw.uniform(0, 0.1))
        _one_ran(pair, out, of)


def test_two_offline_runs_want_one_directory(
    lines: Zygote, demonstrations: Path, whole: Path, other: Path, tmp_path: Path
) -> None:
    _offline_pairs(lines, demonstrations, {0: whole, 1: other}, tmp_path, range(3))


@pytest.mark.long
def test_twenty_pairs_of_offline_runs(
    lines: Zygote, demonstrations: Path, whole: Path, other: Path, tmp_path: Path
) -> None:
    _offline_pairs(lines, demonstrations, {0: whole, 1: other}, tmp_path, range(3, 23))


@pytest.mark.long
def test_twenty_pairs_of_rollouts(
    lines: Zygote, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wholes = {}
    for i, seed in enumerate((1000, 2000)):
        wholes[i] = tmp_path_factory.mktemp("seeds") / "o"
        done(lines.run(*closed_loop(wholes[i], seed=seed, n=2)))
    draw = random.Random(0)
    for n in range(20):
        out = tmp_path / str(n)
        first, second = (closed_loop(out, seed=seed, n=2) for seed in (1000, 2000))
        _one_ran(_pair(lines, first, second, draw.uniform(0, 0.1)), out, wholes)


def test_the_lock_of_a_killed_run_does_not_block(
    lines: Zygote, demonstrations: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o"
    run = lines.run(*offline(demonstrations, out))
    while not list(out.glob("parts/*")):
        assert run.poll() is None, run.text()
        time.sleep(0.005)
    run.kill(signal.SIGSTOP)  # it must not end before the other looks
    refused = lines.run(*offline(demonstrations, out, "--overwrite"))
    assert refused.wait() == 2
    assert "being written" in refused.errors()[0]
    run.kill()
    run.wait()
    done(lines.run(*offline(demonstrations, out, "--resume")))
    same(out, whole)


def test_a_part_of_another_run_does_not_count(
    lines: Zygote, demonstrations: Path, whole: Path, tmp_path: Path
) -> None:
    out, foreign = tmp_path / "o", tmp_path / "foreign"
    for where, seed in ((out, "0"), (foreign, "7")):
        run = lines.run(*offline(demonstrations, where, "--seed", seed))
        while not list(where.glob("parts/episode-*")):
            assert run.poll() is None, run.text()
            time.sleep(0.005)
        run.kill()
        run.wait()
    first, others = (sorted(where.glob("parts/episode-*"))[0] for where in (out, foreign))
    kept, elsewhere = first.read_bytes(), first.with_name("episode-000999.parquet")
    for place, content in ((elsewhere, kept), (first, others.read_bytes())):
        place.write_bytes(content)
        run = lines.run(*offline(demonstrations, out, "--resume"))
        assert run.wait() == 2
        assert place.name in run.errors()[0]
        elsewhere.unlink(missing_ok=True)
    first.write_bytes(kept)
    done(lines.run(*offline(demonstrations, out, "--resume")))
    same(out, whole)


# ── a full disk ───────────────────────────────────────────────────────


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_full_disk_at_report(lines: Zygote, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    shutil.copytree(whole, out)
    before = _contents(out)
    run = lines.run("report", str(out), file_bytes=4096)
    assert run.wait() == 2
    assert len(run.errors()) == 1, run.text()
    assert _contents(out) == before
    done(lines.run("report", str(out)))
    same(out, whole)


def test_a_full_disk_at_overwrite_and_resume(
    lines: Zygote, demonstrations: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o"
    for more in ("--overwrite", "--resume", "--resume"):
        run = lines.run(*offline(demonstrations, out, more), file_bytes=4096)
        assert run.wait() == 2
        assert len(run.errors()) == 1, run.text()
        assert "Traceback" not in run.text()
    done(lines.run(*offline(demonstrations, out, "--resume")))
    same(out, whole)


def test_a_full_or_closed_standard_output(lines: Zygote, whole: Path) -> None:
    run = lines.run("report", str(whole), out="/dev/full")
    assert run.wait() == 2
    assert len(run.errors()) == 1
    assert "Traceback" not in run.text()
    assert "Exception ignored" not in run.text()
