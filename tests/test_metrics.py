"""Errors, intervals, shape, samples and latency against hand-computed arrays and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from policyscope.actions.spaces import NativeActions
from policyscope.errors import InputError
from policyscope.metrics import cluster_mean, cluster_ratio, error_sums, mae, mse
from policyscope.metrics.intervals import skill
from policyscope.metrics.latency import budget, calls_needed, distribution
from policyscope.metrics.paired import paired_errors
from policyscope.metrics.samples import sample_scores, sample_sums
from policyscope.metrics.shape import episode_shape, similarity, smoothness

PX = ("px", "px")


def _px(values) -> NativeActions:
    return NativeActions(np.asarray(values, dtype=float), PX)


def test_errors_by_hand() -> None:
    predicted = _px([[[1, 2], [3, 4]], [[0, 0], [9, 9]]])
    target = _px([[[0, 0], [0, 0]], [[0, 2], [0, 0]]])
    pad = np.array([[False, False], [False, True]])  # the nines are padded
    sums = error_sums(predicted, target, pad)
    assert sums.absolute.tolist() == [[1, 4], [3, 4]]
    assert sums.squared.tolist() == [[1, 8], [9, 16]]
    assert sums.count.tolist() == [2, 1]
    assert mae(predicted, target, pad).tolist() == pytest.approx([4 / 3, 8 / 3])
    assert mse(predicted, target, pad).tolist() == pytest.approx([10 / 3, 8])


@given(st.integers(0, 2**32 - 1), st.floats(-1e3, 1e3))
def test_padded_steps_never_matter(seed: int, poison: float) -> None:
    draw = np.random.default_rng(seed)
    a, y = draw.normal(size=(2, 5, 4, 2))
    pad = draw.random((5, 4)) < 0.5
    pad[0, 0] = False
    poisoned = np.where(pad[..., None], poison, a)
    clean, dirty = error_sums(_px(a), _px(y), pad), error_sums(_px(poisoned), _px(y), pad)
    assert np.array_equal(clean.absolute, dirty.absolute)
    assert np.array_equal(clean.squared, dirty.squared)


def test_nothing_to_compare_raises() -> None:
    with pytest.raises(InputError, match="at least one unpadded step"):
        mae(_px(np.ones((1, 2, 2))), _px(np.ones((1, 2, 2))), np.ones((1, 2), bool))


def test_interval_by_hand() -> None:
    g, c = [10.0, 14, 9, 20, 7], [5.0, 6, 4, 9, 4]
    shares = [gi / 60 for gi in g]
    squares = sum(w**2 for w in shares)
    gaps = [w - ci / 28 for w, ci in zip(shares, c, strict=True)]
    seen = [1 - 2 * w + squares for w in shares]
    t = scipy_stats.t.ppf(0.975, 1 / squares - 1)
    known = cluster_mean(np.array(g), np.array(c))
    assert known.value == pytest.approx(60 / 28)
    wide = t * math.sqrt(sum((d / s) ** 2 for d, s in zip(gaps, seen, strict=True)))
    assert known.low == pytest.approx(60 / 28 * math.exp(-wide))
    assert known.high == pytest.approx(60 / 28 * math.exp(wide))
    ratio = cluster_ratio(np.array(g), np.array(c))  # the same gaps, weighed by both sums
    both = [(w + ci / 28) / 2 for w, ci in zip(shares, c, strict=True)]
    squares = sum(w**2 for w in both)
    t = scipy_stats.t.ppf(0.975, 1 / squares - 1)
    seen = [1 - 2 * w + squares for w in both]
    wide = t * math.sqrt(sum(d**2 / s for d, s in zip(gaps, seen, strict=True)))
    assert ratio.high == pytest.approx(60 / 28 * math.exp(wide))


def test_skill_is_the_paired_ratio_of_two_runs() -> None:
    """200 tables: one minus the ratio that comparisons give, with its interval."""
    draw = np.random.default_rng(2)
    for _ in range(200):
        n = int(draw.integers(5, 30))
        ours, theirs = draw.gamma(2.0, size=(2, n))
        known, pair = skill(ours, theirs), paired_errors(theirs, ours, np.ones(n))
        assert known.value == pytest.approx(1 - float(pair.ratio))
        if known.low is not None:
            ends = (1 - float(pair.ratio_high), 1 - float(pair.ratio_low))
            assert (known.low, known.high) == pytest.approx(ends)


def test_equal_episodes_get_the_usual_t() -> None:
    x = np.array([1.0, 1.01, 0.99, 1.02, 0.98, 1.0])
    known = cluster_ratio(x, np.ones(6))
    usual = scipy_stats.t.interval(0.95, 5, x.mean(), x.std(ddof=1) / math.sqrt(6))
    assert (known.low, known.high) == pytest.approx(usual, rel=1e-3)


def test_one_episode_that_is_all_there_is_gets_no_interval() -> None:
    total = np.array([1e9, 1.0, 1.0, 1.0, 1.0])
    assert cluster_mean(total, np.ones(5)).low is None
    assert skill(total, np.ones(5)).low is None
    alone = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    assert cluster_mean(alone, np.ones(5)).high is None
    assert cluster_ratio(alone, alone).high is None


def test_no_interval_below_five_episodes() -> None:
    known = cluster_mean(np.ones(4), np.ones(4))
    assert (known.value, known.low, known.high, known.n_episodes) == (1.0, None, None, 4)
    assert cluster_ratio(np.ones(4), np.ones(4)).low is None
    assert cluster_mean(np.zeros(0), np.zeros(0)).value is None


def test_episodes_without_frames_lend_no_confidence() -> None:
    """Ten episodes of which one reaches this horizon step: no interval."""
    count = np.array([5.0] + [0.0] * 9)
    gain = skill(count * 0.5, count, count)
    assert (gain.value, gain.low, gain.n_episodes) == (0.5, None, 1)


def test_zero_error_and_zero_baseline() -> None:
    zero = cluster_mean(np.zeros(6), np.ones(6))
    assert (zero.value, zero.low, zero.high) == (0.0, 0.0, 0.0)
    assert skill(np.zeros(6), np.ones(6)).value == 1.0
    assert skill(np.ones(6), np.zeros(6)).value is None


def test_interval_covers_and_pairing_narrows() -> None:
    """Clustered log-normal errors: coverage near nominal; pairing narrows."""
    draw = np.random.default_rng(0)
    hits = ratio_hits = 0
    for _ in range(400):
        hard = draw.lognormal(0, 0.6, size=20)
        frames = draw.integers(20, 60, size=20).astype(float)
        ours = hard * frames * draw.lognormal(0, 0.1, size=20) * 0.5
        theirs = hard * frames * draw.lognormal(0, 0.1, size=20)
        mean, gain = cluster_mean(theirs, frames), cluster_ratio(ours, theirs)
        truth = math.exp(0.6**2 / 2 + 0.1**2 / 2)
        hits += mean.low <= truth <= mean.high
        ratio_hits += gain.low <= 0.5 <= gain.high
        assert gain.high / gain.low < mean.high / mean.low
    assert 0.90 <= hits / 400 <= 0.985
    assert 0.90 <= ratio_hits / 400 <= 0.985


def test_shape_by_hand() -> None:
    """Two frames a chunk apart: predicted moves 1 px a step along x, demonstrated 2."""
    steps = np.arange(4.0)
    predicted = np.zeros((4, 4, 2))
    target = np.zeros((4, 4, 2))
    predicted[..., 0] = steps
    target[..., 0] = 2 * steps
    pad = np.zeros((4, 4), bool)
    pad[3, 2:] = True
    shape = episode_shape(_px(predicted), _px(target), pad, np.arange(4), n_action_steps=2)
    known = similarity([shape], "px")
    # distances 0 1 2 3 → mean 1.5, last 3; the padded frame: 0 1 → mean 0.5, last 1
    assert known["ade"].value == pytest.approx((3 * 1.5 + 0.5) / 4)
    assert known["fde"].value == pytest.approx((3 * 3 + 1) / 4)
    assert known["path_length_ratio"].value == pytest.approx(0.5)
    # chunks at frames 0 and 2: last executed step of the first is 1, next begins at 0: jump 1
    seams = smoothness([shape], "px")
    assert seams["n_seams"] == 1
    assert seams["boundary_jump"] == pytest.approx(1.0 / 1.0)
    assert seams["boundary_jump_demo"] == pytest.approx(2.0 / 2.0)
    assert seams["overlap_disagreement"] == pytest.approx(2.0)  # 2,3 against 0,1


def test_frozen_policy_has_no_path_and_no_seams() -> None:
    frozen = np.ones((5, 3, 2))
    moving = np.arange(30.0).reshape(5, 3, 2)
    pad = np.zeros((5, 3), bool)
    shape = episode_shape(_px(frozen), _px(moving), pad, np.arange(5), n_action_steps=3)
    assert similarity([shape], "px")["path_length_ratio"].value == 0.0
    assert smoothness([shape], "px")["boundary_jump"] is None


def test_samples_of_a_perfect_sampler() -> None:
    """Samples from the truth's own distribution: spread/skill near 1, twice the mean's error."""
    draw = np.random.default_rng(0)
    k, t = 8, 40_000
    predicted, target = draw.normal(size=(k, t, 1, 1)), draw.normal(size=(t, 1, 1))
    pad = np.zeros((t, 1), bool)
    known = sample_scores([sample_sums(predicted, target, pad)])
    assert known["k"] == k
    assert known["spread_skill"] == pytest.approx(1.0, abs=0.03)
    assert known["nmse_per_sample"]["value"] == pytest.approx(2.0, abs=0.1)
    assert known["nmse_of_sample_mean"]["value"] == pytest.approx(1 + 1 / k, abs=0.06)
    assert known["energy_score"]["value"] == pytest.approx(1 / math.sqrt(math.pi), abs=0.02)
    collapsed = sample_scores([sample_sums(np.zeros_like(predicted), target, pad)])
    assert collapsed["nmse_per_sample"]["value"] < known["nmse_per_sample"]["value"]
    assert collapsed["energy_score"]["value"] > known["energy_score"]["value"]


def test_energy_score_by_hand() -> None:
    predicted = np.array([0.0, 2.0]).reshape(2, 1, 1, 1)
    target = np.array([1.0]).reshape(1, 1, 1)
    sums = sample_sums(predicted, target, np.zeros((1, 1), bool))
    # mean |a-y| = 1; sum over ordered pairs |a-a'| = 4; 1 - 4 / (2*2*1) = 0
    assert sums.energy == pytest.approx(0.0)
    assert sums.squared_best == 1.0
    assert sums.variance == pytest.approx(2.0)


def test_latency_gives_only_supported_quantiles() -> None:
    assert [calls_needed(q) for q in (0.90, 0.95, 0.99)] == [29, 59, 299]
    few = distribution([0.001] * 28)
    assert few is not None
    assert (few["p90_ms"], few["p95_ms"], few["p99_ms"]) == (None, None, None)
    many = distribution([i / 1000 for i in range(1, 60)])
    assert many is not None
    assert (many["min_ms"], many["p50_ms"], many["max_ms"]) == (1.0, 30.0, 59.0)
    assert many["p95_ms"] == pytest.approx(np.quantile(np.arange(1, 60), 0.95))
    assert many["p99_ms"] is None
    assert distribution([]) is None


def test_budget_counts_misses() -> None:
    known = budget([0.05, 0.15, 0.9], fps=10, n_action_steps=8)
    assert (known["sync_ms"], known["async_ms"]) == (100, 800)
    assert known["sync_miss_rate"] == pytest.approx(2 / 3)
    assert known["async_miss_rate"] == pytest.approx(1 / 3)
