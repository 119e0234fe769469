"""Offline numbers against success: coefficients by scipy, plain loops and by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from policyscope.metrics.correlation import Trials, foretold, mean_max_rank_violation

GOOD = np.array([0.0, 0.1, 0.3, 0.6, 0.8, 0.9])


def trials(rates: np.ndarray, n: int = 50, *, shared: bool = True) -> Trials:
    """Successes of n seeds that are exactly these rates."""
    return Trials(tuple((np.arange(n) < round(r * n)).astype(float) for r in rates), shared)


def plain_mmrv(score: np.ndarray, real: np.ndarray) -> float:
    """SIMPLER's definition, in two loops."""
    worst = []
    for i in range(len(real)):
        gaps = [
            abs(real[i] - real[j]) * ((score[i] > score[j]) != (real[i] > real[j]))
            for j in range(len(real))
        ]
        worst.append(max(gaps))
    return float(np.mean(worst))


def test_mmrv_by_hand() -> None:
    real = np.array([0.1, 0.4, 0.9])
    assert mean_max_rank_violation(np.array([1.0, 2.0, 3.0]), real) == 0
    # the second and the third change places: each is wrong by 0.5
    assert mean_max_rank_violation(np.array([1.0, 3.0, 2.0]), real) == pytest.approx(1.0 / 3)
    # all reversed: 0.8, 0.5, 0.8
    assert mean_max_rank_violation(np.array([3.0, 2.0, 1.0]), real) == pytest.approx(2.1 / 3)


@given(st.integers(0, 10_000), st.integers(4, 6))
@settings(deadline=None, max_examples=40)
def test_coefficients_are_scipys(seed: int, n: int) -> None:
    draw = np.random.default_rng(seed)
    scores, rates = draw.normal(size=(n, 3)), draw.integers(0, 11, n) / 10
    if len(set(rates)) == 1:
        return
    found = foretold(scores, trials(rates, 10), draws=2)
    for k in range(3):
        pearson, spearman = found.pearson[k].value, found.spearman[k].value
        assert pearson == pytest.approx(stats.pearsonr(scores[:, k], rates).statistic)
        assert spearman == pytest.approx(stats.spearmanr(scores[:, k], rates).statistic)
        assert found.mmrv[k].value == pytest.approx(plain_mmrv(scores[:, k], rates))


def test_the_permutation_test_counts_all_orders() -> None:
    scores, rates = np.array([0.2, 0.1, 0.5, 0.4, 0.9]), np.array([0.0, 0.2, 0.4, 0.8, 0.6])
    found = foretold(scores[:, None], trials(rates, 10), draws=2)
    observed = stats.spearmanr(scores, rates).statistic
    every = [stats.spearmanr(scores, rates[list(p)]).statistic for p in permutations(range(5))]
    share = np.mean(np.abs(every) >= abs(observed) - 1e-9)
    assert found.spearman[0].p == pytest.approx(share)
    assert found.spearman[0].chance == pytest.approx(np.quantile(np.abs(every), 0.95))
    mmrv = np.array([plain_mmrv(scores, rates[list(p)]) for p in permutations(range(5))])
    assert found.mmrv[0].p == pytest.approx(np.mean(mmrv <= plain_mmrv(scores, rates) + 1e-9))


def test_a_perfect_order_of_four_is_chance_one_time_in_twelve() -> None:
    found = foretold(GOOD[:4, None], trials(GOOD[:4]), draws=50)
    assert found.spearman[0].value == pytest.approx(1.0)
    assert found.spearman[0].p == pytest.approx(2 / 24)


def test_the_family_counts_every_number() -> None:
    """Of ten numbers that foretell nothing, the strongest is called so in about 5 % of trials."""
    draw, wrong = np.random.default_rng(3), 0
    for _ in range(100):
        found = foretold(draw.normal(size=(5, 10)), trials(np.arange(5) / 10, 10), draws=2)
        wrong += any(c.family is not None and c.family <= 0.05 for c in found.spearman)
        strongest = max(found.spearman, key=lambda c: abs(c.value or 0.0))
        assert strongest.family is not None
        assert strongest.p is not None
        assert strongest.family >= strongest.p
    assert wrong <= 12  # of 100; 13 or more have a chance below 0.5 % at 5 %


def test_seven_checkpoints_get_no_interval() -> None:
    rates = np.linspace(0, 0.9, 10)
    assert foretold(rates[:7, None], trials(rates[:7]), draws=50).spearman[0].low is None
    found = foretold(rates[:8, None], trials(rates[:8]), draws=50).spearman[0]
    assert found.low is not None
    assert found.low < 0.9  # a perfect order of a few has an interval that does not collapse
    assert found.high == pytest.approx(1.0, abs=1e-3)


def test_too_few_checkpoints() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        foretold(GOOD[:3, None], trials(GOOD[:3]))


def test_what_does_not_vary_has_no_coefficient() -> None:
    scores = np.stack([np.ones(6), GOOD], axis=1)
    found = foretold(scores, trials(GOOD), draws=50)
    assert found.spearman[0].value is None
    assert found.mmrv[0].value is None
    assert found.spearman[1].value == pytest.approx(1.0)
    assert foretold(scores, trials(np.zeros(6)), draws=50).pearson[1].value is None


def test_within_types_the_gap_between_types_does_not_count() -> None:
    """Simpson: within each type the score is right, across them it is wrong."""
    groups = ["a"] * 4 + ["b"] * 4
    rates = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9])
    score = np.array([11.0, 12.0, 13.0, 14.0, 1.0, 2.0, 3.0, 4.0])
    across = foretold(score[:, None], trials(rates), draws=200)
    within = foretold(score[:, None], trials(rates), groups=groups, draws=200)
    assert across.pearson[0].value == pytest.approx(stats.pearsonr(score, rates).statistic)
    assert across.pearson[0].value < 0
    assert within.pearson[0].value == pytest.approx(1.0)
    assert within.mmrv[0].value == 0
    centred = [np.concatenate([v[:4] - v[:4].mean(), v[4:] - v[4:].mean()]) for v in (score, rates)]
    ranks = [stats.rankdata(v) for v in (score, rates)]
    by_type = [np.concatenate([v[:4] - v[:4].mean(), v[4:] - v[4:].mean()]) for v in ranks]
    assert within.pearson[0].value == pytest.approx(stats.pearsonr(*centred).statistic)
    assert within.spearman[0].value == pytest.approx(stats.pearsonr(*by_type).statistic)


def test_intervals_widen_with_fewer_seeds() -> None:
    draw = np.random.default_rng(0)
    rates = np.array([0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65])
    score = rates + draw.normal(size=8) * 0.02

    def width(n: int) -> float:
        many = tuple(draw.permutation((np.arange(n) < round(r * n)).astype(float)) for r in rates)
        one = foretold(score[:, None], Trials(many, False), draws=400).spearman[0]
        assert one.low is not None
        assert one.high is not None
        return one.high - one.low

    assert width(20) > width(2000) + 0.1


def test_the_test_holds_its_level() -> None:
    """Scores that foretell nothing are called foretelling in about 5 % of the trials."""
    draw = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        found = foretold(
            draw.normal(size=(5, 1)), trials(draw.integers(0, 11, 5) / 10, 10), draws=2
        )
        p = found.spearman[0].p
        wrong += p is not None and p < 0.05
    assert wrong <= 18  # of 200; 19 or more have a chance of 1 % at 5 %


def test_a_number_that_is_worse_than_the_best_is_behind() -> None:
    draw = np.random.default_rng(2)
    rates = np.linspace(0, 1, 21)
    scores = np.stack([rates, draw.permutation(rates), rates**2], axis=1)
    assert foretold(scores, trials(rates, 100), draws=300).behind == (False, True, False)
