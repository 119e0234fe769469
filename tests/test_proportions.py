"""Success rates against statsmodels, scipy, robostats, published tables and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from policyscope.metrics.boschloo import boschloo, rejected
from policyscope.metrics.proportions import (
    Pairs,
    clopper_pearson,
    macro_interval,
    mcnemar,
    newcombe,
    newcombe_paired,
    paired_rates,
    unpaired_rates,
    wilson,
)
from policyscope.metrics.verdicts import Verdict, decide

N_TABLES = 250


def _counts(draw: np.random.Generator, most: int = 80) -> tuple[int, int]:
    n = int(draw.integers(1, most))
    return int(draw.integers(0, n + 1)), n


def test_intervals_of_one_rate_agree_with_statsmodels() -> None:
    known = pytest.importorskip("statsmodels.stats.proportion")
    draw = np.random.default_rng(0)
    for _ in range(N_TABLES):
        k, n = _counts(draw)
        alpha = float(draw.choice([0.05, 0.01, 0.2]))
        for ours, name in ((wilson, "wilson"), (clopper_pearson, "beta")):
            ends = known.proportion_confint(k, n, alpha=alpha, method=name)
            assert ours(k, n, alpha=alpha) == pytest.approx(ends, abs=1e-9), (k, n, name)


def test_difference_of_two_samples_agrees_with_statsmodels() -> None:
    known = pytest.importorskip("statsmodels.stats.proportion")
    draw = np.random.default_rng(1)
    for _ in range(N_TABLES):
        (k_a, n_a), (k_b, n_b) = _counts(draw), _counts(draw)
        ends = known.confint_proportions_2indep(k_b, n_b, k_a, n_a, method="newcomb")
        assert newcombe(k_a, n_a, k_b, n_b) == pytest.approx(ends, abs=1e-9)


def test_boschloo_agrees_with_scipy() -> None:
    from scipy.stats import boschloo_exact

    draw = np.random.default_rng(2)
    for _ in range(N_TABLES):
        (k_a, n_a), (k_b, n_b) = _counts(draw, 30), _counts(draw, 30)
        p = boschloo_exact([[k_a, k_b], [n_a - k_a, n_b - k_b]]).pvalue
        expected = 1.0 if math.isnan(p) else min(1.0, p)  # undefined where nobody succeeds
        assert boschloo(k_a, n_a, k_b, n_b) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("n_a", "n_b", "alpha"), [(9, 9, 0.05), (7, 14, 0.05), (12, 5, 0.2)])
def test_the_rejected_tables_are_those_of_small_p(n_a: int, n_b: int, alpha: float) -> None:
    region = rejected(n_a, n_b, alpha=alpha)
    for a in range(n_a + 1):
        for b in range(n_b + 1):
            inside = b >= region.b_higher[a] or a >= region.a_higher[b]
            assert inside == (boschloo(a, n_a, b, n_b) <= alpha)


def test_mcnemar_agrees_with_statsmodels_and_robostats() -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    robostats = pytest.importorskip("robostats")
    draw = np.random.default_rng(3)
    for _ in range(N_TABLES):
        n = int(draw.integers(1, 60))
        rates = draw.random(2)
        a, b = draw.random((2, n)) < rates[:, None]
        pairs = Pairs.of(a, b)
        known = paired_rates(pairs)
        records = [
            robostats.RecordSet(
                [
                    robostats.EpisodeRecord(
                        policy_id=name, task_id="t", scenario_id=str(i), success=bool(x)
                    )
                    for i, x in enumerate(row)
                ]
            )
            for name, row in (("b", b), ("a", a))
        ]
        theirs = robostats.mcnemar(robostats.pair(*records))
        assert known.test.p == pytest.approx(theirs.p_value)
        assert known.value == pytest.approx(theirs.delta)
        if pairs.only_a + pairs.only_b:
            square = [[pairs.both, pairs.only_a], [pairs.only_b, pairs.neither]]
            assert known.test.p == pytest.approx(tables.mcnemar(square, exact=True).pvalue)


def test_without_a_pair_that_disagrees_p_is_one() -> None:
    assert mcnemar(0, 0) == 1.0
    assert paired_rates(Pairs(both=20, only_a=0, only_b=0, neither=0)).test.p == 1.0


def _square_and_add(e: int, f: int, g: int, h: int) -> tuple[float, float]:
    """Newcombe's tenth method, line by line as his paper has it, of (e + f)/n less (e + g)/n."""
    z, n = 1.959963984540054, e + f + g + h

    def ends(k: int) -> tuple[float, float, float]:
        p = k / n
        middle, half = 2 * n * p + z * z, z * math.sqrt(z * z + 4 * n * p * (1 - p))
        return p, (middle - half) / (2 * (n + z * z)), (middle + half) / (2 * (n + z * z))

    (p1, l1, u1), (p2, l2, u2) = ends(e + f), ends(e + g)
    product = (e + f) * (g + h) * (e + g) * (f + h)
    if product == 0:
        phi = 0.0
    else:
        cross = e * h - f * g
        if cross > n / 2:
            cross -= n / 2
        elif cross >= 0:
            cross = 0
        phi = cross / math.sqrt(product)
    d1, d2, e1, e2 = p1 - l1, u2 - p2, u1 - p1, p2 - l2
    low = math.sqrt(max(0.0, d1 * d1 - 2 * phi * d1 * d2 + d2 * d2))
    high = math.sqrt(max(0.0, e1 * e1 - 2 * phi * e1 * e2 + e2 * e2))
    return p1 - p2 - low, p1 - p2 + high


def test_paired_interval_line_by_line() -> None:
    draw = np.random.default_rng(4)
    for _ in range(N_TABLES):
        e, f, g, h = (int(x) for x in draw.integers(0, 30, size=4) * (draw.random(4) < 0.8))
        if e + f + g + h == 0:
            continue
        assert newcombe_paired(e, g, f, h) == pytest.approx(_square_and_add(e, f, g, h), abs=1e-9)


def test_paired_interval_without_correlation_is_that_of_two_samples() -> None:
    """Where the corrected correlation is 0, statsmodels' interval of two samples."""
    known = pytest.importorskip("statsmodels.stats.proportion")
    draw = np.random.default_rng(8)
    n_seen = 0
    while n_seen < N_TABLES:
        e, f, g, h = (int(x) for x in draw.integers(0, 12, size=4))
        n = e + f + g + h
        if n and 0 <= e * h - f * g <= n / 2:
            ends = known.confint_proportions_2indep(e + f, n, e + g, n, method="newcomb")
            assert newcombe_paired(e, g, f, h) == pytest.approx(ends, abs=1e-9)
            n_seen += 1


def test_mcnemar_agrees_with_scipys_binomial() -> None:
    from scipy.stats import binomtest

    draw = np.random.default_rng(9)
    for only_a, only_b in draw.integers(0, 40, size=(N_TABLES, 2)):
        if only_a + only_b:
            known = binomtest(int(only_b), int(only_a + only_b)).pvalue
            assert float(mcnemar(only_a, only_b)) == pytest.approx(known)


def test_mean_over_tasks_by_hand() -> None:
    rates, n = np.array([0.9, 0.5]), np.array([10, 20])
    low, high = macro_interval([9, 10], n)
    variance = (0.9 * 0.1 / 9 + 0.5 * 0.5 / 19) / 4
    episodes = 0.7 * 0.3 / variance
    assert episodes > 4 / (1 / 10 + 1 / 20)
    ends = wilson(rates.mean() * episodes, episodes)
    assert (low, high) == pytest.approx(ends)
    assert macro_interval([5, 5], [5, 5])[0] == pytest.approx(float(wilson(10, 10)[0]))
    assert macro_interval([5, 5], [5, 5])[1] == 1.0
    assert macro_interval([0, 0], [5, 5])[0] == 0.0


def test_paired_interval_as_published() -> None:
    """Complete response before and after consolidation (Cavo 2012, in Fagerland's 2017 book)."""
    low, high = newcombe_paired(59, 16, 6, 80)
    assert (low, high) == (pytest.approx(-0.1186, abs=5e-5), pytest.approx(-0.0046, abs=5e-5))


def test_functions_of_counts_take_arrays() -> None:
    cells = np.random.default_rng(5).integers(0, 9, size=(4, 3, 5)) + 1
    low, high = newcombe_paired(*cells)
    assert low.shape == (3, 5)
    one = newcombe_paired(*cells[:, 1, 2])
    assert (low[1, 2], high[1, 2]) == one
    assert mcnemar(cells[1], cells[2])[2, 3] == mcnemar(cells[1, 2, 3], cells[2, 2, 3])


def test_smallest_p_is_that_of_the_clearest_table() -> None:
    for n_a, n_b in ((1, 1), (3, 3), (4, 9), (12, 5)):
        known = unpaired_rates(n_a, n_a, 0, n_b).test
        assert known.smallest_p == pytest.approx(known.p)
        least = min(boschloo(a, n_a, b, n_b) for a in range(n_a + 1) for b in range(n_b + 1))
        assert known.smallest_p == pytest.approx(least)
    for n in (1, 5, 6, 20):
        assert paired_rates(Pairs(0, n, 0, 0)).test.smallest_p == float(mcnemar(n, 0))


def test_verdicts_of_rates() -> None:
    better = paired_rates(Pairs(both=10, only_a=1, only_b=12, neither=7))
    assert decide(better.test).verdict is Verdict.BETTER
    assert better.low > 0
    five = paired_rates(Pairs(both=0, only_a=0, only_b=5, neither=0))
    assert decide(five.test).reason == "could_not_reject"  # p = 1/16 at best
    same = unpaired_rates(90, 100, 91, 100)
    assert decide(same.test, margin=same.within(0.1)).verdict is Verdict.NO_WORSE
    assert decide(same.test, margin=same.within(0.05)).verdict is Verdict.UNDECIDED
    worse = unpaired_rates(45, 50, 20, 50)
    assert decide(worse.test, margin=worse.within(0.1)).verdict is Verdict.WORSE
    few = unpaired_rates(2, 3, 3, 3)
    assert not few.within(0.1).cleared
    assert few.b.k == 3


def test_outcomes_of_different_seeds_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="outcomes"):
        Pairs.of(np.zeros(3, bool), np.zeros(4, bool))
