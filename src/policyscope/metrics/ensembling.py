"""ACT's temporal ensembling: what a robot runs where every step has a chunk of its own.

At each step the policy is asked again, and the action that is run is the mean of all that chunks so
far said about this step, weighted with exp(-coefficient · i), i = 0 for the oldest (Zhao et al.
2023, algorithm 2; lerobot's ``ACTTemporalEnsembler``).
"""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray, NativeActions


@final
class Ensemble:
    """The chunks of one episode, step by step, as `ACTTemporalEnsembler` takes them.

    Args:
        coefficient: 0 weighs all alike, a positive one the older more.
        horizon: steps of a chunk (H).

    Attributes:
        step: how many chunks came.
    """

    def __init__(self, coefficient: float, horizon: int) -> None:
        self.step = 0
        self._weights = np.exp(-coefficient * np.arange(horizon))
        self._mean: FloatArray = np.empty((0, 0))
        self._count: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def act(self, chunk: FloatArray) -> FloatArray:
        """The [A] action of this step, given its [H, A] chunk."""
        said, count = self._mean, self._count
        weight = self._weights[count][:, None]
        before = np.cumsum(self._weights)[count - 1][:, None]
        if len(said):
            said = (said * before + chunk[: len(said)] * weight) / (before + weight)
        whole = np.concatenate([said.reshape(-1, chunk.shape[1]), chunk[len(said) :]])
        ones = np.ones(len(chunk) - len(count), dtype=np.int64)
        self._mean, self._count = whole[1:], np.concatenate([count + 1, ones])[1:]
        self.step += 1
        action: FloatArray = whole[0]
        return action


def executed(chunks: NativeActions, coefficient: float) -> NativeActions:
    """What a robot would have run at each frame: [T, H, A] of consecutive frames → [T, 1, A].

    The same means as `Ensemble` makes step by step, for all frames at once.
    """
    values = chunks.values
    n, horizon, _ = values.shape
    weights = np.exp(-coefficient * np.arange(horizon))
    frames = np.arange(n)
    oldest = np.maximum(frames - horizon + 1, 0)
    total, weight = np.zeros((n, values.shape[2])), np.zeros((n, 1))
    for i in range(min(horizon, n)):  # the i-th oldest chunk that speaks of a frame
        row = oldest + i
        at = row <= frames
        total[at] += weights[i] * values[row[at], (frames - row)[at]]
        weight[at] += weights[i]
    return NativeActions((total / weight)[:, None, :], chunks.units)
