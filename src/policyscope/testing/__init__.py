"""For the tests of people who write policies and environments: what the numbers rest on, tried out.

from policyscope.testing import check_policy, make_robot

def test_the_contract() -> None:
    robot = make_robot(action_dim=2, state_dim=2, cameras={"observation.image": (3, 96, 96)})
    assert not check_policy(MyPolicy, robot)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from policyscope.actions.meanings import UNDECLARED_UNIT
from policyscope.actions.robots import Robot
from policyscope.actions.spaces import ActionSchema, NativeActions
from policyscope.data.facts import ACTION, STATE
from policyscope.data.frames import FrameBatch
from policyscope.errors import Finding
from policyscope.policies.base import Normalization, Policy, PolicySpec, Prediction
from policyscope.policies.conformance import conformance
from policyscope.policies.noise import noise_seed
from policyscope.sim.conformance import check_environment

__all__ = [
    "FrameBatch",
    "NativeActions",
    "Normalization",
    "Policy",
    "PolicySpec",
    "Prediction",
    "Robot",
    "check_environment",
    "check_policy",
    "make_batch",
    "make_robot",
    "noise_seed",
]


def check_policy(
    policy: Policy | Callable[[Robot], Policy], robot: Robot, *, n_frames: int = 5, seed: int = 0
) -> list[Finding]:
    """Ask a policy about random frames and say what breaks the contract.

    Args:
        policy: on trial, or the class of it, as ``--policy.type my_module:MyPolicy`` names it.
        robot: that it is to control (see `make_robot`).
        n_frames: to ask about.
        seed: of the frames.

    Returns:
        What breaks the contract of `policyscope.policies.base.Policy`; empty if nothing does.
        Errors are what makes numbers wrong.
    """
    known = policy if isinstance(policy, Policy) else policy(robot)
    keys = known.spec.keys & robot.features.keys()
    batch = make_batch(robot, keys, n_frames=n_frames, steps=known.spec.steps, seed=seed)
    return conformance(known, robot, batch)


def make_robot(
    *,
    action_dim: int,
    state_dim: int = 0,
    cameras: Mapping[str, tuple[int, int, int]] | None = None,
    units: Sequence[str] | None = None,
    tasks: Sequence[str] = ("do it",),
    fps: float = 10.0,
) -> Robot:
    """A robot that nobody built.

    Args:
        action_dim: dims of its action (A).
        state_dim: dims of its state; 0 for none.
        cameras: key → (C, H, W).
        units: of the action dims; None where nobody says.
        tasks: what it is told to do.
        fps: observations a second.
    """
    cameras = dict(cameras or {})
    state = {STATE: (state_dim,)} if state_dim else {}
    names = tuple(f"action[{i}]" for i in range(action_dim))
    return Robot(
        kind="dataset",
        name="nobody/robot",
        fps=fps,
        robot_type=None,
        actions=ActionSchema(names, tuple(units or (UNDECLARED_UNIT,) * action_dim)),
        state_names=tuple(f"state[{i}]" for i in range(state_dim)),
        features={**state, **cameras, ACTION: (action_dim,)},
        cameras=cameras,
        tasks=tuple(tasks),
    )


def make_batch(
    robot: Robot,
    keys: frozenset[str] | None = None,
    *,
    n_frames: int = 5,
    steps: Sequence[int] = (0,),
    seed: int = 0,
) -> FrameBatch:
    """Random frames of a robot's: pictures as bytes, numbers around 0.

    Args:
        robot: whose.
        keys: that are observed; None for all.
        n_frames: rows of the batch.
        steps: observation steps, oldest first.
        seed: of the frames.
    """
    draw, frames = np.random.default_rng(seed), np.arange(n_frames)
    seen = sorted(robot.observed if keys is None else keys)
    return FrameBatch(
        np.zeros(n_frames, dtype=np.int64),
        frames.astype(np.int64),
        np.zeros(n_frames, dtype=np.int64),
        tuple(robot.tasks[i % len(robot.tasks)] for i in frames),
        tuple(
            {
                key: draw.integers(0, 256, (n_frames, *robot.features[key]), dtype=np.uint8)
                if key in robot.cameras
                else draw.normal(size=(n_frames, *robot.features[key])).astype(np.float32)
                for key in seen
            }
            for _ in steps
        ),
    )
