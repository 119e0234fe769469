"""The planner as a policy: what `policyscope.commands.rollout.rollout` can run and score.

Each call plans one push in a copy of the simulation and gives its actions as a chunk; the rest of
the chunk holds the last target. A call depends on its seed and step alone.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from make import BOARD, Expert, State, parse_args

from policyscope.actions.spaces import NativeActions
from policyscope.data.frames import FrameBatch
from policyscope.policies.base import Normalization, Policy, PolicySpec, Prediction
from policyscope.policies.noise import noise_seed


def defaults() -> argparse.Namespace:
    """The planner's settings, as ``make.py`` has them."""
    words, sys.argv = sys.argv, sys.argv[:1]
    try:
        return parse_args()
    finally:
        sys.argv = words


class Planner(Policy):
    """Plans with the simulator's own state: where agent and block are."""

    def __init__(self, chunk_size: int = 40, n_action_steps: int = 40) -> None:
        self._args = defaults()
        self.spec = PolicySpec(
            path="planner",
            type="planner",
            sha256=None,
            n_parameters=0,
            chunk_size=chunk_size,
            n_action_steps=n_action_steps,
            normalization=Normalization("IDENTITY", "identity", "none"),
            keys=frozenset({"info.pos_agent", "info.vel_agent", "info.block_pose"}),
        )

    def predict(self, batch: FrameBatch) -> Prediction:
        """One push for each row."""
        start = time.perf_counter()
        told = batch.observations[-1]
        chunks = []
        for i, (seed, step) in enumerate(zip(batch.episode_index, batch.frame_index, strict=True)):
            state = State(
                *(told[f"info.{key}"][i] for key in ("pos_agent", "vel_agent", "block_pose"))
            )
            expert = Expert(self._args, noise_seed(0, int(seed), int(step), 0))
            push = expert.plan(state)
            moves = [state.agent]
            if push is not None:
                moves = [*expert.travel_actions(push.travel), *push.actions(push.length)]
            moves += [moves[-1]] * self.spec.chunk_size
            chunks.append(np.clip(moves[: self.spec.chunk_size], 0, BOARD))
        return Prediction(
            NativeActions(np.array(chunks), ("px", "px")), time.perf_counter() - start
        )
