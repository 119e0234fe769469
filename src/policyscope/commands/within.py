"""The predictions of a run that must end in time."""

from __future__ import annotations

import numpy as np

from policyscope.commands.preparation import frames_of
from policyscope.commands.scoring import Scoring
from policyscope.engine.offline import Frames, with_samples
from policyscope.engine.progress import Watch
from policyscope.engine.spread import Deadline, crowding, demonstrated, gathered, predict_within
from policyscope.engine.timing import chosen_batch_size
from policyscope.metrics.partial import SeenFrames
from policyscope.policies.base import Policy
from policyscope.runs.parts import SCOPES
from policyscope.runs.values import Speed, TimeBudget


def predict_in_time(
    scoring: Scoring, policy: Policy, watch: Watch
) -> tuple[Speed, list[Frames], TimeBudget]:
    """Predict as many frames, spread over all episodes, as the time allows, and store them.

    Args:
        scoring: the evaluation.
        policy: what to ask.
        watch: told while it runs.

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
    )
    seen, tell = SeenFrames(measure, lengths), scoring.told(watch)
    for episode in gathered(directory, rows[:n], config.samples):
        places = np.stack(np.broadcast_arrays(episode.index, episode.frame_index), axis=1)
        target, is_pad = demonstrated(inputs.source, inputs.alignment, places, spec.chunk_size)
        seen.add(places, episode.predicted, target, is_pad)
        stats_id = spec.normalization.stats_id
        directory.add(episode, target, is_pad, measure.schema, stats_id)
        tell(episode.index)
    within = TimeBudget(
        seconds=seconds,
        n_frames=seen.n_frames,
        of_frames=sum(lengths.values()),
        of_episodes=len(lengths),
        unit=seen.unit,
        all_frames={scope: seen.estimate(scope).measured() for scope in SCOPES},
    )
    return clock.speed(batch_size), frames_of(rows[: n : config.samples, :2]), within
