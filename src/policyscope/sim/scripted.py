"""Policies without a network, in closed loop."""

from __future__ import annotations

import time
from typing import final

import numpy as np

from policyscope.errors import UsageError
from policyscope.facts import STATE, DatasetFacts
from policyscope.frames import FrameBatch
from policyscope.policies.base import Normalization, Policy, PolicySpec, Prediction
from policyscope.spaces import NativeActions


@final
class Still(Policy):
    """Does nothing: asks for the state that the robot is in, or for no displacement.

    Args:
        name: ``hold_state`` or ``zero``.
        facts: of the simulator.
        horizon: steps of a chunk.
        n_action_steps: steps run of it; None for all.

    Raises:
        UsageError: state and action differ in their number of dims.
    """

    def __init__(
        self, name: str, facts: DatasetFacts, *, horizon: int, n_action_steps: int | None
    ) -> None:
        if name == "hold_state" and len(facts.state_names) != facts.actions.dim:
            raise UsageError(
                "--policy.type hold_state",
                expected=f"a state of {facts.actions.dim} dims, as an action has",
                found=f"{len(facts.state_names)}",
                fix="--policy.type zero: holding the state is no action here",
            )
        self._units = facts.actions.units
        self._keys = [STATE] if name == "hold_state" else []
        self.spec = PolicySpec(
            path=name,
            type=name,
            sha256=None,
            n_parameters=0,
            chunk_size=horizon,
            n_action_steps=n_action_steps or horizon,
            normalization=Normalization("IDENTITY", "identity", "none"),
            keys=frozenset(self._keys),
        )

    def predict(self, batch: FrameBatch) -> Prediction:
        """See `Policy.predict`."""
        start = time.perf_counter()
        state = np.zeros((len(batch), len(self._units)))
        for key in self._keys:
            state = batch.observations[-1][key].numpy()
        chunks = np.repeat(state[:, None, :], self.spec.chunk_size, axis=1)
        return Prediction(NativeActions(chunks, self._units), time.perf_counter() - start)
