"""The sample that the detector looks at: a few hundred frames of a policy, or of a stored run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.robots import Robot
from policyscope.actions.spaces import FloatArray, NativeActions, Normalizer, missing_stats
from policyscope.checks.ablation import Ablator
from policyscope.checks.detector.hypotheses import Declared, Sample
from policyscope.data.facts import ACTION
from policyscope.data.frames import Row
from policyscope.data.source import FrameSource
from policyscope.policies.alignment import Alignment
from policyscope.policies.base import Policy
from policyscope.policies.checkpoint import Checkpoint

MOST_EPISODES = 8
_BATCH = 32
_PATIENCE_S = 8.0
_STORED = 4096  # frames of a stored run, spread over its episodes
_LEAST = 8  # of each episode


def ask(
    policy: Policy,
    source: FrameSource,
    alignment: Alignment,
    episodes: tuple[int, ...],
    n_frames: int,
    ablator: Ablator | None = None,
    *,
    action_kind: str = "absolute",
) -> Sample:
    """Predictions of about `n_frames` frames, spread evenly over at most eight episodes.

    Asks in rounds over all episodes, so that a slow policy which runs out of patience after some
    seconds still leaves a fair sample.

    Args:
        policy: what to ask.
        source: demonstrations.
        alignment: which dims are compared.
        episodes: to choose from.
        n_frames: to ask about.
        ablator: asks again about the first of them, while their pictures are at hand.
        action_kind: ``absolute`` or ``delta``.
    """
    chosen = _evenly(np.asarray(episodes), MOST_EPISODES)
    each = -(-n_frames // len(chosen))
    frames = [(int(e), np.arange(source.episode(int(e)).length)) for e in chosen]
    rows = in_rounds(frames, each)
    spent, predicted, asked = 0.0, [], 0
    begin = time.perf_counter()
    for batch in source.batches(
        rows, batch_size=_BATCH, keys=policy.spec.keys, steps=policy.spec.steps
    ):
        predicted.append(policy.predict(batch).actions.values)
        asked += len(batch)
        spent += time.perf_counter() - begin
        if ablator is not None and ablator.willing:
            ablator.ask(batch)
        if policy.borrows:
            batch.release()
        if spent > _PATIENCE_S and asked >= 3 * _BATCH:
            break
        begin = time.perf_counter()
    return against(source, alignment, rows[:asked], np.concatenate(predicted), action_kind)


def stored(
    source: FrameSource,
    alignment: Alignment,
    predictions: Iterable[tuple[int, NDArray[np.int64], FloatArray]],
    n_episodes: int,
) -> Sample:
    """The sample that a run has stored already.

    Args:
        source: the loaded demonstrations.
        alignment: which dims are compared.
        predictions: (episode, [T] frame indices, their [T, H, A] native chunks).
        n_episodes: how many of them there are.
    """
    rows: list[Row] = []
    kept = []
    for episode, index, values in predictions:
        frames = _evenly(np.arange(len(values)), max(_STORED // n_episodes, _LEAST))
        rows += [(episode, int(index[f]), 0) for f in frames]
        kept.append(values[frames])
    return against(source, alignment, rows, np.concatenate(kept))


def declared(
    checkpoint: Checkpoint | None,
    robot: Robot,
    alignment: Alignment,
    *,
    stats: str,
    action_kind: str,
) -> Declared:
    """What the checkpoint, if there is one, and the dataset say about the compared dims."""
    ours = _of_dims(robot.stats.get(ACTION, {}), alignment.dataset_dims, robot.actions.dim)
    step, theirs = checkpoint.unnormalizer if checkpoint else None, {}
    if checkpoint is not None and step is not None:
        theirs = _of_dims(step.stats.get(ACTION, {}), alignment.policy_dims, checkpoint.action_dim)
    mode = checkpoint.action_mode if checkpoint else "IDENTITY"
    units = alignment.schema.units
    known = [
        table
        for table in ((ours,) if stats == "dataset" else (theirs, ours))
        if not missing_stats({ACTION: table}, mode, ACTION)
    ]
    door = (
        Normalizer.from_stats({ACTION: known[0]}, mode=mode, units=units)
        if known and mode != "IDENTITY"
        else None
    )
    std = ours.get("std", np.zeros(len(units)))
    return Declared(alignment.schema, door, std, ours.get("min"), ours.get("max"), action_kind)


def against(
    source: FrameSource,
    alignment: Alignment,
    rows: list[Row],
    predicted: FloatArray,
    action_kind: str = "absolute",
) -> Sample:
    """Put the demonstrations beside [N, H, A] predictions of N rows."""
    dims, horizon = list(alignment.dataset_dims), predicted.shape[1]
    around, targets, pads, states = [], [], [], []
    for episode, frame, _ in rows:
        demonstration = source.episode(episode)
        steps = frame + np.arange(-horizon, horizon + 1)
        last = demonstration.length - 1
        inside = (steps >= 0) & (steps <= last)
        values = demonstration.actions.values[np.clip(steps, 0, last)][:, dims]
        around.append(np.where(inside[:, None], values, np.nan).astype(np.float32))
        ahead = frame + np.arange(horizon)
        targets.append(demonstration.actions.values[np.minimum(ahead, last)][:, dims])
        pads.append(ahead > last)
        if demonstration.state is not None:
            states.append(demonstration.state[frame])
    robot = source.facts.robot
    same = len(robot.state_names) == robot.actions.dim and len(states) == len(rows)
    units = alignment.schema.units
    target = np.stack(targets)
    state = np.stack(states).astype(np.float64)[:, dims] if same else None
    mean = _of_dims(robot.stats.get(ACTION, {}), alignment.dataset_dims, robot.actions.dim)
    held: dict[str, FloatArray] = {}
    if "mean" in mean:
        held["dataset_mean"] = np.broadcast_to(mean["mean"], target[:, 0].shape)
    if action_kind == "delta":
        held["zero"] = np.zeros_like(target[:, 0])
    elif state is not None:
        held["hold_state"] = state
    return Sample(
        NativeActions(predicted, units),
        NativeActions(target, units),
        np.stack(pads),
        np.array([row[0] for row in rows]),
        state,
        np.stack(around),
        held,
    )


def _of_dims(table: Mapping[str, Any], dims: tuple[int, ...], size: int) -> dict[str, FloatArray]:
    flat = {name: np.asarray(v, dtype=np.float64).reshape(-1) for name, v in table.items()}
    return {name: v[list(dims)] for name, v in flat.items() if v.size == size}


def _evenly(values: Any, most: int) -> Any:
    return values[np.unique(np.linspace(0, len(values) - 1, most).astype(int))]


def in_rounds(frames: Sequence[tuple[int, NDArray[np.int64]]], each: int) -> list[Row]:
    """At most `each` frames of each episode, spread evenly; four of each episode at a time.

    Every beginning of the list is spread over all episodes and over each of them.
    """
    by_episode = [[(episode, f, 0) for f in _spread(known, each)] for episode, known in frames]
    return [
        row
        for start in range(0, max(map(len, by_episode)), 4)
        for rows in by_episode
        for row in rows[start : start + 4]
    ]


def _spread(frames: NDArray[np.int64], n: int) -> list[int]:
    """Frames spread evenly, in an order of which every beginning is spread, too."""
    frames = _evenly(frames, n)
    stride = next((s for s in (7, 5, 3, 2) if len(frames) % s), 1)
    return [int(frames[i * stride % len(frames)]) for i in range(len(frames))]
