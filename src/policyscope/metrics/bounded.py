"""Mean of a bounded quantity, such as a reward in [0, 1], with an interval that does not collapse.

Student's t is right where rewards spread, and wrong where policies are good: if nine of ten
episodes reach the full reward and none of those seen fails, it says [1, 1]. Here the mean is
Σ w_i x_i with weights drawn from the flat Dirichlet distribution over the n episodes and one more
that nobody saw, which has the lowest reward possible (lower end) or the highest (upper end):
Gaffke's bound, whose coverage has held in every simulation made of it (Learned-Miller and Thomas
2020, arXiv 1905.06208). For rewards of 0 and 1 it is Clopper and Pearson's interval, and like it
too wide; so both distributions are averaged, as the mid-P value does for Clopper and Pearson's.
The ends are quantiles of that average.

No interval can hold its level exactly for every bounded distribution, and near 0 and 1 only one of
its ends can miss, so that 97.5 % is what is nominal there. ``docs/statistics.md`` has the coverage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.metrics.intervals import Estimate
from policyscope.metrics.verdicts import ALPHA

_REACH = 26.0  # natural logarithm of the integral's ends: what lies beyond is below 1e-11


def bounded_mean(
    values: Sequence[float], *, low: float = 0.0, high: float = 1.0, alpha: float = ALPHA
) -> Estimate:
    """Mean over episodes of a quantity that can't leave [low, high].

    Args:
        values: one an episode.
        low: the least possible value.
        high: the greatest.
        alpha: one minus the level.

    Raises:
        ValueError: a value lies outside.
    """
    from scipy.optimize import brentq

    known = np.asarray(values, dtype=np.float64)
    n = len(known)
    if n == 0:
        return Estimate(None)
    if not (low < high and known.min() >= low and known.max() <= high):
        raise ValueError(f"values in [{known.min()}, {known.max()}], expected in [{low}, {high}]")
    x, times = np.unique((known - low) / (high - low), return_counts=True)

    def end(level: float) -> float:
        def off(mean: float) -> float:
            return float(between(x[None], mean, times.astype(np.float64))[0]) - level

        tiny = 1e-12
        if off(tiny) >= 0:
            return 0.0
        if off(1 - tiny) <= 0:
            return 1.0
        return float(brentq(off, tiny, 1 - tiny, xtol=1e-10))

    ends = (end(alpha / 2), end(1 - alpha / 2))
    mean = float(known.mean())
    below, above = (low + (high - low) * e for e in ends)
    return Estimate(mean, min(mean, below), max(mean, above), n)


def between(x: FloatArray, mean: float, times: FloatArray | None = None) -> FloatArray:
    """[S]: the averaged distribution function at `mean`, of S samples at once.

    Args:
        x: [S, n] values in [0, 1].
        mean: strictly between 0 and 1.
        times: [n] how often each column was seen; once where None.
    """
    once = np.ones(x.shape[1]) if times is None else times
    weights = np.append(once, 1.0)
    edge = np.zeros((len(x), 1))
    with_lowest, with_highest = (np.hstack([x, edge + value]) for value in (0.0, 1.0))
    return (_below(with_lowest, mean, weights) + _below(with_highest, mean, weights)) / 2


def _below(x: FloatArray, mean: float, weights: FloatArray) -> FloatArray:
    """[S]: P(Σ w_i x_i ≤ mean) for Dirichlet weights, by Imhof's inversion.

    Dirichlet weights are gamma variables over their sum, so that the event is Σ g_i (x_i - mean)
    ≤ 0, and 2 g_i is chi-square with 2 `weights`_i degrees of freedom: a quadratic form (Imhof
    1961, Biometrika 48). The integral runs over the logarithm of its variable, where the trapezoid
    rule converges exponentially; its step follows the phase, which turns √n times as fast.
    """
    away = x - mean
    step = min(0.05, 1.0 / math.sqrt(float(weights.sum())))
    u = np.exp(np.arange(-_REACH, _REACH, step))
    phase, damping = np.zeros((len(x), len(u))), np.zeros((len(x), len(u)))
    for column, weight in zip(away.T, weights, strict=True):
        turned = column[:, None] * u
        phase += weight * np.arctan(turned)
        damping += weight / 2 * np.log1p(turned**2)
    result: FloatArray = 0.5 - step / np.pi * (np.sin(phase) * np.exp(-damping)).sum(axis=1)
    return result
