"""Closed-loop numbers against plain loops and hand-computed values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyscope.metrics.closed_loop import (
    mean_over_episodes,
    motion,
    motion_summary,
    time_to_success,
)
from policyscope.metrics.proportions import proportion
from policyscope.metrics.tally import tally
from policyscope.runs.rollouts import StoredRollout
from policyscope.runs.rows import RolloutRow
from policyscope.runs.values import MotionSummary


@settings(deadline=None)  # the first call imports scipy.stats
@given(st.integers(1, 60), st.data())
def test_wilson_by_its_formula(n: int, data: Any) -> None:
    k = data.draw(st.integers(0, n))
    z, p = 1.959963984540054, k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    known = proportion(k, n)
    assert known.low == pytest.approx(max(0.0, centre - half), abs=1e-9)
    assert known.high == pytest.approx(min(1.0, centre + half), abs=1e-9)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(0, 10, 0.0, 0.3085), (7, 10, 0.3475, 0.9333), (10, 10, 0.6915, 1.0)],  # published tables
)
def test_clopper_pearson(k: int, n: int, low: float, high: float) -> None:
    known = proportion(k, n, method="exact")
    assert (known.low, known.high) == (
        pytest.approx(low, abs=5e-5),
        pytest.approx(high, abs=5e-5),
    )


def test_no_episodes_no_interval() -> None:
    assert proportion(0, 0).to_json() == {
        "k": 0,
        "n": 0,
        "rate": None,
        "ci_low": None,
        "ci_high": None,
    }


def test_mean_over_episodes() -> None:
    values = [0.1, 0.4, 0.2, 0.8, 0.5]
    known = mean_over_episodes(values)
    spread = math.sqrt(sum((v - 0.4) ** 2 for v in values) / 4 / 5)
    assert known.value == pytest.approx(0.4)
    assert known.low == pytest.approx(0.4 - 2.7764451 * spread)
    assert known.high == pytest.approx(0.4 + 2.7764451 * spread)
    assert mean_over_episodes(values[:4]).low is None
    assert mean_over_episodes([]).value is None


def test_no_interval_collapses() -> None:
    """Ten equal rewards: an interval where the range is known, else none."""
    known = mean_over_episodes([1.0] * 10, within=(0.0, 1.0))
    assert (known.value, known.high) == (1.0, 1.0)
    assert known.low == pytest.approx(0.7411, abs=1e-4)
    four = mean_over_episodes([4.0] * 10, within=(0.0, 4.0))
    assert four.low == pytest.approx(4 * 0.7411, abs=1e-3)
    assert mean_over_episodes([1.0] * 10).low is None
    assert mean_over_episodes([1.5] * 10, within=(0.0, 1.0)).low is None  # not that range after all


@settings(deadline=None)
@given(st.lists(st.none() | st.integers(1, 20), min_size=1, max_size=30))
def test_cumulative_incidence_by_a_plain_loop(steps: list[int | None]) -> None:
    known = time_to_success(steps, fps=10)
    reached = [s for s in steps if s is not None]
    times = [0.0, *sorted({s / 10 for s in reached})]
    assert known.time_s.tolist() == pytest.approx(times)
    for t, share, low, high in zip(known.time_s, known.share, known.low, known.high, strict=True):
        k = sum(s / 10 <= t + 1e-9 for s in reached)
        at_t = proportion(k, len(steps))
        assert share == pytest.approx(k / len(steps))
        assert (low, high) == (pytest.approx(at_t.low), pytest.approx(at_t.high))
    assert known.n_success == len(reached)
    assert known.median_s == (pytest.approx(np.median(reached) / 10) if len(reached) >= 3 else None)


def test_early_failures_stay_at_risk() -> None:
    """Six of twelve succeed late, the others fail at once: the curve ends at 50 %, not at 100 %."""
    known = time_to_success([40] * 6 + [None] * 6, fps=10).to_json()
    assert known["curve"]["share"] == [0.0, 0.5]
    assert known["curve"]["high"][-1] == pytest.approx(0.7462, abs=1e-4)  # Wilson, 6 of 12
    assert known["median_s"] == 4.0
    assert time_to_success([40, 40, None], fps=10).median_s is None
    everybody = time_to_success([1] * 10, fps=10)
    assert everybody.share[-1] == 1.0
    assert everybody.low[-1] == pytest.approx(0.7225, abs=1e-4)
    assert time_to_success([], fps=10).to_json()["n"] == 0


def test_motion_by_hand() -> None:
    actions = np.array([[0.0], [1.0], [2.0], [6.0], [7.0]])  # a jump of 4 where chunks meet
    chunks = np.array([[[0.0], [1.0], [2.0], [3.0]], [[6.0], [7.0], [8.0], [9.0]]])
    states = np.arange(6.0)[:, None] ** 3
    known = motion(states, actions, chunks, np.array([0, 3]), fps=2.0)
    assert known.jumps.tolist() == [4.0]
    assert known.steps.tolist() == [1.0, 1.0, 1.0]
    assert known.disagreement.tolist() == [3.0]  # 3 predicted first, 6 then
    assert known.path == 125.0
    assert known.jerk == pytest.approx(6 * 2**3)  # the third difference of n³ is 6
    total = motion_summary([known, known])
    assert total["boundary_jump"] == 4.0
    assert total["n_seams"] == 2
    assert motion(states, actions, chunks, np.array([0, 3]), fps=2.0, seams=False).jumps.size == 0


def test_smoother_motion_has_higher_ldlj() -> None:
    t = np.linspace(0, 1, 50)[:, None]
    smooth = 10 * t**3 - 15 * t**4 + 6 * t**5  # minimum jerk
    shaky = smooth + 0.02 * np.sin(40 * t)
    still = np.zeros((50, 1))
    one = np.zeros((49, 1))
    values = [
        motion(s, one, np.zeros((1, 4, 1)), np.array([0]), fps=49.0).ldlj
        for s in (smooth, shaky, still)
    ]
    assert values[0] is not None
    assert values[1] is not None
    assert values[0] > values[1]
    assert values[2] is None


def test_nearest_demonstration_by_plain_loops() -> None:
    from policyscope.metrics.nearest import nearest_demonstration

    draw = np.random.default_rng(0)
    walk = draw.normal(size=(30, 2)).cumsum(axis=0)
    near = np.repeat(walk, 2, axis=0)[:55] + 0.01
    far = walk + 50
    known = nearest_demonstration(walk, {3: far, 7: near})
    assert known.demonstration == 7
    gap = np.linalg.norm(walk[:, None] - near[None], axis=-1)
    n, m = gap.shape
    warp, leash = np.full((n, m), np.inf), np.full((n, m), np.inf)
    for i in range(n):
        for j in range(m):
            before = [(i - 1, j), (i, j - 1), (i - 1, j - 1)]
            before = [(a, b) for a, b in before if a >= 0 and b >= 0]
            least = min((warp[a, b] for a, b in before), default=0.0)
            reach = min((leash[a, b] for a, b in before), default=0.0)
            warp[i, j] = gap[i, j] ** 2 + least
            leash[i, j] = max(gap[i, j], reach)
    assert known.dtw == pytest.approx(math.sqrt(warp[-1, -1] / m))
    assert known.frechet == pytest.approx(leash[-1, -1])
    assert nearest_demonstration(walk, {0: walk}).dtw == 0


def test_motion_over_mixed_units_is_of_one_dim_in_std() -> None:
    """Metres as millimetres change nothing, nor does a second dim add length."""
    draw = np.random.default_rng(0)
    states, actions = draw.normal(size=(2, 31, 2)).cumsum(axis=1)
    chunks = draw.normal(size=(3, 12, 2))

    def episode(scale: list[float]) -> StoredRollout:
        row = RolloutRow(
            episode=0,
            seed=0,
            task_group="",
            task_id=0,
            task="",
            success=True,
            max_reward=1.0,
            sum_reward=1.0,
            demonstration=None,
            success_step=30,
            max_coverage=None,
            steps=31,
            ended="success",
            detail="",
            n_calls=3,
            attempts=1,
            faults=[],
            sim_s=0.0,
            video=None,
        )
        by = np.array(scale)
        return StoredRollout(
            row=row,
            states=states * by,
            rewards=np.ones(31),
            actions=actions * by,
            extras={},
            called_at=np.array([0, 10, 20]),
            chunks=chunks * by,
            model_s=np.ones(3),
        )

    def smoothness(scale: list[float], units: tuple[str, ...]) -> MotionSummary:
        return tally(
            [episode(scale)],
            fps=10.0,
            method="wilson",
            action_kind="absolute",
            reward_range=None,
            units=units,
        ).smoothness

    metres, mixed = smoothness([1, 1], ("m", "rad")), smoothness([1000, 1], ("mm", "rad"))
    assert (metres.unit, smoothness([1, 1], ("m", "m")).unit) == ("std", None)
    assert metres.path.value == pytest.approx(mixed.path.value)
    assert metres.boundary_jump == pytest.approx(mixed.boundary_jump)
    assert metres.overlap_disagreement == pytest.approx(mixed.overlap_disagreement)
    steps = np.diff(states, axis=0) / states.std(axis=0)
    assert metres.path.value == pytest.approx(np.linalg.norm(steps, axis=1).sum() / 2**0.5)
    assert smoothness([1, 1], ("m", "m")).path.value == pytest.approx(
        np.linalg.norm(np.diff(states, axis=0), axis=1).sum()
    )
