"""The gambler's fair game, exactly; bounded means against beta and Dirichlet distributions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyscope.metrics.bounded import between, bounded_mean
from policyscope.metrics.proportions import Pairs
from policyscope.metrics.sequential import (
    Anytime,
    Looks,
    Until,
    anytime_difference,
    anytime_mean,
    anytime_rate,
    log_wealth,
)


@pytest.mark.parametrize("mean", [0.1, 0.5, 0.9])
def test_wealth_is_a_fair_game(mean: float) -> None:
    """Its expectation over every sequence of six outcomes is 1, the stake."""
    total = 0.0
    for outcomes in itertools.product((0.0, 1.0), repeat=6):
        chance = math.prod(mean if x else 1 - mean for x in outcomes)
        total += chance * math.exp(log_wealth(np.array(outcomes), np.ones(6), mean))
    assert total == pytest.approx(1.0)


def test_wealth_by_a_plain_loop() -> None:
    x, m = [0.2, 0.9, 1.0, 0.0, 0.6], 0.4
    bets = [math.sin((i + 0.5) / 32 * math.pi / 2) ** 2 for i in range(32)]
    owned = [math.prod(1 - f + f * v / m for v in x) for f in bets]
    known = float(log_wealth(np.array(x), np.ones(5), m))
    assert known == pytest.approx(math.log(sum(owned) / 32))


def test_a_pair_that_agrees_is_worth_nothing() -> None:
    """At "equal rates" only pairs that disagree count, as in McNemar's test."""
    x = np.array([0.0, 0.5, 1.0])
    few, many = (float(log_wealth(x, [3, ties, 9], 0.5)) for ties in (0, 500))
    assert few == pytest.approx(many)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_ends_hold_the_estimate_and_stay_inside(values: list[float]) -> None:
    known = anytime_mean(values)
    assert 0 <= known.low <= known.value + 1e-9
    assert known.value - 1e-9 <= known.high <= 1
    turned = anytime_mean([1 - v for v in values])
    assert turned.low == pytest.approx(1 - known.high, abs=1e-6)


def test_ends_are_where_the_gambler_wins() -> None:
    known = anytime_rate(30, 40)
    x, limit = np.array([0.0, 1.0]), math.log(2 / 0.05)
    assert float(log_wealth(x, [10, 30], known.low)) == pytest.approx(limit, abs=1e-4)
    assert float(log_wealth(1 - x, [10, 30], 1 - known.high)) == pytest.approx(limit, abs=1e-4)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_looking_after_every_episode_keeps_the_error_rate(rate: float) -> None:
    """2 000 runs of 200 episodes, the truth tested at each."""
    draw = np.random.default_rng(0)
    k = (draw.random((2000, 200)) < rate).cumsum(axis=1)
    n = np.arange(1, 201)
    x, limit = np.array([0.0, 1.0]), math.log(2 / 0.05)
    times = np.stack([n - k, k], axis=-1)
    above = log_wealth(x, times, rate) >= limit
    below = log_wealth(1 - x, times, 1 - rate) >= limit
    missed = (above | below).any(axis=1).mean()
    assert 0.005 < missed <= 0.05


def test_when_to_stop() -> None:
    known = anytime_rate(58, 60)
    assert Until(beyond=0.6).stopped(known) == "above"
    assert Until(beyond=0.6).stopped(anytime_rate(10, 60)) == "below"
    assert Until(beyond=0.9).stopped(known) is None
    assert Until(half_width=0.2).stopped(known) == "precise"
    assert Until(half_width=0.01).stopped(known) is None
    nothing = anytime_rate(0, 0)
    assert (nothing.low, nothing.high, nothing.n) == (0.0, 1.0, 0)
    assert Until(beyond=0.5, half_width=0.4).stopped(nothing) is None
    with pytest.raises(ValueError, match="stop"):
        Until()


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_the_stop_does_not_depend_on_who_ends_first(seed: int, rate: float) -> None:
    draw = np.random.default_rng(seed)
    outcomes = (draw.random(40) < rate).tolist()
    until = Until(beyond=0.5, half_width=0.25)
    plain, why = 40, None
    for n in range(1, 41):
        why = until.stopped(anytime_rate(sum(outcomes[:n]), n))
        if why is not None:
            plain = n
            break
    looks = Looks(until, 40)
    # each runs at most eight ahead, as simulators side by side do
    order = sorted(range(40), key=lambda i: i + 8 * draw.random())
    for index in order:
        if index < looks.limit:
            looks.add(index, outcomes[index])
    assert (looks.limit, looks.stopped) == (plain, why)


def test_episodes_without_a_word_or_a_simulator() -> None:
    looks = Looks(Until(beyond=0.5), 60)
    for i in range(20):
        looks.add(i, None)
    assert looks.stopped is None  # nobody knows whether this environment speaks of success
    looks.add(20, True)
    assert (looks.stopped, looks.limit) == ("below", 21)  # it does: the others have failed
    faults = Looks(Until(beyond=0.5), 60)
    for i in range(40):
        faults.add(i, None if i % 2 else True, ran=not i % 2)
    told = next(n for n in range(1, 40) if anytime_rate(n, n).low > 0.5)
    assert faults.limit == 2 * told - 1  # every second one never ran and tells nothing
    never = Looks(None, 7)
    never.add(0, True)
    assert (never.limit, never.stopped) == (7, None)


def test_paired_difference_is_between_the_rates() -> None:
    known = anytime_difference(Pairs(both=20, only_a=2, only_b=25, neither=13))
    assert isinstance(known, Anytime)
    assert known.value == pytest.approx(23 / 60)
    assert 0 < known.low < known.value < known.high < 1
    turned = anytime_difference(Pairs(both=20, only_a=25, only_b=2, neither=13))
    assert turned.low == pytest.approx(-known.high, abs=1e-6)


# ── bounded means ─────────────────────────────────────────────────────


@pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 5), (7, 10), (49, 50), (20, 20), (150, 300)])
def test_of_zeros_and_ones_it_is_the_mid_p_interval(k: int, n: int) -> None:
    from scipy.stats import binom

    known = bounded_mean([1.0] * k + [0.0] * (n - k))
    assert known.low is not None
    assert known.high is not None
    if k > 0:
        tail = binom.sf(k, n, known.low) + binom.pmf(k, n, known.low) / 2
        assert tail == pytest.approx(0.025, abs=1e-6)
    if k < n:
        tail = binom.cdf(k - 1, n, known.high) + binom.pmf(k, n, known.high) / 2
        assert tail == pytest.approx(0.025, abs=1e-6)
    assert (known.low == 0.0) == (k == 0)
    assert (known.high == 1.0) == (k == n)


def test_against_draws_of_dirichlet_weights() -> None:
    draw = np.random.default_rng(0)
    for n in (1, 3, 8, 25):
        x = draw.beta(3.0, 1.5, size=n)
        weights = draw.dirichlet(np.ones(n + 1), size=40_000)
        seen = weights[:, :n] @ x
        for mean in (0.3, 0.6, 0.8):
            share = ((seen <= mean).mean() + (seen + weights[:, n] <= mean).mean()) / 2
            assert between(x[None], mean)[0] == pytest.approx(share, abs=0.01)


def test_equal_rewards_get_an_interval() -> None:
    known = bounded_mean([1.0] * 10)
    assert (known.value, known.high) == (1.0, 1.0)
    assert known.low == pytest.approx(0.05 ** (1 / 10))  # the rule of three, exactly
    middle = bounded_mean([0.5] * 10)
    assert middle.low is not None
    assert middle.high is not None
    assert middle.low < 0.4
    assert middle.high > 0.6


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.5, 4))
def test_range_and_direction_do_not_matter(values: list[float], scale: float) -> None:
    one = bounded_mean(values)
    wide = bounded_mean([-1 + scale * v for v in values], low=-1, high=scale - 1 + 1e-12)
    turned = bounded_mean([1 - v for v in values])
    assert one.low is not None
    assert one.high is not None
    assert wide.low == pytest.approx(-1 + scale * one.low, abs=1e-5)
    assert turned.low == pytest.approx(1 - one.high, abs=1e-5)
    assert one.low <= np.mean(values) <= one.high or np.ptp(values) == 0


def test_what_is_no_bounded_value() -> None:
    assert bounded_mean([]).value is None
    with pytest.raises(ValueError, match="expected in"):
        bounded_mean([0.5, 1.2])
