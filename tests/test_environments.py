"""Environments of strangers: the numbers of a plain gymnasium loop, or one line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import pytest
import torch

import trait_envs
from policyscope.commands.rollout import rollout
from policyscope.config import EnvConfig, PolicyConfig, RolloutConfig
from policyscope.engine.episodes import Planned
from policyscope.engine.scheduler import Trace, episode_row
from policyscope.errors import Finding, InputError, PolicyscopeError, RefusedError, UsageError
from policyscope.metrics.closed_loop import time_to_success
from policyscope.metrics.verdict import judge, settled
from policyscope.runs.rollouts import StoredRollout, stored_rollouts
from policyscope.runs.rows import RolloutRow
from policyscope.sim import contract
from policyscope.sim.conformance import check_environment
from policyscope.sim.contract import SOLVED, UNSAID, UNSOLVED, ContractError
from policyscope.sim.opening import environment_config
from policyscope.sim.simulator import Simulator
from policyscope.sim.trial import try_out
from test_rollout import Seeker

SHARED = Path(__file__).parents[1] / ".." / "shared" / "cases"


def trait(name: str) -> str:
    return f"trait_envs:trait_envs/{name}-v0"


def env_config(task: str, **settings: Any) -> EnvConfig:
    return EnvConfig(**{"type": "gym", "task": task, "timeout_s": 60.0, **settings})


def run_of(
    out: Path, task: str, *, env: dict[str, Any] | None = None, policy: Any = None, **more: Any
) -> Any:
    defaults = {"n_episodes": 4, "n_envs": "2", "latency_calls": 0, "video": "none"}
    config = RolloutConfig(
        policy=PolicyConfig(),
        env=env_config(task, **(env or {})),
        output_dir=str(out),
        device="cpu",
        **{**defaults, **more},  # type: ignore[arg-type]
    )
    return rollout(config, policy=policy or Seeker())


def stored(run: Any) -> list[StoredRollout]:
    return list(stored_rollouts(run.directory, run.record.episodes))


def plain_loop(task: str, episode: StoredRollout, **settings: Any) -> dict[str, Any]:
    """The oracle: gymnasium's interface as its documentation has it, nothing of ours."""
    env = gym.make(task, disable_env_checker=True, **settings)
    env.reset(seed=episode.row["seed"])
    rewards, solved = [], []
    for action in episode.actions:
        _, reward, terminated, truncated, info = env.step(action.astype(np.float32))
        rewards.append(float(reward))
        said = info.get("is_success", info.get("success"))
        solved.append(said if said is None else bool(said))
        if terminated or truncated:
            break
    return {"rewards": np.array(rewards), "solved": solved}


def agree(task: str, run: Any, **settings: Any) -> None:
    for episode in stored(run):
        if episode.row["ended"] == "fault":
            continue
        plain = plain_loop(task, episode, **settings)
        np.testing.assert_allclose(episode.rewards, plain["rewards"], rtol=1e-12)
        total = plain["rewards"].sum()
        kept = episode.row["sum_reward"]
        assert kept == pytest.approx(total) if np.isfinite(total) else kept is None
        if any(said is not None for said in plain["solved"]):
            assert episode.row["success"] == any(plain["solved"])


# ── success ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"is_success": True}, SOLVED),
        ({"is_success": np.bool_(False)}, UNSOLVED),
        ({"is_success": 1}, SOLVED),
        ({"is_success": 0.0}, UNSOLVED),
        ({"is_success": np.array([True])}, SOLVED),
        ({"is_success": torch.tensor([[False]])}, UNSOLVED),
        ({"is_success": [True]}, SOLVED),
        ({"success": torch.tensor(1)}, SOLVED),
        ({"success": False, "is_success": True}, SOLVED),  # lerobot's word goes first
        ({"is_success": None, "success": True}, SOLVED),
        ({"final_info": {"is_success": True}}, SOLVED),
        ({"final_info": {"success": np.array(0)}}, UNSOLVED),
        ({"is_success": False, "final_info": {"is_success": True}}, UNSOLVED),
        ({}, UNSAID),
        ({"is_success": None}, UNSAID),
        ({"final_info": None}, UNSAID),
        ({"succeeded": True}, UNSAID),
    ],
)
def test_what_an_info_says(info: dict[str, Any], expected: int) -> None:
    assert contract.said(info) == expected


@pytest.mark.parametrize(
    "value",
    [
        *("False", "True", "", float("nan"), float("inf"), 0.4, 2, -1, [], [True, False]),
        *(np.array([1, 1]), torch.tensor([float("nan")]), {"done": True}, object(), b"1"),
    ],
)
@pytest.mark.parametrize("key", ["is_success", "success"])
def test_what_is_no_success(key: str, value: Any) -> None:
    with pytest.raises(ContractError, match=f'info\\["{key}"\\] to be true or false'):
        contract.said({key: value})


@pytest.mark.parametrize(
    ("said", "at_any_step", "in_the_end"),
    [
        ([0, 0, 0, 1], (True, 3), (True, 3)),
        ([0, 0, 1, 0], (True, 2), (False, None)),
        ([0, 1, 0, 1, 1], (True, 1), (True, 3)),
        ([0, 1, 1, 1], (True, 1), (True, 1)),
        ([0, 0, 0], (False, None), (False, None)),
        ([1, 0], (False, None), (False, None)),  # nobody has acted yet
        ([-1, -1, -1], (None, None), (None, None)),
        ([-1, -1, 1], (True, 2), (True, 2)),
        ([-1, 1, -1], (True, 1), (False, None)),
        ([0], (False, None), (False, None)),
        ([-1], (None, None), (None, None)),
    ],
)
def test_the_two_rules(said: list[int], at_any_step: Any, in_the_end: Any) -> None:
    for rule, expected in (("any", at_any_step), ("end", in_the_end)):
        verdict = judge(np.array(said, dtype=np.int8), rule)  # type: ignore[arg-type]
        assert (verdict.success, verdict.step) == expected


def test_one_episode_that_speaks_makes_silence_a_failure() -> None:
    def row(success: bool | None, ended: str = "time_limit") -> RolloutRow:
        return episode_row(
            Trace(Planned(0, "g", 0, "", 7, 20), ended=ended), group="g", rule="any"
        ).model_copy(update={"success": success})

    silent = [row(None), row(None, "terminated")]
    assert settled(silent) == silent
    known = settled([*silent, row(True), row(None, "fault")])
    assert [r["success"] for r in known] == [False, False, True, None]


def test_time_to_success_is_when_it_was_solved() -> None:
    known = time_to_success([4, 8, 6, None], fps=10)
    assert known.median_s == pytest.approx(0.6)
    assert (known.n, known.n_success) == (4, 3)
    unknown = time_to_success([4, 8, 6, None], fps=None)
    assert unknown.median_s is None
    assert (unknown.n, unknown.n_success, len(unknown.time_s)) == (4, 3, 0)


# ── observations, pictures, rewards ───────────────────────────────────


def test_an_observation_is_copied_and_read() -> None:
    picture, place = np.zeros((4, 5, 3), np.uint8), np.arange(2.0)
    raw = {
        "pixels": {"top": picture},
        "agent_pos": place,
        "environment_state": [1, 2, 3],
        "hint": "left",
        "words": np.array(["left", "right"]),
        "list": ["left"],
        "nothing": None,
        "extra": {"note": "x", "force": torch.ones(2)},
    }
    read = contract.observation(raw)
    picture += 1
    place += 1
    assert read["pixels"]["top"].max() == 0
    assert read["agent_pos"].tolist() == [0.0, 1.0]
    assert read["environment_state"].tolist() == [1, 2, 3]
    assert read["extra"]["force"].tolist() == [1.0, 1.0]
    assert set(read) == {"pixels", "agent_pos", "environment_state", "extra"}
    assert "pixels" not in contract.observation(raw, pictures=False)
    assert set(contract.observation(place)) == {"agent_pos"}
    assert set(contract.observation(picture)) == {"pixels"}


_PICTURE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ({"pixels": _PICTURE[..., 0]}, "picture"),
        ({"pixels": _PICTURE[..., :1]}, "picture"),
        ({"pixels": np.zeros((8, 8, 4), np.uint8)}, "picture"),
        ({"pixels": _PICTURE.transpose(2, 0, 1)}, "picture"),
        ({"pixels": _PICTURE / 255}, "picture"),
        ({"pixels": _PICTURE.astype(np.uint16)}, "picture"),
        ({"pixels": _PICTURE[None]}, "picture"),
        ({"pixels": {"top": _PICTURE.astype(np.int64)}}, "picture"),
        ({"pixels": {"top": {"left": _PICTURE}}}, "picture"),
        ({"pixels": _PICTURE[:2, :2]}, "picture"),
        ({"pixels": ["left"], "agent_pos": np.zeros((2, 2))}, "state"),
        ({"image": _PICTURE, "agent_pos": np.zeros(2)}, "picture"),
        ({"agent_pos": np.zeros((1, 2))}, "state"),
        ({"agent_pos": np.float64(1)}, "state"),
        ({"agent_pos": {"x": 1.0}}, "state"),
        ({"agent_pos": np.array([np.nan, 0])}, "state"),
        ({"environment_state": np.array([np.inf])}, "state"),
        ({"handle": object(), "agent_pos": np.zeros(2)}, "observation"),
        ({"agent_pos": [[1], [1, 2]]}, "observation"),
        ({"state": np.zeros(2)}, "observation"),
        ({}, "observation"),
        ("push", "observation"),
        (None, "observation"),
    ],
)
def test_observations_that_break_the_contract(raw: Any, code: str) -> None:
    with pytest.raises(ContractError) as error:
        contract.observation(raw)
    assert error.value.code == code
    assert error.value.expected != error.value.found
    assert "\n" not in str(error.value)


def test_shapes_stay_as_they_were() -> None:
    first = contract.observation({"pixels": _PICTURE, "agent_pos": np.zeros(2)})
    known = contract.layout(first)
    contract.require_layout(first, known)
    for changed in (
        {"pixels": _PICTURE[:4], "agent_pos": np.zeros(2)},
        {"pixels": _PICTURE, "agent_pos": np.zeros(3)},
        {"pixels": _PICTURE},
        {"pixels": _PICTURE, "agent_pos": np.zeros(2), "more": np.zeros(1)},
    ):
        with pytest.raises(ContractError, match="as in the first observation"):
            contract.require_layout(contract.observation(changed), known)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (({}, 1.0, False, {}), "step"),
        (({}, 1.0, False, False, None), "step"),
        (({}, 1.0, "no", False, {}), "step"),
        (({}, 1.0, None, False, {}), "step"),
        (({}, None, False, False, {}), "reward"),
        (({}, "1.0", False, False, {}), "reward"),
        (({}, [1.0, 2.0], False, False, {}), "reward"),
        (None, "step"),
    ],
)
def test_steps_that_break_the_contract(answer: Any, code: str) -> None:
    with pytest.raises(ContractError) as error:
        contract.step_result(answer)
    assert error.value.code == code


def test_steps_in_other_types() -> None:
    answer = ({}, torch.tensor([0.5]), np.bool_(True), torch.tensor([False]), {})
    assert contract.step_result(answer)[1:4] == (0.5, True, False)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [({"render_fps": 12.5}, 12.5), ({"render_fps": np.int64(20)}, 20.0), ({}, None), (None, None)],
)
def test_rates(metadata: Any, expected: float | None) -> None:
    assert contract.rate(metadata) == expected


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "20", [10, 20], {}])
def test_rates_that_are_none(value: Any) -> None:
    with pytest.raises(ContractError, match="render_fps"):
        contract.rate({"render_fps": value})


# ── the trial ─────────────────────────────────────────────────────────

_BREAK = {
    "Text": "success",
    "Neither": "success",
    "Share": "success",
    "Sixteen": "picture",
    "Flat": "picture",
    "First": "picture",
    "Floats": "picture",
    "Listed": "picture",
    "Objects": "observation",
    "Broken": "state",
    "Growing": "shapes",
    "Infinite": "reward",
    "NoReward": "reward",
    "Pair": "reward",
    "Bare": "reset",
    "NoInfo": "step",
    "Chance": "seed",
}
_CANT_OPEN = {"Fast": "rate", "Stopped": "rate", "Whole": "action"}
_WARN = {
    "Quiet": "success",
    "InTheEnd": "success",
    "Rateless": "rate",
    "Blind": "render",
    "Nothing": "render",
}
_KEEP = ["OtherWord", "Endless", "Lost", "Reused", "Again", "Next", "Told", "Fraction", "Chatty"]
_KEEP += ["Curses", "Falls", "Shrinking", "LateNan", "Loud"]
_ALL = sorted({*_BREAK, *_CANT_OPEN, *_WARN, *_KEEP, "Stubborn", "Parent", "Orphans"})


def test_every_trait_is_tried() -> None:
    kinds = {k.__name__ for k in vars(trait_envs).values() if isinstance(k, type)} - {
        "Point",
        "Seen",
    }
    assert kinds - {"Any", "Path"} == set(_ALL)


@pytest.mark.parametrize("name", sorted({*_BREAK, *_WARN, *_KEEP}))
def test_a_trial_finds_what_breaks(name: str) -> None:
    simulator = Simulator(env_config(trait(name)))
    found = try_out(simulator).findings
    simulator.close()
    expected = _BREAK.get(name, _WARN.get(name))
    assert [f.code for f in found] == ([f"env_{expected}"] if expected else [])
    assert {f.severity for f in found} <= {"error" if name in _BREAK else "warning"}
    for finding in found:
        assert finding.message.startswith("expected ")
        assert "; found " in finding.message
        assert finding.fix


@pytest.mark.parametrize("name", sorted(_CANT_OPEN))
def test_some_are_not_opened(name: str) -> None:
    with pytest.raises(ContractError) as error:
        Simulator(env_config(trait(name)))
    assert error.value.code == _CANT_OPEN[name]
    assert trait(name) in str(error.value)


# ── one by one ────────────────────────────────────────────────────────


def test_arrays_that_are_used_again_do_not_change_what_was_stored() -> None:
    actions = np.full((6, 2), 10.0)  # far from any goal
    seen = {}
    for name in ("Reused", "Endless"):
        simulator = Simulator(env_config(trait(name)))
        first = simulator.reset(1)
        place, goal = first.observations[0]["agent_pos"].copy(), first.info["goal"].copy()
        steps = simulator.act(actions, tail=3)
        assert np.array_equal(first.observations[0]["agent_pos"], place)
        assert np.array_equal(first.info["goal"], goal)
        seen[name] = steps
        simulator.close()
    for a, b in zip(seen["Reused"].observations, seen["Endless"].observations, strict=True):
        assert contract.same(a, b)
    assert len({o["agent_pos"].tobytes() for o in seen["Reused"].observations}) == 3
    np.testing.assert_array_equal(seen["Reused"].states, seen["Endless"].states)


@pytest.mark.parametrize("name", ["Again", "Next"])
def test_the_last_picture_is_this_episode_s(name: str) -> None:
    """These two begin the next episode within the last step of this one."""
    own, plain = Simulator(env_config(trait(name))), Simulator(env_config(trait("OtherWord")))
    goal = plain.reset(3).info["goal"]
    own.reset(3)
    actions = np.repeat(goal[None], 20, axis=0)
    for watched in (False, True):
        own.reset(3)
        plain.reset(3)
        got, wanted = own.act(actions, watched=watched), plain.act(actions, watched=watched)
        assert got.ended == wanted.ended == "terminated"
        assert got.picture is not None
        np.testing.assert_array_equal(got.picture, wanted.picture)
        np.testing.assert_array_equal(got.states, wanted.states)
        np.testing.assert_array_equal(got.rewards, wanted.rewards)
        if watched:
            np.testing.assert_array_equal(got.pictures[-1], wanted.pictures[-1])


def test_a_last_observation_that_nobody_shows_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: Any, action: Any) -> Any:
        observation, reward, terminated, truncated, info = trait_envs.Point.step(self, action)
        if terminated:
            observation, _ = self.reset()
        return observation, reward, terminated, truncated, info

    monkeypatch.setattr(trait_envs.Next, "step", step)
    simulator = Simulator(env_config(trait("Next")))
    goal = simulator.reset(3).info["goal"]
    steps = simulator.act(np.repeat(goal[None], 20, axis=0))
    assert steps.ended == "terminated"
    assert np.isnan(steps.states[-1]).all()
    assert np.isfinite(steps.states[:-1]).all()


def test_settings_that_change_nothing_are_refused() -> None:
    for kind, settings in (
        ("pusht", {"observation_height": 256, "observation_width": 256}),
        ("pusht", {"observation_height": 384}),  # lerobot's default, of an environment of 96
        ("pusht", {"fps": 20}),
        ("aloha", {"observation_width": 320}),
        ("pusht", {"max_parallel_tasks": 4}),
    ):
        config = EnvConfig(type=kind, settings=json.dumps(settings))
        try:
            with pytest.raises(UsageError, match="settings that change the simulator") as error:
                Simulator(config)
        except ImportError:
            continue
        assert next(iter(settings)) in error.value.found
    assert Simulator(EnvConfig(type="pusht", settings='{"obs_type": "state"}')).name


def test_the_parts_of_the_block_are_added_up_in_one_order() -> None:
    """gym-pusht takes them from a set, whose order is another one in each process."""
    simulator = Simulator(EnvConfig(type="pusht", settings='{"obs_type": "state"}'))
    simulator.reset(0)
    from gym_pusht.envs import pusht

    env = simulator.env.unwrapped
    bar, stem = env._block_shapes
    one, other = (pusht.pymunk_to_shapely(env.block, p).wkb for p in ((bar, stem), (stem, bar)))
    assert one == other


def test_the_hint_for_a_larger_picture_leads_on() -> None:
    config = EnvConfig(type="pusht", settings='{"observation_height": 256}')
    with pytest.raises(UsageError) as error:
        Simulator(config)
    words = error.value.fix.split(" --env.")
    told = {w.partition(" ")[0].removeprefix("--env."): w.partition(" ")[2] for w in words}
    simulator = Simulator(
        EnvConfig(type=told["type"], task=told["task"], settings=told["settings"].strip("'"))
    )
    assert simulator.reset(0).observations[0]["pixels"].shape == (256, 256, 3)


@pytest.mark.parametrize(
    ("env", "match"),
    [
        ({"type": "pushT"}, "Fix: --env.type pusht"),
        ({"type": "gym", "task": None}, "--env.task: expected the gymnasium id"),
        ({"type": "pusht", "settings": '{"obs_typ": "state"}'}, "Fix: obs_type"),
        ({"type": "gym_manipulator"}, "gym-hil"),
        ({"type": "isaaclab_arena"}, "from a hub"),
        ({"type": "pusht", "control_hz": 20.0}, "expected 10.0, as the environment says"),
    ],
)
def test_types_that_do_not_run_say_what_does(env: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Simulator(EnvConfig(**env))


@pytest.mark.parametrize("kind", ["metaworld", "robocasa", "robotwin", "vlabench", "robomme"])
def test_lerobot_s_other_types_run_or_say_what_to_install(kind: str) -> None:
    task = {"metaworld": "push-v3"}.get(kind)
    with pytest.raises(UsageError, match=r"expected (the package|libEGL)") as error:
        Simulator(EnvConfig(type=kind, task=task)).reset(0)
    assert any(word in error.value.fix for word in ("pip install", "clone", "apt-get"))


def test_the_length_that_was_asked_for_is_the_length(tmp_path: Path) -> None:
    assert Simulator(env_config(trait("Endless"), episode_length=7)).max_steps == 7
    assert environment_config(EnvConfig(type="metaworld", episode_length=7)).episode_length == 7
    run = run_of(tmp_path / "o", trait("Endless"), env={"episode_length": 7})
    assert [row["steps"] for row in run.record["episodes"]] == [7] * 4
    assert [row["ended"] for row in run.record["episodes"]] == ["time_limit"] * 4


def test_success_at_any_step_or_in_the_end(tmp_path: Path) -> None:
    at_any = run_of(tmp_path / "a", trait("Lost"))
    in_the_end = run_of(tmp_path / "e", trait("Lost"), success="end")
    assert at_any.record["success"]["k"] == 4
    assert {row["success_step"] for row in at_any.record["episodes"]} == {4}
    assert at_any.record["closed_loop"]["time_to_success"]["median_s"] == pytest.approx(0.4)
    assert in_the_end.record["success"]["k"] == 0
    assert {row["steps"] for row in in_the_end.record["episodes"]} == {20}


def test_an_environment_that_says_nothing_leaves_success_unknown(tmp_path: Path) -> None:
    from policyscope.commands.report import render
    from policyscope.config import ReportConfig
    from policyscope.views.rollout.words import headline

    run = run_of(tmp_path / "o", trait("Quiet"), video="1")
    record = run.record
    assert [row["success"] for row in record["episodes"]] == [None] * 4
    assert (record["success"]["n"], record["success"]["rate"]) == (0, None)
    assert record["closed_loop"]["max_reward"]["value"] > 0
    assert [f["code"] for f in record["findings"]] == ["success_unknown"]
    assert "unknown" in headline(record)
    info = json.loads((run.directory / "eval_info.json").read_text())
    assert info["overall"]["pc_success"] is None
    assert info["overall"]["avg_sum_reward"] > 0
    assert render(ReportConfig(str(run.directory))).is_file()
    agree("trait_envs/Quiet-v0", run)


def test_the_instruction_is_read_after_each_reset(tmp_path: Path) -> None:
    seen: dict[int, str] = {}

    class Reader(Seeker):
        def predict(self, batch: Any) -> Any:
            seen.update(zip(batch.episode_index.tolist(), batch.task, strict=True))
            return super().predict(batch)

    run = run_of(tmp_path / "o", trait("Told"), policy=Reader())
    for row in run.record["episodes"]:
        env = gym.make("trait_envs/Told-v0", disable_env_checker=True)
        env.reset(seed=row["seed"])
        assert row["task"] == env.get_wrapper_attr("task_description") == seen[row["seed"]]
    assert len({row["task"] for row in run.record["episodes"]}) == 4
    assert run.record["by_task"][0]["task"].startswith("4 instructions")
    own = run_of(tmp_path / "t", trait("Told"), env={"task_text": "go"})
    assert {row["task"] for row in own.record["episodes"]} == {"go"}


def test_a_rate_that_nobody_says_is_not_made_up(tmp_path: Path) -> None:
    run = run_of(tmp_path / "o", trait("Rateless"))
    assert "env_rate" in [f["code"] for f in run.record["findings"]]
    assert run.record["env"]["fps_known"] is False
    assert run.record["closed_loop"]["time_to_success"]["median_s"] is None
    assert run.record["smoothness"]["jerk_rms"]["value"] is None
    said = run_of(tmp_path / "s", trait("Rateless"), env={"control_hz": 10.0})
    known = run_of(tmp_path / "k", trait("OtherWord"))
    for key in ("closed_loop", "smoothness"):
        assert said.record[key] == known.record[key]
    assert said.record["findings"] == []


def test_twelve_and_a_half_hertz_stay(tmp_path: Path) -> None:
    run = run_of(tmp_path / "o", trait("Fraction"), record=str(tmp_path / "rec"), video="1")
    assert run.record["env"]["fps"] == 12.5
    info = json.loads((tmp_path / "rec" / "meta" / "info.json").read_text())
    assert info["fps"] == 12.5
    from policyscope.config import DatasetConfig
    from policyscope.data.source import FrameSource

    source = FrameSource(DatasetConfig(root=str(tmp_path / "rec")), repo_id="rollouts/rec")
    assert source.facts.robot.fps == 12.5
    batch = source.batch([(0, 2, 0)], keys=frozenset({"observation.image"}))
    assert batch.observations[-1]["observation.image"].shape == (1, 3, 64, 64)


def test_a_reward_that_is_no_number_leaves_the_rest(tmp_path: Path) -> None:
    run = run_of(tmp_path / "o", trait("LateNan"))
    assert [row["sum_reward"] for row in run.record["episodes"]] == [None] * 4
    assert run.record["closed_loop"]["max_reward"]["value"] is None
    assert run.record["success"]["k"] == 4
    assert [f["code"] for f in run.record["findings"]] == ["reward_not_finite"]


def test_pictures_that_fail_end_no_episode(tmp_path: Path) -> None:
    run = run_of(tmp_path / "o", trait("Blind"), video="all")
    assert run.record["success"]["k"] == 4
    assert [f["code"] for f in run.record["findings"]] == ["env_render"]
    assert {row["video"] for row in run.record["episodes"]} == {None}
    agree("trait_envs/Blind-v0", run)


def test_what_a_simulator_prints_stays_away(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "policyscope", "rollout", "--policy.type", "hold_state"]
    words += ["--env.type", "gym", "--env.task", trait("Loud"), "--n_episodes", "2"]
    words += ["--latency_calls", "0", "--video", "none", "--output_dir", str(tmp_path / "o")]
    environment = {**__import__("os").environ, "PYTHONPATH": f"src:{Path(__file__).parent}"}
    done = subprocess.run(
        words, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0, done.stderr
    assert "LOUD" not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(("name", "k"), [("Parent", 4), ("Orphans", 3)])
def test_processes_of_a_simulator_end_with_it(name: str, k: int, tmp_path: Path) -> None:
    before = {p.pid for p in psutil.process_iter()}
    run = run_of(tmp_path / "o", trait(name))
    assert run.record["success"]["k"] == k
    assert check_environment(env_config(trait(name))) == []
    time.sleep(0.5)
    left = [
        p
        for p in psutil.process_iter(["pid", "cmdline", "ppid"])
        if p.pid not in before and p.info["ppid"] == 1 and "forkserver" in str(p.info["cmdline"])
    ]
    assert not left


def test_a_close_that_hangs_is_no_harm(tmp_path: Path) -> None:
    found = check_environment(env_config(trait("Stubborn"), timeout_s=2.0))
    assert [(f.code, f.severity) for f in found] == [("env_close", "warning")]
    assert run_of(tmp_path / "o", trait("Stubborn")).record["success"]["k"] == 4


def test_a_worker_killed_while_a_video_is_drawn_draws_it_again(tmp_path: Path) -> None:
    import av

    once = {"settings": json.dumps({"fallen": str(tmp_path / "fallen")})}
    run = run_of(
        tmp_path / "o", trait("Falls"), env=once, video="all", record=str(tmp_path / "rec")
    )
    assert (tmp_path / "fallen").exists()
    assert run.record["findings"] == []
    for row in run.record["episodes"]:
        with av.open(str(run.directory / row["video"])) as video:
            assert sum(1 for _ in video.decode(video=0)) == row["steps"] + 1
    assert len(list((run.directory / "videos").iterdir())) == 4
    lengths = json.loads((tmp_path / "rec" / "meta" / "info.json").read_text())
    assert lengths["total_frames"] == sum(row["steps"] for row in run.record["episodes"])


def test_a_worker_killed_at_each_video_leaves_none(tmp_path: Path) -> None:
    run = run_of(tmp_path / "o", trait("Falls"), video="2")
    assert [f["code"] for f in run.record["findings"]] == ["replay_failed"]
    assert {row["video"] for row in run.record["episodes"]} == {None}
    assert run.record["success"]["k"] == 4
    assert list((run.directory / "videos").glob("*")) == []
    agree("trait_envs/Falls-v0", run)


def test_a_simulator_that_keeps_taking_memory_gets_a_fresh_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from policyscope.sim import pool

    begun: list[int] = []
    plain = pool._Process.begin

    def begin(self: Any) -> None:
        begun.append(1)
        plain(self)

    monkeypatch.setattr(pool._Process, "begin", begin)
    monkeypatch.setattr(pool, "_MOST_GROWTH", -(1 << 40))  # whatever it holds is too much
    fresh = run_of(tmp_path / "f", trait("OtherWord"), n_envs="1", n_episodes=6)
    assert len(begun) == 3  # two episodes a process
    monkeypatch.setattr(pool, "_MOST_GROWTH", 1 << 40)
    same = run_of(tmp_path / "s", trait("OtherWord"), n_envs="1", n_episodes=6)
    assert len(begun) == 4
    assert fresh.record["closed_loop"] == same.record["closed_loop"]


def test_a_contract_broken_late_ends_that_episode_alone(tmp_path: Path) -> None:
    class Far(Seeker):
        def predict(self, batch: Any) -> Any:
            answer = super().predict(batch)
            far = answer.actions.values * 0 + 10.0
            keep = (batch.episode_index % 2 == 0)[:, None, None]
            values = np.where(keep, answer.actions.values, far)
            return type(answer)(type(answer.actions)(values, answer.actions.units), 0.0)

    run = run_of(tmp_path / "o", trait("Shrinking"), policy=Far())
    rows = run.record["episodes"]
    assert [row["ended"] for row in rows] == ["success", "fault", "success", "fault"]
    assert [f["code"] for f in run.record["findings"]] == ["episodes_lost"]
    assert "expected pixels as in the first observation" in rows[1]["detail"]
    assert (run.record["success"]["k"], run.record["success"]["n"]) == (2, 2)


def test_texts_of_an_environment_do_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from policyscope.commands.cli import main

    words = ["rollout", "--policy.type", "hold_state", "--env.type", "gym", "--env.task"]
    words += [trait("Curses"), "--n_episodes", "3", "--latency_calls", "0", "--video", "1"]
    with pytest.raises(SystemExit) as status:
        main([*words, "--output_dir", str(tmp_path / "o")])
    assert status.value.code == 1  # an episode is lost
    out, error = capsys.readouterr()
    assert "broken" in out
    for act in "\x1b\x07\u202e":
        assert act not in out + error


def test_two_values_never_read_the_same() -> None:
    error = UsageError("x", expected="1.5", found="1.5 ", fix="y")
    assert error.expected != error.found
    assert str(error).partition("; found ")[2].startswith("another one")


# ── suites ────────────────────────────────────────────────────────────


def _suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """A type of lerobot's kind: two suites, one of two tasks."""
    from dataclasses import dataclass

    from lerobot.envs.configs import EnvConfig as LerobotEnvConfig

    @dataclass
    class Suite(LerobotEnvConfig):  # type: ignore[misc]
        task: str | None = "a,b"
        fps: int = 10
        goal: str = "near"

        @property
        def gym_kwargs(self) -> dict[str, Any]:
            return {}

        def create_envs(self, n_envs: int, use_async_envs: bool = False) -> Any:
            del use_async_envs

            def made(name: str) -> Any:
                def make() -> Any:
                    env = trait_envs.Endless()
                    env.task_description = f"{self.goal} {name}"
                    env._max_episode_steps = 30
                    return env

                return gym.vector.SyncVectorEnv([make] * n_envs)

            known = {"a": {0: made("a0"), 1: made("a1")}, "b": {0: made("b0")}}
            return {suite: known[suite] for suite in str(self.task).split(",")}

    known = dict(LerobotEnvConfig._choice_registry)
    monkeypatch.setattr(LerobotEnvConfig, "_choice_registry", known)
    LerobotEnvConfig.register_subclass("suite")(Suite)


def test_all_tasks_of_all_suites_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from policyscope.engine.episodes import plan_episodes
    from policyscope.sim.worker import Describe, _Worker

    _suite(monkeypatch)

    def described(**env: Any) -> Any:
        return _Worker(EnvConfig(type="suite", **env)).answer(Describe())

    spec = described(episode_length=7)
    told = [(t.suite, t.group, t.task_id, t.text, t.max_steps) for t in spec.tasks]
    assert told == [
        ("a", "a", 0, "near a0", 7),
        ("a", "a", 1, "near a1", 7),
        ("b", "b", 0, "near b0", 7),
    ]
    assert (spec.fps, spec.fps_known) == (10.0, True)
    config = RolloutConfig(env=EnvConfig(type="suite"), n_episodes=2)
    planned, _ = plan_episodes(config, spec, None)
    assert [(e.group, e.task_id, e.seed) for e in planned] == [
        (group, number, seed)
        for group, number in (("a", 0), ("a", 1), ("b", 0))
        for seed in (1000, 1001)
    ]
    assert [(t.suite, t.task_id) for t in described(task_ids="1").tasks] == [("a", 1)]
    assert [t.text for t in described(task="b", settings='{"goal": "far"}').tasks] == ["far b0"]
    assert described(task="b").tasks[0].max_steps == 30
    with pytest.raises(UsageError, match="numbers from 0 to 1"):
        described(task_ids="2")


def test_what_no_simulator_reads_is_refused_of_any_type(monkeypatch: pytest.MonkeyPatch) -> None:
    _suite(monkeypatch)
    for setting in ('{"fps": 20}', '{"features": {}}', '{"disable_env_checker": false}'):
        with pytest.raises(UsageError, match="settings that change the simulator"):
            Simulator(EnvConfig(type="suite", settings=setting))


# ── X-VLA in LIBERO ───────────────────────────────────────────────────


def test_x_vla_has_processors_of_its_own_in_libero() -> None:
    """The oracle is lerobot's own choice for this pair."""
    from lerobot.envs.configs import LiberoEnv
    from lerobot.envs.factory import make_env_pre_post_processors
    from lerobot.envs.utils import preprocess_observation
    from lerobot.policies.xvla.configuration_xvla import XVLAConfig

    from policyscope.sim.processors import Eyes, stack

    draw = np.random.default_rng(0)
    raw = {
        "pixels": {
            name: draw.integers(0, 256, (8, 8, 3), np.uint8) for name in ("image", "image2")
        },
        "robot_state": {
            "eef": {"pos": draw.normal(size=3), "quat": draw.normal(size=4), "mat": np.eye(3)},
            "gripper": {"qpos": draw.normal(size=2)},
        },
    }
    before, after = make_env_pre_post_processors(LiberoEnv(), XVLAConfig.__new__(XVLAConfig))
    eyes = Eyes(LiberoEnv(), "xvla")
    seen = eyes.see([raw], ["lift"])
    wanted = before({**preprocess_observation(stack([raw])), "task": ["lift"]})
    keys = {key for key in wanted if key.startswith("observation.")}
    assert set(seen) == keys
    for key in keys:
        torch.testing.assert_close(torch.as_tensor(seen[key]), wanted[key])
    chunk = draw.normal(size=(5, 20)).astype(np.float32)
    taken = eyes.act(chunk)
    assert taken.shape == (5, 7)
    given = after({"action": torch.from_numpy(chunk)})["action"]
    np.testing.assert_allclose(taken, given.numpy(), rtol=1e-6)
    plain = Eyes(LiberoEnv(), "smolvla")
    assert not plain.translates
    np.testing.assert_array_equal(plain.act(chunk[:, :7]), chunk[:, :7])


# ── all of them ───────────────────────────────────────────────────────


def refusal(task: str, out: Path, **env: Any) -> tuple[list[Finding] | str, Any]:
    """What check_env and rollout say: errors or a line of the one, run or line of the other."""
    try:
        checked: Any = [
            f for f in check_environment(env_config(task, **env)) if f.severity == "error"
        ]
    except UsageError as error:
        checked = str(error)
    try:
        ran: Any = run_of(out, task, env=env)
    except RefusedError as error:
        ran = list(error.findings)
    except InputError as error:
        ran = str(error)
    return checked, ran


@pytest.mark.slow
@pytest.mark.parametrize("name", _ALL)
def test_own_traits_run_as_a_plain_loop_or_are_refused_alike(name: str, tmp_path: Path) -> None:
    checked, ran = refusal(trait(name), tmp_path / "o", timeout_s=20.0)
    if name in _BREAK or name in _CANT_OPEN:
        assert checked
        assert checked == ran
        return
    assert not checked
    if name in ("InTheEnd", "Again", "Next"):  # what these say, a plain loop reads elsewhere
        assert ran.record["success"]["k"] == 4
    else:
        agree(f"trait_envs/{name}-v0", ran)


_NEEDS = {"NeedsKw": {"cfg": {"success_at": 5.0}}}
_FAULTY = {"RaiseReset": 1, "RaiseStep": 1, "Exits": 1}  # their episodes fail, the others do not
_SHARED = [
    *(
        "Base",
        "NpBool",
        "IntReward",
        "TensorInfo",
        "NoSuccess",
        "NoInfo",
        "NoTerm",
        "Transient",
        "FinalOnly",
    ),
    *(
        "SuccessStr",
        "NanReward",
        "NegReward",
        "Language",
        "TwoCams",
        "Chw",
        "FloatPic",
        "Gray1",
        "Rgba",
    ),
    *(
        "ImageKey",
        "StateKey",
        "StrObs",
        "ListPos",
        "Pos2d",
        "TorchObs",
        "BareState",
        "BarePic",
        "RandomStart",
    ),
    *(
        "NoisyStep",
        "NoSeedReset",
        "OldStep",
        "NoRenderMode",
        "RenderNone",
        "RenderHuman",
        "RenderList",
        "RenderFloat",
        "RenderRaises",
    ),
    *(
        "NoFps",
        "Fps125",
        "FpsSlow",
        "RaiseReset",
        "RaiseStep",
        "HangClose",
        "Exits",
        "Prints",
        "PopenChild",
    ),
    *("Slow", "NeedsKw", "Clipping", "Asserts", "DictAct", "DiscAct", "MatAct", "Leak", "ObsShape"),
    *("Readonly", "Eps", "NoLimit"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", _SHARED)
def test_shared_traits_run_as_a_plain_loop_or_are_refused_alike(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (SHARED / "envs.py").is_file():
        pytest.skip(f"{SHARED / 'envs.py'} is not at hand")
    monkeypatch.syspath_prepend(str(SHARED.resolve()))
    import envs  # noqa: F401  (registers)

    needs = _NEEDS.get(name, {})
    env = {"settings": json.dumps(needs)} if needs else {}
    checked, ran = refusal(f"envs:{name}-v0", tmp_path / "o", timeout_s=20.0, **env)
    if checked:
        assert checked == ran
        return
    assert not isinstance(ran, str | list), ran
    assert ran.record["closed_loop"]["ended"].get("fault", 0) == _FAULTY.get(name, 0)
    agree(f"{name}-v0", ran, **needs)


def test_a_refusal_is_one_line(tmp_path: Path) -> None:
    for name in ("Floats", "Chance", "Text"):
        with pytest.raises(PolicyscopeError) as error:
            run_of(tmp_path / name, trait(name))
        assert str(error.value).count("expected ") == 1
        assert "\n" not in str(error.value)
    forced = run_of(tmp_path / "f", trait("Chance"), force=True)
    assert forced.record["forced"] is True
    assert forced.record["success"]["n"] == 4
