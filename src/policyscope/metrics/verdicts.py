"""What a comparison may say, and the one place where it is decided.

`decide` is the only way to "better": a `Decision` that claims a difference raises unless its test
rejected, and a test that could never have rejected at this number of episodes decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, final

ALPHA = 0.05
"""Two-sided error rate of tests, and one minus the level of intervals."""

Reason = Literal[
    "rejected", "within_margin", "not_rejected", "could_not_reject", "no_test", "inputs_differ"
]


@final
class Verdict(StrEnum):
    """What is known of run B against run A."""

    BETTER = "better"
    NO_WORSE = "no worse"
    WORSE = "worse"
    UNDECIDED = "undecided"
    NOT_COMPARABLE = "not comparable"


@final
@dataclass(frozen=True)
class Test:
    """A two-sided test of "A and B are equal".

    Attributes:
        name: as it is shown.
        p: its p value; None where the data allow none.
        smallest_p: the least that so many episodes could have given, whatever they showed.
        favours: 1 where the data speak for B, -1 for A, 0 for neither.
    """

    __test__ = False  # not one of pytest's

    name: str
    p: float | None
    smallest_p: float
    favours: Literal[-1, 0, 1]


@final
@dataclass(frozen=True)
class Margin:
    """How much worse still counts as no worse.

    Attributes:
        cleared: the interval's bad end lies within the margin.
        could_clear: it would have, had the data of so many episodes been the best possible.
    """

    cleared: bool
    could_clear: bool


@final
@dataclass(frozen=True)
class Decision:
    """A verdict with what it rests on.

    Attributes:
        verdict: what is known.
        reason: why, for whoever words it.
        test: the test behind it; None where nothing was compared.
        p: its p value, adjusted where several runs were compared.
        alpha: error rate that was allowed.
    """

    verdict: Verdict
    reason: Reason
    test: Test | None = None
    p: float | None = None
    alpha: float = ALPHA

    def __post_init__(self) -> None:
        """Raise where the verdict claims a difference that no test has shown."""
        if self.verdict not in (Verdict.BETTER, Verdict.WORSE):
            return
        test, sign = self.test, 1 if self.verdict is Verdict.BETTER else -1
        if test is None or self.p is None or test.p is None:
            raise ValueError(f"'{self.verdict}' without a test")
        if max(self.p, test.p, test.smallest_p) > self.alpha or test.favours != sign:
            raise ValueError(f"'{self.verdict}', but {test} did not reject at {self.alpha}")


def decide(
    test: Test,
    *,
    margin: Margin | None = None,
    adjusted_p: float | None = None,
    alpha: float = ALPHA,
) -> Decision:
    """Turn a test, and a margin where one was asked for, into a verdict.

    The order "better, no worse, worse" spends no error rate twice: better and worse exclude each
    other, and whatever is better lies inside any margin. With a margin, a small loss that
    certainly stays inside it is "no worse": that is what the margin was given for.

    Args:
        test: of the two runs.
        margin: whether the interval clears the margin; None where none was given. Where several
            runs are compared it must come from intervals of level 1 - alpha / runs.
        adjusted_p: its p value after `holm`, where several runs are compared.
        alpha: error rate.
    """
    p = test.p if adjusted_p is None else adjusted_p
    possible = test.smallest_p <= alpha
    rejected = p is not None and p <= alpha and possible
    if rejected and test.favours > 0:
        return Decision(Verdict.BETTER, "rejected", test, p, alpha)
    if margin is not None and margin.cleared and margin.could_clear:
        return Decision(Verdict.NO_WORSE, "within_margin", test, p, alpha)
    if rejected and test.favours < 0:
        return Decision(Verdict.WORSE, "rejected", test, p, alpha)
    if p is None:
        return Decision(Verdict.UNDECIDED, "no_test", test, p, alpha)
    able = possible or (margin is not None and margin.could_clear)
    reason: Reason = "not_rejected" if able else "could_not_reject"
    return Decision(Verdict.UNDECIDED, reason, test, p, alpha)


def not_comparable() -> Decision:
    """The verdict where inputs differ: there is nothing to test."""
    return Decision(Verdict.NOT_COMPARABLE, "inputs_differ")


def holm(p: Sequence[float]) -> tuple[float, ...]:
    """Holm's adjusted p values, in the order given: the chance of any false claim stays alpha."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, so_far = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        so_far = max(so_far, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = so_far
    return tuple(adjusted)


def leading(
    n_runs: int, pairs: Mapping[tuple[int, int], Test], *, alpha: float = ALPHA
) -> tuple[int, ...]:
    """The runs that cannot be told apart from the best one.

    Every pair is tested, all p values are adjusted together, and a run drops out where another
    beats it. The truly best run drops out only by a false claim, hence with probability alpha at
    most, which a comparison with the run that *looks* best would not hold.

    Args:
        n_runs: runs, numbered from 0.
        pairs: (i, j) with i < j → the test of j against i. A pair without p value tells nothing.
        alpha: chance that the best run is left out.
    """
    keys = list(pairs)
    adjusted = holm([1.0 if (p := pairs[key].p) is None else p for key in keys])
    beaten = set[int]()
    for (i, j), p in zip(keys, adjusted, strict=True):
        test = pairs[i, j]
        if p <= alpha and test.smallest_p <= alpha and test.favours:
            beaten.add(i if test.favours > 0 else j)
    return tuple(run for run in range(n_runs) if run not in beaten)
