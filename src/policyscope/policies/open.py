"""The policy that a config names, ready to predict."""

from __future__ import annotations

from policyscope.actions.robots import Robot
from policyscope.config import OfflineOptions, PolicyOptions, RolloutConfig
from policyscope.data.source import FrameSource
from policyscope.errors import UsageError
from policyscope.policies.alignment import Alignment
from policyscope.policies.base import Policy
from policyscope.policies.builtin import BaselinePolicy, ReplayPolicy, Still
from policyscope.policies.checkpoint import Checkpoint


def open_checkpoint(
    checkpoint: Checkpoint, robot: Robot, alignment: Alignment, options: PolicyOptions
) -> Policy:
    """A LeRobot checkpoint with its weights and processors.

    Raises:
        CheckpointError: it can't be opened.
    """
    from policyscope.policies.lerobot import LerobotPolicy  # torch and lerobot: seconds

    return LerobotPolicy(checkpoint, robot, alignment, options)


def open_for_dataset(
    config: OfflineOptions,
    checkpoint: Checkpoint | None,
    source: FrameSource,
    alignment: Alignment,
) -> Policy:
    """The policy that is asked about demonstrations.

    Raises:
        CheckpointError: it can't be opened.
        UsageError: a built-in policy that this dataset does not support.
    """
    if checkpoint is not None:
        return open_checkpoint(checkpoint, source.facts.robot, alignment, config)
    dims, horizon, steps = (
        alignment.dataset_dims,
        config.policy.chunk_size,
        config.n_action_steps,
    )
    if config.policy.type == "replay":
        return ReplayPolicy(source, dims=dims, horizon=horizon, n_action_steps=steps)
    return BaselinePolicy(
        str(config.policy.type),
        source,
        dims=dims,
        horizon=horizon,
        n_action_steps=steps,
        action_kind=config.action_kind,
    )


def open_for_simulator(
    config: RolloutConfig,
    checkpoint: Checkpoint | None,
    robot: Robot,
    alignment: Alignment,
    demonstrations: FrameSource | None,
) -> Policy:
    """The policy that answers simulators.

    Args:
        config: which one.
        checkpoint: None for a built-in policy.
        robot: what the simulator plays.
        alignment: how the two meet.
        demonstrations: where episodes start, for ``replay``; or None.

    Raises:
        CheckpointError: it can't be opened.
        UsageError: a built-in policy that has no meaning here.
    """
    if checkpoint is not None:
        return open_checkpoint(checkpoint, robot, alignment, config)
    name, horizon, steps = config.policy.type, config.policy.chunk_size, config.n_action_steps
    if name in ("hold_state", "zero"):
        return Still(name, robot, horizon=horizon, n_action_steps=steps)
    if name == "replay" and config.init_from == "dataset" and demonstrations is not None:
        dims = tuple(range(robot.actions.dim))
        return ReplayPolicy(demonstrations, dims=dims, horizon=horizon, n_action_steps=steps)
    raise UsageError(
        f"--policy.type {name}",
        expected="hold_state, zero, or replay with --init_from dataset",
        found=str(name),
        fix="--policy.type hold_state",
    )
