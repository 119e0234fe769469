"""Exact power against loops over every table, with scipy's and statsmodels' own tests."""

from __future__ import annotations

import itertools
import math

import pytest

from policyscope.errors import UsageError
from policyscope.metrics.power import (
    detectable,
    detectable_paired,
    one_run_power,
    paired_power,
    plan,
    unpaired_power,
)
from policyscope.metrics.proportions import mcnemar


def _binomial(k: int, n: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@pytest.mark.parametrize(("start", "to", "n"), [(0.5, 0.7, 23), (0.1, 0.4, 12), (0.9, 0.6, 17)])
def test_one_run(start: float, to: float, n: int) -> None:
    from scipy.stats import binomtest

    expected = 0.0
    for k in range(n + 1):
        tails = [binomtest(k, n, start, alternative=a).pvalue for a in ("less", "greater")]
        expected += _binomial(k, n, to) * (2 * min(tails) < 0.05)
    assert one_run_power(start, to, n) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("a", "b", "n"), [(0.5, 0.9, 11), (0.0, 0.4, 9), (0.8, 0.3, 14)])
def test_unpaired(a: float, b: float, n: int) -> None:
    from scipy.stats import boschloo_exact

    expected = 0.0
    for j, k in itertools.product(range(n + 1), repeat=2):
        p = boschloo_exact([[j, k], [n - j, n - k]]).pvalue
        expected += _binomial(j, n, a) * _binomial(k, n, b) * (p <= 0.05)
    assert unpaired_power(a, b, n) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("correlation", [0.0, 0.3])
@pytest.mark.parametrize("margin", [None, 0.15])
@pytest.mark.parametrize(("a", "b", "n"), [(0.5, 0.8, 13), (0.9, 0.9, 16), (0.6, 0.5, 10)])
def test_paired(a: float, b: float, n: int, margin: float | None, correlation: float) -> None:
    from scipy.stats import multinomial
    from statsmodels.stats.contingency_tables import mcnemar

    from policyscope.metrics.proportions import newcombe_paired

    both = a * b + correlation * math.sqrt(a * (1 - a) * b * (1 - b))
    law = multinomial(n, [both, a - both, b - both, 1 - a - b + both])
    expected = 0.0
    for e, f, g in itertools.product(range(n + 1), repeat=3):
        h = n - e - f - g
        if h < 0:
            continue
        if margin is None:
            found = f + g > 0 and mcnemar([[e, f], [g, h]], exact=True).pvalue <= 0.05
        else:
            found = newcombe_paired(e, f, g, h)[0] >= -margin
        expected += law.pmf([e, f, g, h]) * found
    known = paired_power(a, b, n, correlation=correlation, margin=margin)
    assert known == pytest.approx(expected, abs=1e-7)


def test_unpaired_margin() -> None:
    from statsmodels.stats.proportion import confint_proportions_2indep

    n, margin, expected = 15, 0.2, 0.0
    for j, k in itertools.product(range(n + 1), repeat=2):
        low, _ = confint_proportions_2indep(k, n, j, n, method="newcomb")
        expected += _binomial(j, n, 0.8) * _binomial(k, n, 0.85) * (low >= -margin)
    assert unpaired_power(0.8, 0.85, n, margin=margin) == pytest.approx(expected, abs=1e-7)


def test_what_ten_episodes_can_show() -> None:
    """At 0/10 the arcsine formula says 34 %, where the exact test has power 0.4."""
    known = detectable(0.0, 10)
    assert known.lower is None
    assert known.higher is not None
    assert unpaired_power(0.0, known.higher, 10) == pytest.approx(0.8, abs=1e-4)
    assert unpaired_power(0.0, 0.34, 10) < 0.5
    assert detectable(0.5, 4).higher is None
    assert detectable(1.0, 10).lower == pytest.approx(1 - known.higher, abs=1e-5)


@pytest.mark.parametrize("design", ["one", "paired", "unpaired"])
def test_plan_is_the_least_that_stays_enough(design: str) -> None:
    power = {"one": one_run_power, "paired": paired_power, "unpaired": unpaired_power}[design]
    known = plan(0.4, 0.8, design=design)  # type: ignore[arg-type]
    assert known.n is not None
    assert known.power == power(0.4, 0.8, known.n)
    assert power(0.4, 0.8, known.n - 1) < 0.8
    assert all(power(0.4, 0.8, n) >= 0.8 for n in range(known.n, known.n + 12))


@pytest.mark.parametrize(
    ("start", "to", "n", "fisher"),
    [(0.5, 0.7, 93, 103), (0.7, 0.8, 293, 313)],
)
def test_plan_lies_between_the_formula_and_fisher(
    start: float, to: float, n: int, fisher: int
) -> None:
    """Episodes per run in power tables: normal without correction, and of Fisher's exact test."""
    known = plan(start, to, design="unpaired").n
    assert known is not None
    assert n <= known <= fisher


def test_shared_seeds_save_episodes_where_they_matter() -> None:
    alone = plan(0.5, 0.7, design="unpaired").n
    tied = plan(0.5, 0.7, design="paired", correlation=0.5).n
    assert alone is not None
    assert tied is not None
    assert tied < 0.7 * alone


def test_margin_plans() -> None:
    known = plan(0.9, 0.9, design="unpaired", margin=0.1)
    assert known.n is not None
    assert 120 < known.n < 190  # (1.96 + 0.84)² · 2 · 0.09 / 0.1² = 141 by the normal formula
    assert plan(0.9, 0.9, design="unpaired", margin=0.005).n is None  # 56 000: no simulator's job


@pytest.mark.parametrize(
    ("start", "to", "margin"),
    [(0.5, 0.5, None), (0.8, 0.7, 0.1), (0.5, 0.6, -0.1), (1.2, 0.5, None)],
)
def test_questions_without_an_answer(start: float, to: float, margin: float | None) -> None:
    with pytest.raises(UsageError, match="expected"):
        plan(start, to, design="one", margin=margin)


def test_impossible_correlation() -> None:
    with pytest.raises(UsageError, match="correlation"):
        paired_power(0.1, 0.9, 20, correlation=0.9)


def test_what_shared_seeds_could_have_shown_by_adding_up_every_outcome() -> None:
    n, rate, correlation = 30, 0.5, 0.3
    known = detectable_paired(rate, n, correlation)

    def power(other: float) -> float:
        both = rate * other + correlation * (rate * (1 - rate) * other * (1 - other)) ** 0.5
        both = min(max(both, rate + other - 1, 0.0), rate, other)
        cells = (both, rate - both, other - both, 1 - rate - other + both)
        total = 0.0
        for only_a in range(n + 1):
            for only_b in range(n + 1 - only_a):
                if float(mcnemar(only_a, only_b)) <= 0.05:
                    kept = n - only_a - only_b
                    total += (
                        math.comb(n, only_a)
                        * math.comb(n - only_a, only_b)
                        * cells[1] ** only_a
                        * cells[2] ** only_b
                        * (cells[0] + cells[3]) ** kept
                    )
        return total

    for end in (known.lower, known.higher):
        assert end is not None
        assert 0.8 <= power(end) < 0.81
    assert known.test == "exact McNemar"
    assert detectable_paired(0.5, 5, 0.0).higher is None  # five pairs never reject
