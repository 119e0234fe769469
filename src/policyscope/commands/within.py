"""The predictions of a run that must end in time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import NativeActions
from policyscope.commands.preparation import frames_of
from policyscope.commands.scoring import Scoring
from policyscope.engine.offline import Ask, Frames, with_samples
from policyscope.engine.progress import Watch
from policyscope.engine.spread import Deadline, crowding, demonstrated, gathered, predict_within
from policyscope.engine.timing import chosen_batch_size
from policyscope.metrics.partial import SeenFrames
from policyscope.policies.base import Policy
from policyscope.runs.parts import SCOPES
from policyscope.runs.predictions import EpisodePredictions
from policyscope.runs.values import Speed, TimeBudget

_MOST_VALUES = 1 << 20  # of demonstrations that are stored in one part


def predict_in_time(
    scoring: Scoring, policy: Policy, watch: Watch, ask: Ask
) -> tuple[Speed, list[Frames], TimeBudget]:
    """Predict as many frames, spread over all episodes, as the time allows, and store them.

    Args:
        scoring: the evaluation.
        policy: what to ask.
        watch: told while it runs.
        ask: who predicts.

    Returns:
        The speed, the frames that were asked, and what they say of all.
    """
    prepared, directory, inputs = scoring.prepared, scoring.directory, scoring.inputs
    config, measure, spec = prepared.config, scoring.measure, policy.spec
    stride, seconds = config.stride, config.time_budget_s
    assert seconds is not None, "the plan has a time budget"
    lengths = {e: -(-n // stride) for e, n in prepared.lengths.items() if n}
    rows = with_samples(prepared.order, config.samples)
    watch.stage("choosing a batch size")
    batch_size = chosen_batch_size(config.batch_size, policy, inputs.source, rows, directory)
    watch.begin(len(rows) // config.samples)
    values = spec.chunk_size * measure.schema.dim * config.samples
    clock, n = predict_within(
        policy,
        inputs.source,
        rows,
        directory,
        inputs.alignment,
        Deadline(seconds, prepared.began, values=values, crowded=crowding()),
        samples=config.samples,
        batch_size=batch_size,
        seen=SeenFrames(measure, lengths),
        progress=watch,
        ask=ask,
    )
    seen = _put_together(scoring, policy, rows[:n], SeenFrames(measure, lengths), watch)
    within = TimeBudget(
        seconds=seconds,
        n_frames=seen.n_frames,
        of_frames=sum(lengths.values()),
        of_episodes=len(lengths),
        unit=seen.unit,
        all_frames={scope: seen.estimate(scope).measured() for scope in SCOPES},
    )
    return clock.speed(batch_size), frames_of(rows[: n : config.samples, :2]), within


def _put_together(
    scoring: Scoring,
    policy: Policy,
    rows: NDArray[np.int64],
    seen: SeenFrames,
    watch: Watch,
) -> SeenFrames:
    """Store the predicted rows as episodes, and note what they say."""
    directory, inputs, spec = scoring.directory, scoring.inputs, policy.spec
    schema, stats_id = scoring.measure.schema, spec.normalization.stats_id
    tell = scoring.told(watch)
    ready: list[tuple[EpisodePredictions, NativeActions, NDArray[np.bool_]]] = []

    def store() -> None:
        for stored in directory.add(ready, schema, stats_id):
            tell(stored)
        ready.clear()

    directory.forget_episodes()
    for episode in gathered(directory, rows, scoring.prepared.config.samples):
        places = np.stack(np.broadcast_arrays(episode.index, episode.frame_index), axis=1)
        target, is_pad = demonstrated(inputs.source, inputs.alignment, places, spec.chunk_size)
        seen.add(places, episode.predicted, target, is_pad)
        ready.append((episode, target, is_pad))
        if sum(some.values.size for _, some, _ in ready) > _MOST_VALUES:
            store()
    if ready:
        store()
    return seen
