"""Estimates from the sums of all episodes: errors, skill and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.meanings import one_unit
from policyscope.actions.spaces import FloatArray
from policyscope.metrics.errors import ErrorSums, total
from policyscope.metrics.intervals import Estimate, cluster_mean, cluster_ratio, skill
from policyscope.metrics.sums import POLICY, Segment, Sums
from policyscope.runs.values import MeanErrors, PooledErrors, UnitErrors

_MEANS = ("mae", "mse", "nmae", "nmse")


@final
class Estimates:
    """What sums say, of the policy or of a baseline, over the steps of a slice.

    Args:
        sums: of all episodes.

    Attributes:
        measure: what they are sums of.
    """

    def __init__(self, sums: Sums) -> None:
        self._sums, self.measure = sums, sums.measure
        self._stacks: dict[tuple[str, str, bytes], FloatArray] = {}

    def pooled(self, steps: slice) -> tuple[dict[str, ErrorSums], dict[str, ErrorSums]]:
        """Native and normalized sums over all episodes, of the policy and each baseline."""
        names = self._sums.segments[0].native
        native = {n: total([s.native[n] for s in self._sums.segments]).steps(steps) for n in names}
        scaled = {
            n: total([s.normalized[n] for s in self._sums.segments]).steps(steps) for n in names
        }
        return native, scaled

    def errors(self, name: str, steps: slice) -> PooledErrors:
        """Native errors where all dims share a unit, normalized ones where any dim varies."""
        n = self._frames_in(steps)
        undefined = Estimate(None, n_episodes=len(self._sums.episodes), n_frames=n).measured()
        native = scaled = None
        if self.measure.schema.single_unit is not None:
            every = np.ones(self.measure.schema.dim, bool)
            native = _errors(*self._per_episode(name, steps, space="native", dims=every), n)
        if self.measure.included.any():
            scaled = _errors(
                *self._per_episode(name, steps, space="normalized", dims=self.measure.included), n
            )
        return PooledErrors(
            mae=native.mae if native else undefined,
            mse=native.mse if native else undefined,
            rmse=native.rmse if native else undefined,
            nmae=scaled.mae if scaled else undefined,
            nmse=scaled.mse if scaled else undefined,
        )

    def by_unit(self, name: str, steps: slice) -> dict[str, UnitErrors]:
        """Native errors over the dims of each unit; not of several that nobody declared."""
        n, units = self._frames_in(steps), np.array(self.measure.schema.units)
        return {
            unit: _errors(*self._per_episode(name, steps, space="native", dims=units == unit), n)
            for unit in dict.fromkeys(self.measure.schema.units)
            if one_unit(units[units == unit].tolist()) is not None
        }

    def skill(self, baseline: str, steps: slice) -> Estimate:
        """1 - MSE/MSE_baseline."""
        dims = self._basis_dims()
        _, ours, count = self._per_episode(POLICY, steps, space=self.measure.basis, dims=dims)
        _, theirs, _ = self._per_episode(baseline, steps, space=self.measure.basis, dims=dims)
        return skill(ours, theirs, count, n_frames=self._frames_in(steps))

    def relative(self, name: str, steps: slice) -> Estimate:
        """Σ|a-y| / Σ|y-y_hold|: never divided frame by frame, since truth goes near zero.

        y_hold is what doing nothing would give: the held state, or no motion for delta actions.
        """
        n = self._frames_in(steps)
        still = next((b for b in ("hold_state", "zero") if b in self._sums.who), None)
        if still is None:
            return Estimate(None, n_episodes=len(self._sums.episodes), n_frames=n)
        dims = self._basis_dims()
        ours, _, count = self._per_episode(name, steps, space=self.measure.basis, dims=dims)
        hold, _, _ = self._per_episode(still, steps, space=self.measure.basis, dims=dims)
        return cluster_ratio(ours, hold, count, n_frames=n)

    def variance_ratio(self, steps: slice, name: str = POLICY) -> FloatArray:
        """[A]: Σ(a-y)²/Σ(y-ȳ)², NaN where y is constant. Near 0 for trivial baselines, too."""
        segments = self._sums.segments
        sums = total([s.native[name] for s in segments]).steps(steps)
        n = sums.count.sum()
        first = np.sum([s.target_sum[steps].sum(axis=0) for s in segments], axis=0) / n
        second = np.sum([s.target_squared[steps].sum(axis=0) for s in segments], axis=0) / n
        variance = second - first**2
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio: FloatArray = sums.squared.sum(axis=0) / (n * variance)
        return np.where(variance > 1e-12 * second, ratio, np.nan)  # more than rounding leaves

    def macro(self, name: str, steps: slice, key: Literal["episode", "task"]) -> MeanErrors:
        """Unweighted mean over episodes, or over tasks."""
        if key == "episode":
            known = list(self.by_episode(name, steps).values())
        else:
            groups: dict[str, list[Segment]] = {}
            for segment in self._sums.segments:
                groups.setdefault(segment.task, []).append(segment)
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

    def by_episode(self, name: str, steps: slice) -> dict[int, MeanErrors]:
        """Errors of each episode, without intervals, by rising index."""
        episodes = sorted(self._sums.episodes)
        none = [None] * len(episodes)
        columns: dict[str, Sequence[float | None]] = dict.fromkeys(_MEANS, none)
        every = np.ones(self.measure.schema.dim, bool)
        if self.measure.schema.single_unit is not None:
            means = self._means(name, steps, space="native", dims=every)
            columns |= {"mae": means[0], "mse": means[1]}
        if self.measure.included.any():
            means = self._means(name, steps, space="normalized", dims=self.measure.included)
            columns |= {"nmae": means[0], "nmse": means[1]}
        rows = zip(*(columns[key] for key in _MEANS), strict=True)
        return {
            episode: MeanErrors(**dict(zip(_MEANS, row, strict=True)))
            for episode, row in zip(episodes, rows, strict=True)
        }

    def _means(
        self, name: str, steps: slice, *, space: str, dims: NDArray[np.bool_]
    ) -> tuple[list[float | None], list[float | None]]:
        """Mean absolute and squared errors of each episode; None where it has no such step."""
        absolute, squared, count = self._per_episode(name, steps, space=space, dims=dims)
        seen, safe = count > 0, np.maximum(count, 1e-300)
        ours, theirs = (
            [value if known else None for value, known in zip(m.tolist(), seen, strict=True)]
            for m in (absolute / safe, squared / safe)
        )
        return ours, theirs

    def group_errors(self, group: list[Segment], name: str, steps: slice) -> MeanErrors:
        """Errors over some segments, without an interval."""
        native = total([s.native[name] for s in group]).steps(steps)
        scaled = total([s.normalized[name] for s in group]).steps(steps)
        n = native.count.sum()
        mae = mse = nmae = nmse = None
        if n > 0 and self.measure.schema.single_unit is not None:
            mae = float(native.absolute.mean(axis=1).sum() / n)
            mse = float(native.squared.mean(axis=1).sum() / n)
        if n > 0 and self.measure.included.any():
            nmae = float(scaled.absolute[:, self.measure.included].mean(axis=1).sum() / n)
            nmse = float(scaled.squared[:, self.measure.included].mean(axis=1).sum() / n)
        return MeanErrors(mae=mae, mse=mse, nmae=nmae, nmse=nmse)

    def _per_episode(
        self, name: str, steps: slice, *, space: str, dims: NDArray[np.bool_]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Sums of absolute and squared errors (averaged over dims) and counts, one an episode."""
        key = (name, space, dims.tobytes())
        if key not in self._stacks:
            _, place = np.unique([s.episode for s in self._sums.segments], return_inverse=True)
            stack = np.zeros((3, place.max() + 1, self.measure.n_steps))
            for at, segment in zip(place, self._sums.segments, strict=True):
                sums = (segment.native if space == "native" else segment.normalized)[name]
                stack[0, at] += sums.absolute[:, dims].mean(axis=1)
                stack[1, at] += sums.squared[:, dims].mean(axis=1)
                stack[2, at] += sums.count
            self._stacks[key] = stack
        absolute, squared, count = self._stacks[key][..., steps].sum(axis=-1)
        return absolute, squared, count

    def _frames_in(self, steps: slice) -> int:
        seen = (s.native[POLICY].count[steps][0] / s.weight for s in self._sums.segments)
        return round(float(sum(seen)))

    def _basis_dims(self) -> NDArray[np.bool_]:
        return (
            np.ones(self.measure.schema.dim, bool)
            if self.measure.basis == "native"
            else self.measure.included
        )


def _errors(
    absolute: FloatArray, squared: FloatArray, count: FloatArray, n_frames: int
) -> UnitErrors:
    mse = cluster_mean(squared, count, n_frames=n_frames)
    return UnitErrors(
        mae=cluster_mean(absolute, count, n_frames=n_frames).measured(),
        mse=mse.measured(),
        rmse=mse.root().measured(),
    )
