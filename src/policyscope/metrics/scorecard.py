"""From the sums of all episodes to tables: errors and skill by scope, dim, step and group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policyscope.actions.spaces import ActionSchema, FloatArray
from policyscope.metrics.errors import ErrorSums, total
from policyscope.metrics.intervals import Estimate, cluster_mean, cluster_ratio, skill
from policyscope.metrics.samples import sample_scores
from policyscope.metrics.shape import similarity, smoothness
from policyscope.metrics.sums import POLICY, Measure, ScoredEpisode, Segment, Sums, sums_of

SCOPES = ("step1", "chunk", "executed")


@final
class Scorecard:
    """Collects episodes, then answers with tables.

    Args:
        schema: names and units of the compared dims.
        stats: the dataset's statistics of those dims: name → [A].
        horizon: steps of a chunk (H).
        n_action_steps: steps of it that a robot runs.
        fps: frames per second.
        action_kind: ``delta`` actions are integrated before their shapes are compared.
        ensembled: whether episodes say themselves what a robot runs (`ScoredEpisode.executed`).

    Attributes:
        included: [A], false for dims that hardly vary (std < 1e-6): they have no normalized error.
        basis: ``native`` where all dims share a unit, else ``normalized``: what skill, relative
            errors and distances are computed in.
    """

    def __init__(
        self,
        schema: ActionSchema,
        stats: Mapping[str, ArrayLike],
        *,
        horizon: int,
        n_action_steps: int,
        fps: float,
        action_kind: str = "absolute",
        ensembled: bool = False,
    ) -> None:
        self._start(
            Sums.nothing(
                Measure.of(
                    schema,
                    stats,
                    horizon=horizon,
                    n_action_steps=n_action_steps,
                    fps=fps,
                    action_kind=action_kind,
                    ensembled=ensembled,
                )
            )
        )

    @classmethod
    def of(cls, sums: Sums) -> Scorecard:
        """The tables of sums that are already there."""
        card = cls.__new__(cls)
        card._start(sums)
        return card

    def _start(self, sums: Sums) -> None:
        measure = sums.measure
        self._sums, self._stacks = sums, dict[tuple[str, str, bytes], FloatArray]()
        self.schema, self.horizon, self.fps = measure.schema, measure.horizon, measure.fps
        self.included, self.basis = measure.included, measure.basis

    def add(self, episode: ScoredEpisode) -> None:
        """Reduce one episode to sums."""
        self._stacks.clear()
        self._sums += sums_of(self._sums.measure, episode)

    @property
    def sums(self) -> Sums:
        """What all tables derive from."""
        return self._sums

    @property
    def _segments(self) -> tuple[Segment, ...]:
        return self._sums.segments

    # ── tables ────────────────────────────────────────────────────────

    @property
    def n_frames(self) -> int:
        """Frames scored."""
        return sum(s.n_frames for s in self._segments)

    @property
    def n_episodes(self) -> int:
        """Episodes scored."""
        return len(self._sums.episodes)

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of the baselines that every episode has."""
        return tuple(n for n in self._sums.who if n != POLICY)

    def summary(self, name: str = POLICY) -> dict[str, Any]:
        """Errors of the policy, or of a baseline, by scope."""
        return {scope: self._summary(name, self._sums.measure.steps(scope)) for scope in SCOPES}

    def skill(self) -> dict[str, Any]:
        """1 - MSE/MSE_baseline against each baseline: by scope, and by horizon step."""
        table: dict[str, Any] = {}
        for name in self.baselines:
            table[name] = {
                scope: self._skill(name, self._sums.measure.steps(scope)).to_json()
                for scope in SCOPES
            }
            table[name]["by_horizon"] = [
                self._skill(name, slice(h, h + 1)).value for h in range(self.horizon)
            ]
        return table

    def by_dim(self) -> list[dict[str, Any]]:
        """A row for each scope and dim."""
        rows, stats = [], self._sums.measure.stats
        for scope in SCOPES:
            steps = self._sums.measure.steps(scope)
            native, normalized = self._pooled(self._segments, steps)
            ratio = self._variance_ratio(steps)
            for d in range(self.schema.dim):
                use = bool(self.included[d])
                row: dict[str, Any] = {
                    "scope": scope,
                    "dim": d,
                    "name": self.schema.names[d],
                    "unit": self.schema.units[d],
                    "mean": float(stats["mean"][d]),
                    "std": float(stats["std"][d]),
                    "excluded": not use,
                    **_dim_errors(native[POLICY], d),
                    "nmae": _dim_errors(normalized[POLICY], d)["mae"] if use else None,
                    "nmse": _dim_errors(normalized[POLICY], d)["mse"] if use else None,
                    "variance_ratio": ratio[d] if use else None,
                    "out_of_range_share": self._share(1, d),
                    "saturated_share": self._share(2, d),
                }
                for name in self.baselines:
                    base = _dim_errors(native[name], d)
                    row[f"{name}_mae"] = base["mae"]
                    row[f"skill_{name}"] = 1 - row["mse"] / base["mse"] if base["mse"] > 0 else None
                rows.append(row)
        return rows

    def by_horizon(self) -> list[dict[str, Any]]:
        """A row for each horizon step (1 is the step executed first)."""
        rows = []
        for h in range(self.horizon):
            one = slice(h, h + 1)
            error = self._errors_at(POLICY, one)
            row: dict[str, Any] = {"step": h + 1, "seconds": h / self.fps}
            for metric in ("mae", "mse", "rmse", "nmae", "nmse"):
                row[metric] = error[metric]["value"]
            row |= {f"mae_{end}": error["mae"][end] for end in ("ci_low", "ci_high")}
            row |= {f"nmae_{end}": error["nmae"][end] for end in ("ci_low", "ci_high")}
            row["n_frames"] = error["mae"]["n_frames"]
            relative = self._relative(POLICY, one, row["n_frames"])
            row |= {
                "relative": relative.value,
                "relative_ci_low": relative.low,
                "relative_ci_high": relative.high,
            }
            for name in self.baselines:
                base = self._errors_at(name, one)
                gain = self._skill(name, one)
                row |= {f"{name}_{m}": base[m]["value"] for m in ("mae", "mse", "nmae", "nmse")}
                for m in ("mae", "nmae"):
                    row |= {f"{name}_{m}_{end}": base[m][end] for end in ("ci_low", "ci_high")}
                row |= {
                    f"skill_{name}": gain.value,
                    f"skill_{name}_ci_low": gain.low,
                    f"skill_{name}_ci_high": gain.high,
                }
            rows.append(row)
        return rows

    def by_episode(self) -> list[dict[str, Any]]:
        """A row for each scope and episode."""
        return self._by_group("episode_index", lambda s: s.episode)

    def by_task(self) -> list[dict[str, Any]]:
        """A row for each scope and task."""
        return self._by_group("task", lambda s: s.task)

    def similarity(self) -> dict[str, Any]:
        """ADE, FDE and path-length ratio; the key ``unit`` says in which space."""
        table: dict[str, Any] = {
            k: v.to_json() for k, v in similarity(list(self._sums.shapes)).items()
        }
        return {"unit": self.schema.single_unit or "std", **table}

    def smoothness(self) -> dict[str, Any]:
        """Chunk seams; distances in the unit that ``unit`` names."""
        return {"unit": self.schema.single_unit or "std", **smoothness(list(self._sums.shapes))}

    def samples(self) -> dict[str, Any] | None:
        """Scores of stochastic policies with K > 1 samples a frame, else None."""
        return sample_scores(list(self._sums.samples)) if self._sums.samples else None

    # ── reductions ────────────────────────────────────────────────────

    def _pooled(
        self, segments: Sequence[Segment], steps: slice
    ) -> tuple[dict[str, ErrorSums], dict[str, ErrorSums]]:
        names = segments[0].native
        native = {n: total([s.native[n] for s in segments]).steps(steps) for n in names}
        normalized = {n: total([s.normalized[n] for s in segments]).steps(steps) for n in names}
        return native, normalized

    def _per_episode(
        self, name: str, steps: slice, *, space: str, dims: NDArray[np.bool_]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Sums of absolute and squared errors (averaged over dims) and counts, one an episode."""
        key = (name, space, dims.tobytes())
        if key not in self._stacks:
            _, place = np.unique([s.episode for s in self._segments], return_inverse=True)
            stack = np.zeros((3, place.max() + 1, self._sums.measure.n_steps))
            for at, segment in zip(place, self._segments, strict=True):
                sums = (segment.native if space == "native" else segment.normalized)[name]
                stack[0, at] += sums.absolute[:, dims].mean(axis=1)
                stack[1, at] += sums.squared[:, dims].mean(axis=1)
                stack[2, at] += sums.count
            self._stacks[key] = stack
        absolute, squared, count = self._stacks[key][..., steps].sum(axis=-1)
        return absolute, squared, count

    def _frames_in(self, steps: slice) -> int:
        return int(sum(s.native[POLICY].count[steps][0] for s in self._segments))

    def _summary(self, name: str, steps: slice) -> dict[str, Any]:
        n = self._frames_in(steps)
        units = np.array(self.schema.units)
        ratio = self._variance_ratio(steps, name)[self.included]
        return {
            **self._errors_at(name, steps),
            "by_unit": {
                unit: _errors(
                    *self._per_episode(name, steps, space="native", dims=units == unit), n
                )
                for unit in dict.fromkeys(self.schema.units)
            },
            "relative": self._relative(name, steps, n).to_json(),
            "variance_ratio": float(ratio.mean()) if len(ratio) else None,
            "macro": {key: self._macro(name, steps, key) for key in ("episode", "task")},
        }

    def _errors_at(self, name: str, steps: slice) -> dict[str, Any]:
        """Native errors where all dims share a unit, normalized ones where any dim varies."""
        n = self._frames_in(steps)
        every = np.ones(self.schema.dim, bool)
        undefined = Estimate(None, n_episodes=self.n_episodes, n_frames=n).to_json()
        result = dict.fromkeys(("mae", "mse", "rmse", "nmae", "nmse"), undefined)
        if self.schema.single_unit is not None:
            result |= _errors(*self._per_episode(name, steps, space="native", dims=every), n)
        if self.included.any():
            unitless = _errors(
                *self._per_episode(name, steps, space="normalized", dims=self.included), n
            )
            result |= {"nmae": unitless["mae"], "nmse": unitless["mse"]}
        return result

    def _basis_dims(self) -> NDArray[np.bool_]:
        return np.ones(self.schema.dim, bool) if self.basis == "native" else self.included

    def _skill(self, baseline: str, steps: slice) -> Estimate:
        dims = self._basis_dims()
        _, ours, count = self._per_episode(POLICY, steps, space=self.basis, dims=dims)
        _, theirs, _ = self._per_episode(baseline, steps, space=self.basis, dims=dims)
        return skill(ours, theirs, count, n_frames=self._frames_in(steps))

    def _relative(self, name: str, steps: slice, n: int) -> Estimate:
        """Σ|a-y| / Σ|y-y_hold|: never divided frame by frame, since truth goes near zero.

        y_hold is what doing nothing would give: the held state, or no motion for delta actions.
        """
        still = next((b for b in ("hold_state", "zero") if b in self.baselines), None)
        if still is None:
            return Estimate(None, n_episodes=self.n_episodes, n_frames=n)
        dims = self._basis_dims()
        ours, _, count = self._per_episode(name, steps, space=self.basis, dims=dims)
        hold, _, _ = self._per_episode(still, steps, space=self.basis, dims=dims)
        return cluster_ratio(ours, hold, count, n_frames=n)

    def _variance_ratio(self, steps: slice, name: str = POLICY) -> FloatArray:
        """[A]: Σ(a-y)²/Σ(y-ȳ)². Near 0 for trivial baselines, too: read skill first."""
        sums = total([s.native[name] for s in self._segments]).steps(steps)
        first = sum(s.target_sum[steps].sum(axis=0) for s in self._segments)
        second = sum(s.target_squared[steps].sum(axis=0) for s in self._segments)
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = np.asarray(second) - np.asarray(first) ** 2 / sums.count.sum()
            ratio: FloatArray = sums.squared.sum(axis=0) / variance
        return np.where(variance > 0, ratio, np.nan)

    def _macro(self, name: str, steps: slice, key: str) -> dict[str, float | None]:
        """Unweighted mean over episodes, or over tasks."""
        groups: dict[Any, list[Segment]] = {}
        for segment in self._segments:
            groups.setdefault(getattr(segment, key), []).append(segment)
        values: dict[str, list[float]] = {}
        for group in groups.values():
            for metric, value in self._group_errors(group, name, steps).items():
                if value is not None:
                    values.setdefault(metric, []).append(value)
        return {
            metric: float(np.mean(values[metric])) if values.get(metric) else None
            for metric in ("mae", "mse", "nmae", "nmse")
        }

    def _group_errors(
        self, group: list[Segment], name: str, steps: slice
    ) -> dict[str, float | None]:
        native = total([s.native[name] for s in group]).steps(steps)
        normalized = total([s.normalized[name] for s in group]).steps(steps)
        n = native.count.sum()
        result: dict[str, float | None] = dict.fromkeys(("mae", "mse", "nmae", "nmse"))
        if n > 0 and self.schema.single_unit is not None:
            result["mae"] = float(native.absolute.mean(axis=1).sum() / n)
            result["mse"] = float(native.squared.mean(axis=1).sum() / n)
        if n > 0 and self.included.any():
            result["nmae"] = float(normalized.absolute[:, self.included].mean(axis=1).sum() / n)
            result["nmse"] = float(normalized.squared[:, self.included].mean(axis=1).sum() / n)
        return result

    def _by_group(self, column: str, key: Any) -> list[dict[str, Any]]:
        groups: dict[Any, list[Segment]] = {}
        for segment in self._segments:
            groups.setdefault(key(segment), []).append(segment)
        rows = []
        for scope in SCOPES:
            steps = self._sums.measure.steps(scope)
            for value, group in groups.items():
                row: dict[str, Any] = {
                    "scope": scope,
                    column: value,
                    "n_frames": sum(s.n_frames for s in group),
                }
                if column == "task":
                    row["n_episodes"] = len({s.episode for s in group})
                else:
                    row["task"] = group[0].task
                row |= self._group_errors(group, POLICY, steps)
                metric = "mse" if self.basis == "native" else "nmse"
                for name in self.baselines:
                    base = self._group_errors(group, name, steps)
                    row[f"{name}_mae"], row[f"{name}_nmae"] = base["mae"], base["nmae"]
                    ours, theirs = row[metric], base[metric]
                    row[f"skill_{name}"] = 1 - ours / theirs if theirs else None
                rows.append(row)
        return rows

    def _share(self, kind: int, dim: int) -> float | None:
        seen = self._sums.in_range[0, dim]
        return float(self._sums.in_range[kind, dim] / seen) if seen else None


def _dim_errors(sums: ErrorSums, dim: int) -> dict[str, float]:
    n = sums.count.sum()
    mse = float(sums.squared[:, dim].sum() / n)
    return {"mae": float(sums.absolute[:, dim].sum() / n), "mse": mse, "rmse": mse**0.5}


def _errors(
    absolute: FloatArray, squared: FloatArray, count: FloatArray, n_frames: int
) -> dict[str, Any]:
    mse = cluster_mean(squared, count, n_frames=n_frames)
    return {
        "mae": cluster_mean(absolute, count, n_frames=n_frames).to_json(),
        "mse": mse.to_json(),
        "rmse": mse.root().to_json(),
    }
