"""Intervals whose unit of chance is the episode: frames of one episode are not independent.

Log-scale cluster-robust t (delta method), corrected for episodes that do not weigh the same, see
`unequal`: without that a nominal 95 % interval of a skill covers 72 to 93 % of simulated truths.
``docs/statistics.md`` has the coverage that is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.runs.values import Value

MIN_EPISODES = 5
"""Below this many episodes no interval is given: it would be a guess."""

_WIDEST = math.log(
    1000.0
)  # to either side; where one episode is nearly all there is, none is given


@final
@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval.

    Attributes:
        value: the point estimate; None where it is undefined.
        low: lower end; None where no honest interval exists.
        high: upper end.
        n_episodes: clusters behind it.
        n_frames: frames behind it.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n_episodes: int = 0
    n_frames: int = 0

    def measured(self) -> Value:
        """The estimate as a record holds it."""
        return Value(
            value=self.value,
            ci_low=self.low,
            ci_high=self.high,
            n_episodes=self.n_episodes,
            n_frames=self.n_frames,
        )

    def root(self) -> Estimate:
        """The square root of value and interval: RMSE from MSE."""
        value, low, high = (
            None if v is None else math.sqrt(v) for v in (self.value, self.low, self.high)
        )
        return Estimate(value, low, high, self.n_episodes, self.n_frames)


def unequal(share: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What unequal episodes do to a variance and to its certainty.

    An episode that holds the share w of what is summed pulls the sum towards itself, so that its
    own deviation is seen too small: its square keeps 1 - 2 w + Σ w² of what it was. And a variance
    that few long or hard episodes make up is known as badly as that of few episodes: Kish's
    number of them, 1 / Σ w², takes the place of n in the degrees of freedom. Both are the usual
    n / (n - 1) and n - 1 where all episodes weigh the same.

    Args:
        share: [G, ...] of each episode; sums to 1 over the first axis.

    Returns:
        [G, ...] the part of each square that is seen, and [...] degrees of freedom, 1 at least.
    """
    squares = (share**2).sum(axis=0)
    return 1 - 2 * share + squares, np.maximum(1 / squares - 1, 1.0)


def _half_width(influence: FloatArray, seen: FloatArray, freedom: FloatArray) -> float | None:
    """Of a log-scale interval; None where it would say nothing."""
    from scipy.special import stdtrit

    if seen.min() <= 0:  # one episode is all there is
        return None
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(float((influence**2 / seen).sum()))
    return half if half <= _WIDEST else None


def cluster_mean(total: FloatArray, count: FloatArray, *, n_frames: int = 0) -> Estimate:
    """Mean of a positive quantity over clusters, with its log-scale cluster-robust interval.

    A mean is skewed where a ratio of two paired sums is not: the hardest episodes widen both its
    value and its spread. So the shares are those of the quantity itself, and the part that is seen
    counts twice, as HC3 has it (MacKinnon and White 1985), nearly the jackknife.

    Args:
        total: [G] sum of the quantity in each episode.
        count: [G] number of things summed in each episode.
        n_frames: frames behind the estimate, for the record.
    """
    kept = count > 0
    total, count = total[kept], count[kept]
    n = len(total)
    if n == 0:
        return Estimate(None, n_episodes=0, n_frames=n_frames)
    mean = float(total.sum() / count.sum())
    if n < MIN_EPISODES:
        return Estimate(mean, n_episodes=n, n_frames=n_frames)
    if mean <= 0:
        return Estimate(mean, mean, mean, n, n_frames)
    share = total / total.sum()
    seen, freedom = unequal(share)
    half = _half_width(share - count / count.sum(), seen**2, freedom)
    return _around(mean, half, n, n_frames)


def cluster_ratio(
    over: FloatArray, under: FloatArray, count: FloatArray | None = None, *, n_frames: int = 0
) -> Estimate:
    """Ratio of two paired positive sums over clusters, with its log-scale interval.

    The two sums of an episode rise and fall together (hard episodes are hard for the baseline,
    too), hence the linearization works on their difference.

    Args:
        over: [G] numerator sums, one an episode.
        under: [G] denominator sums of the same episodes.
        count: [G] things summed in each episode; episodes without any are left out.
        n_frames: frames behind the estimate, for the record.
    """
    if count is not None:
        over, under = over[count > 0], under[count > 0]
    n, top, bottom = len(over), float(over.sum()), float(under.sum())
    if n == 0 or bottom <= 0:
        return Estimate(None, n_episodes=n, n_frames=n_frames)
    ratio = top / bottom
    if n < MIN_EPISODES:
        return Estimate(ratio, n_episodes=n, n_frames=n_frames)
    if ratio <= 0:
        return Estimate(ratio, ratio, ratio, n, n_frames)
    over, under = over / top, under / bottom
    half = _half_width(over - under, *unequal((over + under) / 2))
    return _around(ratio, half, n, n_frames)


def _around(value: float, half: float | None, n: int, n_frames: int) -> Estimate:
    if half is None:
        return Estimate(value, n_episodes=n, n_frames=n_frames)
    factor = math.exp(half)
    return Estimate(value, value / factor, value * factor, n, n_frames)


def skill(
    policy: FloatArray, baseline: FloatArray, count: FloatArray | None = None, *, n_frames: int = 0
) -> Estimate:
    """1 - MSE/MSE_baseline, paired by episode: 1 is perfect, 0 no better, below 0 worse.

    Args:
        policy: [G] sums of squared errors of the policy, one an episode.
        baseline: [G] those of the baseline on the same frames.
        count: [G] frames summed in each episode; episodes without any are left out.
        n_frames: frames behind the estimate, for the record.
    """
    ratio = cluster_ratio(policy, baseline, count, n_frames=n_frames)
    value, low, high = (None if v is None else 1 - v for v in (ratio.value, ratio.high, ratio.low))
    return Estimate(value, low, high, ratio.n_episodes, n_frames)
