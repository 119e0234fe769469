"""Latency: three distributions that are never averaged together.

Model call (queue empty), queue pop (an action waits), end to end (pre + model + post); the first
call stands apart. A quantile is given only where the number of calls supports a 95 % bound on it.
"""

from __future__ import annotations

import math

import numpy as np

from policyscope.runs.values import Budget, Times

QUANTILES = (0.90, 0.95, 0.99)


def calls_needed(quantile: float) -> int:
    """Smallest n for a 95 % upper bound on a quantile: n >= ln 0.05 / ln q."""
    return math.ceil(math.log(0.05) / math.log(quantile))


def distribution(seconds: list[float]) -> Times | None:
    """Milliseconds of one kind of call; None without any, null where n supports no quantile."""
    if not seconds:
        return None
    ms = np.asarray(seconds) * 1e3
    p90, p95, p99 = (
        float(np.quantile(ms, q)) if len(ms) >= calls_needed(q) else None for q in QUANTILES
    )
    return Times(
        n=len(ms),
        min_ms=float(ms.min()),
        mean_ms=float(ms.mean()),
        p50_ms=float(np.median(ms)),
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        max_ms=float(ms.max()),
    )


def budget(end_to_end_s: list[float], *, fps: float, n_action_steps: int) -> Budget:
    """Whether a robot at `fps` would stall.

    Synchronous control must answer within one period; asynchronous control within the time
    that the executed steps of a chunk last.
    """
    sync, chunk = 1.0 / fps, n_action_steps / fps
    took = np.asarray(end_to_end_s)
    return Budget(
        fps=fps,
        sync_ms=sync * 1e3,
        async_ms=chunk * 1e3,
        sync_miss_rate=float((took > sync).mean()) if len(took) else None,
        async_miss_rate=float((took > chunk).mean()) if len(took) else None,
    )
