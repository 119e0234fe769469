"""From the predictions of one episode to sums, and from the sums of all episodes to estimates.

An episode is reduced to small sums as soon as it is complete, so memory does not grow with the
dataset, and every table, interval and skill derives from the same sums.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import ActionSchema, FloatArray, NativeActions, Normalizer
from policyscope.metrics.errors import ErrorSums, error_sums, total
from policyscope.metrics.intervals import Estimate, cluster_mean, cluster_ratio, skill
from policyscope.runs.values import MeanErrors, PooledErrors, UnitErrors

POLICY = "policy"
MIN_STD = 1e-6


@final
@dataclass(frozen=True, eq=False)
class ScoredEpisode:
    """Predictions of one episode, ready to be scored.

    Attributes:
        index: episode index.
        frame_index: [T], rising.
        tasks: T texts.
        predicted: K arrays of [T, H, A], one a sample.
        target: [T, H, A].
        is_pad: [T, H].
        baselines: name → [T, H, A].
        executed: K arrays of [T, 1, A], what a robot runs at each frame; empty where it runs the
            first steps of its chunks.
    """

    index: int
    frame_index: NDArray[np.int64]
    tasks: tuple[str, ...]
    predicted: tuple[NativeActions, ...]
    target: NativeActions
    is_pad: NDArray[np.bool_]
    baselines: Mapping[str, NativeActions]
    executed: tuple[NativeActions, ...] = ()

    def with_executed(self) -> ScoredEpisode:
        """What is run as one more step at the end of each chunk, so that it is summed with it."""
        if not self.executed:
            return self

        def longer(chunks: NativeActions, by: NativeActions) -> NativeActions:
            return NativeActions(np.concatenate([chunks.values, by.values], axis=1), chunks.units)

        def first(chunks: NativeActions) -> NativeActions:
            return NativeActions(chunks.values[:, :1], chunks.units)

        pairs = zip(self.predicted, self.executed, strict=True)
        return replace(
            self,
            predicted=tuple(longer(p, run) for p, run in pairs),
            target=longer(self.target, first(self.target)),
            is_pad=np.concatenate([self.is_pad, self.is_pad[:, :1]], axis=1),
            baselines={name: longer(b, first(b)) for name, b in self.baselines.items()},
            executed=(),
        )


@final
@dataclass(frozen=True, eq=False)
class Segment:
    """Sums over the frames of one episode and task.

    Attributes:
        episode: its index.
        task: the instruction.
        n_frames: frames.
        native: of the policy and each baseline, in native units.
        normalized: in units of the dataset's standard deviation.
        target_sum: [H, A] sums of the demonstrated actions.
        target_squared: [H, A] sums of their squares.
    """

    episode: int
    task: str
    n_frames: int
    native: dict[str, ErrorSums]
    normalized: dict[str, ErrorSums]
    target_sum: FloatArray
    target_squared: FloatArray


@final
class Sums:
    """The sums of all episodes, and the estimates that derive from them.

    Args:
        schema: names and units of the compared dims.
        std: [A] the dataset's standard deviations of those dims.
        normalizer: to units of those.
        horizon: steps that are summed: those of a chunk (H), and whatever stands behind them.

    Attributes:
        included: [A], false for dims that hardly vary (std < 1e-6): they have no normalized error.
        basis: ``native`` where all dims share a unit, else ``normalized``: what skill, relative
            errors and distances are computed in.
        segments: one for each episode and task, in the order in which they came.
    """

    def __init__(
        self, schema: ActionSchema, std: FloatArray, normalizer: Normalizer, horizon: int
    ) -> None:
        self.schema, self.horizon, self._normalizer = schema, horizon, normalizer
        self.included: NDArray[np.bool_] = std >= MIN_STD
        self.basis: Literal["native", "normalized"] = (
            "native" if schema.single_unit is not None else "normalized"
        )
        self.segments: list[Segment] = []
        self._stacks: dict[tuple[str, str, bytes], FloatArray] = {}

    def add(self, episode: ScoredEpisode) -> None:
        """Reduce one episode."""
        self._stacks.clear()
        normalize = self._normalizer.normalize
        for task in dict.fromkeys(episode.tasks):
            at = np.array([t == task for t in episode.tasks])
            target, pad = _take(episode.target, at), episode.is_pad[at]
            baselines = {name: _take(b, at) for name, b in episode.baselines.items()}
            samples = [_take(p, at) for p in episode.predicted]
            native = {name: error_sums(b, target, pad) for name, b in baselines.items()}
            normalized = {
                name: error_sums(normalize(b), normalize(target), pad)
                for name, b in baselines.items()
            }
            native[POLICY] = total([error_sums(p, target, pad) for p in samples]).mean_over(
                len(samples)
            )
            normalized[POLICY] = total(
                [error_sums(normalize(p), normalize(target), pad) for p in samples]
            ).mean_over(len(samples))
            real = np.where(pad[..., None], 0.0, target.values)
            self.segments.append(
                Segment(
                    episode.index,
                    task,
                    int(at.sum()),
                    native,
                    normalized,
                    real.sum(axis=0),
                    (real**2).sum(axis=0),
                )
            )

    @property
    def n_episodes(self) -> int:
        """Episodes added."""
        return len({s.episode for s in self.segments})

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of the baselines that every episode has."""
        return tuple(n for n in self.segments[0].native if n != POLICY)

    def pooled(self, steps: slice) -> tuple[dict[str, ErrorSums], dict[str, ErrorSums]]:
        """Native and normalized sums over all episodes, of the policy and each baseline."""
        names = self.segments[0].native
        native = {n: total([s.native[n] for s in self.segments]).steps(steps) for n in names}
        scaled = {n: total([s.normalized[n] for s in self.segments]).steps(steps) for n in names}
        return native, scaled

    def errors(self, name: str, steps: slice) -> PooledErrors:
        """Native errors where all dims share a unit, normalized ones where any dim varies."""
        n = self._frames_in(steps)
        undefined = Estimate(None, n_episodes=self.n_episodes, n_frames=n).measured()
        native = scaled = None
        if self.schema.single_unit is not None:
            every = np.ones(self.schema.dim, bool)
            native = _errors(*self._per_episode(name, steps, space="native", dims=every), n)
        if self.included.any():
            scaled = _errors(
                *self._per_episode(name, steps, space="normalized", dims=self.included), n
            )
        return PooledErrors(
            mae=native.mae if native else undefined,
            mse=native.mse if native else undefined,
            rmse=native.rmse if native else undefined,
            nmae=scaled.mae if scaled else undefined,
            nmse=scaled.mse if scaled else undefined,
        )

    def by_unit(self, name: str, steps: slice) -> dict[str, UnitErrors]:
        """Native errors over the dims of each unit."""
        n, units = self._frames_in(steps), np.array(self.schema.units)
        return {
            unit: _errors(*self._per_episode(name, steps, space="native", dims=units == unit), n)
            for unit in dict.fromkeys(self.schema.units)
        }

    def skill(self, baseline: str, steps: slice) -> Estimate:
        """1 - MSE/MSE_baseline."""
        dims = self._basis_dims()
        _, ours, count = self._per_episode(POLICY, steps, space=self.basis, dims=dims)
        _, theirs, _ = self._per_episode(baseline, steps, space=self.basis, dims=dims)
        return skill(ours, theirs, count, n_frames=self._frames_in(steps))

    def relative(self, name: str, steps: slice) -> Estimate:
        """Σ|a-y| / Σ|y-y_hold|: never divided frame by frame, since truth goes near zero.

        y_hold is what doing nothing would give: the held state, or no motion for delta actions.
        """
        n = self._frames_in(steps)
        still = next((b for b in ("hold_state", "zero") if b in self.baselines), None)
        if still is None:
            return Estimate(None, n_episodes=self.n_episodes, n_frames=n)
        dims = self._basis_dims()
        ours, _, count = self._per_episode(name, steps, space=self.basis, dims=dims)
        hold, _, _ = self._per_episode(still, steps, space=self.basis, dims=dims)
        return cluster_ratio(ours, hold, count, n_frames=n)

    def variance_ratio(self, steps: slice, name: str = POLICY) -> FloatArray:
        """[A]: Σ(a-y)²/Σ(y-ȳ)². Near 0 for trivial baselines, too: read skill first."""
        sums = total([s.native[name] for s in self.segments]).steps(steps)
        first = sum(s.target_sum[steps].sum(axis=0) for s in self.segments)
        second = sum(s.target_squared[steps].sum(axis=0) for s in self.segments)
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = np.asarray(second) - np.asarray(first) ** 2 / sums.count.sum()
            ratio: FloatArray = sums.squared.sum(axis=0) / variance
        return np.where(variance > 0, ratio, np.nan)

    def macro(self, name: str, steps: slice, key: Literal["episode", "task"]) -> MeanErrors:
        """Unweighted mean over episodes, or over tasks."""
        groups: dict[Hashable, list[Segment]] = {}
        for segment in self.segments:
            groups.setdefault(getattr(segment, key), []).append(segment)
        known = [self.group_errors(group, name, steps) for group in groups.values()]

        def mean(values: Sequence[float | None]) -> float | None:
            defined = [value for value in values if value is not None]
            return float(np.mean(defined)) if defined else None

        return MeanErrors(
            mae=mean([e.mae for e in known]),
            mse=mean([e.mse for e in known]),
            nmae=mean([e.nmae for e in known]),
            nmse=mean([e.nmse for e in known]),
        )

    def group_errors(self, group: list[Segment], name: str, steps: slice) -> MeanErrors:
        """Errors over some segments, without an interval."""
        native = total([s.native[name] for s in group]).steps(steps)
        scaled = total([s.normalized[name] for s in group]).steps(steps)
        n = native.count.sum()
        mae = mse = nmae = nmse = None
        if n > 0 and self.schema.single_unit is not None:
            mae = float(native.absolute.mean(axis=1).sum() / n)
            mse = float(native.squared.mean(axis=1).sum() / n)
        if n > 0 and self.included.any():
            nmae = float(scaled.absolute[:, self.included].mean(axis=1).sum() / n)
            nmse = float(scaled.squared[:, self.included].mean(axis=1).sum() / n)
        return MeanErrors(mae=mae, mse=mse, nmae=nmae, nmse=nmse)

    def _per_episode(
        self, name: str, steps: slice, *, space: str, dims: NDArray[np.bool_]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Sums of absolute and squared errors (averaged over dims) and counts, one an episode."""
        key = (name, space, dims.tobytes())
        if key not in self._stacks:
            _, place = np.unique([s.episode for s in self.segments], return_inverse=True)
            stack = np.zeros((3, place.max() + 1, self.horizon))
            for at, segment in zip(place, self.segments, strict=True):
                sums = (segment.native if space == "native" else segment.normalized)[name]
                stack[0, at] += sums.absolute[:, dims].mean(axis=1)
                stack[1, at] += sums.squared[:, dims].mean(axis=1)
                stack[2, at] += sums.count
            self._stacks[key] = stack
        absolute, squared, count = self._stacks[key][..., steps].sum(axis=-1)
        return absolute, squared, count

    def _frames_in(self, steps: slice) -> int:
        return int(sum(s.native[POLICY].count[steps][0] for s in self.segments))

    def _basis_dims(self) -> NDArray[np.bool_]:
        return np.ones(self.schema.dim, bool) if self.basis == "native" else self.included


def _take(actions: NativeActions, at: NDArray[np.bool_]) -> NativeActions:
    return NativeActions(actions.values[at], actions.units)


def _errors(
    absolute: FloatArray, squared: FloatArray, count: FloatArray, n_frames: int
) -> UnitErrors:
    mse = cluster_mean(squared, count, n_frames=n_frames)
    return UnitErrors(
        mae=cluster_mean(absolute, count, n_frames=n_frames).measured(),
        mse=mse.measured(),
        rmse=mse.root().measured(),
    )
