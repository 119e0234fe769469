"""Policy × frames → predictions: batched full chunks of every chosen frame."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from policyscope.frames import FrameSource, Row
from policyscope.metrics.latency import budget, distribution
from policyscope.metrics.running import EpisodeNews
from policyscope.policies.base import Policy
from policyscope.spaces import FloatArray, NativeActions

_LATENCY_PATIENCE_S = 20.0
_WARM_UP = 3
_KEPT_SAMPLES = 500


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
        frame_index: [T] consecutive frames.
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


@final
@dataclass
class _Pending:
    n_rows: int
    actions: list[FloatArray] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def plan_frames(
    source: FrameSource, episodes: tuple[int, ...], max_frames: int | None
) -> list[tuple[int, int]]:
    """(episode, number of frames from its start), at most `max_frames` in all."""
    plan, left = [], max_frames
    for index in episodes:
        length = source.episode(index).length
        n = length if left is None else min(length, left)
        if n:
            plan.append((index, n))
        left = None if left is None else left - n
    return plan


def predict_episodes(
    policy: Policy,
    source: FrameSource,
    frames: Sequence[tuple[int, int]],
    *,
    samples: int,
    batch_size: int,
    clock: Clock,
    progress: Progress,
) -> Iterator[EpisodePredictions]:
    """Predict the first frames of each episode; batches run across episode borders.

    Args:
        policy: what to ask.
        source: loaded demonstrations.
        frames: (episode index, number of frames from its start), in the order to predict.
        samples: predictions a frame (K).
        batch_size: predictions a model call.
        clock: filled while it runs.
        progress: told while it runs.

    Yields:
        Each episode as soon as it is complete.
    """
    spec = policy.spec
    rows: list[Row] = [(e, f, k) for e, n in frames for f in range(n) for k in range(samples)]
    pending = {e: _Pending(n * samples) for e, n in frames}
    units: tuple[str, ...] = ()
    batches = source.batches(rows, batch_size=batch_size, keys=spec.keys, steps=spec.steps)
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        read = time.perf_counter()
        prediction = policy.predict(batch)
        units = prediction.actions.units
        done = time.perf_counter()
        clock.data_s += read - start
        clock.model_s += prediction.model_s
        clock.wall_s += done - start
        clock.n_frames += int((batch.sample == 0).sum())
        progress.advance(int((batch.sample == 0).sum()))
        for i, episode in enumerate(batch.episode_index.tolist()):
            waiting = pending[episode]
            waiting.actions.append(prediction.actions.values[i])
            waiting.seconds.append(prediction.model_s)
            if len(waiting.actions) == waiting.n_rows:
                yield _complete(episode, pending.pop(episode), samples, units)


def _complete(
    episode: int, waiting: _Pending, samples: int, units: tuple[str, ...]
) -> EpisodePredictions:
    values = np.stack(waiting.actions).reshape(-1, samples, *waiting.actions[0].shape)
    return EpisodePredictions(
        episode,
        np.arange(len(values)),
        tuple(NativeActions(values[:, k], units) for k in range(samples)),
        np.asarray(waiting.seconds).reshape(-1, samples),
    )


def measure_latency(
    policy: Policy, source: FrameSource, episode: int, *, calls: int, fps: float
) -> dict[str, Any]:
    """Time single control steps at batch 1, as a robot would meet them.

    The first call stands apart and a few more are discarded as warm-up. Stops early rather than
    keep a slow policy busy for long; quantiles that the number of calls can't support are null.
    """
    spec = policy.spec
    n = min(source.episode(episode).length, max(calls, 1))
    rows = [(episode, f, 0) for f in range(n)]
    first = next(source.batches(rows[:1], batch_size=1, keys=spec.keys, steps=spec.steps))
    cold = policy.predict(first).model_s * 1e3
    call_s: list[float] = []
    end_s: list[float] = []
    pops_s: list[float] = []
    begin = time.perf_counter()
    for i in range(calls + _WARM_UP if calls else 0):
        row = rows[i % n]
        batch = source.batch([row], keys=spec.keys, steps=spec.steps)
        step = policy.control_step(batch)
        if step is None or (len(call_s) >= 1 and time.perf_counter() - begin > _LATENCY_PATIENCE_S):
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
        "budget": budget(end_s, fps=fps, n_action_steps=spec.n_action_steps),
    }


def _kept(seconds: list[float]) -> dict[str, Any] | None:
    known = distribution(seconds)
    if known is None:
        return None
    stride = -(-len(seconds) // _KEPT_SAMPLES)
    return {**known, "samples_ms": [round(s * 1e3, 4) for s in seconds[::stride]]}
