"""Runs that end in time: their frames, their interval, their record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from time_budget import broken_off

import fakes
from policyscope.commands.evaluate import evaluate
from policyscope.config.parsing import parse_duration
from policyscope.engine import offline
from policyscope.engine.progress import Watch
from policyscope.engine.spread import Deadline, spread
from policyscope.errors import OutputError, UsageError
from policyscope.metrics.intervals import Estimate
from policyscope.metrics.packed import pack, unpack
from policyscope.metrics.partial import of_all_frames
from policyscope.runs.arrays import read_arrays
from policyscope.runs.directory import SUMS


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=12), st.integers(0, 2**40), st.integers(1, 4)
)
@example([1, 1, 1, 1, 25], 0, 1)
@settings(max_examples=60, deadline=None)
def test_any_beginning_is_spread_over_episodes(lengths: list[int], seed: int, stride: int) -> None:
    known = {3 * e: n for e, n in enumerate(lengths)}
    order = spread(known, seed=seed, stride=stride)
    every = {(e, f) for e, n in known.items() for f in range(0, n, stride)}
    assert len(order) == len(every)
    assert set(map(tuple, order.tolist())) == every
    assert np.array_equal(order, spread(known, seed=seed, stride=stride))
    assert len(set(order[: len(known), 0].tolist())) == len(known)
    whole = {e: len(range(0, n, stride)) for e, n in known.items()}
    for n in range(len(known), len(order) + 1):
        for e, of in whole.items():
            later = (n - len(known)) / max(len(order) - len(known), 1)
            share = 1 + (of - 1) * later  # one of each episode comes first
            assert abs((order[:n, 0] == e).sum() - share) <= 0.3 * share + 2


def test_the_frames_of_an_episode_halve_what_is_left_open() -> None:
    order = spread({0: 64}, seed=5)
    for n in (2, 4, 8, 16, 32):
        seen = np.sort(order[:n, 1])
        gaps = np.diff(np.append(seen, seen[0] + 64))
        assert gaps.max() <= 2 * 64 / n  # of passes that are not complete


def test_hand_computed() -> None:
    # two episodes of 4 and 2 frames; frames 0 and 2 of the first are seen, both of the second
    found = of_all_frames(
        np.array([7, 9, 7, 9]),
        np.array([0, 0, 2, 1]),
        np.array([1.0, 2.0, 3.0, 4.0]),
        np.ones(4),
        {7: 4, 9: 2},
    )
    mean = (2 * (1 + 3) + 2 + 4) / 6
    assert found.value == pytest.approx(mean)
    # 4² · (1 - 2/4) · s² / 2, with s² = (3 - 1)² / 2; the second is known; t of one degree
    half = 12.7062047 * np.sqrt(16 * 0.5 * 2 / 2) / (6 * mean)
    assert found.low == pytest.approx(mean / np.exp(half))
    assert found.high == pytest.approx(mean * np.exp(half))
    assert (found.n_episodes, found.n_frames) == (2, 4)


def test_nothing_is_open_once_all_frames_are_seen() -> None:
    draw = np.random.default_rng(0)
    episode = np.repeat([0, 1, 2], [5, 1, 9])
    frame = np.concatenate([np.arange(n) for n in (5, 1, 9)])
    error, count = draw.gamma(2, size=15), draw.integers(1, 9, 15).astype(float)
    found = of_all_frames(episode, frame, error, count, {0: 5, 1: 1, 2: 9})
    assert found.low == found.value == found.high == error.sum() / count.sum()


def test_one_frame_knows_no_interval() -> None:
    found = of_all_frames(np.zeros(1, int), np.zeros(1, int), np.ones(1), np.ones(1), {0: 9, 1: 9})
    assert (found.value, found.low) == (1.0, None)


def test_the_interval_covers_the_full_run() -> None:
    """benchmarks/time_budget.py does the same over 200 budgets."""
    ways = [(share, smooth) for share in (0.03, 0.3) for smooth in (0.0, 0.7)]
    runs = [broken_off(seed, *way) for way in ways for seed in range(50)]
    holds = [part.low <= truth <= part.high for part, truth, _, _ in runs]
    assert 0.91 <= np.mean(holds) <= 0.99  # 200 draws at 0.95: five standard errors


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text, "--time_budget") == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "0s", "10 m", "1d", "1e3s", "1m,2s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="--time_budget: expected a time"):
        fakes.config_for(Path("d"), "replay", Path("o"), time_budget=text)


def test_the_deadline_leaves_time_for_the_report() -> None:
    at = [100.0]
    deadline = Deadline(60, 90.0, values=0, now=lambda: at[0])
    called = []
    while not called or not called[-1]:
        at[0] += 3
        called.append(deadline.reached(0))
    # another call of 3 s and the report's 12 would end after 150
    assert at[0] + 3 + 12 > 150 >= at[0] + 12


class Heard(Watch):
    def __init__(self, stop_after: int | None = None) -> None:
        self.told: list[Estimate] = []
        self._left = stop_after

    def narrowed(self, error: Estimate, unit: str) -> None:
        assert unit == "px"
        self.told.append(error)

    def advance(self, n_frames: int) -> None:
        if self._left is not None:
            self._left -= n_frames
            if self._left < 0:
                raise KeyboardInterrupt


def _config(data: Path, out: Path, **changes: Any) -> Any:
    wanted = {"batch_size": "4", "latency_calls": 0, **changes}
    return fakes.config_for(data, "hold_state", out, **wanted)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluate(_config(data, tmp_path_factory.mktemp("whole") / "o", execute="none")).directory


def test_a_budget_that_suffices_gives_the_full_run(data: Path, whole: Path, tmp_path: Path) -> None:
    """Interrupted on the way, and resumed."""
    out = tmp_path / "o"
    with pytest.raises(KeyboardInterrupt):
        evaluate(_config(data, out, time_budget="1h"), Heard(stop_after=20))
    with pytest.raises(OutputError, match="an unfinished run"):
        evaluate(_config(data, out, time_budget="1h"))
    heard = Heard()
    record = evaluate(_config(data, out, time_budget="2h", resume=True), heard).record
    from policyscope.runs.record import read_complete

    full = read_complete(whole)
    assert full.kind == "offline"
    columns = ["model_call_s"]
    a, b = (pq.read_table(run / "predictions.parquet") for run in (out, whole))
    assert a.drop_columns(columns).equals(b.drop_columns(columns))
    for name in ("summary", "skill", "by_dim", "by_horizon", "by_task", "similarity"):
        assert record[name] == full[name], name
    assert record.within is not None
    assert record.within.n_frames == record.within.of_frames == full.dataset.n_frames
    known = record.within.all_frames["chunk"]
    assert known.value == pytest.approx(full.summary.chunk.mae.value)
    assert known.ci_low == known.value == known.ci_high
    assert record.throughput.n_frames < full.dataset.n_frames  # it went on
    assert heard.told[-1].value == pytest.approx(known.value)


def test_rows_wait_for_the_disk_only_so_many(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast a policy answers: not for a second of millions of numbers."""
    monkeypatch.setattr(offline, "_FLUSH_S", 1e9)
    monkeypatch.setattr(offline, "_MOST_VALUES", 0)
    with pytest.raises(KeyboardInterrupt):
        evaluate(_config(data, tmp_path, time_budget="1h"), Heard(stop_after=12))
    assert len([*tmp_path.glob("parts/rows-*.parquet")]) == 3


def test_a_budget_that_ends_early_weighs_episodes_as_the_full_run(
    data: Path, tmp_path: Path
) -> None:
    """No time at all allows one call: of 16 frames, of 57 in six episodes."""
    out = tmp_path / "o"
    record = evaluate(_config(data, out, time_budget="0.001s", batch_size="16", seed=3)).record
    within = record.within
    assert within is not None
    assert (within.n_frames, within.of_frames, within.of_episodes) == (16, 57, 6)
    assert record.dataset.n_frames == record.summary.chunk.mae.n_frames == 16
    lengths = dict(enumerate((9, 12, 7, 10, 8, 11)))
    table = pq.read_table(out / "predictions.parquet").to_pylist()
    asked = {(row["episode_index"], row["frame_index"]) for row in table}
    assert asked == set(map(tuple, spread(lengths, seed=3)[:16].tolist()))
    n = {e: sum(row["episode_index"] == e for row in table) for e in lengths}
    top = bottom = 0.0
    for row in table:
        weight = lengths[row["episode_index"]] / n[row["episode_index"]]
        apart = np.abs(np.array(row["predicted"]) - row["target"]).reshape(len(row["is_pad"]), -1)
        real = ~np.array(row["is_pad"])
        top += weight * apart.mean(axis=1)[real].sum()
        bottom += weight * real.sum()
    assert record.summary.chunk.mae.value == pytest.approx(top / bottom)
    known = within.all_frames["chunk"]
    assert known.value == pytest.approx(top / bottom)
    assert known.ci_low is not None
    assert known.ci_low < known.value < known.ci_high
    arrays, header = read_arrays(out / SUMS)
    again = unpack(arrays, header)
    known = zip(again.segments.episode.tolist(), again.segments.weight.tolist(), strict=True)
    assert dict(known) == {e: lengths[e] / n[e] for e in n}
    assert pack(again)[0].keys() == arrays.keys()


@pytest.mark.parametrize("most", [1, 9])
def test_the_first_of_that_order(most: int, data: Path, tmp_path: Path) -> None:
    """So that a second policy can be asked about the frames that the first one's time allowed."""
    config = _config(data, tmp_path / "o", time_budget="1h", max_frames=most, samples=2)
    record = evaluate(config).record
    assert record.within is not None
    assert (record.within.n_frames, record.within.of_frames) == (most, 57)
    assert list(record.executions) == []


def test_ways_to_run_chunks_need_every_frame(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no --time_budget beside it"):
        evaluate(_config(data, tmp_path / "o", time_budget="1h", execute="2"))
