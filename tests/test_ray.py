"""--engine ray: the numbers of one process, whoever works, dies, leaves or goes on elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import fakes
from policyscope.commands.evaluate import evaluate
from policyscope.commands.rollout import rollout
from policyscope.config import (
    DatasetConfig,
    EnvConfig,
    EvalConfig,
    PolicyConfig,
    RayConfig,
    RolloutConfig,
)
from policyscope.engine import offline
from policyscope.engine import ray as on_ray
from policyscope.engine.progress import Watch
from policyscope.errors import InputError, OutputError, UsageError
from policyscope.policies.builtin import ReplayPolicy
from policyscope.runs.episodes import rollout_rows
from policyscope.sim import cluster
from test_kill import same
from test_resume import _metrics, _predictions, fill_the_disk

ASSETS = Path(cluster.__file__).parents[1] / "assets"
needs_ray = pytest.mark.skipif(not cluster.has_ray(), reason="policyscope[ray] is not installed")


# ── without Ray ───────────────────────────────────────────────────────


def test_shares_of_machines() -> None:
    def of(machines: list[tuple[int, int]], gpu: bool = False, **asked: int) -> tuple[int, int]:
        return cluster.shares(RayConfig(**asked), machines, gpu=gpu)  # type: ignore[arg-type]

    assert of([(2, 0)]) == (1, 2)
    assert of([(16, 0), (6, 0)]) == (5, 4)
    assert of([(16, 0), (6, 0)], workers=2) == (2, 8)
    assert of([(16, 0), (6, 0)], workers=4) == (4, 5)
    assert of([(8, 0), (0, 0)], cpus=3) == (2, 3)
    assert of([(8, 0)], cpus=3, workers=1) == (1, 3)
    assert of([(8, 0)], cpus=3, workers=5) == (2, 3)
    assert of([(16, 2), (64, 0), (8, 1)], gpu=True) == (3, 8)
    assert of([(16, 2), (64, 0), (8, 1)], gpu=True, cpus=16) == (1, 16)
    with pytest.raises(UsageError, match="expected a machine with 9 CPUs; found 8 CPUs"):
        of([(8, 0)], cpus=9)
    with pytest.raises(UsageError, match="and a GPU; found 8 CPUs, 0 GPUs"):
        of([(8, 0)], gpu=True)


@pytest.mark.parametrize(
    ("engine", "ray", "says"),
    [
        ("ray", {"workers": 0}, "--ray.workers"),
        ("ray", {"address": "ray://host:1"}, "HOST:PORT"),
        ("ray", {"address": "somewhere"}, "HOST:PORT"),
        ("local", {"workers": 2}, "--engine ray beside"),
    ],
)
def test_flags_that_make_no_sense(
    engine: str, ray: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=says):
        fakes.config_for(tmp_path, "zero", tmp_path / "o", engine=engine, ray=RayConfig(**ray))


def test_without_ray_the_extra_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "has_ray", lambda: False)
    with pytest.raises(UsageError, match=r"policyscope\[ray\]"):
        evaluate(fakes.config_for(data, "zero", tmp_path / "o", engine="ray"))
    assert not (tmp_path / "o").exists()


@needs_ray
def test_a_cluster_that_is_not_there(data: Path, tmp_path: Path) -> None:
    config = fakes.config_for(
        data, "zero", tmp_path / "o", engine="ray", ray=RayConfig(address="127.0.0.1:9")
    )
    with pytest.raises(UsageError, match=r"--ray\.address 127\.0\.0\.1:9: expected a Ray cluster"):
        evaluate(config)
    assert not (tmp_path / "o").exists()


# ── one Ray for all that follows ──────────────────────────────────────


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with cluster.joined(RayConfig(workers=4, cpus=1)) as joined:
        yield joined


@pytest.fixture(autouse=True)
def _short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "_SPAN", 2)


def _config(data: Path, policy: Path | str, out: Path, **changes: Any) -> EvalConfig:
    settings = {"batch_size": "4", "samples": 2, "resume": True, **changes}
    return fakes.config_for(data, policy, out, **settings)


def _on_ray(config: EvalConfig, out: Path, workers: int = 2) -> EvalConfig:
    ray = RayConfig(workers=workers, cpus=1)
    return replace(config, output_dir=str(out), engine="ray", ray=ray)


@pytest.fixture(scope="module")
def local(data: Path, smolvla: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluate(_config(data, smolvla, tmp_path_factory.mktemp("run") / "o")).directory


def _same(run: Path, other: Path) -> None:
    assert _metrics(run) == _metrics(other)
    assert _predictions(run).equals(_predictions(other))
    assert not (run / "parts").exists()


def _workers(root: int) -> list[int]:
    """Processes below this one that predict or hold a simulator."""
    found = []
    for pid in _below(root):
        with contextlib.suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
            found += [pid] if title.startswith((b"ray::_Predictor", b"ray::_Simulator")) else []
    return found


def _below(root: int) -> list[int]:
    below = {root}
    for stat in sorted(Path("/proc").glob("[0-9]*/stat"), key=lambda p: int(p.parent.name)):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) in below:
                below.add(int(stat.parent.name))
    return sorted(below - {root})


def _idle() -> None:
    """No worker is left, a moment later."""
    until = time.monotonic() + 10
    while _workers(os.getpid()) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _workers(os.getpid())


class Kills(Watch):
    """Kills a worker now and then."""

    def __init__(self, seed: int, kills: int) -> None:
        self._draw, self._left, self._next = random.Random(seed), kills, 2
        self.killed = 0

    def advance(self, n_frames: int) -> None:
        self._next -= bool(n_frames)
        if self._left and self._next <= 0:
            known = _workers(os.getpid())
            if known:
                os.kill(self._draw.choice(known), signal.SIGKILL)
                self.killed += 1
            self._left, self._next = self._left - 1, self._draw.randint(1, 4)


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers(
    workers: int, data: Path, smolvla: Path, local: Path, tmp_path: Path
) -> None:
    config = _on_ray(_config(data, smolvla, tmp_path), tmp_path / "o", workers)
    _same(evaluate(config).directory, local)


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("ray")
def test_the_shipped_policy(tmp_path: Path) -> None:
    config = EvalConfig(
        policy=PolicyConfig(path=str(ASSETS / "smolvla-pusht")),
        dataset=DatasetConfig(repo_id="planner", root=str(ASSETS / "pusht-planner")),
        output_dir=str(tmp_path / "local"),
        stride=40,
        batch_size="4",
        latency_calls=0,
    )
    here = evaluate(config).directory
    _same(evaluate(_on_ray(config, tmp_path / "ray")).directory, here)


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("ray")
def test_workers_that_are_killed(data: Path, smolvla: Path, local: Path, tmp_path: Path) -> None:
    kills = Kills(0, 3)
    config = _on_ray(_config(data, smolvla, tmp_path), tmp_path / "o")
    _same(evaluate(config, kills).directory, local)
    assert kills.killed == 3


class Stops(Watch):
    """Interrupts after some frames."""

    def __init__(self, frames: int) -> None:
        self._left = frames

    def advance(self, n_frames: int) -> None:
        self._left -= n_frames
        if self._left <= 0:
            raise KeyboardInterrupt


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("ray")
def test_begun_here_and_finished_there(
    data: Path,
    smolvla: Path,
    local: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(offline, "_FLUSH_S", 0.0)
    here = _config(data, smolvla, tmp_path / "o")
    there = _on_ray(here, tmp_path / "o")
    for i, config in enumerate((here, there, here, there)):
        with pytest.raises(KeyboardInterrupt):
            evaluate(config, Stops(9 * i + 9))
    _idle()
    _same(evaluate(there).directory, local)


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("ray")
def test_a_full_disk_loses_nothing(
    data: Path,
    smolvla: Path,
    local: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(offline, "_FLUSH_S", 0.0)
    fill_the_disk(monkeypatch)
    config = _on_ray(_config(data, smolvla, tmp_path), tmp_path / "o")
    with pytest.raises(OutputError, match="No space left"):
        evaluate(config)
    assert list((tmp_path / "o" / "parts").glob("*.parquet"))
    _same(evaluate(config).directory, local)


@pytest.mark.slow
@needs_ray
def test_no_stranger_is_let_in(ray: Any) -> None:
    address = ray.get_runtime_context().gcs_address
    code = f"import ray; ray.init({address!r}, log_to_driver=False)"
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    for known in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
        done = subprocess.run(
            [sys.executable, "-c", code], env=env | known, capture_output=True, check=False
        )
        assert done.returncode != 0
        assert b"uthenti" in done.stderr
    ours = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert ours.returncode == 0


# ── what goes wrong in a worker ───────────────────────────────────────

_FAULTY = """
import os, sys
import numpy as np
from policyscope.errors import OutOfMemoryError
from policyscope.testing import NativeActions, Policy, PolicySpec, Prediction

class Held(Policy):
    def __init__(self, robot):
        self.units = robot.actions.units
        self.spec = PolicySpec(
            path="t",
            type="t",
            chunk_size=4,
            n_action_steps=2,
            keys=frozenset({"observation.state"}),
        )

    def predict(self, batch):
        self.look(batch)
        chunks = np.repeat(batch.observations[-1]["observation.state"][:, None], 4, axis=1)
        return Prediction(NativeActions(self.bent(batch, chunks), self.units), 0.0)

    def look(self, batch):
        pass

    def bent(self, batch, chunks):
        return chunks

class NotANumber(Held):
    def bent(self, batch, chunks):
        bad = (batch.episode_index == 3) & (batch.frame_index == 2)
        return np.where(bad[:, None, None], np.nan, chunks)

class Small(Held):
    def look(self, batch):
        if len(batch) > 3:
            raise OutOfMemoryError("here", expected="memory", found="none", fix="less")

class Never(Held):
    def look(self, batch):
        raise OutOfMemoryError("here", expected="memory", found="none", fix="less")

class Other(Held):
    def __init__(self, robot):
        super().__init__(robot)
        there = "default_worker" in sys.argv[0]
        self.spec = PolicySpec(**{**vars(self.spec), "n_action_steps": 1 + there})

class Dies(Held):
    def look(self, batch):
        if batch.episode_index[-1] == 3 and "default_worker" in sys.argv[0]:
            os.kill(os.getpid(), 9)
"""


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of policies in the working directory."""
    (tmp_path / "faulty.py").write_text(_FAULTY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "faulty", raising=False)


def _own(name: str, data: Path, out: str, **changes: Any) -> EvalConfig:
    config = _config(data, "zero", Path(out), samples=1, **changes)
    return replace(config, policy=PolicyConfig(type=f"faulty:{name}"))


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("faulty", "ray")
@pytest.mark.parametrize("name", ["NotANumber", "Never"])
def test_errors_are_those_of_one_process(name: str, data: Path, tmp_path: Path) -> None:
    config, said = _own(name, data, "l"), []
    for one in (config, _on_ray(config, Path("r"))):
        with pytest.raises(InputError) as error:
            evaluate(one)
        said.append((type(error.value), str(error.value)))
    assert said[0] == said[1]
    kept = [(tmp_path / out / "parts").glob("*.parquet") for out in ("l", "r")]
    here, there = (sum(pq.read_metadata(file).num_rows for file in files) for files in kept)
    assert here == there
    assert (here > 0) == (name == "NotANumber")


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("faulty", "ray")
def test_memory_that_runs_out(data: Path) -> None:
    config = _own("Small", data, "l", batch_size="8")
    _same(evaluate(_on_ray(config, Path("r"))).directory, evaluate(config).directory)


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("faulty", "ray")
@pytest.mark.parametrize(
    ("name", "says"),
    [("Other", "same policy and dataset on all"), ("Dies", "workers that live; found The actor")],
)
def test_workers_that_are_no_use(name: str, says: str, data: Path) -> None:
    with pytest.raises(UsageError, match=says):
        evaluate(_on_ray(_own(name, data, "o"), Path("o")))
    _idle()


@needs_ray
def test_an_object_can_t_travel(data: Path, tmp_path: Path) -> None:
    config = _on_ray(_config(data, "zero", tmp_path), tmp_path / "o")
    policy = ReplayPolicy(None, dims=(0, 1))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="open by its name"):
        evaluate(config, policy=policy)


# ── from the command line ─────────────────────────────────────────────


def _line(data: Path, policy: Path, out: Path, *more: str) -> list[str]:
    words = [sys.executable, "-m", "policyscope", "eval", "--policy.path", str(policy)]
    words += ["--dataset.repo_id", "fake/data", "--dataset.root", str(data), "--samples", "2"]
    words += ["--dataset.action_units", "px", "--batch_size", "4", "--latency_calls", "0"]
    return [*words, "--output_dir", str(out), "--resume", "--engine", "ray", *more]


def _gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.slow
@needs_ray
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_ended_from_outside(
    end: signal.Signals, data: Path, smolvla: Path, local: Path, tmp_path: Path
) -> None:
    """Nothing is left running, and the same line goes on in silence."""
    out, temp = tmp_path / "o", Path(tempfile.mkdtemp(prefix="t"))  # sockets want short names
    line = _line(data, smolvla, out, "--ray.workers", "2")
    env = {**os.environ, "TMPDIR": str(temp), "POLICYSCOPE_DEBUG": ""}
    run = subprocess.Popen(line, stderr=subprocess.PIPE, env=env, start_new_session=True)
    while run.poll() is None and len(_workers(run.pid)) < 2:
        time.sleep(0.05)
    time.sleep(1)
    started = _below(run.pid)
    os.killpg(run.pid, end)
    _, said = run.communicate(timeout=60)
    assert run.returncode == (130 if end == signal.SIGINT else -end), said
    until = time.monotonic() + 20
    while not _gone(started) and time.monotonic() < until:
        time.sleep(0.1)
    assert _gone(started)
    if end == signal.SIGINT:
        assert not list(temp.iterdir())
    done = subprocess.run(line, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    assert "ray" not in (done.stdout + done.stderr).lower().replace("--engine ray", "").replace(
        "starting ray", ""
    )
    _same(out, local)
    shutil.rmtree(temp)


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("ray")
def test_a_time_budget(data: Path, tmp_path: Path) -> None:
    config = _config(data, "hold_state", tmp_path / "l", samples=1, time_budget="60s")
    here = evaluate(config).directory
    _same(evaluate(_on_ray(config, tmp_path / "r")).directory, here)


# ── closed loop ───────────────────────────────────────────────────────


def _point(out: Path, **changes: Any) -> RolloutConfig:
    settings = changes.pop("settings", '{"delay_s": 0.0}')
    timeout_s = changes.pop("timeout_s", 300.0)
    return RolloutConfig(
        policy=PolicyConfig(type="hold_state", chunk_size=2),
        env=EnvConfig(
            type="gym",
            task="fake_envs:fake_envs/Point-v0",
            settings=settings,
            timeout_s=timeout_s,
        ),
        output_dir=str(out),
        **{"n_episodes": 4, "n_envs": "2", "latency_calls": 0, "video": "none", **changes},
    )


def test_workers_are_no_simulators(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--n_envs, which says how many"):
        _point(tmp_path, engine="ray", ray=RayConfig(workers=2))


def _pusht(out: Path) -> RolloutConfig:
    return RolloutConfig(
        policy=PolicyConfig(path=str(ASSETS / "act-pusht")),
        env=EnvConfig(type="pusht", settings='{"obs_type": "environment_state_agent_pos"}'),
        output_dir=str(out),
        n_episodes=8,
        n_envs="2",
        video="none",
        latency_calls=0,
    )


@pytest.fixture(scope="module")
def games(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of PushT, by one simulator of this machine."""
    pytest.importorskip("gym_pusht")
    return rollout(replace(_pusht(tmp_path_factory.mktemp("g") / "o"), n_envs="1"))


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("ray")
def test_simulators_of_ray(games: Any, tmp_path: Path) -> None:
    same(rollout(replace(_pusht(tmp_path / "o"), engine="ray")).directory, games.directory)
    _idle()


class KillsSimulators(Watch):
    """Kills the first while it opens, another when episodes begin, and one in their midst.

    Three of them: an episode is given up at the fourth.
    """

    def __init__(self, seed: int) -> None:
        self._draw, self.killed = random.Random(seed), list[int]()
        self._at = self._draw.randint(10, 400)
        self._opening = threading.Thread(target=self._kill)

    def _kill(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(OSError, IndexError):
                pid = self._draw.choice([p for p in _workers(os.getpid()) if p not in self.killed])
                time.sleep(self._draw.uniform(0, 0.5))
                os.kill(pid, signal.SIGKILL)
                self.killed.append(pid)
                return
            time.sleep(0.01)

    def stage(self, text: str) -> None:
        if text == "starting the simulator":
            self._opening.start()

    def begin(self, total: int) -> None:
        del total
        self._opening.join()
        self._kill()

    def called(self, *what: Any) -> None:
        del what
        self._at -= 1
        if not self._at:
            self._kill()


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("seed", range(3))
def test_simulators_that_are_killed(seed: int, games: Any, tmp_path: Path) -> None:
    kills = KillsSimulators(seed)
    run = rollout(replace(_pusht(tmp_path / "o"), engine="ray"), kills)
    assert len(kills.killed) == 3
    own = {"sim_s", "attempts", "faults"}
    mine, theirs = ([row.model_dump(exclude=own) for row in _rows(one)] for one in (run, games))
    assert mine == theirs
    _idle()


def _rows(run: Any) -> Any:
    return rollout_rows(run.directory, run.record)


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("trouble", ["die", "hang", "raise"])
def test_faults_of_simulators(trouble: str, tmp_path: Path) -> None:
    settings = {"trouble": trouble, "trouble_seed": 1001, "marker": str(tmp_path / "m")}
    there = _point(tmp_path / "r", settings=json.dumps(settings), engine="ray", timeout_s=4.0)
    run = rollout(there)
    rows = _rows(run)
    kind = {"die": "died", "hang": "hung", "raise": "raised"}[trouble]
    assert [[fault.kind for fault in row.faults] for row in rows] == [[], [kind], [], []]
    whole = rollout(_point(tmp_path / "l"))
    expected = _rows(whole)
    assert [row.max_reward for row in rows] == [row.max_reward for row in expected]
    _idle()


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("ray")
def test_rollouts_go_on_elsewhere(tmp_path: Path) -> None:
    here = _point(tmp_path / "o", resume=True)
    whole = rollout(replace(here, output_dir=str(tmp_path / "whole"))).directory
    there = replace(here, engine="ray")

    class Ends(Watch):
        def __init__(self) -> None:
            self.left = 2

        def ended(self, row: Any) -> None:
            del row
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    for config in (there, here):
        with pytest.raises(KeyboardInterrupt):
            rollout(config, Ends())
    same(rollout(there).directory, whole)
    _idle()
