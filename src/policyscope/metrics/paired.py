"""Two runs on the same frames: differences by episode, with episode-clustered intervals.

Episodes that are hard for one policy are hard for the other, so the difference within an episode
varies far less than either error. The unit of chance is the episode; intervals and tests are the
cluster-robust t of `intervals`, on paired sums, corrected for episodes that do not weigh the same:
without that, a test at 5 % of two equal runs rejects in 7 to 11 % of cases on ten episodes. All
functions work on whole tables at once: the first axis is the episode, whatever follows (metric,
horizon step, dim) stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.metrics.intervals import MIN_EPISODES, unequal
from policyscope.metrics.verdicts import ALPHA, Margin, Test

_WIDEST = 1000.0  # ratios beyond are as good as none
_SAME = 1e-12  # relative spread below which all episodes tell the same, up to rounding


@final
@dataclass(frozen=True, eq=False)
class PairedErrors:
    """Errors of run B against those of run A; every array has the shape [...] of the table.

    NaN stands where a number is undefined: a ratio to an error of zero, intervals and p values of
    fewer than five episodes.

    Attributes:
        a: mean error of A.
        b: mean error of B.
        ratio: b / a.
        ratio_low: lower end of its interval, on the log scale.
        ratio_high: upper end.
        difference: b - a.
        difference_low: lower end of its interval.
        difference_high: upper end.
        p: two-sided p value of "equal", from the log ratio (from the difference where an error
            is zero).
        n_episodes: episodes with anything to compare.
        n_b_better: episodes on which B's error is smaller.
        n_equal: episodes on which both are equal.
        spread: standard error of the log ratio.
        freedom: degrees of freedom of its t.
        alpha: one minus the level of the intervals.
    """

    a: FloatArray
    b: FloatArray
    ratio: FloatArray
    ratio_low: FloatArray
    ratio_high: FloatArray
    difference: FloatArray
    difference_low: FloatArray
    difference_high: FloatArray
    p: FloatArray
    n_episodes: NDArray[np.int64]
    n_b_better: NDArray[np.int64]
    n_equal: NDArray[np.int64]
    spread: FloatArray
    freedom: FloatArray
    alpha: float = ALPHA

    def test(self, at: tuple[int, ...] = ()) -> Test:
        """The test of one cell, as `verdicts.decide` takes it. Smaller errors are better."""
        n, p, gap = int(self.n_episodes[at]), float(self.p[at]), float(self.difference[at])
        favours: Literal[-1, 0, 1] = 0 if gap == 0 or gap != gap else (1 if gap < 0 else -1)
        return Test(
            "paired t over episodes",
            None if np.isnan(p) else p,
            0.0 if n >= MIN_EPISODES else 1.0,
            favours,
        )

    def within(self, limit: float, at: tuple[int, ...] = (), *, relative: bool = True) -> Margin:
        """Whether B's error is shown to exceed A's by no more than a margin.

        Args:
            limit: for example 0.05 for 5 %, or an error in the table's unit.
            at: the cell.
            relative: whether `limit` is a share of A's error.
        """
        n = int(self.n_episodes[at])
        high = self.ratio_high[at] - 1 if relative else self.difference_high[at]
        same = n > 0 and self.n_equal[at] == n  # also where both are 0 and there is no ratio
        return Margin(cleared=bool(same or high <= limit), could_clear=n >= MIN_EPISODES)

    def detectable(self, at: tuple[int, ...] = (), *, power: float = 0.8) -> float | None:
        """The least ratio above 1 that the test finds with so much power; 1 / it below 1.

        Exact power of a t test whose standard error is the one found here: the quantile of the
        noncentral t. None without an interval, or where all episodes say the same.

        Args:
            at: the cell.
            power: chance of finding it.
        """
        from scipy.special import nctdtrinc, stdtrit

        spread, freedom = float(self.spread[at]), float(self.freedom[at])
        if not (np.isfinite(spread) and np.isfinite(freedom) and spread > _SAME):
            return None
        t = float(stdtrit(freedom, 1 - self.alpha / 2))
        shift = float(nctdtrinc(freedom, 1 - power, t))
        ratio = float(np.exp(min(shift * spread, 700.0)))
        return ratio if ratio < _WIDEST else None

    def cells(self) -> Iterator[tuple[int, ...]]:
        """The places of the table, in order."""
        return np.ndindex(self.p.shape)


def paired_errors(
    a: FloatArray, b: FloatArray, count: FloatArray, *, alpha: float = ALPHA
) -> PairedErrors:
    """Compare two runs on the same frames of the same episodes.

    Args:
        a: [G, ...] sums of the errors of run A, one an episode.
        b: [G, ...] those of run B on the same frames.
        count: [G, ...] or [G] things summed in each; episodes with 0 are left out.
        alpha: one minus the level of the intervals.
    """
    from scipy.special import stdtr, stdtrit

    count = np.broadcast_to(count.reshape(count.shape + (1,) * (a.ndim - count.ndim)), a.shape)
    here = count > 0
    a, b = np.where(here, a, 0.0), np.where(here, b, 0.0)
    n = here.sum(axis=0)
    known = n >= MIN_EPISODES
    things, sum_a, sum_b = count.sum(axis=0), a.sum(axis=0), b.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_a, mean_b = sum_a / things, sum_b / things
        gap, ratio = mean_b - mean_a, sum_b / sum_a
        ratio = np.where((sum_a > 0) & (sum_b > 0), ratio, np.nan)
        weight, freedom = _weights(a, b, known)
        spread = np.sqrt(((b - a - gap * count) ** 2 / weight).sum(axis=0)) / things
        log_spread = np.sqrt(((b / sum_b - a / sum_a) ** 2 / weight).sum(axis=0))
        t = stdtrit(freedom, 1 - alpha / 2)
        factor = np.exp(t * log_spread)
        of_log = np.isfinite(log_spread) & np.isfinite(ratio)
        statistic = np.where(of_log, np.log(ratio) / log_spread, gap / spread)
        p = 2 * stdtr(freedom, -np.abs(statistic))
        still = np.where(of_log, log_spread, spread / np.maximum(mean_a, mean_b)) <= _SAME
    # without spread t is undefined; what remains is the sign, equal in all n episodes
    p = np.where(known & still, np.where(gap == 0, 1.0, np.exp2(1.0 - n)), p)
    p = np.where(known & (gap == 0), 1.0, p)
    return PairedErrors(
        a=mean_a,
        b=mean_b,
        ratio=ratio,
        ratio_low=ratio / factor,
        ratio_high=ratio * factor,
        difference=gap,
        difference_low=gap - t * spread,
        difference_high=gap + t * spread,
        p=np.asarray(p),
        n_episodes=n,
        n_b_better=(here & (b < a)).sum(axis=0),
        n_equal=(here & (b == a)).sum(axis=0),
        spread=log_spread,
        freedom=freedom,
        alpha=alpha,
    )


def _weights(
    a: FloatArray, b: FloatArray, known: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """`unequal` of the mean share of both errors; degrees of freedom are NaN where too few."""
    totals = np.stack([a.sum(axis=0), b.sum(axis=0)])
    shares = np.where(totals[:, None] > 0, np.stack([a, b]) / totals[:, None], 0.0)
    seen, freedom = unequal(shares.sum(axis=0) / (totals > 0).sum(axis=0))
    return seen, np.where(known, freedom, np.nan)
