"""Trajectory similarity and smoothness of one episode's chunks.

Distances are Euclidean over the dims of one space: native where all dims share a unit,
normalized (units of the dataset's standard deviation) where they do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import (
    FloatArray,
    NativeActions,
    NormalizedActions,
    require_same_space,
)
from policyscope.metrics.intervals import cluster_mean, cluster_ratio
from policyscope.runs.values import Seams, Similarity

_EDGE = 1e-3  # of the range: within it a prediction counts as saturated


@final
@dataclass(frozen=True, eq=False)
class EpisodeShape:
    """Sums over the frames of one episode (sample 0).

    Attributes:
        n_frames: frames.
        ade: sum over frames of the mean distance within the chunk.
        fde: sum over frames of the distance at the chunk's last unpadded step.
        path: summed path length of the predicted chunks.
        path_demo: summed path length of the demonstrated chunks.
        jumps: distances between the last executed step of a chunk and the next chunk's first.
        jumps_demo: the demonstration's own steps at those places.
        steps: distances between consecutive executed steps within a chunk.
        steps_demo: the demonstration's own.
        disagreement: sum of distances between two consecutive chunks where they overlap.
        n_overlap: number of those.
    """

    n_frames: int
    ade: float
    fde: float
    path: float
    path_demo: float
    jumps: FloatArray
    jumps_demo: FloatArray
    steps: FloatArray
    steps_demo: FloatArray
    disagreement: float
    n_overlap: int


def episode_shape[A: (NativeActions, NormalizedActions)](
    predicted: A,
    target: A,
    is_pad: NDArray[np.bool_],
    frame_index: NDArray[np.int64],
    n_action_steps: int,
    *,
    seams: bool = True,
) -> EpisodeShape:
    """Compare the chunks of one episode.

    Args:
        predicted: [T, H, A] chunks.
        target: [T, H, A].
        is_pad: [T, H].
        frame_index: [T], rising.
        n_action_steps: steps a robot would run before it asks again.
        seams: whether chunks share an origin, so that the jump between two means something
            (integrated displacements do not).
    """
    require_same_space(predicted, target)
    a, y, real = predicted.values, target.values, ~is_pad
    distance = np.linalg.norm(a - y, axis=-1) * real
    last = real.sum(axis=1) - 1
    within = real[:, 1:]
    moves = np.linalg.norm(np.diff(a, axis=1), axis=-1)
    moves_demo = np.linalg.norm(np.diff(y, axis=1), axis=-1)
    m = n_action_steps
    asked = np.flatnonzero((frame_index - frame_index[0]) % m == 0)[: None if seams else 0]
    follows = np.diff(frame_index[asked]) == m  # not where a stride left the next chunk out
    now, then = asked[:-1][follows], asked[1:][follows]
    executed = within[asked][:, : m - 1]
    overlap = a.shape[1] - m
    gap = np.linalg.norm(a[now][:, m:] - a[then][:, :overlap], axis=-1) * real[now][:, m:]
    return EpisodeShape(
        n_frames=len(a),
        ade=float((distance.sum(axis=1) / real.sum(axis=1)).sum()),
        fde=float(distance[np.arange(len(a)), last].sum()),
        path=float((moves * within).sum()),
        path_demo=float((moves_demo * within).sum()),
        jumps=np.linalg.norm(a[then, 0] - a[now, m - 1], axis=-1),
        jumps_demo=np.linalg.norm(y[then, 0] - y[now, m - 1], axis=-1),
        steps=moves[asked][:, : m - 1][executed],
        steps_demo=moves_demo[asked][:, : m - 1][executed],
        disagreement=float(gap.sum()),
        n_overlap=int(real[now][:, m:].sum()),
    )


def in_range(
    predicted: Sequence[FloatArray],
    target: FloatArray,
    is_pad: NDArray[np.bool_],
    frame_index: NDArray[np.int64],
    stats: Mapping[str, FloatArray],
) -> FloatArray:
    """[5, A] predicted values seen, out of the dataset's range, at its edge; second differences of
    the demonstration, and their summed size.

    Args:
        predicted: K arrays of [T, H, A], one a sample.
        target: [T, H, A].
        is_pad: [T, H].
        frame_index: [T], rising.
        stats: the dataset's statistics; without ``min`` and ``max`` the first three are 0.
    """
    low, high = stats.get("min"), stats.get("max")
    counts = np.zeros((5, target.shape[-1]))
    next_to = np.diff(frame_index) == 1
    bends = np.diff(target[:, 0], n=2, axis=0)[next_to[1:] & next_to[:-1]]
    counts[3], counts[4] = len(bends), np.abs(bends).sum(axis=0)
    if low is None or high is None:
        return counts
    edge = _EDGE * (high - low)
    for sample in predicted:
        values = sample[~is_pad]
        outside = (values < low) | (values > high)
        near = ~outside & ((values <= low + edge) | (values >= high - edge))
        counts[:3] += [np.full(len(low), len(values)), outside.sum(0), near.sum(0)]
    return counts


def similarity(shapes: Sequence[EpisodeShape], unit: str) -> Similarity:
    """ADE, FDE and path-length ratio over all episodes, with intervals, in a unit."""
    frames = np.array([s.n_frames for s in shapes], dtype=np.float64)
    n = int(frames.sum())
    column = {
        name: np.array([getattr(s, name) for s in shapes])
        for name in ("ade", "fde", "path", "path_demo")
    }
    return Similarity(
        unit=unit,
        ade=cluster_mean(column["ade"], frames, n_frames=n).measured(),
        fde=cluster_mean(column["fde"], frames, n_frames=n).measured(),
        path_length_ratio=cluster_ratio(column["path"], column["path_demo"], n_frames=n).measured(),
    )


def smoothness(shapes: Sequence[EpisodeShape], unit: str) -> Seams:
    """Chunk seams over all episodes, in a unit; None where there is no seam or no motion."""

    def ratio(jumps: str, steps: str) -> float | None:
        jump = np.concatenate([getattr(s, jumps) for s in shapes])
        step = np.concatenate([getattr(s, steps) for s in shapes])
        if not len(jump) or not len(step) or np.median(step) <= 0:
            return None
        return float(jump.mean() / np.median(step))

    n_overlap = sum(s.n_overlap for s in shapes)
    return Seams(
        unit=unit,
        boundary_jump=ratio("jumps", "steps"),
        boundary_jump_demo=ratio("jumps_demo", "steps_demo"),
        overlap_disagreement=(
            sum(s.disagreement for s in shapes) / n_overlap if n_overlap else None
        ),
        n_seams=int(sum(len(s.jumps) for s in shapes)),
    )
