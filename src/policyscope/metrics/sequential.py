"""Looking after every episode, and stopping when it is clear, at an error rate that holds.

A fixed-n interval looked at after each of n episodes misses the truth at some look far more often
than it says. The intervals here hold at all looks together: the chance that any of them ever
misses is at most alpha, however one decides to stop.

Why. Let x_1, x_2, … lie in [0, 1] and let m be the true mean of each, given those before. A gambler
who starts with 1 and stakes the fraction f on "the mean is above m" owns, after n episodes,

    W_n = Π (1 - f + f x_i / m).

Each factor has mean 1 given the past, and none is negative, so W is a nonnegative martingale that
starts at 1; so is the mean of several such gamblers with different f. By Ville's inequality the
probability that W ever reaches 2/alpha is at most alpha/2. Hence the set of m at which the gambler
has not reached 2/alpha contains the true mean at all n with probability 1 - alpha/2; every factor
falls as m rises, so that set is [low, 1]. The same bets on 1 - x bound the mean from above. Neither
independence nor a fixed rate is needed beyond "the mean of each, given those before, is m".

The bets are 32 fractions of the arcsine law, as Krichevsky and Trofimov's mixture has it: small
ones win slowly where the difference is small, large ones fast where it is large.

For pairs, x = (1 + b - a) / 2 of outcomes a and b on the same seed. At m = ½, "equal rates", a pair
that agrees multiplies by exactly 1: the bet is on the pairs that disagree, as McNemar's test.
(Waudby-Smith and Ramdas 2024, JRSS B 86, "Estimating means of bounded random variables by
betting".)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import ArrayLike

from policyscope.actions.spaces import FloatArray
from policyscope.metrics.proportions import Pairs
from policyscope.metrics.verdicts import ALPHA

_BETS = np.sin((np.arange(32) + 0.5) / 32 * np.pi / 2) ** 2
_NEAR = 1e-9
Stopped = Literal["above", "below", "precise"]


@final
@dataclass(frozen=True)
class Anytime:
    """An estimate that may be looked at after every episode.

    Attributes:
        value: the estimate so far.
        low: lower end of its interval.
        high: upper end.
        n: episodes so far.
    """

    value: float
    low: float
    high: float
    n: int


@final
@dataclass(frozen=True)
class Until:
    """When to stop.

    Attributes:
        beyond: stop when the interval lies on one side of this; None not to.
        half_width: stop when the interval is this narrow to either side; None not to.
    """

    beyond: float | None = None
    half_width: float | None = None

    def __post_init__(self) -> None:
        """Raise where nothing would ever stop."""
        if self.beyond is None and self.half_width is None:
            raise ValueError("neither a value nor a width to stop at")

    def stopped(self, known: Anytime) -> Stopped | None:
        """Why to stop now; None to go on."""
        if self.beyond is not None and known.low > self.beyond:
            return "above"
        if self.beyond is not None and known.high < self.beyond:
            return "below"
        if self.half_width is not None and known.high - known.low <= 2 * self.half_width:
            return "precise"
        return None


@final
class Looks:
    """Looks after each episode in the order of the run, in whichever order episodes end.

    Simulators run side by side, so that a late episode may end before an early one. Outcomes are
    looked at by number: the run stops at the same episode whatever ran beside it, and episodes
    that ran ahead of the stop do not count.

    Args:
        until: when to stop; None never.
        most: episodes at most.

    Attributes:
        limit: episodes that count, as far as is known: `most` until a stop.
        stopped: why it stopped; None while it goes on.
    """

    def __init__(self, until: Until | None, most: int) -> None:
        self._until, self.limit = until, most
        self.stopped: Stopped | None = None
        self._ended: dict[int, tuple[bool, bool | None]] = {}
        self._next = self._won = self._lost = self._silent = 0

    def add(self, index: int, success: bool | None, *, ran: bool = True) -> None:
        """Note that an episode ended, and look as far as all before it have.

        Args:
            index: its number.
            success: None where nothing was said of it, which is a failure where others speak.
            ran: False where its simulator failed; it tells nothing then.
        """
        if self._until is None:
            return
        self._ended[index] = (ran, success)
        while self.stopped is None and self._next in self._ended:
            ran, success = self._ended.pop(self._next)
            self._next += 1
            self._won += ran and success is True
            self._lost += ran and success is False
            self._silent += ran and success is None
            spoken = self._won + self._lost
            n = spoken + self._silent if spoken else 0
            self.stopped = self._until.stopped(anytime_rate(self._won, n)) if n else None
            self.limit = self._next if self.stopped else self.limit


def anytime_rate(k: int, n: int, *, alpha: float = ALPHA) -> Anytime:
    """Success rate after n episodes, in a run that is looked at while it goes on."""
    return anytime_mean([0.0, 1.0], [n - k, k], alpha=alpha)


def anytime_difference(pairs: Pairs, *, alpha: float = ALPHA) -> Anytime:
    """Success rate of B less that of A on the same seeds, looked at while they run."""
    counts = [pairs.only_a, pairs.both + pairs.neither, pairs.only_b]
    known = anytime_mean([0.0, 0.5, 1.0], counts, alpha=alpha)
    value, low, high = (2 * end - 1 for end in (known.value, known.low, known.high))
    return Anytime(value, low, high, known.n)


def anytime_mean(
    values: Sequence[float], counts: Sequence[int] | None = None, *, alpha: float = ALPHA
) -> Anytime:
    """Mean of a quantity in [0, 1], looked at after every episode.

    Args:
        values: those seen.
        counts: how often each was seen; once where None.
        alpha: chance that any look misses.
    """
    x = np.asarray(values, dtype=np.float64)
    times = np.ones(len(x)) if counts is None else np.asarray(counts, dtype=np.float64)
    n = int(times.sum())
    if n == 0:
        return Anytime(math.nan, 0.0, 1.0, 0)
    low = _lower_end(x, times, alpha / 2)
    high = 1 - _lower_end(1 - x, times, alpha / 2)
    return Anytime(float((x * times).sum() / n), low, high, n)


def _lower_end(x: FloatArray, times: FloatArray, alpha: float) -> float:
    """The least mean at which the gambler has not yet won."""
    low, high = 0.0, 1.0
    if float(log_wealth(x, times, 1 - _NEAR)) >= -math.log(alpha):
        return 1.0
    while high - low > _NEAR:
        middle = (low + high) / 2
        won = float(log_wealth(x, times, middle)) >= -math.log(alpha)
        low, high = (middle, high) if won else (low, middle)
    return low


def log_wealth(x: FloatArray, times: ArrayLike, mean: float) -> FloatArray:
    """Logarithm of W, of bets that the mean is above `mean`.

    Args:
        x: [n] values seen.
        times: [..., n] how often each was.
        mean: above 0.
    """
    from scipy.special import logsumexp

    factors = np.log1p(_BETS[:, None] * (x / mean - 1))  # [bets, n]
    each = np.asarray(times, dtype=np.float64) @ factors.T
    result: FloatArray = logsumexp(each, axis=-1) - math.log(len(_BETS))
    return result
