"""What a part of the frames says of the run over all of them.

The episodes are given, and of each some frames are seen, spread over it (`engine.spread`): what is
unknown is how the others would have come out, not which episodes there might be. So this interval
is narrower than those of the record's tables, whose unit of chance is the episode, and it closes
as the frames run out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray, NativeActions
from policyscope.metrics.geometry import near
from policyscope.metrics.intervals import Estimate
from policyscope.metrics.sums import Measure
from policyscope.runs.parts import SCOPES, Scope


def of_all_frames(
    episode: NDArray[np.int64],
    frame: NDArray[np.int64],
    error: FloatArray,
    count: FloatArray,
    lengths: Mapping[int, int],
) -> Estimate:
    """The mean error over all frames of the given episodes, with the interval of what is unseen.

    Each episode is a stratum with a finite number of frames. Frames that are spread evenly over
    smooth errors say more than as many drawn by chance; the variance within an episode is
    therefore that of successive differences (Wolter 2007, section 8.2), which a trend does not
    inflate. Episodes of which one frame is seen share a variance, between them: too wide, rather
    than none. Where some episodes have not come up yet, those that have are a sample of all.

    Args:
        episode: [N] of each frame that is seen.
        frame: [N] its index.
        error: [N] summed over its steps.
        count: [N] steps summed; 0 where none is left.
        lengths: episode → frames that the whole run has of it.
    """
    order = np.lexsort((frame, episode))
    episode, error, count = episode[order], error[order], count[order]
    known, group, n = np.unique(episode, return_inverse=True, return_counts=True)
    whole = np.array([lengths[int(e)] for e in known], dtype=np.float64)
    weight = (whole / n)[group]
    mass = float((weight * count).sum())
    if mass <= 0:
        return Estimate(None, n_episodes=len(known), n_frames=len(episode))
    mean = float((weight * error).sum()) / mass
    residual = error - mean * count
    parts, freedom = (
        _within(residual, group, n, whole)
        if len(known) == len(lengths)
        else _between(residual * weight, group)
    )
    variance = float(parts.sum())
    half: float | None = 0.0
    if not np.isfinite(variance):
        half = None
    elif variance > 0 and mean > 0:
        from scipy.special import stdtrit

        degrees = variance**2 / float((parts**2 / freedom).sum())  # Satterthwaite
        half = float(stdtrit(degrees, 0.975)) * math.sqrt(variance) / (mass * mean)
    if half is None or half > 50:
        return Estimate(mean, n_episodes=len(known), n_frames=len(episode))
    low, high = mean / math.exp(half), mean * math.exp(half)
    return Estimate(mean, low, high, len(known), len(episode))


def _within(
    residual: FloatArray, group: NDArray[np.intp], n: NDArray[np.intp], whole: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """[P] variances that add up to that of the sum, and their degrees of freedom."""
    follows = group[1:] == group[:-1]
    steps = (np.diff(residual) ** 2)[follows]
    squares = np.bincount(group[1:][follows], weights=steps, minlength=len(n))
    several = n > 1
    freedom = (n[several] - 1).astype(np.float64)
    inside = squares[several] / (2 * freedom)
    parts = whole[several] ** 2 * (1 - n[several] / whole[several]) * inside / n[several]
    single = (n == 1) & (whole > 1)
    if not single.any():
        return parts, freedom
    ones = (residual * whole[group])[single[group]]
    if len(ones) > 1:
        rest, of_rest = len(ones) * float(np.var(ones, ddof=1)), len(ones) - 1.0
    else:  # as in the others; unknown without any
        typical = float(inside.mean()) if len(inside) else math.nan
        rest, of_rest = float(whole[single][0]) ** 2 * typical, max(float(freedom.sum()), 1.0)
    return np.append(parts, rest), np.append(freedom, of_rest)


def _between(weighted: FloatArray, group: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
    totals = np.bincount(group, weights=weighted)
    if len(totals) < 2:
        return np.array([math.nan]), np.ones(1)
    return np.array([len(totals) * np.var(totals, ddof=1)]), np.array([len(totals) - 1.0])


@final
class SeenFrames:
    """Collects frames as they are predicted; at any moment, says what all would give.

    Args:
        measure: what is summed; errors are native where all dims share a unit, else in std.
        lengths: episode → frames that the whole run has of it.
    """

    def __init__(self, measure: Measure, lengths: Mapping[int, int]) -> None:
        self._measure, self._lengths = measure, lengths
        native = measure.basis == "native"
        self._use = np.ones(measure.schema.dim, bool) if native else measure.included
        self._scale = np.ones(measure.schema.dim) if native else measure.normalizer().divisor
        self._places: list[NDArray[np.int64]] = []
        self._sums: list[FloatArray] = []

    @property
    def unit(self) -> str:
        """Of the errors."""
        one = self._measure.schema.single_unit
        return one if self._measure.basis == "native" and one is not None else "std"

    @property
    def n_frames(self) -> int:
        """Frames collected."""
        return sum(len(sums) for sums in self._sums)

    def add(
        self,
        places: NDArray[np.int64],
        predicted: Sequence[NativeActions],
        target: NativeActions,
        is_pad: NDArray[np.bool_],
    ) -> None:
        """Collect some frames.

        Args:
            places: [N, 2] episode and frame.
            predicted: K arrays of [N, H, A], one a sample.
            target: [N, H, A].
            is_pad: [N, H].
        """
        real, schema = ~is_pad, self._measure.schema
        apart = [near(p.values, target.values, schema) - target.values for p in predicted]
        scaled = [np.abs(a[..., self._use] / self._scale[self._use]).mean(axis=-1) for a in apart]
        error = np.mean(scaled, axis=0) * real
        steps = [self._measure.steps(scope) for scope in SCOPES]
        sums = [values[:, which].sum(axis=1) for which in steps for values in (error, real)]
        self._places.append(places)
        self._sums.append(np.stack(sums, axis=1).astype(np.float64))

    def estimate(self, scope: Scope) -> Estimate:
        """The error over all frames, at the steps of a scope."""
        places, sums = np.concatenate(self._places), np.concatenate(self._sums)
        self._places, self._sums = [places], [sums]
        at = 2 * SCOPES.index(scope)
        return of_all_frames(
            places[:, 0], places[:, 1], sums[:, at], sums[:, at + 1], self._lengths
        )
