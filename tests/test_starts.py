"""Start states read from pictures, against the simulator that drew them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policyscope.commands.rollout import rollout
from policyscope.config import DatasetConfig, EnvConfig, PolicyConfig, RolloutConfig
from policyscope.sim.pusht import PoseFinder
from policyscope.sim.simulator import Simulator

PLANNER = Path(__file__).parents[1] / "src" / "policyscope" / "assets" / "pusht-planner"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_pose_from_a_picture_and_back(seed: int) -> None:
    simulator = Simulator(EnvConfig())
    drawn = simulator.reset(seed)
    agent, pose = drawn.info["pos_agent"], drawn.info["block_pose"]
    picture = drawn.observations[0]["pixels"] / 255
    found, residual = PoseFinder().from_picture(picture, agent)
    turn = (found[2] - pose[2] + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(found[:2] - pose[:2]).max() < 1.5
    assert abs(turn) < 0.03
    assert residual < 0.02
    again = simulator.reset(0, np.array([*agent, *pose]))
    np.testing.assert_allclose(again.info["block_pose"], pose, atol=1e-6)
    np.testing.assert_allclose(again.info["pos_agent"], agent)
    simulator.close()


def test_pose_from_keypoints() -> None:
    simulator = Simulator(EnvConfig(settings='{"obs_type": "environment_state_agent_pos"}'))
    drawn = simulator.reset(5)
    points = drawn.observations[0]["environment_state"].reshape(-1, 2)
    pose = PoseFinder().from_keypoints(points)
    wanted = drawn.info["block_pose"]
    np.testing.assert_allclose(pose[:2], wanted[:2], atol=1e-6)
    assert np.cos(pose[2] - wanted[2]) == pytest.approx(1)
    simulator.close()


def test_replayed_demonstrations_start_and_move_like_themselves(tmp_path: Path) -> None:
    run = rollout(
        RolloutConfig(
            policy=PolicyConfig(type="replay", chunk_size=8),
            dataset=DatasetConfig(repo_id="policyscope/pusht-planner", root=str(PLANNER)),
            init_from="dataset",
            n_episodes=4,
            n_envs="2",
            output_dir=str(tmp_path / "o"),
            latency_calls=0,
            video="none",
            nearest=True,
        )
    )
    rows = run.record["episodes"]
    assert [row["demonstration"] for row in rows] == [0, 1, 2, 3]
    assert run.record["env"]["init_from"] == "dataset"
    assert [row["demonstration"] for row in run.record["nearest"]] == [0, 1, 2, 3]
    # every demonstration succeeds; replayed from a pose that was read from a compressed picture,
    # contact amplifies the error, and most still come close
    assert np.median([row["max_reward"] for row in rows]) > 0.7
