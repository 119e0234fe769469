"""Predictions on their way to disk, written so that a killed run loses a second at most."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from policyscope.errors import NonFiniteError
from policyscope.frames import FrameSource
from policyscope.policies.base import Policy
from policyscope.predict import (
    Clock,
    EpisodePredictions,
    Frames,
    Progress,
    RowPredictions,
    by_episode,
    predict_rows,
    rows_of,
)
from policyscope.run.directory import RunDirectory
from policyscope.spaces import ActionSchema, NativeActions

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
    progress: Progress,
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
