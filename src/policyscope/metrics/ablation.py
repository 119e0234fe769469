"""What an input is worth: the same frames, asked again with that input taken from elsewhere.

The noise of a frame is the same on both sides, so whatever changes comes from the input. Changes
and errors are means of absolute values in the dataset's standard deviations; intervals are paired,
their unit of chance the episode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.metrics.intervals import Estimate, cluster_mean
from policyscope.metrics.paired import paired_errors
from policyscope.metrics.sums import MIN_STD
from policyscope.runs.values import Use

IGNORED_BELOW = 0.05
"""Mean change of the prediction, in standard deviations, below which an input counts as ignored:
words need the upper end of the interval to stay below it."""


@final
@dataclass(frozen=True, eq=False)
class Effect:
    """What replacing one input did.

    Attributes:
        change: of the prediction, in standard deviations.
        error: of the frames with their own input, likewise.
        replaced: the error with the other input.
        ratio: replaced / error, with its paired interval.
    """

    change: Estimate
    error: Estimate
    replaced: Estimate
    ratio: Estimate

    @property
    def use(self) -> Use:
        """In one word, as far as the intervals allow it."""
        change, ratio = self.change, self.ratio
        if change.value == 0 or (change.high is not None and change.high < IGNORED_BELOW):
            return "ignored"  # not one frame of any episode moved: nothing is left to chance
        if ratio.low is not None and ratio.low > 1:
            return "needed"
        if ratio.high is not None and ratio.high < 1:
            return "harmful"
        return "unclear"


def effect(
    own: FloatArray,
    replaced: FloatArray,
    target: FloatArray,
    is_pad: NDArray[np.bool_],
    episode: NDArray[np.int64],
    std: FloatArray,
) -> Effect:
    """Compare predictions with and without their own input.

    Args:
        own: [N, H, A] native predictions.
        replaced: [N, H, A] those with another frame's input.
        target: [N, H, A] demonstrations.
        is_pad: [N, H] true past the end of the episode.
        episode: [N] episode indices.
        std: [A] the dataset's standard deviations; dims that hardly vary are left out.
    """
    use = std >= MIN_STD
    inside = ~is_pad[:, :, None]

    def distance(a: FloatArray, b: FloatArray) -> FloatArray:
        """[N] sums over the steps of a chunk, means over its dims."""
        gap = np.abs((a - b)[..., use] / std[use]).mean(axis=-1, keepdims=True)
        result: FloatArray = (gap * inside).sum(axis=(1, 2))
        return result

    _, place = np.unique(episode, return_inverse=True)
    n = int(place.max()) + 1

    def by_episode(values: FloatArray) -> FloatArray:
        return np.bincount(place, weights=values, minlength=n).astype(np.float64)

    count, frames = by_episode(inside.sum(axis=(1, 2)).astype(np.float64)), len(episode)
    sums = [
        by_episode(distance(a, b)) for a, b in ((own, replaced), (own, target), (replaced, target))
    ]
    pair = paired_errors(sums[1], sums[2], count)
    value, low, high = (
        float(end) if np.isfinite(end) else None
        for end in (pair.ratio, pair.ratio_low, pair.ratio_high)
    )
    change, error, other = (cluster_mean(s, count, n_frames=frames) for s in sums)
    return Effect(change, error, other, Estimate(value, low, high, n, frames))
