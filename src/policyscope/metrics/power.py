"""What so many episodes can show, and how many are needed: exact power of the tests in use.

Nothing is approximated: the probability of every possible outcome is added up where the named test
rejects. Formulas for large samples (the arcsine's, the normal's) are wrong near 0 and 1, where
policies are compared most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal, final

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.errors import UsageError
from policyscope.metrics.boschloo import binomial, rejected
from policyscope.metrics.proportions import clopper_pearson, mcnemar, newcombe, newcombe_paired
from policyscope.metrics.verdicts import ALPHA

Design = Literal["one", "paired", "unpaired"]
POWER = 0.80
MOST_EPISODES = 2000
"""`plan` looks no further."""

_TAIL = 6.0  # standard deviations beyond which outcomes are left out: 1e-8 of them


@final
@dataclass(frozen=True)
class Detectable:
    """Rates that a second run of as many episodes would be told apart at.

    Attributes:
        rate: the rate of the first run, taken as true.
        n: episodes of each run.
        lower: the nearest rate below that the test finds with `power`; None where none is.
        higher: the nearest above.
        test: its name.
        power: chance of finding it.
    """

    rate: float
    n: int
    lower: float | None
    higher: float | None
    test: str
    power: float

    def to_json(self) -> dict[str, Any]:
        """As ``run.json`` holds it."""
        return {
            "lower": self.lower,
            "higher": self.higher,
            "test": self.test,
            "power": self.power,
        }


@final
@dataclass(frozen=True)
class Plan:
    """Episodes that a question needs.

    Attributes:
        n: episodes of each run; None where more than `MOST_EPISODES` are needed.
        power: exact chance of an answer with n.
        test: what will be asked of the data.
        rate_from: success rate of A (or the rate to compare with, for one run).
        rate_to: the assumed rate of B.
        margin: how much worse still counts as no worse; None for "is B different?".
        design: one run against a rate, two runs on the same seeds, or on seeds of their own.
        correlation: of the outcomes on a seed, for pairs.
        alpha: error rate.
    """

    n: int | None
    power: float | None
    test: str
    rate_from: float
    rate_to: float
    margin: float | None
    design: Design
    correlation: float
    alpha: float


# ── power of each test ────────────────────────────────────────────────


def one_run_power(
    rate_from: float, rate_to: float, n: int, *, margin: float | None = None, alpha: float = ALPHA
) -> float:
    """Power of the exact binomial test, whose interval is Clopper and Pearson's.

    Args:
        rate_from: the rate to compare with.
        rate_to: the true rate.
        n: episodes.
        margin: None for "differs from `rate_from`"; else for "at least `rate_from` less this".
        alpha: two-sided error rate; a margin is tested at half of it, by the interval's end.
    """
    low, high = clopper_pearson(np.arange(n + 1), n, alpha=alpha)
    differs = (low > rate_from) | (high < rate_from)
    found = differs if margin is None else low >= rate_from - margin
    return _share(binomial(n, rate_to)[found])


def paired_power(
    rate_a: float,
    rate_b: float,
    n: int,
    *,
    correlation: float = 0.0,
    margin: float | None = None,
    alpha: float = ALPHA,
) -> float:
    """Power of McNemar's exact test, or, with a margin, of Newcombe's paired interval.

    Args:
        rate_a: A's true rate.
        rate_b: B's.
        n: shared seeds.
        correlation: of the two outcomes on a seed; 0 where the seed says nothing.
        margin: None for "differ"; else for "B is at most this much below A".
        alpha: two-sided error rate.

    Raises:
        UsageError: no two outcomes have these rates and this correlation.
    """
    both = rate_a * rate_b + correlation * math.sqrt(rate_a * (1 - rate_a) * rate_b * (1 - rate_b))
    cells = np.array([both, rate_a - both, rate_b - both, 1 - rate_a - rate_b + both])
    if cells.min() < -1e-12:
        raise UsageError(
            "correlation of paired outcomes",
            expected=f"one that rates of {rate_a:g} and {rate_b:g} allow",
            found=f"{correlation:g}",
            fix="give one nearer to 0",
        )
    both, only_a, only_b, _ = (float(c) for c in np.clip(cells, 0.0, 1.0))
    apart = only_a + only_b
    to_b = only_b / apart if apart > 0 else 0.0
    if margin is None:
        return _mcnemar_power(n, apart, to_b, alpha)
    return _paired_margin_power(
        n, apart, to_b, both / (1 - apart) if apart < 1 else 0.0, margin, alpha
    )


def _mcnemar_power(n: int, apart: float, to_b: float, alpha: float) -> float:
    b, m = np.ogrid[: n + 1, : n + 1]  # successes of B alone, among m pairs that disagree
    found = (b <= m) & (mcnemar(np.maximum(m - b, 0), b) <= alpha)
    given = np.stack([np.pad(binomial(k, to_b), (0, n - k)) for k in range(n + 1)], axis=1)
    return _share((found * given).sum(axis=0) * binomial(n, apart))


def _paired_margin_power(
    n: int, apart: float, to_b: float, to_both: float, margin: float, alpha: float
) -> float:
    total, of_m = 0.0, binomial(n, apart)
    for m in _likely(n, apart):
        b = np.array(_likely(m, to_b))[:, None]
        e = np.array(_likely(n - m, to_both))[None, :]
        low, _ = newcombe_paired(e, m - b, b, n - m - e, alpha=alpha)
        weight = binomial(m, to_b)[b] * binomial(n - m, to_both)[e]
        total += float(of_m[m] * weight[low >= -margin].sum())
    return min(1.0, total)


def unpaired_power(
    rate_a: float, rate_b: float, n: int, *, margin: float | None = None, alpha: float = ALPHA
) -> float:
    """Power of Boschloo's test, or, with a margin, of Newcombe's interval of two samples.

    Args:
        rate_a: A's true rate.
        rate_b: B's.
        n: episodes of each.
        margin: None for "differ"; else for "B is at most this much below A".
        alpha: two-sided error rate.
    """
    if margin is None:
        return min(1.0, float(rejected(n, n, alpha=alpha).power(rate_a, rate_b)))
    a, b = np.array(_likely(n, rate_a))[:, None], np.array(_likely(n, rate_b))[None, :]
    low, _ = newcombe(a, n, b, n, alpha=alpha)
    weight = binomial(n, rate_a)[a] * binomial(n, rate_b)[b]
    return _share(weight[low >= -margin])


def _likely(n: int, rate: float) -> range:
    """The numbers of successes that are not next to impossible."""
    reach = _TAIL * math.sqrt(n * rate * (1 - rate)) + _TAIL
    return range(max(0, math.floor(n * rate - reach)), min(n, math.ceil(n * rate + reach)) + 1)


def _share(probabilities: FloatArray) -> float:
    return min(1.0, float(probabilities.sum()))


# ── questions ─────────────────────────────────────────────────────────


@lru_cache(maxsize=256)
def detectable(
    rate: float, n: int, n_b: int | None = None, *, power: float = POWER, alpha: float = ALPHA
) -> Detectable:
    """The rates that another run, on seeds of its own, would be told apart at.

    Args:
        rate: the success rate of this run.
        n: its episodes.
        n_b: those of the other; as many where None.
        power: chance of telling.
        alpha: two-sided error rate.
    """
    region = rejected(n, n_b or n, alpha=alpha)

    def reached(other: float) -> float:
        return float(region.power(rate, other))

    lower, higher = (_nearest(reached, rate, end, power, 1e-6) for end in (0.0, 1.0))
    return Detectable(rate, n, lower, higher, "Boschloo", power)


@lru_cache(maxsize=256)
def detectable_paired(
    rate: float, n: int, correlation: float, *, power: float = POWER, alpha: float = ALPHA
) -> Detectable:
    """The rates of B that n shared seeds would have told apart from A's.

    Args:
        rate: A's success rate.
        n: shared seeds.
        correlation: of the outcomes on a seed; as near to it as two rates allow.
        power: chance of telling.
        alpha: two-sided error rate.
    """

    def reached(other: float) -> float:
        spread = math.sqrt(rate * (1 - rate) * other * (1 - other))
        least, most = max(0.0, rate + other - 1), min(rate, other)
        both = min(max(rate * other + correlation * spread, least), most)
        only_a, only_b = max(rate - both, 0.0), max(other - both, 0.0)
        apart = only_a + only_b
        return _mcnemar_power(n, apart, only_b / apart, alpha) if apart > 0 else 0.0

    lower, higher = (_nearest(reached, rate, end, power, 1e-3) for end in (0.0, 1.0))
    return Detectable(rate, n, lower, higher, "exact McNemar", power)


def _nearest(
    reached: Callable[[float], float], rate: float, end: float, power: float, step: float
) -> float | None:
    """The rate between `rate` and `end` from which on the power is enough."""
    if reached(end) < power:
        return None
    near, far = rate, end  # power rises away from the rate
    while abs(far - near) > step:
        middle = (near + far) / 2
        near, far = (near, middle) if reached(middle) >= power else (middle, far)
    return far


def plan(
    rate_from: float,
    rate_to: float,
    *,
    design: Design,
    margin: float | None = None,
    correlation: float = 0.0,
    power: float = POWER,
    alpha: float = ALPHA,
) -> Plan:
    """How many episodes a question needs: the least n from which on its power is enough.

    Power does not rise with each episode: outcomes are counts, and a test spends less of its
    error rate at some n than at others. Hence not the first n that reaches the power, but the
    first after which none of the following falls short again.

    Args:
        rate_from: success rate of A, or the rate to compare with.
        rate_to: the assumed rate of B.
        design: ``one`` run against a rate, two runs ``paired`` by seeds, or ``unpaired``.
        margin: None for "is B different?", else for "is B at most this much worse?".
        correlation: of paired outcomes on a seed; 0 is the cautious choice.
        power: chance of an answer.
        alpha: two-sided error rate.

    Raises:
        UsageError: rates, margin or correlation that no answer exists for.
    """
    _require_answerable(rate_from, rate_to, margin)

    @cache
    def reached(n: int) -> float:
        if design == "one":
            return one_run_power(rate_from, rate_to, n, margin=margin, alpha=alpha)
        if design == "unpaired":
            return unpaired_power(rate_from, rate_to, n, margin=margin, alpha=alpha)
        return paired_power(
            rate_from, rate_to, n, correlation=correlation, margin=margin, alpha=alpha
        )

    n = _least(reached, power)
    tests: dict[tuple[Design, bool], str] = {
        ("one", False): "exact binomial",
        ("one", True): "Clopper-Pearson interval",
        ("paired", False): "exact McNemar",
        ("paired", True): "Newcombe's paired interval",
        ("unpaired", False): "Boschloo",
        ("unpaired", True): "Newcombe's interval",
    }
    return Plan(
        n=n,
        power=None if n is None else reached(n),
        test=tests[design, margin is not None],
        rate_from=rate_from,
        rate_to=rate_to,
        margin=margin,
        design=design,
        correlation=correlation if design == "paired" else 0.0,
        alpha=alpha,
    )


def _least(reached: Callable[[int], float], power: float) -> int | None:
    """The first n from which on, as far as the saw's teeth reach, power is enough."""
    high = 2
    while reached(high) < power:
        if high >= MOST_EPISODES:
            return None
        high = min(2 * high, MOST_EPISODES)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= power else (middle, high)
    reach = 6 + math.isqrt(high)  # a tooth of the saw is hardly longer
    first = max(1, high - reach)
    while first > 1 and reached(first) >= power:
        first -= 1
    enough = 0
    while enough <= reach:
        enough = enough + 1 if reached(first) >= power else 0
        first += 1
    return first - enough


def _require_answerable(rate_from: float, rate_to: float, margin: float | None) -> None:
    for flag, rate in (("--from", rate_from), ("--to", rate_to)):
        if not 0 <= rate <= 1:
            raise UsageError(
                flag, expected="a rate between 0 and 1", found=f"{rate:g}", fix="60 % is 0.6"
            )
    if margin is None and rate_from == rate_to:
        raise UsageError(
            "--from and --to",
            expected="two different rates, or a --margin",
            found=f"{rate_from:g} twice",
            fix="--margin 0.05 asks whether B is at most 5 points worse",
        )
    if margin is not None and not (margin > 0 and rate_to > rate_from - margin):
        raise UsageError(
            "--margin",
            expected="more than 0, and --to above --from less the margin",
            found=f"{margin:g} for {rate_from:g} and {rate_to:g}",
            fix="nothing can show what is not so: give a larger margin",
        )
