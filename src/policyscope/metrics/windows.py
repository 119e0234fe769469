"""The frames that matter: where grippers change, where the robot slows down to be exact."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.metrics.geometry import unrolled
from policyscope.metrics.grippers import is_closed
from policyscope.metrics.meant import middle_of
from policyscope.metrics.scorecard import Scorecard
from policyscope.metrics.sums import Measure, Sums
from policyscope.runs.values import WindowScores

_AROUND_S = 0.5
_SMOOTH_S = 0.5
_SLOW = 0.25  # of the moving frames
_REST = 0.05  # of the median speed: what is slower does not move


def gripper_frames(actions: FloatArray, measure: Measure) -> NDArray[np.bool_]:
    """[N] true within half a second of a gripper that opens or closes.

    Args:
        actions: [N, A] of one demonstration, native.
        measure: what its dims are, their range, and the rate.
    """
    changes = np.zeros(len(actions), bool)
    for meaning in measure.schema.meanings:
        if meaning.kind == "gripper":
            values = actions[:, meaning.dims[0]]
            closed = is_closed(values, meaning, middle_of(meaning, measure.stats))
            changes[1:] |= closed[1:] != closed[:-1]
    around = round(_AROUND_S * measure.fps)
    spread = np.convolve(changes, np.ones(2 * around + 1), mode="full")
    near: NDArray[np.bool_] = spread[around : around + len(actions)] > 0.5
    return near


def slow_frames(actions: FloatArray, measure: Measure) -> NDArray[np.bool_]:
    """[N] true in the slowest quarter of the frames in which the demonstration moves.

    Speed is the step from frame to frame in standard deviations, averaged over half a second;
    frames below a twentieth of its median rest, and do not count.

    Args:
        actions: [N, A] of one demonstration, native.
        measure: what its dims are, their spread, and the rate.
    """
    scaled = unrolled(actions, measure.schema) / measure.normalizer().divisor
    steps = np.diff(scaled, axis=0, prepend=scaled[:1])
    said = measure.schema.meanings
    delta = [d for m in said if m.delta for d in m.dims]
    if measure.action_kind == "delta" and not said:
        delta = list(range(actions.shape[1]))
    steps[:, delta] = scaled[:, delta]
    width = max(1, round(_SMOOTH_S * measure.fps))
    speed = np.linalg.norm(steps[:, measure.included], axis=1)
    kernel = np.ones(min(width, len(speed)))
    smooth = np.convolve(speed, kernel, mode="same") / np.convolve(
        np.ones(len(speed)), kernel, mode="same"
    )
    moves: NDArray[np.bool_] = smooth > _REST * np.median(smooth)
    if moves.any():
        moves &= smooth <= np.quantile(smooth[moves], _SLOW) * (1 + 1e-9)  # ties count
    return moves


def window_scores(kind: str, name: str, sums: Sums, n_frames: int) -> WindowScores:
    """Errors and skill at the frames of a window.

    Args:
        kind: of the window.
        name: of its column or file; empty where there is none.
        sums: of `sums.windowed`.
        n_frames: frames of the evaluation, in the window or not.
    """
    inside = int(sums.segments.n_frames.sum())
    card = Scorecard.of(sums) if len(sums.segments) else None
    return WindowScores.model_validate(
        {
            "kind": kind,
            "name": name,
            "n_frames": inside,
            "share": inside / n_frames if n_frames else 0.0,
            "n_episodes": len(sums.episodes),
            "summary": card.summary() if card else None,
            "skill": card.skill() if card else {},
        }
    )
