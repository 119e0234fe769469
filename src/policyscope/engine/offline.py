"""Policy × frames → predictions: batched full chunks of every chosen frame.

Batches follow one another on a grid that depends on the plan alone, so a run that goes on from
where another stopped calls the policy on the very same batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from policyscope.actions.spaces import ActionSchema, FloatArray, NativeActions
from policyscope.data.frames import Row
from policyscope.data.source import FrameSource
from policyscope.engine.progress import Watch
from policyscope.errors import NonFiniteError, OutOfMemoryError
from policyscope.policies.base import Policy
from policyscope.runs.directory import RunDirectory
from policyscope.runs.predictions import EpisodePredictions, RowPredictions


@final
@dataclass
class Clock:
    """Where the time of the prediction loop went, in seconds."""

    n_frames: int = 0
    wall_s: float = 0.0
    model_s: float = 0.0
    data_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As ``run.json`` holds it."""
        return {
            "frames_per_s": self.n_frames / self.wall_s if self.wall_s > 0 else None,
            "n_frames": self.n_frames,
            "wall_s": self.wall_s,
            "model_s": self.model_s,
            "data_s": self.data_s,
        }


Frames = tuple[int, range]
"""An episode, and which of its frames."""


def plan_frames(
    source: FrameSource, episodes: tuple[int, ...], *, max_frames: int | None, stride: int = 1
) -> list[Frames]:
    """Every `stride`-th frame of each episode, at most `max_frames` in all."""
    plan, left = [], max_frames
    for index in episodes:
        frames = range(0, source.facts.lengths[index], stride)[:left]
        if frames:
            plan.append((index, frames))
        left = None if left is None else left - len(frames)
    return plan


def rows_of(frames: Sequence[Frames], samples: int) -> list[Row]:
    """The predictions that a plan asks for, in their order."""
    return [(e, f, k) for e, chosen in frames for f in chosen for k in range(samples)]


def predict_rows(
    policy: Policy,
    source: FrameSource,
    rows: Sequence[Row],
    *,
    start: int = 0,
    batch_size: int,
    clock: Clock,
    progress: Watch,
) -> Iterator[RowPredictions]:
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
                limit //= 2
                continue
            part = batch[at : at + limit]
            done = RowPredictions(start, prediction.actions, np.full(len(part), prediction.model_s))
            clock.model_s += prediction.model_s
            clock.n_frames += int((part.sample == 0).sum())
            progress.advance(int((part.sample == 0).sum()))
            yield done
            at, start = at + len(part), done.end


def by_episode(
    predictions: Iterable[RowPredictions], frames: Sequence[Frames], samples: int
) -> Iterator[EpisodePredictions]:
    """Put rows together to episodes, each as soon as it is complete.

    Args:
        predictions: consecutive rows, from the first row of the first episode on.
        frames: the episodes that they belong to.
        samples: predictions a frame (K).
    """
    left = iter(frames)
    episode, chosen = next(left, (0, range(0)))
    actions: list[FloatArray] = []
    seconds: list[FloatArray] = []
    held = 0
    for part in predictions:
        values, model_s = part.actions.values, part.model_s
        while len(values):
            n = min(len(values), len(chosen) * samples - held)
            actions.append(values[:n])
            seconds.append(model_s[:n])
            values, model_s, held = values[n:], model_s[n:], held + n
            if held < len(chosen) * samples:
                continue
            whole = np.concatenate(actions)
            whole = whole.reshape(-1, samples, *whole.shape[1:])
            yield EpisodePredictions(
                episode,
                np.asarray(chosen),
                tuple(NativeActions(whole[:, k], part.actions.units) for k in range(samples)),
                np.concatenate(seconds).reshape(-1, samples),
            )
            episode, chosen = next(left, (0, range(0)))
            actions, seconds, held = [], [], 0


_FLUSH_S = 1.0


def predict_and_store(
    policy: Policy,
    source: FrameSource,
    frames: Sequence[Frames],
    directory: RunDirectory,
    *,
    samples: int,
    batch_size: int,
    schema: ActionSchema,
    dims: tuple[int, ...],
    progress: Watch,
    tell: Callable[[int], None] = lambda _: None,
) -> Clock:
    """Predict what is not on disk yet; about every second, what is there is written.

    A run that ends at any moment goes on with the very next batch: no row is predicted twice, and
    batches hold the same rows as in an unbroken run.

    Args:
        policy: what to ask.
        source: demonstrations.
        frames: the plan.
        directory: where predictions go, and where those of an earlier try are.
        samples: predictions a frame (K).
        batch_size: predictions a model call.
        schema: names and units of the compared dims.
        dims: the dataset's dims that are compared.
        progress: told while it runs.
        tell: told each episode that is on disk.

    Returns:
        Where the time of this try went.
    """
    spec, rows, finished = policy.spec, rows_of(frames, samples), directory.finished()
    remaining = [(e, chosen) for e, chosen in frames if e not in finished]
    for index in [e for e, _ in frames if e in finished]:
        tell(index)
    whole = len(rows) - samples * sum(len(chosen) for _, chosen in remaining)
    stored = list(directory.held(whole))
    start = stored[-1].end if stored else whole
    progress.advance(start // samples)
    clock, began = Clock(), time.perf_counter()
    fresh = predict_rows(
        policy,
        source,
        rows,
        start=start,
        batch_size=batch_size,
        clock=clock,
        progress=progress,
    )
    waiting: list[RowPredictions] = []
    complete: list[EpisodePredictions] = []

    def flush() -> None:
        nonlocal whole
        if waiting:
            directory.hold(waiting)
            waiting.clear()
        for episode in complete:
            chunks, is_pad = source.episode(episode.index).chunks(spec.chunk_size)
            at = episode.frame_index
            target = NativeActions(chunks.values[at][:, :, list(dims)], schema.units)
            directory.add(episode, target, is_pad[at], schema, spec.normalization.stats_id)
            whole += episode.model_s.size
            tell(episode.index)
        if complete:
            directory.release(whole)
            complete.clear()

    def noted() -> Iterator[RowPredictions]:
        yield from stored
        flushed = time.perf_counter()
        for part in fresh:
            waiting.append(part)
            yield part
            if time.perf_counter() - flushed > _FLUSH_S:
                flush()
                flushed = time.perf_counter()

    try:
        for episode in by_episode(noted(), remaining, samples):
            complete.append(episode)
    except (KeyboardInterrupt, NonFiniteError):
        flush()
        raise
    flush()
    clock.wall_s = time.perf_counter() - began
    return clock
