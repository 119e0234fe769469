"""From the sums of all episodes to the tables of a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from policyscope.actions.spaces import (
    ActionSchema,
    FloatArray,
    NativeActions,
    NormalizedActions,
    Normalizer,
)
from policyscope.metrics.errors import ErrorSums
from policyscope.metrics.samples import SampleSums, sample_scores, sample_sums
from policyscope.metrics.shape import EpisodeShape, episode_shape, similarity, smoothness
from policyscope.metrics.sums import POLICY, ScoredEpisode, Segment, Sums
from policyscope.runs.content import OfflineScores
from policyscope.runs.parts import SCOPES, Scope
from policyscope.runs.rows import DimRow, EpisodeRow, HorizonRow, TaskRow
from policyscope.runs.values import (
    Errors,
    MacroErrors,
    MeanErrors,
    SampleScores,
    Scopes,
    Seams,
    Similarity,
    Skill,
)

_EDGE = 1e-3  # of the range: within it a prediction counts as saturated


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
        sums: of all episodes so far.
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
        self._ensembled = ensembled
        self.schema, self.horizon, self.n_action_steps, self.fps = (
            schema,
            horizon,
            n_action_steps,
            fps,
        )
        self._stats = {k: np.asarray(v, dtype=np.float64).reshape(-1) for k, v in stats.items()}
        self._kind = action_kind
        self._normalizer = Normalizer.from_stats(
            {"action": self._stats}, mode="MEAN_STD", units=schema.units
        )
        self.sums = Sums(schema, self._stats["std"], self._normalizer, horizon + int(ensembled))
        self.included, self.basis = self.sums.included, self.sums.basis
        self._shapes: list[EpisodeShape] = []
        self._samples: list[SampleSums] = []
        self._range = np.zeros((3, schema.dim))  # values seen, out of range, at its edge

    def add(self, episode: ScoredEpisode) -> None:
        """Reduce one episode to sums."""
        normalize = self._normalizer.normalize
        self.sums.add(episode.with_executed())
        self._shapes.append(self._shape(episode))
        if len(episode.predicted) > 1:
            chunks = np.stack([normalize(p).values for p in episode.predicted])
            self._samples.append(
                sample_sums(
                    chunks[..., self.included],
                    normalize(episode.target).values[..., self.included],
                    episode.is_pad,
                )
            )
        self._count_range(episode)

    def _shape(self, episode: ScoredEpisode) -> EpisodeShape:
        delta = self._kind == "delta"

        def walk(values: FloatArray) -> FloatArray:
            return values.cumsum(axis=-2) if delta else values

        pair = (episode.predicted[0], episode.target)
        layout = (episode.is_pad, episode.frame_index, self.n_action_steps)
        if self.basis == "native":
            native = [NativeActions(walk(a.values), a.units) for a in pair]
            return episode_shape(native[0], native[1], *layout, seams=not delta)
        scaled = [self._normalizer.normalize(a) for a in pair]
        moved = [NormalizedActions(walk(a.values[..., self.included]), a.stats_id) for a in scaled]
        return episode_shape(moved[0], moved[1], *layout, seams=not delta)

    def _count_range(self, episode: ScoredEpisode) -> None:
        low, high = self._stats.get("min"), self._stats.get("max")
        if low is None or high is None:
            return
        edge = _EDGE * (high - low)
        for sample in episode.predicted:
            values = sample.values[~episode.is_pad]
            outside = (values < low) | (values > high)
            near = ~outside & ((values <= low + edge) | (values >= high - edge))
            self._range += [np.full(len(low), len(values)), outside.sum(0), near.sum(0)]

    # ── tables ────────────────────────────────────────────────────────

    @property
    def n_frames(self) -> int:
        """Frames scored."""
        return sum(s.n_frames for s in self.sums.segments)

    @property
    def n_episodes(self) -> int:
        """Episodes scored."""
        return self.sums.n_episodes

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of the baselines that every episode has."""
        return self.sums.baselines

    def tables(self) -> OfflineScores:
        """Everything that the record says of all episodes together."""
        return OfflineScores(
            summary=self.summary(),
            baselines={name: self.summary(name) for name in self.baselines},
            skill=self.skill(),
            basis=self.basis,
            by_dim=self.by_dim(),
            by_horizon=self.by_horizon(),
            by_task=self.by_task(),
            similarity=self.similarity(),
            smoothness=self.smoothness(),
            samples=self.samples(),
        )

    def summary(self, name: str = POLICY) -> Scopes:
        """Errors of the policy, or of a baseline, by scope."""
        return Scopes(
            step1=self._summary(name, "step1"),
            chunk=self._summary(name, "chunk"),
            executed=self._summary(name, "executed"),
        )

    def skill(self) -> dict[str, Skill]:
        """1 - MSE/MSE_baseline against each baseline: by scope, and by horizon step."""
        known = self.sums.skill
        return {
            name: Skill(
                step1=known(name, self._steps("step1")).measured(),
                chunk=known(name, self._steps("chunk")).measured(),
                executed=known(name, self._steps("executed")).measured(),
                by_horizon=[known(name, slice(h, h + 1)).value for h in range(self.horizon)],
            )
            for name in self.baselines
        }

    def by_dim(self) -> list[DimRow]:
        """A row for each scope and dim."""
        rows = []
        for scope in SCOPES:
            native, scaled = self.sums.pooled(self._steps(scope))
            ratio = self.sums.variance_ratio(self._steps(scope))
            rows += [
                self._dim(scope, d, native, scaled, float(ratio[d])) for d in range(self.schema.dim)
            ]
        return rows

    def by_horizon(self) -> list[HorizonRow]:
        """A row for each horizon step (1 is the step executed first)."""
        return [self._step(h) for h in range(self.horizon)]

    def by_episode(self) -> list[EpisodeRow]:
        """A row for each scope and episode."""
        groups: dict[int, list[Segment]] = {}
        for segment in self.sums.segments:
            groups.setdefault(segment.episode, []).append(segment)
        rows = []
        for scope in SCOPES:
            for episode, group in groups.items():
                ours, columns = self._group(scope, group)
                row = EpisodeRow(
                    scope=scope,
                    episode_index=episode,
                    n_frames=sum(s.n_frames for s in group),
                    task=group[0].task,
                    **dict(ours),
                )
                rows.append(row.beside(columns))
        return rows

    def by_task(self) -> list[TaskRow]:
        """A row for each scope and task."""
        groups: dict[str, list[Segment]] = {}
        for segment in self.sums.segments:
            groups.setdefault(segment.task, []).append(segment)
        rows = []
        for scope in SCOPES:
            for task, group in groups.items():
                ours, columns = self._group(scope, group)
                row = TaskRow(
                    scope=scope,
                    task=task,
                    n_frames=sum(s.n_frames for s in group),
                    n_episodes=len({s.episode for s in group}),
                    **dict(ours),
                )
                rows.append(row.beside(columns))
        return rows

    def similarity(self) -> Similarity:
        """ADE, FDE and path-length ratio; its ``unit`` says in which space."""
        return similarity(self._shapes, self.schema.single_unit or "std")

    def smoothness(self) -> Seams:
        """Chunk seams; distances in the unit that ``unit`` names."""
        return smoothness(self._shapes, self.schema.single_unit or "std")

    def samples(self) -> SampleScores | None:
        """Scores of stochastic policies with K > 1 samples a frame, else None."""
        return sample_scores(self._samples) if self._samples else None

    # ── rows ──────────────────────────────────────────────────────────

    def _steps(self, scope: Scope) -> slice:
        if scope == "executed" and self._ensembled:  # see `ScoredEpisode.with_executed`
            return slice(self.horizon, self.horizon + 1)
        stop = {"step1": 1, "chunk": self.horizon, "executed": self.n_action_steps}[scope]
        return slice(0, stop)

    def _summary(self, name: str, scope: Scope) -> Errors:
        sums, steps = self.sums, self._steps(scope)
        ratio = sums.variance_ratio(steps, name)[self.included]
        return Errors(
            **dict(sums.errors(name, steps)),
            by_unit=sums.by_unit(name, steps),
            relative=sums.relative(name, steps).measured(),
            variance_ratio=float(ratio.mean()) if len(ratio) else None,
            macro=MacroErrors(
                episode=sums.macro(name, steps, "episode"), task=sums.macro(name, steps, "task")
            ),
        )

    def _dim(
        self,
        scope: Scope,
        d: int,
        native: Mapping[str, ErrorSums],
        scaled: Mapping[str, ErrorSums],
        variance_ratio: float,
    ) -> DimRow:
        use = bool(self.included[d])
        mae, mse = _dim_errors(native[POLICY], d)
        nmae, nmse = _dim_errors(scaled[POLICY], d)
        row = DimRow(
            scope=scope,
            dim=d,
            name=self.schema.names[d],
            unit=self.schema.units[d],
            mean=float(self._stats["mean"][d]),
            std=float(self._stats["std"][d]),
            excluded=not use,
            mae=mae,
            mse=mse,
            rmse=mse**0.5,
            nmae=nmae if use else None,
            nmse=nmse if use else None,
            variance_ratio=variance_ratio if use else None,
            out_of_range_share=self._share(1, d),
            saturated_share=self._share(2, d),
        )
        columns: dict[str, float | None] = {}
        for name in self.baselines:
            columns[f"{name}_mae"], base = _dim_errors(native[name], d)
            columns[f"skill_{name}"] = 1 - mse / base if base > 0 else None
        return row.beside(columns)

    def _step(self, h: int) -> HorizonRow:
        one = slice(h, h + 1)
        ours, relative = self.sums.errors(POLICY, one), self.sums.relative(POLICY, one)
        row = HorizonRow(
            step=h + 1,
            seconds=h / self.fps,
            mae=ours.mae.value,
            mse=ours.mse.value,
            rmse=ours.rmse.value,
            nmae=ours.nmae.value,
            nmse=ours.nmse.value,
            mae_ci_low=ours.mae.ci_low,
            mae_ci_high=ours.mae.ci_high,
            nmae_ci_low=ours.nmae.ci_low,
            nmae_ci_high=ours.nmae.ci_high,
            n_frames=ours.mae.n_frames,
            relative=relative.value,
            relative_ci_low=relative.low,
            relative_ci_high=relative.high,
        )
        columns: dict[str, float | None] = {}
        for name in self.baselines:
            base, gain = self.sums.errors(name, one), self.sums.skill(name, one)
            columns |= {
                f"{name}_mae": base.mae.value,
                f"{name}_mse": base.mse.value,
                f"{name}_nmae": base.nmae.value,
                f"{name}_nmse": base.nmse.value,
                f"{name}_mae_ci_low": base.mae.ci_low,
                f"{name}_mae_ci_high": base.mae.ci_high,
                f"{name}_nmae_ci_low": base.nmae.ci_low,
                f"{name}_nmae_ci_high": base.nmae.ci_high,
                f"skill_{name}": gain.value,
                f"skill_{name}_ci_low": gain.low,
                f"skill_{name}_ci_high": gain.high,
            }
        return row.beside(columns)

    def _group(
        self, scope: Scope, group: list[Segment]
    ) -> tuple[MeanErrors, dict[str, float | None]]:
        """Errors of the policy over some segments, and columns of each baseline."""
        steps = self._steps(scope)
        errors = self.sums.group_errors
        ours = errors(group, POLICY, steps)
        columns: dict[str, float | None] = {}
        for name in self.baselines:
            base = errors(group, name, steps)
            columns |= {f"{name}_mae": base.mae, f"{name}_nmae": base.nmae}
            native = self.basis == "native"
            mine, theirs = (ours.mse, base.mse) if native else (ours.nmse, base.nmse)
            columns[f"skill_{name}"] = 1 - mine / theirs if theirs and mine is not None else None
        return ours, columns

    def _share(self, kind: int, dim: int) -> float | None:
        seen = self._range[0, dim]
        return float(self._range[kind, dim] / seen) if seen else None


def _dim_errors(sums: ErrorSums, dim: int) -> tuple[float, float]:
    """Mean absolute and mean squared error of one dim."""
    n = sums.count.sum()
    return float(sums.absolute[:, dim].sum() / n), float(sums.squared[:, dim].sum() / n)
