"""Frames of all episodes in an order of which any beginning is spread over all of them.

A run with a time budget follows it as far as its time goes, and then knows a little of everything
instead of all of the first episodes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import NativeActions
from policyscope.data.source import FrameSource
from policyscope.engine.offline import Ask, Clock, PredictionWriter, predict_rows
from policyscope.engine.progress import Watch
from policyscope.metrics.partial import SeenFrames
from policyscope.policies.alignment import Alignment
from policyscope.policies.base import Policy
from policyscope.runs.directory import RunDirectory
from policyscope.runs.predictions import EpisodePredictions, RowPredictions

_GROWTH = 1.25
_TELL_S = 2.0
_MOST_VALUES = 1 << 24  # of predictions that are put together at a time
_REPORT_S = 12.0
_SCORING_S = 1e-4  # a frame
_SCORING_VALUE_S = 3e-7  # a predicted number


def spread(
    lengths: Mapping[int, int], *, seed: int, stride: int = 1, most: int | None = None
) -> NDArray[np.int64]:
    """[N, 2] episode and frame, in the order in which a run with a time budget asks.

    First one frame of each episode, the episodes drawn by the seed; then of each episode as many
    as its length asks for. Within an episode the frames halve what is left open (van der Corput's
    order, begun at a place that the seed draws). So that videos are read forwards, frames are
    sorted within passes, each a quarter of all that came before it.

    Args:
        lengths: episode → its frames.
        seed: of the draws.
        stride: every so many frames of an episode.
        most: take no more than these.
    """
    draw = np.random.default_rng(seed % 2**64)
    ranks = draw.permutation(len(lengths))
    episodes, frames, keys = [], [], []
    for rank, (episode, length) in zip(ranks, lengths.items(), strict=True):
        n = len(range(0, length, stride))
        key = (np.arange(n) + draw.random()) / max(n, 1)
        key[:1] = rank / len(lengths) - 1
        episodes.append(np.full(n, episode))
        frames.append((_halving(n) + draw.integers(max(n, 1))) % max(n, 1) * stride)
        keys.append(key)
    found = np.stack([np.concatenate(episodes), np.concatenate(frames)], axis=1)
    found = found[np.argsort(np.concatenate(keys), kind="stable")]
    begin = sum(length > 0 for length in lengths.values())
    while begin < len(found):
        end = max(begin + 1, int(begin * _GROWTH))
        some = found[begin:end]
        found[begin:end] = some[np.lexsort((some[:, 1], some[:, 0]))]
        begin = end
    return found[:most]


def _halving(n: int) -> NDArray[np.int64]:
    """0 … n - 1 in van der Corput's order."""
    bits = max(n - 1, 0).bit_length()
    place, reverse = np.arange(1 << bits), np.zeros(1 << bits, dtype=np.int64)
    for bit in range(bits):
        reverse |= (place >> bit & 1) << (bits - 1 - bit)
    return reverse[reverse < n]


@final
class Deadline:
    """When a run stops predicting, so that its report is there in time.

    Args:
        seconds: that the whole run may take.
        began: when it began, by the same clock.
        values: predicted numbers a frame.
        now: the clock.
        crowded: how many times as long as usual the report will take.
    """

    def __init__(
        self,
        seconds: float,
        began: float,
        *,
        values: int,
        now: Callable[[], float] = time.perf_counter,
        crowded: float = 1.0,
    ) -> None:
        self._end, self._now = began + seconds, now
        self._report = min(_REPORT_S * crowded, 0.5 * seconds)
        self._each = (_SCORING_S + values * _SCORING_VALUE_S) * crowded
        self._last, self._longest = now(), 0.0

    def reached(self, n_frames: int) -> bool:
        """Whether another call, and then the report on so many frames, would come too late."""
        now = self._now()
        took, self._last = now - self._last, now
        self._longest = max(took, 0.9 * self._longest)
        return now + self._longest + self._report + n_frames * self._each > self._end


def crowding() -> float:
    """How many processes there are for each core, one at least: how much slower a report is."""
    if not hasattr(os, "getloadavg"):
        return 1.0
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def predict_within(
    policy: Policy,
    source: FrameSource,
    rows: NDArray[np.int64],
    directory: RunDirectory,
    alignment: Alignment,
    deadline: Deadline,
    *,
    samples: int,
    batch_size: int,
    seen: SeenFrames,
    progress: Watch,
    ask: Ask = predict_rows,
) -> tuple[Clock, int]:
    """Predict rows in their order until the deadline; one call at least.

    What an earlier try stored is not asked again.

    Args:
        policy: what to ask.
        source: demonstrations.
        rows: [N, 3] of the plan, see `spread`.
        directory: where predictions go.
        alignment: which dims are compared.
        deadline: when to stop.
        samples: predictions a frame (K).
        batch_size: predictions a model call.
        seen: told of every frame.
        progress: told while it runs.
        ask: who predicts.

    Returns:
        Where the time of this try went, and how many rows are stored by now: whole frames.
    """
    note = _Note(source, alignment, rows, samples, seen, progress)
    end = 0
    for part in directory.held(0):
        note.add(part)
        end = part.end
    progress.advance(end // samples)
    clock, began = Clock(), time.perf_counter()
    fresh = ask(
        policy, source, rows, start=end, batch_size=batch_size, clock=clock, progress=progress
    )
    kept = PredictionWriter(directory, source, alignment, policy.spec)
    with contextlib.closing(fresh), kept as writer:
        for part in fresh:
            writer.hold(part)
            note.add(part)
            end = part.end
            if deadline.reached(end // samples):
                break
    clock.wall_s = time.perf_counter() - began
    note.tell()
    return clock, end // samples * samples


@final
class _Note:
    """Tells whoever watches how the interval closes."""

    def __init__(
        self,
        source: FrameSource,
        alignment: Alignment,
        rows: NDArray[np.int64],
        samples: int,
        seen: SeenFrames,
        progress: Watch,
    ) -> None:
        self._source, self._alignment, self._rows = source, alignment, rows
        self._samples, self._seen, self._progress = samples, seen, progress
        self._next = time.perf_counter() + _TELL_S

    def add(self, part: RowPredictions) -> None:
        """Take note of rows; a frame's samples are seen as one a frame, which is enough here."""
        first = self._rows[part.first : part.end, 2] == 0
        places = self._rows[part.first : part.end][first][:, :2]
        if len(places):
            target, is_pad = demonstrated(
                self._source, self._alignment, places, part.actions.values.shape[1]
            )
            predicted = NativeActions(part.actions.values[first], part.actions.units)
            self._seen.add(places, [predicted], target, is_pad)
        now = time.perf_counter()
        if now > self._next:
            self.tell()
            took = time.perf_counter() - now
            self._next = now + max(_TELL_S, 50 * took)

    def tell(self) -> None:
        """Say where it stands."""
        self._progress.narrowed(self._seen.estimate("chunk"), self._seen.unit)


def demonstrated(
    source: FrameSource, alignment: Alignment, places: NDArray[np.int64], horizon: int
) -> tuple[NativeActions, NDArray[np.bool_]]:
    """[N, H, A] what the demonstrations did from each frame on, and [N, H] what is past their end.

    Args:
        source: demonstrations.
        alignment: which dims are compared.
        places: [N, 2] episode and frame.
        horizon: steps (H).
    """
    dims = list(alignment.dataset_dims)
    values = np.empty((len(places), horizon, len(dims)))
    is_pad = np.empty((len(places), horizon), bool)
    for episode in np.unique(places[:, 0]).tolist():
        at = places[:, 0] == episode
        known = source.episode(episode)
        steps = places[at, 1][:, None] + np.arange(horizon)
        values[at] = known.actions.values[np.minimum(steps, known.length - 1)][..., dims]
        is_pad[at] = steps >= known.length
    return NativeActions(values, alignment.schema.units), is_pad


def gathered(
    directory: RunDirectory, rows: NDArray[np.int64], samples: int
) -> Iterator[EpisodePredictions]:
    """The stored rows, episode by episode; memory stays bounded, whatever is stored.

    Args:
        directory: of the run.
        rows: [N, 3] those that are stored, whole frames.
        samples: predictions a frame (K).
    """
    order = np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    episodes, first = np.unique(rows[order, 0], return_index=True)
    ends = np.append(first, len(rows))[1:]
    size = next(directory.held(0)).actions.values[0].size
    at = 0
    while at < len(episodes):
        until = int(np.searchsorted(ends, first[at] + _MOST_VALUES // size, side="right"))
        until = max(until, at + 1)
        low, high = int(first[at]), int(ends[until - 1])
        values, seconds, units = _collected(directory, place, low, high)
        for i in range(at, until):
            mine = slice(first[i] - low, ends[i] - low)
            chunks = values[mine].reshape(-1, samples, *values.shape[1:])
            yield EpisodePredictions(
                int(episodes[i]),
                rows[order[first[i] : ends[i] : samples], 1],
                tuple(NativeActions(chunks[:, k], units) for k in range(samples)),
                seconds[mine].reshape(-1, samples),
            )
        at = until


def _collected(
    directory: RunDirectory, place: NDArray[np.int64], low: int, high: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
    """The stored rows whose places are from low to high, in the order of their places."""
    values: NDArray[np.float64] = np.empty(0)
    units: tuple[str, ...] = ()
    seconds = np.empty(high - low)
    for part in directory.held(0):
        to = place[part.first : part.end]
        part = part[: len(to)]  # samples of a frame that is not complete
        mine = (to >= low) & (to < high)
        if not len(values):
            values = np.empty((high - low, *part.actions.values.shape[1:]))
            units = part.actions.units
        values[to[mine] - low] = part.actions.values[mine]
        seconds[to[mine] - low] = part.model_s[mine]
    return values, seconds, units
