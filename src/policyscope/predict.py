"""Policy × frames → predictions: batched full chunks of every chosen frame.

Batches follow one another on a grid that depends on the plan alone, so a run that goes on from
where another stopped calls the policy on the very same batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from policyscope.errors import OutOfMemoryError
from policyscope.frames import FrameBatch, FrameSource, Row
from policyscope.metrics.latency import budget, distribution
from policyscope.metrics.running import EpisodeNews
from policyscope.policies.base import Policy
from policyscope.spaces import FloatArray, NativeActions

_LATENCY_PATIENCE_S = 20.0
_WARM_UP = 3
_KEPT_SAMPLES = 500
_WORTH_A_SEARCH_S = 30.0
_WORTH_A_CHANGE = 0.95
_LARGEST_BATCH = 1024


class Progress(Protocol):
    """What a run tells whoever watches it."""

    def stage(self, text: str) -> None:
        """A new stage begins."""

    def begin(self, n_frames: int) -> None:
        """Predictions of so many frames begin."""

    def advance(self, n_frames: int) -> None:
        """So many more frames are predicted."""

    def episode(self, news: EpisodeNews) -> None:
        """An episode is complete."""


@final
class Silent:
    """Watches a run and says nothing."""

    def stage(self, text: str) -> None:
        """See `Progress`."""

    def begin(self, n_frames: int) -> None:
        """See `Progress`."""

    def advance(self, n_frames: int) -> None:
        """See `Progress`."""

    def episode(self, news: EpisodeNews) -> None:
        """See `Progress`."""


@final
@dataclass(frozen=True, eq=False)
class EpisodePredictions:
    """All predictions of one episode.

    Attributes:
        index: episode index.
        frame_index: [T], rising.
        predicted: K arrays of [T, H, A], one a sample.
        model_s: [T, K] seconds of the model call that made each prediction.
    """

    index: int
    frame_index: NDArray[np.int64]
    predicted: tuple[NativeActions, ...]
    model_s: FloatArray


@final
@dataclass
class Clock:
    """Where the time of the prediction loop went, in seconds."""

    n_frames: int = 0
    wall_s: float = 0.0
    model_s: float = 0.0
    data_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As ``run.json`` holds it."""
        return {
            "frames_per_s": self.n_frames / self.wall_s if self.wall_s > 0 else None,
            "n_frames": self.n_frames,
            "wall_s": self.wall_s,
            "model_s": self.model_s,
            "data_s": self.data_s,
        }


Frames = tuple[int, range]
"""An episode, and which of its frames."""


@final
@dataclass(frozen=True, eq=False)
class RowPredictions:
    """Predictions of consecutive rows of the plan.

    Attributes:
        first: place in the plan of the first row.
        actions: [N, H, A].
        model_s: [N] seconds of the model call that made each.
    """

    first: int
    actions: NativeActions
    model_s: FloatArray

    @property
    def end(self) -> int:
        """Place in the plan after the last row."""
        return self.first + len(self.model_s)


def plan_frames(
    source: FrameSource, episodes: tuple[int, ...], *, max_frames: int | None, stride: int = 1
) -> list[Frames]:
    """Every `stride`-th frame of each episode, at most `max_frames` in all."""
    plan, left = [], max_frames
    for index in episodes:
        frames = range(0, source.facts.lengths[index], stride)[:left]
        if frames:
            plan.append((index, frames))
        left = None if left is None else left - len(frames)
    return plan


def rows_of(frames: Sequence[Frames], samples: int) -> list[Row]:
    """The predictions that a plan asks for, in their order."""
    return [(e, f, k) for e, chosen in frames for f in chosen for k in range(samples)]


def predict_rows(
    policy: Policy,
    source: FrameSource,
    rows: Sequence[Row],
    *,
    start: int = 0,
    batch_size: int,
    clock: Clock,
    progress: Progress,
) -> Iterator[RowPredictions]:
    """Predict the rows of a plan from `start` on; batches run across episode borders.

    Where memory runs out, the batch is halved and the same rows are asked for again.

    Args:
        policy: what to ask.
        source: demonstrations.
        rows: the plan.
        start: place of the first row to predict.
        batch_size: predictions a model call.
        clock: filled while it runs.
        progress: told while it runs.
    """
    spec = policy.spec
    batches = source.batches(
        rows[start:],
        batch_size=batch_size,
        keys=spec.keys,
        steps=spec.steps,
        pinned=spec.device == "cuda",
        stage=policy.stage,
    )
    limit = batch_size
    while True:
        begin = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        clock.data_s += time.perf_counter() - begin
        at = 0
        while at < len(batch):
            try:
                prediction = policy.predict(batch[at : at + limit])
            except OutOfMemoryError:
                if limit == 1:
                    raise
                limit //= 2
                continue
            part = batch[at : at + limit]
            done = RowPredictions(start, prediction.actions, np.full(len(part), prediction.model_s))
            clock.model_s += prediction.model_s
            clock.n_frames += int((part.sample == 0).sum())
            progress.advance(int((part.sample == 0).sum()))
            yield done
            at, start = at + len(part), done.end


def by_episode(
    predictions: Iterable[RowPredictions], frames: Sequence[Frames], samples: int
) -> Iterator[EpisodePredictions]:
    """Put rows together to episodes, each as soon as it is complete.

    Args:
        predictions: consecutive rows, from the first row of the first episode on.
        frames: the episodes that they belong to.
        samples: predictions a frame (K).
    """
    left = iter(frames)
    episode, chosen = next(left, (0, range(0)))
    actions: list[FloatArray] = []
    seconds: list[FloatArray] = []
    held = 0
    for part in predictions:
        values, model_s = part.actions.values, part.model_s
        while len(values):
            n = min(len(values), len(chosen) * samples - held)
            actions.append(values[:n])
            seconds.append(model_s[:n])
            values, model_s, held = values[n:], model_s[n:], held + n
            if held < len(chosen) * samples:
                continue
            whole = np.concatenate(actions)
            whole = whole.reshape(-1, samples, *whole.shape[1:])
            yield EpisodePredictions(
                episode,
                np.asarray(chosen),
                tuple(NativeActions(whole[:, k], part.actions.units) for k in range(samples)),
                np.concatenate(seconds).reshape(-1, samples),
            )
            episode, chosen = next(left, (0, range(0)))
            actions, seconds, held = [], [], 0


def best_batch_size(
    policy: Policy, source: FrameSource, rows: Sequence[Row], *, default: int
) -> int:
    """The batch size with the best throughput: doubled, or halved, from the default.

    A search costs calls: a run that the default brings to its end within half a minute, or a
    policy that is asked one frame at a time, keeps it.
    """
    if policy.spec.draws == "seeded" or len(rows) < 2 * default:
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
) -> dict[str, Any]:
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
) -> dict[str, Any]:
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
    begin = time.perf_counter()
    for i in range(calls + _WARM_UP if calls else 0):
        step = policy.control_step(asked(i))
        if step is None or (call_s and time.perf_counter() - begin > _LATENCY_PATIENCE_S):
            break
        if i >= _WARM_UP:
            call_s.append(step.call_s)
            end_s.append(step.end_to_end_s)
            pops_s += step.pops_s
    return {
        "batch_size": 1,
        "first_call_ms": cold,
        "model_call": _kept(call_s),
        "queue_pop": _kept(pops_s),
        "end_to_end": _kept(end_s),
        "budget": budget(end_s, fps=fps, n_action_steps=policy.spec.n_action_steps),
    }


def _kept(seconds: list[float]) -> dict[str, Any] | None:
    known = distribution(seconds)
    if known is None:
        return None
    stride = -(-len(seconds) // _KEPT_SAMPLES)
    return {**known, "samples_ms": [round(s * 1e3, 4) for s in seconds[::stride]]}
