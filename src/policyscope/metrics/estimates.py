"""Estimates from the sums of all episodes: errors, skill and their intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.meanings import one_unit
from policyscope.actions.spaces import FloatArray
from policyscope.metrics.errors import ErrorSums
from policyscope.metrics.intervals import Estimate, cluster_mean, cluster_ratio, skill
from policyscope.metrics.segments import Space
from policyscope.metrics.sums import POLICY, Sums
from policyscope.runs.values import MeanErrors, PooledErrors, UnitErrors

_MEANS = ("mae", "mse", "nmae", "nmse")
_STACKED_BYTES = 16 << 20  # of sums by episode that stay at hand


@final
class Estimates:
    """What sums say, of the policy or of a baseline, over the steps of a slice.

    Args:
        sums: of all episodes.
        rows: of their segments, those that count; None takes all of them.

    Attributes:
        measure: what they are sums of.
    """

    def __init__(self, sums: Sums, rows: NDArray[np.int64] | None = None) -> None:
        self._sums, self.measure = sums, sums.measure
        self._rows = slice(None) if rows is None else rows
        self._episodes, self._place = np.unique(
            sums.segments.episode[self._rows], return_inverse=True
        )
        self._stacks: dict[tuple[str, str, bytes], FloatArray] = {}

    def pooled(self, steps: slice) -> tuple[dict[str, ErrorSums], dict[str, ErrorSums]]:
        """Native and normalized sums over all episodes, of the policy and each baseline."""
        native = {n: self._total(n, "native", steps) for n in self._sums.who}
        return native, {n: self._total(n, "normalized", steps) for n in self._sums.who}

    def _total(self, name: str, space: Space, steps: slice) -> ErrorSums:
        sums = self._sums.segments.errors_of(name, space)
        absolute, squared, count = (
            values[self._rows].sum(axis=0) for values in (sums.absolute, sums.squared, sums.count)
        )
        return ErrorSums(absolute, squared, count).steps(steps)

    def errors(self, name: str, steps: slice) -> PooledErrors:
        """Native errors where all dims share a unit, normalized ones where any dim varies."""
        n = self._frames_in(steps)
        undefined = Estimate(None, n_episodes=len(self._episodes), n_frames=n).measured()
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
            return Estimate(None, n_episodes=len(self._episodes), n_frames=n)
        dims = self._basis_dims()
        ours, _, count = self._per_episode(name, steps, space=self.measure.basis, dims=dims)
        hold, _, _ = self._per_episode(still, steps, space=self.measure.basis, dims=dims)
        return cluster_ratio(ours, hold, count, n_frames=n)

    def variance_ratio(self, steps: slice, name: str = POLICY) -> FloatArray:
        """[A]: Σ(a-y)²/Σ(y-ȳ)², NaN where y is constant. Near 0 for trivial baselines, too."""
        sums, target = self._total(name, "native", steps), self._sums.segments.target[self._rows]
        n = sums.count.sum()
        first, second = (target[:, i, steps].sum(axis=1).sum(axis=0) / n for i in (0, 1))
        variance = second - first**2
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio: FloatArray = sums.squared.sum(axis=0) / (n * variance)
        return np.where(variance > 1e-12 * second, ratio, np.nan)  # more than rounding leaves

    def macro(self, name: str, steps: slice, key: Literal["episode", "task"]) -> MeanErrors:
        """Unweighted mean over episodes, or over tasks."""
        if key == "episode":
            known = self._columns(name, steps)
            return MeanErrors(
                **{k: _mean([v for v in values if v is not None]) for k, values in known.items()}
            )
        tasks = [self.task_errors(rows, name, steps) for rows in self.tasks().values()]
        return MeanErrors(
            **{k: _mean([v for e in tasks if (v := getattr(e, k)) is not None]) for k in _MEANS}
        )

    def by_episode(self, name: str, steps: slice) -> Callable[[int], MeanErrors]:
        """What gives the errors of one episode, without intervals."""
        columns = self._columns(name, steps)
        place = {episode: g for g, episode in enumerate(self._episodes.tolist())}
        return lambda episode: MeanErrors(
            **{key: values[place[episode]] for key, values in columns.items()}
        )

    def _columns(self, name: str, steps: slice) -> dict[str, list[float | None]]:
        """Each kind of error → one an episode; None where it has no such step, or none at all."""
        none: list[float | None] = [None] * len(self._episodes)
        columns = dict.fromkeys(_MEANS, none)
        every = np.ones(self.measure.schema.dim, bool)
        if self.measure.schema.single_unit is not None:
            means = self._means(name, steps, space="native", dims=every)
            columns |= {"mae": means[0], "mse": means[1]}
        if self.measure.included.any():
            means = self._means(name, steps, space="normalized", dims=self.measure.included)
            columns |= {"nmae": means[0], "nmse": means[1]}
        return columns

    def _means(
        self, name: str, steps: slice, *, space: Space, dims: NDArray[np.bool_]
    ) -> tuple[list[float | None], list[float | None]]:
        """Mean absolute and squared errors of each episode; None where it has no such step."""
        absolute, squared, count = self._per_episode(name, steps, space=space, dims=dims)
        seen, safe = count > 0, np.maximum(count, 1e-300)
        ours, theirs = (
            [value if known else None for value, known in zip(m.tolist(), seen, strict=True)]
            for m in (absolute / safe, squared / safe)
        )
        return ours, theirs

    def tasks(self) -> dict[str, NDArray[np.int64]]:
        """Each task → its segments."""
        rows: dict[str, list[int]] = {}
        for row, task in enumerate(self._sums.segments.task):
            rows.setdefault(task, []).append(row)
        return {task: np.array(some) for task, some in rows.items()}

    def task_errors(self, rows: NDArray[np.int64], name: str, steps: slice) -> MeanErrors:
        """Errors over some segments, without an interval."""
        some = Estimates(self._sums, rows)
        native = some._total(name, "native", steps)
        scaled = some._total(name, "normalized", steps)
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
        self, name: str, steps: slice, *, space: Space, dims: NDArray[np.bool_]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Sums of absolute and squared errors (averaged over dims) and counts, one an episode."""
        key = (name, space, dims.tobytes())
        if key not in self._stacks:
            sums = self._sums.segments.errors_of(name, space)
            stack = np.zeros((3, len(self._episodes), self.measure.n_steps))
            for kind, errors in enumerate((sums.absolute, sums.squared)):
                of_dims = np.moveaxis(errors[self._rows], -1, 0)[dims]
                np.add.at(stack[kind], self._place, of_dims.mean(axis=0))
            np.add.at(stack[2], self._place, sums.count[self._rows])
            while self._stacks and (len(self._stacks) + 1) * stack.nbytes > _STACKED_BYTES:
                self._stacks.pop(next(iter(self._stacks)))
            self._stacks[key] = stack
        absolute, squared, count = self._stacks[key][..., steps].sum(axis=-1)
        return absolute, squared, count

    def _frames_in(self, steps: slice) -> int:
        segments = self._sums.segments
        seen = segments.count[self._rows][:, steps][:, 0] / segments.weight[self._rows]
        return round(float(seen.sum()))

    def _basis_dims(self) -> NDArray[np.bool_]:
        return (
            np.ones(self.measure.schema.dim, bool)
            if self.measure.basis == "native"
            else self.measure.included
        )


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _errors(
    absolute: FloatArray, squared: FloatArray, count: FloatArray, n_frames: int
) -> UnitErrors:
    mse = cluster_mean(squared, count, n_frames=n_frames)
    return UnitErrors(
        mae=cluster_mean(absolute, count, n_frames=n_frames).measured(),
        mse=mse.measured(),
        rmse=mse.root().measured(),
    )
