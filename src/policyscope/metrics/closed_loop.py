"""Closed-loop numbers: success and its interval, time to success, motion as it was executed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.metrics.bounded import bounded_mean
from policyscope.metrics.intervals import MIN_EPISODES, Estimate
from policyscope.metrics.proportions import wilson
from policyscope.runs.values import MotionSummary, Value

_FEW = 3
"""Fewer successes than this have no median time."""


def mean_over_episodes(
    values: Sequence[float | None], *, within: tuple[float, float] | None = None
) -> Estimate:
    """Mean over episodes with its 95 % interval.

    Args:
        values: one an episode.
        within: the range that the quantity can't leave, where that is known: then the interval is
            `bounded_mean`'s, which equal values don't collapse. Else it is Student's t; equal
            values get none then, since nobody knows what else could have been.

    None where one of them is None: the mean of the others is another quantity.
    """
    if any(value is None for value in values):
        return Estimate(None)
    known = np.asarray(values, dtype=np.float64)
    n = len(known)
    if n == 0:
        return Estimate(None)
    if within is not None and within[0] <= known.min() and known.max() <= within[1]:
        return bounded_mean(known.tolist(), low=within[0], high=within[1])
    mean = float(known.mean())
    if n < MIN_EPISODES or known.min() == known.max():
        return Estimate(mean, n_episodes=n)
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.975)) * float(known.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


@final
@dataclass(frozen=True, eq=False)
class TimeToSuccess:
    """When episodes succeed.

    Attributes:
        n: episodes.
        n_success: those that succeed.
        median_s: median time among these; None for fewer than three.
        time_s: [M] times at which the share rises, from 0 on.
        share: [M] share of all episodes that have succeeded by then (cumulative incidence).
        low: [M] lower end of its 95 % interval (Wilson's) at that time.
        high: [M] upper end.
    """

    n: int
    n_success: int
    median_s: float | None
    time_s: FloatArray
    share: FloatArray
    low: FloatArray
    high: FloatArray

    def to_json(self) -> dict[str, Any]:
        """As ``run.json`` holds it."""
        return {
            "n": self.n,
            "n_success": self.n_success,
            "median_s": self.median_s,
            "curve": {
                name: getattr(self, name).tolist() for name in ("time_s", "share", "low", "high")
            },
        }


def time_to_success(steps: Sequence[int | None], *, fps: float | None) -> TimeToSuccess:
    """The share of episodes that have succeeded by each time.

    An episode that fails, however early, never succeeds: it stays at risk to the time limit, and
    the curve ends at the success rate with the success rate's interval. Censoring it where it
    ends, as for a patient who left, would say that it might have succeeded later.

    Args:
        steps: step of each episode's first success; None where there is none.
        fps: control steps a second; None where nobody knows, and then there is no curve.
    """
    n = len(steps)
    reached = np.sort(np.array([s for s in steps if s is not None], dtype=np.float64))
    if fps is None:
        nothing = np.zeros(0)
        return TimeToSuccess(n, len(reached), None, nothing, nothing, nothing, nothing)
    reached = reached / fps
    times = np.unique(np.append(0.0, reached))
    k = np.searchsorted(reached, times, side="right")
    low, high = wilson(k, n) if n else (np.zeros(1), np.ones(1))
    return TimeToSuccess(
        n=n,
        n_success=len(reached),
        median_s=float(np.median(reached)) if len(reached) >= _FEW else None,
        time_s=times,
        share=k / max(n, 1),
        low=low,
        high=high,
    )


@final
@dataclass(frozen=True)
class Motion:
    """How one episode moved.

    Attributes:
        path: length of the executed states' path.
        jerk: root mean square of their third difference, over dt³.
        ldlj: log dimensionless jerk of the speed (higher is smoother); None without motion.
        jumps: distances between the last executed action of a chunk and the next chunk's first.
        steps: distances between consecutive executed actions within chunks.
        disagreement: [n] distances between two consecutive chunks where they overlap.
    """

    path: float
    jerk: float | None
    ldlj: float | None
    jumps: FloatArray
    steps: FloatArray
    disagreement: FloatArray


def motion(
    states: FloatArray,
    actions: FloatArray,
    chunks: FloatArray,
    called_at: NDArray[np.int64],
    *,
    fps: float,
    seams: bool = True,
) -> Motion:
    """Measure one episode.

    Args:
        states: [T + 1, S] observed states; S may be 0.
        actions: [T, A] executed actions.
        chunks: [C, H, A] predicted chunks.
        called_at: [C] step at which each was asked for.
        fps: control steps a second.
        seams: whether chunks share an origin, so that jumps between them mean something.
    """
    moves = np.linalg.norm(np.diff(actions, axis=0), axis=-1)
    at_seam = np.zeros(len(moves), dtype=bool)
    at_seam[[c - 1 for c in called_at if 0 < c <= len(moves)]] = True
    gaps = [np.zeros(0)]
    for i in range(len(called_at) - 1 if seams else 0):
        ran = int(called_at[i + 1] - called_at[i])
        overlap = chunks.shape[1] - ran
        if overlap > 0:
            apart = chunks[i, ran:] - chunks[i + 1, :overlap]
            gaps.append(np.linalg.norm(apart, axis=-1))
    velocity = np.diff(states, axis=0) * fps
    jerk = np.diff(states, n=3, axis=0) * fps**3
    path = float(np.linalg.norm(np.diff(states, axis=0), axis=-1).sum())
    return Motion(
        path=path,
        jerk=float(np.sqrt((jerk**2).sum(axis=-1).mean())) if len(jerk) and jerk.size else None,
        ldlj=_ldlj(velocity, fps) if velocity.size else None,
        jumps=moves[at_seam] if seams else np.zeros(0),
        steps=moves[~at_seam] if seams else np.zeros(0),
        disagreement=np.concatenate(gaps),
    )


def _ldlj(velocity: FloatArray, fps: float) -> float | None:
    """Log dimensionless jerk of a velocity: -ln(duration³ / peak speed² · ∫ |jerk|² dt)."""
    acceleration_rate = np.diff(velocity, n=2, axis=0) * fps**2
    peak = float(np.linalg.norm(velocity, axis=-1).max())
    total = float((acceleration_rate**2).sum()) / fps
    if peak <= 0 or total <= 0:
        return None
    duration = len(velocity) / fps
    return -math.log(duration**3 / peak**2 * total)


def motion_summary(
    known: Sequence[Motion], *, in_seconds: bool = True, unit: Literal["std"] | None = None
) -> MotionSummary:
    """Smoothness and seams over all episodes; None where there is no seam or no motion.

    ``boundary_jump`` is the mean jump between chunks over the median step within them, as in the
    offline record. `in_seconds` says whether the rate of control is known, without which jerk
    has no unit (its dimensionless kind needs none).
    """

    def mean(values: Iterable[float | None]) -> Value:
        return mean_over_episodes([v for v in values if v is not None]).measured()

    jumps, steps, gaps = (
        np.concatenate([np.zeros(0), *(getattr(m, name) for m in known)])
        for name in ("jumps", "steps", "disagreement")
    )
    median = float(np.median(steps)) if len(steps) else 0.0
    return MotionSummary(
        unit=unit,
        path=mean(m.path for m in known),
        jerk_rms=mean(m.jerk for m in known) if in_seconds else Estimate(None).measured(),
        ldlj=mean(m.ldlj for m in known),
        boundary_jump=float(jumps.mean() / median) if len(jumps) and median > 0 else None,
        overlap_disagreement=float(gaps.mean()) if len(gaps) else None,
        n_seams=len(jumps),
    )
