"""Paired errors against regressions with cluster-robust errors, and against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from policyscope.metrics.paired import paired_errors
from policyscope.metrics.verdicts import Verdict, decide

Frames = list[tuple[np.ndarray, np.ndarray]]


def _sums(episodes: Frames) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    columns = [(a.sum(), b.sum(), float(len(a))) for a, b in episodes]
    a, b, count = (np.array(c) for c in zip(*columns, strict=True))
    return a, b, count


def _of_equal_weight(draw: np.random.Generator, n: int) -> Frames:
    """Errors of every frame of A and B, of episodes that hold the same share of all errors."""
    share = draw.uniform(0.3, 1.7, size=n)
    share /= share.sum()
    share_b = 2 / n - share
    length = int(draw.integers(3, 20))
    episodes = []
    for of_a, of_b in zip(share, share_b, strict=True):
        a, b = draw.gamma(2.0, size=(2, length))
        episodes.append((100 * of_a * a / a.sum(), 90 * of_b * b / b.sum()))
    return episodes if share_b.min() > 0 else _of_equal_weight(draw, n)


def test_difference_is_a_regression_with_clustered_errors() -> None:
    """200 tables: the mean difference of frames, its standard error clustered by episode."""
    sm = pytest.importorskip("statsmodels.api")
    draw = np.random.default_rng(0)
    for _ in range(200):
        episodes = _of_equal_weight(draw, int(draw.integers(5, 30)))
        gap = np.concatenate([b - a for a, b in episodes])
        groups = np.repeat(np.arange(len(episodes)), [len(a) for a, _ in episodes])
        fit = sm.OLS(gap, np.ones(len(gap))).fit(
            cov_type="cluster", cov_kwds={"groups": groups}, use_t=True
        )
        known = paired_errors(*_sums(episodes))
        low, high = fit.conf_int()[0]
        assert known.difference == pytest.approx(fit.params[0])
        assert known.difference_low == pytest.approx(low)
        assert known.difference_high == pytest.approx(high)


def test_ratio_is_a_log_linear_model_with_clustered_errors() -> None:
    """200 tables: Poisson's likelihood of errors of either run, clustered by episode."""
    sm = pytest.importorskip("statsmodels.api")
    from scipy.stats import t

    draw = np.random.default_rng(1)
    for _ in range(200):
        episodes = _of_equal_weight(draw, int(draw.integers(5, 30)))
        errors = np.concatenate([np.concatenate(pair) for pair in episodes])
        is_b = np.concatenate([np.repeat([0.0, 1.0], len(a)) for a, _ in episodes])
        groups = np.repeat(np.arange(len(episodes)), [2 * len(a) for a, _ in episodes])
        fit = sm.GLM(errors, sm.add_constant(is_b), family=sm.families.Poisson()).fit(
            cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}, use_t=True
        )
        known, n = paired_errors(*_sums(episodes)), len(episodes)
        error = fit.bse[1] * math.sqrt(n / (n - 1))
        half = t.ppf(0.975, n - 1) * error
        assert np.log(known.ratio) == pytest.approx(fit.params[1])
        assert np.log(known.ratio_high / known.ratio) == pytest.approx(half, rel=1e-6)
        assert np.log(known.ratio / known.ratio_low) == pytest.approx(half, rel=1e-6)
        assert known.p == pytest.approx(2 * t.sf(abs(fit.params[1]) / error, n - 1), rel=1e-5)


def test_episodes_of_unequal_weight_by_a_plain_loop() -> None:
    from scipy.stats import t

    draw = np.random.default_rng(7)
    for _ in range(200):
        n = int(draw.integers(5, 25))
        a, b, count = draw.gamma(2.0, size=n), draw.gamma(1.5, size=n), draw.gamma(4.0, size=n)
        total_a, total_b, total = sum(a), sum(b), sum(count)
        share = [(x / total_a + y / total_b) / 2 for x, y in zip(a, b, strict=True)]
        squares = sum(w * w for w in share)
        mean = (total_b - total_a) / total
        of_log, of_gap = 0.0, 0.0
        for i in range(n):
            seen = (1 - share[i]) ** 2 + sum(share[j] ** 2 for j in range(n) if j != i)
            of_log += (b[i] / total_b - a[i] / total_a) ** 2 / seen
            of_gap += ((b[i] - a[i] - mean * count[i]) / total) ** 2 / seen
        factor = t.ppf(0.975, max(1 / squares - 1, 1))
        known = paired_errors(a, b, count)
        assert known.ratio_high == pytest.approx(
            total_b / total_a * math.exp(factor * math.sqrt(of_log))
        )
        assert known.difference_low == pytest.approx(mean - factor * math.sqrt(of_gap))


def test_a_table_is_its_cells() -> None:
    draw = np.random.default_rng(2)
    a, b = draw.gamma(3.0, size=(2, 12, 4, 3))
    count = draw.integers(0, 9, size=(12, 4)).astype(float)
    count[:, 0] = 0  # a step that is always padded
    count[3:, 1] = 0  # three episodes
    known = paired_errors(a, b, np.broadcast_to(count[..., None], a.shape))
    for i in range(4):
        for j in range(3):
            here = count[:, i] > 0
            alone = paired_errors(a[here, i, j], b[here, i, j], count[here, i])
            for name in ("a", "b", "ratio", "ratio_high", "difference_low", "p", "n_b_better"):
                assert np.allclose(
                    getattr(known, name)[i, j], getattr(alone, name), equal_nan=True
                ), name
    assert np.isnan(known.p[:2]).all()
    assert np.isfinite(known.ratio[1:]).all()
    assert known.n_episodes[0, 0] == 0
    assert len(list(known.cells())) == 12


def test_counts_may_lack_the_dims() -> None:
    a, b = np.random.default_rng(3).gamma(3.0, size=(2, 6, 5))
    count = np.arange(1.0, 7.0)
    whole = paired_errors(a, b, np.repeat(count[:, None], 5, axis=1))
    assert np.array_equal(paired_errors(a, b, count).ratio_low, whole.ratio_low)


def test_episodes_on_which_b_is_better() -> None:
    a, b = np.array([1.0, 2, 3, 4, 5, 6]), np.array([0.5, 2, 2, 5, 4, 5])
    known = paired_errors(a, b, np.array([1.0, 1, 1, 1, 1, 0]))
    assert (known.n_b_better, known.n_equal, known.n_episodes) == (3, 1, 5)


def test_the_same_run_is_no_worse_and_not_better() -> None:
    a, count = np.arange(1.0, 9.0), np.ones(8)
    known = paired_errors(a, a, count)
    assert (known.ratio, known.ratio_low, known.ratio_high, known.p) == (1, 1, 1, 1)
    assert decide(known.test()).verdict is Verdict.UNDECIDED
    assert decide(known.test(), margin=known.within(0.01)).verdict is Verdict.NO_WORSE
    nothing = paired_errors(0 * a, 0 * a, count)
    assert decide(nothing.test(), margin=nothing.within(0.01)).verdict is Verdict.NO_WORSE


@pytest.mark.parametrize("factor", [1.1, 3.7])
def test_without_spread_the_sign_is_all_there_is(factor: float) -> None:
    """Every episode says the same: five of them can't be told from chance, six can."""
    draw = np.random.default_rng(4)
    for n, verdict in ((4, Verdict.UNDECIDED), (5, Verdict.UNDECIDED), (6, Verdict.WORSE)):
        a, count = draw.gamma(2.0, size=n), np.ones(n)
        known = paired_errors(a, factor * a, count)
        assert decide(known.test()).verdict is verdict
        if n >= 5:
            assert known.p == 2.0 ** (1 - n)


def test_paired_sees_what_two_intervals_do_not() -> None:
    """B errs by 5.6 % more in each of 21 episodes, whose own errors differ threefold."""
    from policyscope.metrics.intervals import cluster_mean

    draw = np.random.default_rng(5)
    count = draw.integers(60, 200, size=21).astype(float)
    a = count * draw.lognormal(0.0, 0.35, size=21)
    b = a * draw.normal(1.056, 0.05, size=21)
    alone = [cluster_mean(x, count) for x in (a, b)]
    assert alone[0].high is not None
    assert alone[1].low is not None
    assert alone[0].high > alone[1].low
    known = paired_errors(a, b, count)
    assert decide(known.test()).verdict is Verdict.WORSE
    assert decide(known.test(), margin=known.within(0.2)).verdict is Verdict.NO_WORSE
    assert decide(known.test(), margin=known.within(0.05)).verdict is Verdict.WORSE
    swapped = paired_errors(b, a, count)
    assert decide(swapped.test()).verdict is Verdict.BETTER


sums = hnp.arrays(np.float64, 7, elements=st.floats(0.01, 100))


@given(sums, sums, st.floats(0.01, 100))
def test_units_do_not_matter_and_order_of_runs_inverts(
    a: np.ndarray, b: np.ndarray, scale: float
) -> None:
    count = np.arange(1.0, 8.0)
    one, scaled, turned = (
        paired_errors(a, b, count),
        paired_errors(scale * a, scale * b, count),
        paired_errors(b, a, count),
    )
    assert scaled.ratio_low == pytest.approx(float(one.ratio_low), rel=1e-6)
    assert scaled.difference_low == pytest.approx(
        scale * float(one.difference_low), rel=1e-6, abs=1e-9 * scale
    )
    assert turned.ratio_low == pytest.approx(1 / float(one.ratio_high), rel=1e-6)
    assert turned.p == pytest.approx(float(one.p), rel=1e-4, abs=1e-12)
