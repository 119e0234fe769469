"""How long a policy takes: single control steps, and the batch size with the best throughput."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from policyscope.data.frames import FrameBatch, Rows
from policyscope.data.source import FrameSource
from policyscope.engine.offline import Frames
from policyscope.errors import Finding, OutOfMemoryError
from policyscope.metrics.latency import budget, distribution
from policyscope.policies.base import Policy
from policyscope.policies.builtin import BaselinePolicy
from policyscope.runs.directory import RunDirectory
from policyscope.runs.values import Latency, Times

_LATENCY_PATIENCE_S = 20.0

_WARM_UP = 3
_KEPT_SAMPLES = 500

_WORTH_A_SEARCH_S = 30.0
_WORTH_A_CHANGE = 0.95

_LARGEST_BATCH = 1024


def best_batch_size(policy: Policy, source: FrameSource, rows: Rows, *, default: int) -> int:
    """The batch size with the best throughput: doubled, or halved, from the default.

    A search costs calls: a run that the default brings to its end within half a minute, or a
    policy that is asked one frame at a time, keeps it.
    """
    if policy.spec.one_by_one or len(rows) < 2 * default:
        return default

    def seconds_a_row(size: int) -> float:
        batch = policy.stage(
            source.batch(rows[:size], keys=policy.spec.keys, steps=policy.spec.steps)
        )
        try:
            return min(policy.predict(batch).model_s for _ in range(2)) / size
        except OutOfMemoryError:
            return math.inf

    best = seconds_a_row(default)
    if best * len(rows) < _WORTH_A_SEARCH_S:
        return default
    size = default
    for factor in (2.0, 0.5):
        candidate = int(size * factor)
        while 1 <= candidate <= min(len(rows) // 2, _LARGEST_BATCH):
            took = seconds_a_row(candidate)
            if took > best * _WORTH_A_CHANGE:
                break
            size, best, candidate = candidate, took, int(candidate * factor)
        if size != default:
            break
    return size


def measure_latency(
    policy: Policy, source: FrameSource, episode: int, *, calls: int, fps: float
) -> Latency:
    """Time single control steps at batch 1, as a robot would meet them.

    The first call stands apart and a few more are discarded as warm-up. Stops early rather than
    keep a slow policy busy for long; quantiles that the number of calls can't support are null.
    """
    spec = policy.spec
    n = min(source.facts.lengths[episode], max(calls, 1))

    def asked(i: int) -> FrameBatch:
        return source.batch([(episode, i % n, 0)], keys=spec.keys, steps=spec.steps)

    return time_control_steps(policy, asked, calls=calls, fps=fps)


def time_control_steps(
    policy: Policy, asked: Callable[[int], FrameBatch], *, calls: int, fps: float
) -> Latency:
    """Time single control steps on whatever batches of one are given (see `measure_latency`).

    Args:
        policy: what to ask.
        asked: the batch of the i-th step.
        calls: how many steps to time; 0 times the first call alone.
        fps: control steps a second.
    """
    cold = policy.predict(asked(0)).model_s * 1e3
    call_s: list[float] = []
    end_s: list[float] = []
    pops_s: list[float] = []
    network_s: list[float] = []
    begin = time.perf_counter()
    for i in range(calls + _WARM_UP if calls else 0):
        step = policy.control_step(asked(i))
        if step is None or (call_s and time.perf_counter() - begin > _LATENCY_PATIENCE_S):
            break
        if i >= _WARM_UP:
            call_s.append(step.call_s)
            end_s.append(step.end_to_end_s)
            pops_s += step.pops_s
            network_s += [] if step.network_s is None else [step.network_s]
    return Latency(
        batch_size=1,
        first_call_ms=cold,
        model_call=_kept(call_s),
        queue_pop=_kept(pops_s),
        end_to_end=_kept(end_s),
        network=_kept(network_s),
        budget=budget(end_s, fps=fps, n_action_steps=policy.spec.n_action_steps),
    )


def _kept(seconds: list[float]) -> Times | None:
    known = distribution(seconds)
    if known is None:
        return None
    stride = -(-len(seconds) // _KEPT_SAMPLES)
    shown = [round(s * 1e3, 4) for s in seconds[::stride]]
    return known.model_copy(update={"samples_ms": shown})


_AUTO_BATCH = {"cpu": 32, "cuda": 64, "mps": 32, "remote": 16}


def cost_of_speed(
    policy: Policy, source: FrameSource, frames: Sequence[Frames], dtype: str, compiled: bool
) -> Finding:
    """How far a faster setting leads from float32 without compilation, on a few frames."""
    some = [(e, f, 0) for e, chosen in frames[:4] for f in chosen[:: max(1, len(chosen) // 4)]]
    batch = source.batch(some, keys=policy.spec.keys, steps=policy.spec.steps)
    fast, plain = policy.predict(batch).actions.values, policy.predict_plain(batch).actions.values
    apart = np.abs(fast - plain) / np.maximum(plain.std(axis=(0, 1)), 1e-12)
    setting = dtype + (", compiled" if compiled else "")
    return Finding(
        "cost_of_speed",
        "info",
        f"expected the actions of float32 without compilation; found that {setting} moves them by "
        f"{apart.mean():.2g} of their standard deviation on average, {apart.max():.2g} at most "
        f"({len(some)} frames).",
        "--dtype float32 without --compile where this matters",
    )


def chosen_batch_size(
    wanted: str,
    policy: Policy,
    source: FrameSource,
    rows: Rows,
    directory: RunDirectory,
) -> int:
    """What ``--batch_size`` says; for ``auto``, what the run began with, or the best one."""
    if wanted != "auto":
        return int(wanted)
    default = (
        _LARGEST_BATCH if isinstance(policy, BaselinePolicy) else _AUTO_BATCH[policy.spec.device]
    )
    return directory.batch_size(lambda: best_batch_size(policy, source, rows, default=default))
