"""Closed-loop numbers: success and its interval, time to success, motion as it was executed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.metrics.intervals import MIN_EPISODES, Estimate

_POWER, _ALPHA = 0.80, 0.05


@final
@dataclass(frozen=True)
class Proportion:
    """k successes in n episodes, with a 95 % interval.

    Attributes:
        k: successes.
        n: episodes.
        low: lower end; None without episodes.
        high: upper end.
    """

    k: int
    n: int
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, Any]:
        """As ``run.json`` holds it."""
        return {
            "k": self.k,
            "n": self.n,
            "rate": self.k / self.n if self.n else None,
            "ci_low": self.low,
            "ci_high": self.high,
        }


def proportion(k: int, n: int, *, method: str = "wilson") -> Proportion:
    """The success rate with its 95 % interval.

    Args:
        k: successes.
        n: episodes.
        method: ``wilson``, or ``exact`` for Clopper and Pearson's.
    """
    if n == 0:
        return Proportion(0, 0, None, None)
    from scipy.stats import binomtest

    ends = binomtest(k, n).proportion_ci(confidence_level=0.95, method=method)
    return Proportion(k, n, float(ends.low), float(ends.high))


def detectable(rate: float, n: int) -> dict[str, float | None]:
    """The rates that another run of n episodes would need to be told apart from this one.

    Two-sided test at 5 %, power 80 %, two independent arms of n episodes, by the arcsine
    transformation (Cohen's h).

    Returns:
        ``higher`` and ``lower``: the nearest such rates; None where 0 or 1 is nearer.
    """
    from scipy.special import ndtri

    step = float(ndtri(1 - _ALPHA / 2) + ndtri(_POWER)) * math.sqrt(2 / n) / 2
    angle = math.asin(math.sqrt(rate))
    higher, lower = angle + step, angle - step
    return {
        "higher": math.sin(higher) ** 2 if higher <= math.pi / 2 else None,
        "lower": math.sin(lower) ** 2 if lower >= 0 else None,
    }


def mean_over_episodes(
    values: Sequence[float], *, low: float = -math.inf, high: float = math.inf
) -> Estimate:
    """Mean over episodes with Student's t interval, cut off at the range of the quantity."""
    known = np.asarray(values, dtype=np.float64)
    n = len(known)
    if n == 0:
        return Estimate(None)
    mean = float(known.mean())
    if n < MIN_EPISODES:
        return Estimate(mean, n_episodes=n)
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.975)) * float(known.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, max(low, mean - half), min(high, mean + half), n)


def time_to_success(steps: Sequence[int], success: Sequence[bool], *, fps: float) -> dict[str, Any]:
    """When episodes succeed; those that don't are censored where they end.

    Args:
        steps: steps of each episode.
        success: whether it ended in success.
        fps: control steps a second.

    Returns:
        ``median_s`` among the successes, and the Kaplan-Meier curve of the share that has
        succeeded by each time, with its 95 % interval (log-log).
    """
    times = np.asarray(steps, dtype=np.float64) / fps
    reached = np.asarray(success, dtype=bool)
    curve: dict[str, list[float]] = {"time_s": [0.0], "share": [0.0], "low": [0.0], "high": [0.0]}
    if reached.any():
        from scipy.stats import CensoredData, ecdf

        known = ecdf(CensoredData(uncensored=times[reached], right=times[~reached]))
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # undefined where the share is 0 or 1: see below
            ends = known.sf.confidence_interval(confidence_level=0.95, method="log-log")
        keep = np.isin(known.sf.quantiles, times[reached])
        share = 1 - known.sf.probabilities[keep]
        low, high = (1 - end.probabilities[keep] for end in (ends.high, ends.low))
        curve["time_s"] += known.sf.quantiles[keep].tolist()
        curve["share"] += share.tolist()
        curve["low"] += np.where(np.isfinite(low), low, share).tolist()
        curve["high"] += np.where(np.isfinite(high), high, share).tolist()
    return {
        "median_s": float(np.median(times[reached])) if reached.any() else None,
        "n_censored": int((~reached).sum()),
        "curve": curve,
    }


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


def motion_summary(known: Sequence[Motion]) -> dict[str, Any]:
    """Smoothness and seams over all episodes; None where there is no seam or no motion.

    ``boundary_jump`` is the mean jump between chunks over the median step within them, as in the
    offline record.
    """

    def mean(name: str) -> dict[str, Any]:
        values = [getattr(m, name) for m in known]
        return mean_over_episodes([v for v in values if v is not None]).to_json()

    jumps, steps, gaps = (
        np.concatenate([np.zeros(0), *(getattr(m, name) for m in known)])
        for name in ("jumps", "steps", "disagreement")
    )
    median = float(np.median(steps)) if len(steps) else 0.0
    return {
        "path": mean("path"),
        "jerk_rms": mean("jerk"),
        "ldlj": mean("ldlj"),
        "boundary_jump": float(jumps.mean() / median) if len(jumps) and median > 0 else None,
        "overlap_disagreement": float(gaps.mean()) if len(gaps) else None,
        "n_seams": len(jumps),
    }
