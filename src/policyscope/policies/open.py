"""The policy that a config names, ready to predict."""

from __future__ import annotations

from dataclasses import replace
from typing import final

import numpy as np

from policyscope.actions.robots import Robot
from policyscope.actions.spaces import ActionSchema
from policyscope.config import OfflineOptions, PolicyOptions, RolloutConfig
from policyscope.data.frames import FrameBatch
from policyscope.data.source import FrameSource
from policyscope.errors import NonFiniteError, SpaceError, UsageError
from policyscope.policies.alignment import Alignment
from policyscope.policies.base import ControlStep, Policy, Prediction
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
        action_kind=alignment.action_kind,
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


def require_keys(policy: Policy, robot: Robot) -> None:
    """Raise unless the robot has what a policy object reads.

    Raises:
        UsageError: it has not.
    """
    lacking = sorted(policy.spec.keys - robot.features.keys())
    if lacking:
        raise UsageError(
            f"keys of {policy.spec.path}",
            expected=f"keys that the {robot.kind} has ({', '.join(robot.observed)})",
            found=", ".join(lacking),
            fix="name such keys in the policy's spec",
        )


@final
class CheckedPolicy(Policy):
    """A policy object of a user's, whose answers are looked at before anything is made of them.

    Args:
        policy: the object.
        schema: names and units of the actions that it should answer with.
        n_action_steps: steps that are run of each chunk; None for what its spec says.

    Raises:
        UsageError: its spec makes no sense.
    """

    def __init__(
        self, policy: Policy, schema: ActionSchema, n_action_steps: int | None = None
    ) -> None:
        self.spec, self._policy, self._schema = policy.spec, policy, schema
        if n_action_steps is not None:
            self.spec = replace(policy.spec, n_action_steps=n_action_steps)
        if not 1 <= self.spec.n_action_steps <= self.spec.chunk_size:
            raise UsageError(
                f"spec of {self.spec.path}",
                expected="n_action_steps between 1 and chunk_size",
                found=f"{self.spec.n_action_steps} of {self.spec.chunk_size}",
                fix="correct the spec",
            )

    def predict(self, batch: FrameBatch) -> Prediction:
        """See `Policy.predict`.

        Raises:
            SpaceError: another shape or other units than the spec and the data say.
            NonFiniteError: NaN or inf.
        """
        prediction = self._policy.predict(batch)
        actions, shape = prediction.actions, (len(batch), self.spec.chunk_size, self._schema.dim)
        if actions.values.shape != shape or actions.units != self._schema.units:
            raise SpaceError(
                f"answer of {self.spec.path}",
                expected=f"chunks of shape {list(shape)} in {', '.join(self._schema.units)}",
                found=f"{list(actions.values.shape)} in {', '.join(actions.units)}",
                fix="correct the policy, or the chunk_size of its spec",
            )
        if not np.isfinite(actions.values).all():
            row = int(np.argwhere(~np.isfinite(actions.values))[0, 0])
            raise NonFiniteError(
                f"answer of {self.spec.path}",
                expected="finite numbers",
                found=f"NaN or inf in episode {batch.episode_index[row]}, frame "
                f"{batch.frame_index[row]}",
                fix="correct the policy",
            )
        return prediction

    def stage(self, batch: FrameBatch) -> FrameBatch:
        """See `Policy.stage`."""
        return self._policy.stage(batch)

    def control_step(self, batch: FrameBatch) -> ControlStep | None:
        """See `Policy.control_step`."""
        return self._policy.control_step(batch)

    @property
    def borrows(self) -> bool:
        """See `Policy.borrows`."""
        return self._policy.borrows

    @property
    def exact(self) -> bool:
        """See `Policy.exact`."""
        return self._policy.exact

    def predict_plain(self, batch: FrameBatch) -> Prediction:
        """See `Policy.predict_plain`."""
        return self._policy.predict_plain(batch)
