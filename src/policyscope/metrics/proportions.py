"""Success rates: intervals of one, differences and tests of two.

Runs on the same seeds are paired: McNemar's exact test and Newcombe's paired interval (his method
10 of 1998). Otherwise Boschloo's exact test and Newcombe's interval of two samples. All functions
of counts take arrays as well as numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.metrics.boschloo import boschloo
from policyscope.metrics.verdicts import ALPHA, Margin, Test

Ends = tuple[FloatArray, FloatArray]


@final
@dataclass(frozen=True)
class Proportion:
    """k successes in n episodes, with an interval.

    Attributes:
        k: successes.
        n: episodes.
        low: lower end; None without episodes.
        high: upper end.
    """

    k: int
    n: int
    low: float | None
    high: float | None

    @property
    def rate(self) -> float | None:
        """k / n; None without episodes."""
        return self.k / self.n if self.n else None

    def to_json(self) -> dict[str, Any]:
        """As ``run.json`` holds it."""
        return {
            "k": self.k,
            "n": self.n,
            "rate": self.rate,
            "ci_low": self.low,
            "ci_high": self.high,
        }


def proportion(k: int, n: int, *, method: str = "wilson", alpha: float = ALPHA) -> Proportion:
    """The success rate with its interval.

    Args:
        k: successes.
        n: episodes.
        method: ``wilson``, or ``exact`` for Clopper and Pearson's.
        alpha: one minus the level.
    """
    if n == 0:
        return Proportion(0, 0, None, None)
    low, high = (wilson if method == "wilson" else clopper_pearson)(k, n, alpha=alpha)
    return Proportion(k, n, float(low), float(high))


def at_most(k: int, n: int) -> float:
    """The rate that k of n still allow: upper end of an exact 95 % bound on one side."""
    return float(clopper_pearson(k, n, alpha=2 * ALPHA)[1])


def wilson(k: ArrayLike, n: ArrayLike, *, alpha: float = ALPHA) -> Ends:
    """Ends of Wilson's score interval."""
    from scipy.special import ndtri

    k, n = np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64)
    z = float(ndtri(1 - alpha / 2))
    centre = (k + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
    low, high = np.where(k == 0, 0.0, centre - half), np.where(k == n, 1.0, centre + half)
    return low, high


def clopper_pearson(k: ArrayLike, n: ArrayLike, *, alpha: float = ALPHA) -> Ends:
    """Ends of Clopper and Pearson's exact interval: never below its level, mostly above."""
    from scipy.special import betaincinv

    k, n = np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        low = np.where(k == 0, 0.0, betaincinv(np.maximum(k, 1), n - k + 1, alpha / 2))
        high = np.where(k == n, 1.0, betaincinv(k + 1, np.maximum(n - k, 1), 1 - alpha / 2))
    return low, high


def macro_interval(k: ArrayLike, n: ArrayLike, *, alpha: float = ALPHA) -> tuple[float, float]:
    """Ends of an interval of the mean over tasks of their success rates; episodes are drawn.

    Wilson's at the number of episodes that one rate would need for as little variance (Korn and
    Graubard's effective sample size), never fewer than equal rates would give.

    Args:
        k: [T] successes of each task.
        n: [T] episodes of each, one at least.
        alpha: one minus the level.
    """
    k, n = np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64)
    rates = k / n
    mean = float(rates.mean())
    variance = float((rates * (1 - rates) / np.maximum(n - 1, 1)).sum()) / len(n) ** 2
    least = len(n) ** 2 / float((1 / n).sum())
    episodes = max(least, mean * (1 - mean) / variance) if variance > 0 else least
    low, high = wilson(mean * episodes, episodes, alpha=alpha)
    return 0.0 if mean == 0 else float(low), 1.0 if mean == 1 else float(high)


# ── pairs ─────────────────────────────────────────────────────────────


@final
@dataclass(frozen=True)
class Pairs:
    """Outcomes of two runs on the same seeds, counted.

    Attributes:
        both: seeds on which both succeed.
        only_a: seeds on which only A does.
        only_b: seeds on which only B does.
        neither: the rest.
    """

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def n(self) -> int:
        """Seeds."""
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def correlation(self) -> float:
        """Of the two outcomes on a seed (phi); 0 where either run always ends alike."""
        cross = self.both * self.neither - self.only_a * self.only_b
        scale = (
            (self.both + self.only_a)
            * (self.both + self.only_b)
            * (self.neither + self.only_a)
            * (self.neither + self.only_b)
        )
        return cross / scale**0.5 if scale else 0.0

    @staticmethod
    def of(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Pairs:
        """Count the outcomes, given in the same order of seeds."""
        if a.shape != b.shape:
            raise ValueError(f"{a.shape} outcomes of A, {b.shape} of B")
        counts = ((a & b), (a & ~b), (~a & b), (~a & ~b))
        return Pairs(*(int(c.sum()) for c in counts))


def mcnemar(only_a: ArrayLike, only_b: ArrayLike) -> FloatArray:
    """Two-sided p value of McNemar's exact test; 1 where no pair disagrees.

    Given that a pair disagrees, either run is the one that succeeds with probability ½ if both
    rates are equal, so that `only_b` is binomial.
    """
    from scipy.special import bdtr

    only_a, only_b = np.asarray(only_a), np.asarray(only_b)
    less, n = np.minimum(only_a, only_b), only_a + only_b
    p: FloatArray = np.minimum(1.0, 2 * bdtr(less.astype(np.float64), n, 0.5))
    return p


def newcombe_paired(
    both: ArrayLike,
    only_a: ArrayLike,
    only_b: ArrayLike,
    neither: ArrayLike,
    *,
    alpha: float = ALPHA,
) -> Ends:
    """Ends of Newcombe's interval of the rate of B less that of A, on the same seeds.

    Wilson's ends of both rates, combined by squares with the correlation of the pairs, whose
    numerator is corrected for continuity (Newcombe 1998, Statistics in Medicine 17, 2635-2650,
    method 10).
    """
    e, f, g, h = (np.asarray(x, dtype=np.float64) for x in (both, only_b, only_a, neither))
    n = e + f + g + h
    p_b, p_a = (e + f) / n, (e + g) / n
    (low_b, high_b), (low_a, high_a) = (wilson(k, n, alpha=alpha) for k in (e + f, e + g))
    cross = e * h - f * g
    cross = np.where(cross > 0, np.maximum(cross - n / 2, 0.0), cross)
    scale = (e + f) * (g + h) * (e + g) * (f + h)
    phi = np.where(scale > 0, cross / np.sqrt(np.where(scale > 0, scale, 1.0)), 0.0)
    down_b, down_a, up_b, up_a = p_b - low_b, p_a - low_a, high_b - p_b, high_a - p_a
    gap = p_b - p_a
    low = gap - np.sqrt(np.maximum(down_b**2 - 2 * phi * down_b * up_a + up_a**2, 0.0))
    high = gap + np.sqrt(np.maximum(up_b**2 - 2 * phi * up_b * down_a + down_a**2, 0.0))
    return np.maximum(low, -1.0), np.minimum(high, 1.0)


# ── two samples ───────────────────────────────────────────────────────


def newcombe(
    k_a: ArrayLike, n_a: ArrayLike, k_b: ArrayLike, n_b: ArrayLike, *, alpha: float = ALPHA
) -> Ends:
    """Ends of Newcombe's interval of the rate of B less that of A, on seeds of their own."""
    (low_a, high_a), (low_b, high_b) = wilson(k_a, n_a, alpha=alpha), wilson(k_b, n_b, alpha=alpha)
    p_a, p_b = np.divide(k_a, n_a), np.divide(k_b, n_b)
    low = p_b - p_a - np.sqrt((p_b - low_b) ** 2 + (high_a - p_a) ** 2)
    high = p_b - p_a + np.sqrt((high_b - p_b) ** 2 + (p_a - low_a) ** 2)
    return np.maximum(low, -1.0), np.minimum(high, 1.0)


# ── what a comparison of two runs says ────────────────────────────────


@final
@dataclass(frozen=True)
class RateDifference:
    """Success rate of run B less that of run A.

    Attributes:
        a: A's rate with its interval.
        b: B's.
        value: the difference.
        low: lower end of its interval.
        high: upper end.
        interval: name of the interval.
        test: the test of "equal".
        pairs: outcomes by seed; None where seeds are not shared.
        best_low: the highest lower end that so many episodes could have given.
    """

    a: Proportion
    b: Proportion
    value: float
    low: float
    high: float
    interval: str
    test: Test
    pairs: Pairs | None
    best_low: float

    def within(self, limit: float) -> Margin:
        """Whether B's rate is shown to lie no more than `limit` below A's."""
        return Margin(cleared=self.low >= -limit, could_clear=self.best_low >= -limit)


def paired_rates(pairs: Pairs, *, method: str = "wilson", alpha: float = ALPHA) -> RateDifference:
    """Compare two runs on the same seeds.

    Args:
        pairs: counted outcomes, of one seed at least.
        method: of either rate's own interval.
        alpha: one minus the level of the intervals.
    """
    n = pairs.n
    low, high = newcombe_paired(pairs.both, pairs.only_a, pairs.only_b, pairs.neither, alpha=alpha)
    gap = pairs.only_b - pairs.only_a
    test = Test(
        "exact McNemar",
        float(mcnemar(pairs.only_a, pairs.only_b)),
        min(1.0, 2.0 ** (1 - n)),
        _sign(gap),
    )
    return RateDifference(
        a=proportion(pairs.both + pairs.only_a, n, method=method, alpha=alpha),
        b=proportion(pairs.both + pairs.only_b, n, method=method, alpha=alpha),
        value=gap / n,
        low=float(low),
        high=float(high),
        interval="Newcombe, paired",
        test=test,
        pairs=pairs,
        best_low=float(newcombe_paired(0, 0, n, 0, alpha=alpha)[0]),
    )


def unpaired_rates(
    k_a: int, n_a: int, k_b: int, n_b: int, *, method: str = "wilson", alpha: float = ALPHA
) -> RateDifference:
    """Compare two runs on seeds of their own.

    Args:
        k_a: successes of A.
        n_a: episodes of A, one at least.
        k_b: successes of B.
        n_b: episodes of B, one at least.
        method: of either rate's own interval.
        alpha: one minus the level of the intervals.
    """
    low, high = newcombe(k_a, n_a, k_b, n_b, alpha=alpha)
    gap = k_b / n_b - k_a / n_a
    share = n_a / (n_a + n_b)
    # all of one run succeed and none of the other: only this table is as extreme, and its
    # probability is highest where the common rate is n_b / (n_a + n_b)
    smallest = min(1.0, 2 * share**n_a * (1 - share) ** n_b)
    return RateDifference(
        a=proportion(k_a, n_a, method=method, alpha=alpha),
        b=proportion(k_b, n_b, method=method, alpha=alpha),
        value=gap,
        low=float(low),
        high=float(high),
        interval="Newcombe",
        test=Test("Boschloo", boschloo(k_a, n_a, k_b, n_b), smallest, _sign(gap)),
        pairs=None,
        best_low=float(newcombe(0, n_a, n_b, n_b, alpha=alpha)[0]),
    )


def _sign(gap: float) -> Literal[-1, 0, 1]:
    return 0 if gap == 0 else (1 if gap > 0 else -1)
