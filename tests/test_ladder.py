"""The recipe of policies that succeed: its expert, and checkpoints that open."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from policyscope.commands.evaluate import evaluate
from policyscope.commands.rollout import rollout
from policyscope.config import DatasetConfig, EnvConfig, EvalConfig, PolicyConfig, RolloutConfig

RECIPE = Path(__file__).parents[1] / "examples" / "train_pusht_ladder"
KEYPOINTS = '{"obs_type": "environment_state_agent_pos"}'


def _recipe(script: str, *words: str) -> str:
    """Run a script of the recipe; what it printed."""
    call = [sys.executable, str(RECIPE / script), *words]
    return subprocess.run(call, check=True, capture_output=True, timeout=1200, text=True).stdout


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("numba")
    pytest.importorskip("gym_pusht")
    root = tmp_path_factory.mktemp("ladder") / "data"
    told = _recipe("make_demos.py", "--output_dir", str(root), "--episodes", "3")
    assert "3 of 3 succeeded" in told
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "normalization", "horizon"),
    [("act", "mean_std", 8), ("diffusion", "min_max", 4), ("tdmpc", "min_max", 1)],
)
def test_three_steps_make_a_checkpoint_that_opens(
    kind: str, normalization: str, horizon: int, demonstrations: Path, tmp_path: Path
) -> None:
    words = ["--output_dir", str(tmp_path / "t"), "--type", kind, "--normalization", normalization]
    words += ["--first_samples", "128", "--correct_every", "2", "--decisions", "2"]
    words += ["--width", "16", "--evaluate_seeds", "0"]
    _recipe("train.py", *words, "--steps", "3")
    policy = PolicyConfig(path=str(tmp_path / "t" / "000003"))
    data = DatasetConfig(repo_id="local/pusht-ladder", root=str(demonstrations))
    offline = evaluate(
        EvalConfig(
            policy=policy,
            dataset=data,
            max_frames=16,
            latency_calls=0,
            device="cpu",
            output_dir=str(tmp_path / "e"),
        )
    ).record
    assert offline["policy"]["type"] == kind
    assert offline["policy"]["chunk_size"] == horizon
    env = EnvConfig(settings=KEYPOINTS, episode_length=8)
    closed = RolloutConfig(
        policy=policy,
        env=env,
        n_episodes=2,
        n_envs="1",
        latency_calls=0,
        device="cpu",
        video="none",
        output_dir=str(tmp_path / "r"),
    )
    episodes = rollout(closed).record["episodes"]
    assert [row["steps"] for row in episodes] == [8, 8]


@pytest.mark.slow
def test_an_interrupted_training_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    pytest.importorskip("gym_pusht")
    words = ["--width", "16", "--first_samples", "128", "--correct_every", "2", "--decisions", "2"]
    words += ["--evaluate_seeds", "0", "--log_every", "1"]
    whole = _recipe("train.py", *words, "--output_dir", str(tmp_path / "a"), "--steps", "4")
    _recipe("train.py", *words, "--output_dir", str(tmp_path / "b"), "--steps", "3")
    rest = _recipe("train.py", *words, "--output_dir", str(tmp_path / "b"), "--steps", "4")
    assert "parameters, step 3" in rest
    last = [re.search(r"step 4 loss (\S+) samples (\d+)", text) for text in (whole, rest)]
    assert last[0] is not None
    assert last[1] is not None
    assert last[0].groups() == last[1].groups()


@pytest.mark.slow
def test_the_expert_has_no_memory_and_knows_the_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against gym-pusht: keypoints, steps, and the pose that a looked-up push promises."""
    pytest.importorskip("numba")
    gym = pytest.importorskip("gymnasium")
    monkeypatch.syspath_prepend(str(RECIPE))
    import board as boards  # type: ignore[import-not-found]
    import expert  # type: ignore[import-not-found]

    env = gym.make("gym_pusht/PushT-v0", obs_type="environment_state_agent_pos").unwrapped
    env.reset(seed=4)
    ours = boards.Board()
    ours.reset(4)
    table = expert.push_table().arrays()
    for _ in range(40):
        moves = expert.chunk(ours.agent, ours.velocity, ours.pose, table, 2)
        again = expert.chunk(ours.agent, ours.velocity, ours.pose, table, 2)
        np.testing.assert_array_equal(moves, again)
        seen, reward, *_ = env.step(moves[0])
        ours.step(moves[0])
        np.testing.assert_allclose(ours.agent, seen["agent_pos"])
        np.testing.assert_allclose(
            boards.keypoints(ours.pose[None])[0], seen["environment_state"], atol=1e-3
        )
        assert ours.reward == pytest.approx(reward)
    pose = np.array([220.0, 300.0, 0.7])
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    contact, direction, moved = table[0][3], table[2][3], table[3][3]
    n = int(np.argmax(expert.LENGTHS >= 40))
    ours.put(turn @ (contact - 20 * direction) + pose[:2], pose)
    end = turn @ (contact + expert.LENGTHS[n] * direction) + pose[:2]
    for _ in range(15):
        ours.step(end)
    np.testing.assert_allclose(ours.pose[:2], pose[:2] + turn @ moved[n, :2], atol=0.6)
    assert ours.pose[2] - pose[2] == pytest.approx(moved[n, 2], abs=0.01)


@pytest.mark.slow
def test_what_was_trained_pushes_the_block_home(tmp_path: Path) -> None:
    """77 of 100 seeds: fewer than two of six are one chance in 320."""
    run = rollout(
        RolloutConfig(
            policy=PolicyConfig(path=str(RECIPE / "act-keypoints")),
            env=EnvConfig(type="pusht", settings=KEYPOINTS),
            n_episodes=6,
            video="none",
            latency_calls=0,
            output_dir=str(tmp_path / "o"),
        )
    )
    assert run.record.success.k >= 2
