"""What a run tells whoever watches it: stages, frames, episodes, and where it stands with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policyscope.actions.spaces import ActionSchema, FloatArray
from policyscope.metrics.sums import MIN_STD

if TYPE_CHECKING:
    from policyscope.engine.episodes import Planned
    from policyscope.metrics.intervals import Estimate
    from policyscope.metrics.sums import ScoredEpisode
    from policyscope.runs.rows import RolloutRow
    from policyscope.runs.sweep import SweepRow
    from policyscope.sim.contract import Observation


class Watch:
    """Watches a run and says nothing; whoever watches overrides what it wants to hear."""

    def stage(self, text: str) -> None:
        """A new stage begins."""

    def begin(self, total: int) -> None:
        """So many frames will be predicted, or episodes run."""

    def advance(self, n_frames: int) -> None:
        """Offline: so many more frames are predicted."""

    def scored(self, news: EpisodeNews) -> None:
        """Offline: an episode is complete."""

    def narrowed(self, error: Estimate, unit: str) -> None:
        """Offline, within a time budget: the error that all frames would give, as far as is known.

        Args:
            error: over the chunk.
            unit: its unit; ``std`` where the dims share none.
        """

    def called(
        self, episode: Planned, step: int, observation: Observation, chunk: FloatArray
    ) -> None:
        """Closed loop: the policy answered an observation with a chunk, [H, A]."""

    def ended(self, row: RolloutRow) -> None:
        """Closed loop: an episode is over; `row` is what the record will list of it."""

    def checkpoint(self, name: str, place: int, total: int) -> None:
        """Sweep: one of so many checkpoints begins, or goes on."""

    def finished(self, row: SweepRow) -> None:
        """Sweep: a checkpoint is done; `row` is what the record will list of it."""

    def close(self) -> None:
        """Nothing more will be told."""


Footage = Mapping[str, Callable[[], Iterator[NDArray[np.uint8]]]]
"""Camera key → what yields its [H, W, C] pictures, frame by frame, decoded when asked for."""


@final
@dataclass(frozen=True, eq=False)
class EpisodeNews:
    """An episode that has just been predicted, and where the run stands with it.

    Attributes:
        scored: its predictions, its demonstration and the baselines.
        error: mean absolute error over its chunks, in `unit`.
        frame_error: [T] the same of each frame.
        running_error: the same over all episodes so far.
        running_skill: 1 - MSE/MSE of `against` over all episodes so far; None where undefined.
        unit: native where all dims share one, else ``std``.
        against: the baseline of the skill: the one with the least squared error so far that is not
            the policy itself.
        names: of the action dims.
        n_episodes: episodes so far.
        footage: its camera pictures.
    """

    scored: ScoredEpisode
    error: float
    frame_error: FloatArray
    running_error: float
    running_skill: float | None
    unit: str
    against: str
    names: tuple[str, ...]
    n_episodes: int
    footage: Footage = field(default_factory=dict)


@final
class RunningScore:
    """Adds up episodes as they come.

    Args:
        schema: names and units of the compared dims.
        std: [A] the dataset's standard deviations.
    """

    def __init__(self, schema: ActionSchema, std: ArrayLike) -> None:
        spread = np.asarray(std, dtype=np.float64)
        native = schema.single_unit is not None
        self._use = np.ones(schema.dim, bool) if native else spread >= MIN_STD
        self._scale = np.ones(schema.dim) if native else spread
        self._names = schema.names
        self._unit = schema.single_unit or "std"
        self._absolute = self._squared = 0.0
        self._baselines = dict[str, float]()
        self._values = self._episodes = 0

    def add(self, scored: ScoredEpisode, footage: Footage) -> EpisodeNews:
        """Add one episode."""
        weights = ~scored.is_pad
        count = np.maximum(weights.sum(axis=1), 1)

        def errors(values: FloatArray) -> FloatArray:
            scaled = (values - scored.target.values)[..., self._use] / self._scale[self._use]
            return np.asarray(np.abs(scaled) * weights[..., None])

        ours = np.mean([errors(p.values) for p in scored.predicted], axis=0)
        squared = np.mean([errors(p.values) ** 2 for p in scored.predicted], axis=0)
        n = int(weights.sum()) * int(self._use.sum())
        self._absolute += float(ours.sum())
        self._squared += float(squared.sum())
        for name, chunks in scored.baselines.items():
            more = float((errors(chunks.values) ** 2).sum())
            self._baselines[name] = self._baselines.get(name, 0.0) + more
        self._values += n
        self._episodes += 1
        others = {n: e for n, e in self._baselines.items() if e != self._squared}
        against, least = min((others or self._baselines).items(), key=lambda item: item[1])
        return EpisodeNews(
            scored=scored,
            error=float(ours.sum()) / max(n, 1),
            frame_error=ours.mean(axis=-1).sum(axis=1) / count,
            running_error=self._absolute / max(self._values, 1),
            running_skill=1 - self._squared / least if least > 0 else None,
            unit=self._unit,
            against=against,
            names=self._names,
            n_episodes=self._episodes,
            footage=footage,
        )
