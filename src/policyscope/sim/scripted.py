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
class HoldState(Policy):
    """Asks for the state that the robot is in: the closed-loop "do nothing".

    Raises:
        UsageError: state and action differ in their number of dims.
    """

    def __init__(self, facts: DatasetFacts, *, horizon: int, n_action_steps: int | None) -> None:
        if len(facts.state_names) != facts.actions.dim:
            raise UsageError(
                "--policy.type hold_state",
                expected=f"a state of {facts.actions.dim} dims, as an action has",
                found=f"{len(facts.state_names)}",
                fix="another policy: holding the state is no action here",
            )
        self._units = facts.actions.units
        self.spec = PolicySpec(
            path="hold_state",
            type="hold_state",
            sha256=None,
            n_parameters=0,
            chunk_size=horizon,
            n_action_steps=n_action_steps or horizon,
            normalization=Normalization("IDENTITY", "identity", "none"),
            keys=frozenset({STATE}),
        )

    def predict(self, batch: FrameBatch) -> Prediction:
        """See `Policy.predict`."""
        start = time.perf_counter()
        state = batch.observations[-1][STATE].numpy()
        chunks = np.repeat(state[:, None, :], self.spec.chunk_size, axis=1)
        return Prediction(NativeActions(chunks, self._units), time.perf_counter() - start)
