"""Closed loop: the scheduler against lerobot's own loop, faults, resuming, what is written."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

import fake_envs  # noqa: F401  (registers)
import fakes
from policyscope.actions.meanings import UNDECLARED_UNIT
from policyscope.actions.spaces import NativeActions
from policyscope.commands import cli
from policyscope.commands.compare import compare
from policyscope.commands.report import ReportConfig, render
from policyscope.commands.rollout import rollout
from policyscope.config import (
    CompareConfig,
    EnvConfig,
    PageConfig,
    PolicyConfig,
    RolloutConfig,
)
from policyscope.data.frames import FrameBatch
from policyscope.engine.episodes import Planned
from policyscope.engine.progress import Watch
from policyscope.engine.scheduler import Trace, episode_row
from policyscope.errors import InputError, RefusedError, UsageError
from policyscope.metrics.tally import read_eval_info
from policyscope.policies.base import Normalization, Policy, PolicySpec, Prediction
from policyscope.runs.clips import read_clips
from policyscope.runs.record import read_record
from policyscope.runs.rollouts import StoredRollout, stored_rollouts
from policyscope.views.rollout.words import detectable_line
from test_views import embedded, unpacked

POINT = "fake_envs:fake_envs/Point-v0"


def config(out: Path, policy: Path | str = "hold_state", **settings: Any) -> RolloutConfig:
    who = (
        PolicyConfig(path=str(policy))
        if isinstance(policy, Path)
        else PolicyConfig(type=policy, chunk_size=4)  # type: ignore[arg-type]
    )
    env = {"timeout_s": 60.0, **settings.pop("env", {})}
    trouble = json.dumps(settings.pop("settings", {})) or None
    defaults: dict[str, Any] = {
        "n_episodes": 6,
        "n_envs": "2",
        "latency_calls": 0,
        "device": "cpu",
        "video": "none",
    }
    return RolloutConfig(
        policy=who,
        env=EnvConfig(**{"type": "gym", "task": POINT, "settings": trouble, **env}),
        output_dir=str(out),
        **{**defaults, **settings},
    )


class Seeker(Policy):
    """Goes to the goal, which it reads from the simulator."""

    def __init__(self, *, broken_at: tuple[int, int] | None = None) -> None:
        self._broken_at = broken_at
        self.calls: list[int] = []
        self.spec = PolicySpec(
            path="seeker",
            type="seeker",
            sha256=None,
            n_parameters=0,
            chunk_size=4,
            n_action_steps=3,
            normalization=Normalization("IDENTITY", "identity", "none"),
            keys=frozenset({"observation.state", "info.goal"}),
        )

    def predict(self, batch: FrameBatch) -> Prediction:
        from policyscope.errors import NonFiniteError

        self.calls.append(len(batch))
        for seed, step in zip(batch.episode_index, batch.frame_index, strict=True):
            if (int(seed), int(step)) == self._broken_at:
                raise NonFiniteError("actions", expected="finite", found="nan", fix="train")
        goal = batch.observations[-1]["info.goal"]
        chunks = np.repeat(goal[:, None], 4, axis=1)
        return Prediction(NativeActions(chunks, (UNDECLARED_UNIT,) * 2), 0.0)


def outcome(run: Any) -> list[tuple[Any, ...]]:
    keys = ("seed", "success", "max_reward", "sum_reward", "steps", "ended", "n_calls")
    return [tuple(row[key] for key in keys) for row in run.record["episodes"]]


def flat(rows: list[tuple[Any, ...]]) -> list[Any]:
    return [value for row in rows for value in row]


def stored(run: Any) -> list[StoredRollout]:
    return list(stored_rollouts(run.directory, run.record.episodes))


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No test may leave a simulator, a zombie or shared memory behind."""
    before = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").is_dir() else set()
    others = set(psutil.Process().children(recursive=True))  # of tests before
    yield
    children = set(psutil.Process().children(recursive=True)) - others
    left = [p for p in children if not _of_multiprocessing(p)]
    _, alive = psutil.wait_procs(left, timeout=5)
    assert not alive
    after = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").is_dir() else set()
    assert not {p.name for p in after - before if p.name.startswith(("psm_", "sem."))}


def _of_multiprocessing(process: psutil.Process) -> bool:
    """Python's own fork server and resource tracker, which live as long as the parent."""
    if process.status() == psutil.STATUS_ZOMBIE:
        return False
    words = " ".join(process.cmdline())
    parent = process.parent()
    ours = parent is not None and parent.pid == os.getpid()
    return ours and ("forkserver" in words or "resource_tracker" in words)


# ── the same seed, the same episode ───────────────────────────────────


def test_seeds_do_not_depend_on_the_number_of_simulators(act: Path, tmp_path: Path) -> None:
    runs = {n: rollout(config(tmp_path / n, act, n_envs=n, n_episodes=5)) for n in ("1", "3", "5")}
    assert outcome(runs["1"]) == outcome(runs["3"]) == outcome(runs["5"])
    assert [r["seed"] for r in runs["1"].record["episodes"]] == [1000, 1001, 1002, 1003, 1004]
    for one, three in zip(stored(runs["1"]), stored(runs["3"]), strict=True):
        np.testing.assert_array_equal(one.states, three.states)
        np.testing.assert_array_equal(one.chunks, three.chunks)
    assert runs["5"].record["throughput"]["rows_per_call"] > 1


@pytest.mark.parametrize("kind", ["smolvla", "diffusion"])
def test_noise_follows_seed_and_step(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    policy: Path = request.getfixturevalue(kind)
    alone = rollout(config(tmp_path / "a", policy, n_envs="1", n_episodes=3))
    shared = rollout(config(tmp_path / "b", policy, n_envs="3", n_episodes=3))
    later = rollout(config(tmp_path / "c", policy, n_envs="2", n_episodes=2, seed=1001))
    # Up to what a matrix product of another batch size rounds differently on some processors.
    assert flat(outcome(shared)) == pytest.approx(flat(outcome(alone)), rel=1e-5)
    assert flat(outcome(later)) == pytest.approx(flat(outcome(alone)[1:]), rel=1e-5)
    other = rollout(config(tmp_path / "d", policy, n_envs="3", n_episodes=3, noise_seed=1))
    assert flat(outcome(other)) != pytest.approx(flat(outcome(alone)), rel=1e-5)


@pytest.fixture
def ensemble(data: Path, tmp_path: Path) -> Path:
    """An ACT with temporal ensembling."""
    settings = {"n_action_steps": 1, "temporal_ensemble_coeff": 0.01}
    return fakes.write_policy(tmp_path / "ensemble", data, "act", **settings)


@pytest.mark.parametrize("kind", ["act", "ensemble", "diffusion"])
def test_agrees_with_lerobots_own_loop(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The oracle is `lerobot_eval.rollout`, with one environment and the same processors."""
    policy_dir: Path = request.getfixturevalue(kind)
    ours = rollout(config(tmp_path / "o", policy_dir, n_episodes=3, batch_size="1"))
    from lerobot.configs import PreTrainedConfig
    from lerobot.envs.factory import make_env
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors
    from lerobot.scripts.lerobot_eval import rollout as theirs

    from policyscope.policies.noise import noise_seed, standard_normal
    from policyscope.sim.opening import environment_config

    env_config = environment_config(EnvConfig(type="gym", task=POINT))
    env = make_env(env_config, n_envs=1)["gym"][0]
    policy_config = PreTrainedConfig.from_pretrained(policy_dir)
    network = get_policy_class(policy_config.type)
    policy = network.from_pretrained(policy_dir, config=policy_config).eval()
    pre, post = make_pre_post_processors(policy_config, pretrained_path=str(policy_dir))
    before, after = env_config.get_env_processors()
    for row, episode in zip(ours.record["episodes"], stored(ours), strict=True):
        if kind == "diffusion":
            _give_noise(policy, row["seed"], noise_seed, standard_normal)
        answer = theirs(env, policy, before, after, pre, post, seeds=[row["seed"]])
        n = row["steps"]
        assert answer["action"].shape[1] == n
        np.testing.assert_allclose(
            episode.actions, answer["action"][0, :n].numpy(), rtol=0, atol=1e-4
        )
        np.testing.assert_allclose(episode.rewards, answer["reward"][0, :n].numpy(), atol=1e-6)
        assert row["success"] == bool(answer["success"].any())
    env.close()


def _give_noise(policy: Any, seed: int, noise_seed: Any, standard_normal: Any) -> None:
    """Make lerobot's policy start from the noise of the published rule."""
    step = {"now": 0}
    original = type(policy).predict_action_chunk

    def predict(batch: Any, **_: Any) -> torch.Tensor:
        shape = (policy.config.horizon, 2)
        noise = standard_normal(shape, noise_seed(0, seed, step["now"], 0))[None]
        step["now"] += policy.config.n_action_steps
        return original(policy, batch, noise=noise)  # type: ignore[no-any-return]

    policy.predict_action_chunk = predict


def test_a_scripted_policy_reads_the_simulators_numbers(tmp_path: Path) -> None:
    run = rollout(config(tmp_path / "o", n_episodes=4), policy=Seeker())
    success = run.record["success"]
    assert (success["k"], success["n"], success["rate"]) == (4, 4, 1.0)
    assert success["ci_low"] == pytest.approx(0.5101, abs=1e-4)  # Wilson, by hand: 4/(4 + z²)
    assert all(row["ended"] == "success" and row["steps"] < 20 for row in run.record["episodes"])
    assert all(row["success_step"] == row["steps"] for row in run.record["episodes"])
    curve = run.record["closed_loop"]["time_to_success"]["curve"]
    assert (curve["share"][-1], curve["high"][-1]) == (1.0, 1.0)
    assert curve["low"][-1] == pytest.approx(success["ci_low"])
    first = stored(run)[0]
    goal, here = first.actions[0], first.states[0]
    for step, state in enumerate(first.states):
        np.testing.assert_allclose(state, goal + 0.7**step * (here - goal), atol=1e-4)


def test_time_to_success_is_that_of_the_first_successful_step() -> None:
    """In an environment that goes on after it, and forgets it."""
    parts = ([0], [0, 0, 1], [0])
    trace = Trace(
        Planned(index=0, group=None, task_id=0, task="", seed=7, max_steps=4),
        rewards=[np.zeros(3), np.zeros(1)],
        said=[np.array(part, dtype=np.int8) for part in parts],
        ended="time_limit",
    )
    row = episode_row(trace, group="g", rule="any")
    assert (row["success_step"], row["steps"], row["success"]) == (3, 4, True)
    assert episode_row(trace, group="g", rule="end")["success"] is False
    trace.said[:] = [np.zeros(5, dtype=np.int8)]
    assert episode_row(trace, group="g", rule="any")["success_step"] is None


def test_nan_actions_end_that_episode_alone(tmp_path: Path) -> None:
    run = rollout(config(tmp_path / "o", n_envs="4"), policy=Seeker(broken_at=(1002, 3)))
    rows = {row["seed"]: row for row in run.record["episodes"]}
    assert rows[1002]["ended"] == "non_finite_action"
    assert rows[1002]["success"] is False
    assert rows[1002]["steps"] == 3
    assert [s for s, row in rows.items() if row["success"]] == [1000, 1001, 1003, 1004, 1005]
    assert [f["code"] for f in run.record["findings"]] == ["non_finite_action"]


def test_another_camera_and_other_states_are_findings(
    data: Path, tmp_path: Path, write_policy: Callable[..., Path]
) -> None:
    import fakes

    stats = fakes.dataset_stats(data)
    stats["observation.state"]["mean"] = stats["observation.state"]["mean"] * 0 + 1e4
    policy = write_policy(tmp_path / "p", data, "act", stats=stats)
    run = rollout(config(tmp_path / "o", policy, n_episodes=2, settings={"size": 32}))
    found = {f["code"]: f["message"] for f in run.record["findings"]}
    assert "(3, 64, 64)" in found["image_shape_mismatch"]
    assert "(3, 32, 32)" in found["image_shape_mismatch"]
    assert "states_shifted" in found


# ── faults ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("trouble", "kind"), [("die", "died"), ("hang", "hung"), ("raise", "raised")]
)
def test_a_simulator_that_fails_once(trouble: str, kind: str, tmp_path: Path) -> None:
    whole = rollout(config(tmp_path / "w"), policy=Seeker())
    settings = {"trouble": trouble, "trouble_seed": 1003, "marker": str(tmp_path / "marker")}
    timeout = {"timeout_s": 2.0} if trouble == "hang" else {}
    run = rollout(config(tmp_path / "o", settings=settings, env=timeout), policy=Seeker())
    assert outcome(run) == outcome(whole)
    faults = {row["seed"]: [f["kind"] for f in row["faults"]] for row in run.record["episodes"]}
    assert faults[1003] == [kind]
    assert run.record["closed_loop"]["faults"] == {kind: 1}
    assert "simulator_faults" in [f["code"] for f in run.record["findings"]]


def test_a_simulator_that_dies_before_the_first_episode(tmp_path: Path) -> None:
    whole = rollout(config(tmp_path / "w"), policy=Seeker())
    settings = {"trouble": "die", "trouble_seed": 0}
    with pytest.raises(UsageError, match="opens and resets; found one that died"):
        rollout(config(tmp_path / "o", settings=settings), policy=Seeker())
    settings["marker"] = str(tmp_path / "marker")
    run = rollout(config(tmp_path / "o", settings=settings), policy=Seeker())
    assert outcome(run) == outcome(whole)
    assert Path(settings["marker"]).exists()


def test_a_simulator_that_always_fails_is_neither_success_nor_failure(tmp_path: Path) -> None:
    settings = {"trouble": "raise", "trouble_seed": 1003}
    run = rollout(config(tmp_path / "o", settings=settings), policy=Seeker())
    row = run.record["episodes"][3]
    assert (row["ended"], row["success"]) == ("fault", None)
    assert "the simulator broke" in row["detail"]
    assert (run.record["success"]["k"], run.record["success"]["n"]) == (5, 5)
    assert [f["code"] for f in run.record["findings"]] == ["episodes_lost"]


def _workers() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if not _of_multiprocessing(process):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def test_random_kills_lose_no_seed(tmp_path: Path) -> None:
    whole = rollout(config(tmp_path / "w", n_episodes=20, n_envs="3"), policy=Seeker())
    draw, killed = random.Random(0), list[int]()
    over = threading.Event()

    def kill() -> None:
        while not over.is_set() and len(killed) < 3:
            time.sleep(draw.uniform(0.05, 0.4))
            alive = _workers()
            if alive:
                victim = draw.choice(alive)
                victim.kill()
                killed.append(victim.pid)

    slow = {"delay_s": 0.02}
    assassin = threading.Thread(target=kill)
    try:
        asked = config(tmp_path / "o", n_episodes=20, n_envs="3", settings=slow)
        run_in = threading.Event()
        policy = Seeker()
        predict = policy.predict

        def watched(batch: FrameBatch) -> Prediction:
            if not run_in.is_set():
                run_in.set()
                assassin.start()
            return predict(batch)

        policy.predict = watched  # type: ignore[method-assign]
        run = rollout(asked, policy=policy)
    finally:
        over.set()
        assassin.join()
    assert len(killed) == 3
    seeds = [row["seed"] for row in run.record["episodes"]]
    assert seeds == list(range(1000, 1020))
    assert outcome(run) == outcome(whole)


_SCRIPT = """
import sys
from policyscope.commands.cli import main
main(sys.argv[1:])
"""


def _command(out: Path, *more: str) -> list[str]:
    words = ["rollout", "--policy.type", "hold_state", "--policy.chunk_size", "4"]
    words += ["--env.type", "gym", "--env.task", POINT, "--n_episodes", "12", "--n_envs", "2"]
    words += ["--env.settings", '{"delay_s": 0.02}', "--video", "none", "--output_dir", str(out)]
    return [sys.executable, "-c", _SCRIPT, *words, *more]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_goes_on(how: signal.Signals, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    out = tmp_path / "o"
    process = subprocess.Popen(_command(out), env=environment, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 240
    while len(list(out.glob("parts/episode-*.parquet"))) < 4:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < until
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, how)
    _, errors = process.communicate(timeout=30)
    assert not psutil.wait_procs(family, timeout=10)[1]
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "--resume" in errors
        assert read_record(out)["status"] == "partial"
    done = len(list(out.glob("parts/episode-*.parquet")))
    assert 4 <= done < 12
    subprocess.run(_command(out, "--resume"), env=environment, check=True, capture_output=True)
    resumed = read_record(out)
    assert resumed["throughput"]["n_episodes"] == 12 - done
    plain = rollout(config(tmp_path / "w", n_episodes=12, settings={"delay_s": 0.02}))
    assert [r["seed"] for r in resumed["episodes"]] == [r["seed"] for r in plain.record["episodes"]]
    for a, b in zip(resumed["episodes"], plain.record["episodes"], strict=True):
        assert (a["success"], a["max_reward"], a["steps"]) == (
            b["success"],
            b["max_reward"],
            b["steps"],
        )


# ── what is written ───────────────────────────────────────────────────


def test_videos_recordings_and_reports(tmp_path: Path) -> None:
    import av

    asked = config(tmp_path / "o", n_episodes=5, video="chosen", record=str(tmp_path / "rec"))
    run = rollout(asked, policy=Seeker(broken_at=(1003, 3)))
    shown = {r["seed"]: r["video"] for r in run.record["episodes"] if r["video"]}
    assert sorted(shown) == [1000, 1003]  # first success; first failure, which is the worst
    with av.open(str(run.directory / shown[1000])) as video:
        frames = sum(1 for _ in video.decode(video=0))
    assert frames == run.record["episodes"][0]["steps"] + 1
    assert "not_reproducible" not in [f["code"] for f in run.record["findings"]]
    page = render(ReportConfig(str(run.directory)))
    text = page.read_text(encoding="utf-8")
    assert "data:video/mp4;base64," in text
    assert "Success 4/5" in text
    assert (run.directory / "report.png").stat().st_size > 20_000

    from policyscope.config import DatasetConfig
    from policyscope.data.source import FrameSource

    source = FrameSource(DatasetConfig(root=str(tmp_path / "rec")), repo_id="rollouts/rec")
    assert tuple(source.facts.lengths.values()) == tuple(r["steps"] for r in run.record["episodes"])
    source.load([0])
    episode, known = source.episode(0), stored(run)[0]
    np.testing.assert_allclose(episode.actions.values, known.actions, rtol=1e-6)
    assert episode.state is not None
    np.testing.assert_allclose(episode.state, known.states[:-1], rtol=1e-6)
    assert episode.tasks[0] == "go to the goal"


def test_the_page_plays_the_rollouts(tmp_path: Path) -> None:
    """What the player gets is what was stored; pictures are those of the simulator, undrawn."""
    asked = config(tmp_path / "o", n_episodes=5, video="chosen")
    run = rollout(asked, policy=Seeker(broken_at=(1003, 3)))
    page = render(ReportConfig(str(run.directory)))
    first = page.read_bytes()
    assert render(ReportConfig(str(run.directory))).read_bytes() == first
    shown = {e["index"]: e for e in embedded(page)["episodes"]}
    assert {i: e["role"] for i, e in shown.items() if e["role"]} == {
        0: "first_success",
        3: "first_failure",
    }
    assert [i for i, e in shown.items() if e["clips"]] == [0, 3]
    for index, known in enumerate(stored(run)):
        e, n = shown[index], len(known.actions)
        assert e["n_frames"] == n + 1
        assert e["asked"] == known.called_at.tolist()
        assert e["demonstrated"] is None
        np.testing.assert_allclose(unpacked(e["executed"]), known.actions, atol=0.01)
        chunks = unpacked(e["chunks"])[:, 0]
        for at, chunk, wanted in zip(known.called_at, chunks, known.chunks, strict=True):
            left = n + 1 - at  # frames that the episode still has
            np.testing.assert_allclose(chunk[:left], wanted[:left], atol=0.01)
            assert np.isnan(chunk[left:]).all()
        np.testing.assert_allclose(unpacked(e["errors"]["reward"])[1:, 0], known.rewards, atol=1e-4)
    (clip,) = [c for c in read_clips(run.directory) if c.episode == 0]
    assert clip.n_frames == shown[0]["n_frames"]
    sheet = Image.open(io.BytesIO(clip.sheets[0]))
    for frame in (0, clip.n_frames - 1):
        row, column = divmod(frame, clip.columns)
        x, y = (stored(run)[0].states[frame] / 200 * clip.width).astype(int)
        red, green, blue = sheet.getpixel((column * clip.width + x, row * clip.height + y))
        assert blue > red + 60
        assert blue > green + 60
    chinese = render(ReportConfig(str(run.directory), lang="zh"))
    assert embedded(chinese)["episodes"][0]["title"] == "种子 1000"
    assert "播放器" in chinese.read_text(encoding="utf-8")


def test_eval_info_is_lerobots(tmp_path: Path) -> None:
    run = rollout(config(tmp_path / "o", n_episodes=5), policy=Seeker(broken_at=(1001, 3)))
    written = json.loads((run.directory / "eval_info.json").read_text())
    assert set(written) == {"per_task", "per_group", "overall"}
    assert written["overall"]["pc_success"] == pytest.approx(80.0)
    known = read_eval_info(run.directory)
    assert known["success"] == run.record["success"]
    for a, b in zip(known["episodes"], run.record["episodes"], strict=True):
        assert all(a[key] == b[key] for key in ("seed", "success", "max_reward", "sum_reward"))


def test_a_finished_run_is_kept(tmp_path: Path) -> None:
    asked = config(tmp_path / "o", n_episodes=2)
    rollout(asked)
    with pytest.raises(InputError, match="finished run"):
        rollout(asked)
    before = (tmp_path / "o" / "run.json").read_bytes()
    rollout(config(tmp_path / "o", n_episodes=2, resume=True))
    assert (tmp_path / "o" / "run.json").read_bytes() == before
    with pytest.raises(InputError, match="same episodes"):
        rollout(config(tmp_path / "o", n_episodes=3, resume=True))


# ── the contract ──────────────────────────────────────────────────────


def test_environments_that_keep_the_contract_and_that_break_it() -> None:
    from policyscope.sim.conformance import check_environment

    assert check_environment(EnvConfig(type="gym", task=POINT)) == []
    assert check_environment(EnvConfig(type="pusht")) == []
    broken = check_environment(EnvConfig(type="gym", task="fake_envs:fake_envs/Forgetful-v0"))
    assert [f.code for f in broken] == ["env_seed"]


@pytest.mark.slow
def test_aloha_runs_without_a_display(tmp_path: Path) -> None:
    from policyscope.sim.adapter import find_gl
    from policyscope.sim.conformance import check_environment

    try:
        find_gl()
    except UsageError as error:
        pytest.skip(str(error))
    short = EnvConfig(type="aloha", task="AlohaTransferCube-v0", episode_length=24)
    assert check_environment(short, n_steps=6) == []
    run = rollout(
        config(
            tmp_path / "o",
            n_episodes=5,
            video="1",
            env={"type": "aloha", "task": "AlohaTransferCube-v0", "episode_length": 24},
        )
    )
    assert [row["steps"] for row in run.record["episodes"]] == [24] * 5
    assert run.record["actions"]["units"][6] == "0-1"
    assert (run.directory / run.record["episodes"][0]["video"]).stat().st_size > 1000
    assert run.record["findings"] == []


@pytest.mark.slow
@pytest.mark.libero
def test_libero_episodes_and_their_videos(tmp_path: Path) -> None:
    pytest.importorskip("libero", reason="the extras libero and libero-assets are not installed")
    run = rollout(
        config(
            tmp_path / "o",
            "zero",
            n_episodes=5,
            video="all",
            env={
                "type": "libero",
                "task": "libero_spatial",
                "task_ids": "0",
                "episode_length": 6,
                "timeout_s": 300.0,
            },
        )
    )
    assert [row["steps"] for row in run.record["episodes"]] == [6] * 5
    assert run.record["env"]["tasks"][0]["task"].startswith("pick up the black bowl")
    for row in run.record["episodes"]:
        assert (run.directory / row["video"]).stat().st_size > 1000
    assert run.record["findings"] == []  # the videos' second time gave the same states


@pytest.mark.slow
def test_without_libero_one_line_says_what_is_missing(tmp_path: Path) -> None:
    if importlib.util.find_spec("libero") is not None:
        pytest.skip("LIBERO is installed")
    with pytest.raises(UsageError, match=r"policyscope\[libero\]"):
        rollout(config(tmp_path / "o", env={"type": "libero", "task": "libero_spatial"}))


def test_the_formats_of_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rollout", "--policy.type", "hold_state", "--policy.chunk_size", "2"]
    words += ["--env.type", "gym", "--env.task", POINT, "--n_episodes", "1", "--video", "none"]
    words += ["--latency_calls", "0", "--output_dir", str(tmp_path / "o")]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--report.formats", "svg,pdf"])
    assert ended.value.code == 0
    assert "beside report.svg, report.pdf, run.json" in " ".join(capsys.readouterr().out.split())
    names = {path.name for path in (tmp_path / "o").glob("report.*")}
    assert names == {"report.html", "report.svg", "report.pdf"}


# ── refusals ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("env", "match"),
    [
        ({"type": "nowhere", "task": None}, "--env.type: expected one of .*pusht"),
        ({"task": "fake_envs:fake_envs/Nothing-v0"}, "--env.type gym"),
        ({"task": "no_such_package:Thing-v0"}, "no_such_package"),
        ({"type": "pusht", "task": None, "settings": '{"colour": 1}'}, "--env.settings"),
        ({"task_ids": "0,4"}, "--env.task_ids"),
    ],
)
def test_environments_that_are_not_there(env: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=match):
        rollout(config(tmp_path / "o", env=env))
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"n_envs": "0"}, "--n_envs"),
        ({"video": "some"}, "--video"),
        ({"report": PageConfig("0")}, "--report.episodes 0: expected --video"),
        ({"init_from": "dataset"}, "--init_from"),
        ({"resume": True, "overwrite": True}, "--resume"),
    ],
)
def test_flags_that_make_no_sense(settings: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=match):
        config(tmp_path / "o", **settings)


def test_a_policy_for_another_robot_is_refused(
    data: Path, tmp_path: Path, write_policy: Callable[..., Path]
) -> None:
    policy = write_policy(tmp_path / "p", data, "act", action_dim=2, cameras={"observation.x": 64})
    with pytest.raises(RefusedError, match=r"camera_missing.*in the simulator"):
        rollout(config(tmp_path / "o", policy))
    assert read_record(tmp_path / "o")["status"] == "refused"


@pytest.fixture
def write_policy() -> Callable[..., Path]:
    import fakes

    return fakes.write_policy


# ── stopping early ────────────────────────────────────────────────────


class _Leaver(Watch):
    """Goes away after three episodes."""

    def __init__(self) -> None:
        self.n = 0

    def ended(self, row: Any) -> None:
        self.n += bool(row)
        if self.n == 3:
            raise KeyboardInterrupt


def test_until_stops_at_the_same_episode_however_many_run_at_once(tmp_path: Path) -> None:
    from policyscope.metrics.sequential import anytime_rate

    asked = {"until": ("0.5",), "n_episodes": 30}
    broken = (1002, 4)  # one of the early episodes fails
    runs = [
        rollout(config(tmp_path / n, n_envs=n, **asked), policy=Seeker(broken_at=broken))
        for n in ("1", "3")
    ]
    assert outcome(runs[0]) == outcome(runs[1])
    for run in runs:
        record = run.record
        won = [bool(row.success) for row in record.episodes]
        first = next(n for n in range(1, 31) if anytime_rate(sum(won[:n]), n).low > 0.5)
        assert len(won) == first < 30
        assert (record.success.stopped, record.success.method) == ("above", "anytime")
        ends = anytime_rate(sum(won), first)
        assert (record.success.ci_low, record.success.ci_high) == (ends.low, ends.high)
        assert record.closed_loop.detectable is None
        assert not list((run.directory / "frames").glob(f"{first:06d}.png"))
        told = detectable_line(record)
        assert f"Stopped after {first} of at most 30 episodes: success is above 50 %" in told
        assert "hold at all looks together" in told
    with pytest.raises(KeyboardInterrupt):
        rollout(config(tmp_path / "r", **asked), _Leaver(), policy=Seeker(broken_at=broken))
    again = rollout(config(tmp_path / "r", resume=True, **asked), policy=Seeker(broken_at=broken))
    assert outcome(again) == outcome(runs[0])
    rollout(config(tmp_path / "fixed", n_episodes=3))
    with pytest.raises(UsageError, match="fixed beforehand"):
        compare(CompareConfig(runs=(str(tmp_path / "fixed"), str(tmp_path / "1"))))


def test_until_goes_on_to_the_last_episode_where_nothing_is_shown(tmp_path: Path) -> None:
    record = rollout(
        config(tmp_path / "o", until=("width=10%",), n_episodes=4), policy=Seeker()
    ).record
    assert len(record.episodes) == 4
    assert record.success.stopped is None
    assert record.success.method == "anytime"
