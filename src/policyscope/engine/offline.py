"""Policy × frames → predictions: batched full chunks of every chosen frame.

Batches follow one another on a grid that depends on the plan alone, so a run that goes on from
where another stopped calls the policy on the very same batches.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import NativeActions
from policyscope.data.frames import Rows
from policyscope.data.source import FrameSource
from policyscope.engine.progress import Watch
from policyscope.errors import NonFiniteError, OutOfMemoryError, RemoteError, UsageError
from policyscope.policies.alignment import Alignment
from policyscope.policies.base import Policy, PolicySpec
from policyscope.runs.directory import RunDirectory
from policyscope.runs.predictions import EpisodePredictions, RowPredictions, StoredEpisode
from policyscope.runs.values import Speed

_FLUSH_S = 1.0
_EXPECTED = (KeyboardInterrupt, NonFiniteError, RemoteError)
_MOST_VALUES = 1 << 20  # predicted ones that wait to be written
_MOST_ROWS = 50_000_000


@final
@dataclass
class Clock:
    """Where the time of the prediction loop went, in seconds."""

    n_frames: int = 0
    wall_s: float = 0.0
    model_s: float = 0.0
    data_s: float = 0.0

    def speed(self, batch_size: int) -> Speed:
        """As the record holds it."""
        return Speed(
            frames_per_s=self.n_frames / self.wall_s if self.wall_s > 0 else None,
            n_frames=self.n_frames,
            wall_s=self.wall_s,
            model_s=self.model_s,
            data_s=self.data_s,
            batch_size=batch_size,
        )


Frames = tuple[int, range | NDArray[np.int64]]
"""An episode, and which of its frames, rising."""


def plan_frames(
    source: FrameSource, episodes: tuple[int, ...], *, max_frames: int | None, stride: int = 1
) -> list[Frames]:
    """Every `stride`-th frame of each episode, at most `max_frames` in all."""
    plan: list[Frames] = []
    left = max_frames
    for index in episodes:
        frames = range(0, source.facts.lengths[index], stride)[:left]
        if frames:
            plan.append((index, frames))
        left = None if left is None else left - len(frames)
    return plan


def rows_of(frames: Sequence[Frames], samples: int) -> NDArray[np.int64]:
    """[N, 3] the predictions that a plan asks for, in their order.

    Raises:
        UsageError: more than any machine holds.
    """
    n = samples * sum(len(chosen) for _, chosen in frames)
    if n > _MOST_ROWS:
        raise UsageError(
            "--samples",
            expected=f"at most {_MOST_ROWS:,} predictions",
            found=f"{n:,}",
            fix="fewer --samples, --max_frames or a --stride",
        )
    places, start = np.empty((n // samples, 2), np.int64), 0
    for episode, chosen in frames:
        part = places[start : start + len(chosen)]
        part[:, 0], part[:, 1] = episode, chosen
        start += len(chosen)
    return with_samples(places, samples)


def with_samples(places: NDArray[np.int64], samples: int) -> NDArray[np.int64]:
    """[N, 3] episode, frame and sample of [N / samples, 2] frames."""
    rows = np.empty((len(places), samples, 3), np.int64)  # in place: of many, each copy is large
    rows[..., :2], rows[..., 2] = places[:, None], np.arange(samples)
    return rows.reshape(-1, 3)


def predict_rows(
    policy: Policy,
    source: FrameSource,
    rows: Rows,
    *,
    start: int = 0,
    batch_size: int,
    clock: Clock,
    progress: Watch,
) -> Generator[RowPredictions]:
    """Predict the rows of a plan from `start` on; batches run across episode borders.

    Where memory runs out, the batch is halved and the same rows are asked for again.

    Args:
        policy: what to ask.
        source: demonstrations.
        rows: the plan.
        start: place of the first row to predict.
        batch_size: predictions a model call.
        clock: filled while it runs.
        progress: told while it runs.
    """
    spec = policy.spec
    batches = source.batches(
        rows[start:],
        batch_size=batch_size,
        keys=spec.keys,
        steps=spec.steps,
        pinned=spec.device == "cuda",
        stage=policy.stage,
    )
    limit = batch_size
    while True:
        begin = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        clock.data_s += time.perf_counter() - begin
        at = 0
        while at < len(batch):
            try:
                prediction = policy.predict(batch[at : at + limit])
            except OutOfMemoryError:
                if limit == 1:
                    raise
                limit //= 2  # and so it stays: the next batches are as large
                continue
            part = batch[at : at + limit]
            done = RowPredictions(start, prediction.actions, np.full(len(part), prediction.model_s))
            clock.model_s += prediction.model_s
            clock.n_frames += int((part.sample == 0).sum())
            progress.advance(int((part.sample == 0).sum()))
            yield done
            at, start = at + len(part), done.end
        if policy.borrows:
            batch.release()  # not before: what did not fit is asked about again


class Ask(Protocol):
    """Predicts the rows of a plan, as `predict_rows` does: here, or by others elsewhere."""

    def __call__(
        self,
        policy: Policy,
        source: FrameSource,
        rows: Rows,
        *,
        start: int = 0,
        batch_size: int,
        clock: Clock,
        progress: Watch,
    ) -> Generator[RowPredictions]:
        """See `predict_rows`."""


@final
class Assembly:
    """Puts consecutive rows together to episodes.

    Args:
        frames: the episodes that the rows belong to, in order.
        samples: predictions a frame (K).
    """

    def __init__(self, frames: Sequence[Frames], samples: int) -> None:
        self._left, self._samples = deque(frames), samples
        self._parts: list[RowPredictions] = []
        self._held = 0  # rows of the episode that is being put together

    def add(self, part: RowPredictions) -> list[EpisodePredictions]:
        """Take the rows that follow; the episodes that are complete with them."""
        complete = []
        while len(part.model_s):
            wanted = len(self._left[0][1]) * self._samples - self._held
            taken, part = part[:wanted], part[wanted:]
            self._parts.append(taken)
            self._held += len(taken.model_s)
            if len(taken.model_s) == wanted:
                complete.append(self._episode(*self._left.popleft()))
        return complete

    def _episode(self, index: int, chosen: range | NDArray[np.int64]) -> EpisodePredictions:
        k, parts = self._samples, self._parts
        whole = np.concatenate([part.actions.values for part in parts])
        whole = whole.reshape(-1, k, *whole.shape[1:])
        self._parts, self._held = [], 0
        return EpisodePredictions(
            index,
            np.asarray(chosen),
            tuple(NativeActions(whole[:, i], parts[0].actions.units) for i in range(k)),
            np.concatenate([part.model_s for part in parts]).reshape(-1, k),
        )


@final
class PredictionWriter:
    """Predictions on their way to disk: a killed run loses a second of them at most.

    Rows are held as they come, because an episode may take minutes; once it is complete it is
    stored as a whole, with its demonstration, and the rows that it was made of are released. The
    order keeps every moment safe: nothing is released before what it went into is on disk. Used
    as a context, it also keeps what was answered before an interruption, before an answer that is
    not a number, and before a server went away; after any other error it writes nothing, because
    it knows nothing.

    Args:
        directory: of the run.
        source: demonstrations.
        alignment: which dims are compared.
        spec: of the policy.
        whole: rows of the plan whose episodes are stored already.
        tell: told each episode that is on disk.
    """

    def __init__(
        self,
        directory: RunDirectory,
        source: FrameSource,
        alignment: Alignment,
        spec: PolicySpec,
        *,
        whole: int = 0,
        tell: Callable[[StoredEpisode], None] = lambda _: None,
    ) -> None:
        self._directory, self._source, self._alignment = directory, source, alignment
        self._spec, self._whole, self._tell = spec, whole, tell
        self._waiting: list[RowPredictions] = []
        self._complete: list[EpisodePredictions] = []
        self._flushed, self._values = time.perf_counter(), 0

    def hold(self, part: RowPredictions, complete: Sequence[EpisodePredictions] = ()) -> None:
        """Keep fresh rows and the episodes that they complete; about every second, write them."""
        self._waiting.append(part)
        self._complete += complete
        self._values += part.actions.values.size
        if time.perf_counter() - self._flushed > _FLUSH_S or self._values > _MOST_VALUES:
            self.flush()
            self._flushed = time.perf_counter()

    def add(self, complete: Sequence[EpisodePredictions]) -> None:
        """Keep episodes whose rows are on disk already."""
        self._complete += complete

    def flush(self) -> None:
        """Write what is kept."""
        if self._waiting:
            self._directory.hold(self._waiting)
            self._waiting.clear()
            self._values = 0
        if self._complete:
            self._store(self._complete)
            self._directory.release(self._whole)
            self._complete.clear()

    def _store(self, complete: Sequence[EpisodePredictions]) -> None:
        schema, horizon = self._alignment.schema, self._spec.chunk_size
        dims, ready = list(self._alignment.dataset_dims), []
        for episode in complete:
            chunks, is_pad = self._source.episode(episode.index).chunks(horizon)
            at = episode.frame_index
            target = NativeActions(chunks.values[at][:, :, dims], schema.units)
            ready.append((episode, target, is_pad[at]))
            self._whole += episode.model_s.size
        for stored in self._directory.add(ready, schema, self._spec.normalization.stats_id):
            self._tell(stored)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or issubclass(kind, _EXPECTED):
            self.flush()


def predict_and_store(
    policy: Policy,
    source: FrameSource,
    frames: Sequence[Frames],
    directory: RunDirectory,
    alignment: Alignment,
    *,
    samples: int,
    batch_size: int,
    progress: Watch,
    tell: Callable[[StoredEpisode], None] = lambda _: None,
    until: int | None = None,
    ask: Ask = predict_rows,
) -> Clock:
    """Predict what is not on disk yet, written about every second; where the time went.

    A run that ends at any moment goes on with the very next batch: no row is predicted twice, and
    batches hold the same rows as in an unbroken run.

    Args:
        policy: what to ask.
        source: demonstrations.
        frames: the plan.
        directory: where predictions go, and where those of an earlier try are.
        alignment: which dims are compared.
        samples: predictions a frame (K).
        batch_size: predictions a model call.
        progress: told while it runs.
        tell: told each episode that is on disk.
        until: stop with the batch that reaches this row of the plan; None goes on to the end.
        ask: who predicts.
    """
    rows, finished = rows_of(frames, samples), directory.finished()
    remaining = [(e, chosen) for e, chosen in frames if e not in finished]
    for known in directory.parts([e for e, _ in frames if e in finished]):
        tell(known)
    # Episodes reach the disk in the order of the plan: those that are there are its beginning.
    whole = len(rows) - samples * sum(len(chosen) for _, chosen in remaining)
    # Rows are held by whole model calls, and the last file of them is never released: the batch
    # that begins here is one of the unbroken run's, even where episodes end in its middle.
    stored = list(directory.held(whole))
    start = stored[-1].end if stored else whole
    progress.advance(start // samples)
    if until is not None:  # whole batches, as an unbroken run makes them
        rows = rows[: start + -(-max(0, until - start) // batch_size) * batch_size]
    clock, began = Clock(), time.perf_counter()
    fresh = ask(
        policy, source, rows, start=start, batch_size=batch_size, clock=clock, progress=progress
    )
    assembly = Assembly(remaining, samples)
    with PredictionWriter(
        directory, source, alignment, policy.spec, whole=whole, tell=tell
    ) as writer:
        for part in stored:
            writer.add(assembly.add(part))
        for part in fresh:
            writer.hold(part, assembly.add(part))
    clock.wall_s = time.perf_counter() - began
    return clock
