"""A policy of one's own: goes on as it moved between the last two observations.

policyscope check --policy.type drift:Drift --dataset.repo_id you/data
"""

import time

import numpy as np

from policyscope.testing import FrameBatch, NativeActions, Policy, PolicySpec, Prediction, Robot

STATE, STEPS = "observation.state", 16


class Drift(Policy):
    """Needs no network, and no training."""

    def __init__(self, robot: Robot) -> None:
        self.spec = PolicySpec(
            path="drift",
            type="drift",
            chunk_size=STEPS,
            n_action_steps=8,
            keys=frozenset({STATE}),
            steps=(-1, 0),
        )
        self.units = robot.actions.units

    def predict(self, batch: FrameBatch) -> Prediction:
        """A chunk for each row: see `Policy.predict`."""
        start = time.perf_counter()
        before, now = (seen[STATE].astype(np.float64) for seen in batch.observations)
        ahead = np.arange(1, STEPS + 1)[:, None]
        chunks = now[:, None] + ahead * (now - before)[:, None]  # [B, H, A]
        return Prediction(NativeActions(chunks, self.units), time.perf_counter() - start)
