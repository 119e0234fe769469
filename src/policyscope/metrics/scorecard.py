"""From the sums of all episodes to tables: errors and skill by scope, dim, step and group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policyscope.actions.spaces import ActionSchema
from policyscope.metrics.blind import BLIND
from policyscope.metrics.errors import ErrorSums
from policyscope.metrics.estimates import Estimates
from policyscope.metrics.meant import meaning_rows
from policyscope.metrics.samples import sample_scores
from policyscope.metrics.shape import similarity, smoothness
from policyscope.metrics.sums import (
    POLICY,
    Gathered,
    Measure,
    ScoredEpisode,
    Sums,
    sums_of,
)
from policyscope.runs.content import OfflineScores
from policyscope.runs.parts import SCOPES, Scope
from policyscope.runs.rows import DimRow, EpisodeRow, HorizonRow, MeaningRow, TaskRow
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
    def of(cls, sums: Sums, *, room: int = 0) -> Scorecard:
        """The tables of sums that are already there; `room` for so many episodes to be added."""
        card = cls.__new__(cls)
        card._start(sums, room)
        return card

    def _start(self, sums: Sums, room: int = 0) -> None:
        measure = sums.measure
        self._whole: Sums | None = sums
        self._gathered: Gathered | None = None
        self._room = room
        self._estimates = Estimates(sums)
        self._measure = measure
        self.schema, self.horizon, self.fps = measure.schema, measure.horizon, measure.fps
        self.included, self.basis = measure.included, measure.basis

    def add(self, episode: ScoredEpisode) -> None:
        """Reduce one episode to sums.

        Raises:
            InputError: it was added before, or has other baselines.
        """
        if self._gathered is None:
            self._gathered = Gathered(self._measure, self._room)
            self._gathered.add(self.sums)
        self._gathered.add(sums_of(self._measure, episode))
        self._whole = None

    @property
    def sums(self) -> Sums:
        """What all tables derive from."""
        if self._whole is None:
            assert self._gathered is not None, "episodes were added"
            self._whole = self._gathered.sums
            self._estimates = Estimates(self._whole)
        return self._whole

    @property
    def _known(self) -> Estimates:
        _ = self.sums
        return self._estimates

    # ── tables ────────────────────────────────────────────────────────

    @property
    def n_frames(self) -> int:
        """Frames scored."""
        return int(self.sums.segments.n_frames.sum())

    @property
    def n_episodes(self) -> int:
        """Episodes scored."""
        return len(self.sums.episodes)

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of the trivial baselines that every episode has."""
        return tuple(n for n in self.sums.who if n != POLICY and n not in BLIND)

    @property
    def blind(self) -> tuple[str, ...]:
        """Names of the learned baselines that see no picture, where there are any."""
        return tuple(n for n in self.sums.who if n in BLIND)

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
            by_meaning=self.by_meaning(),
        )

    def summary(self, name: str = POLICY) -> Scopes:
        """Errors of the policy, or of a baseline, by scope."""
        return Scopes(
            step1=self._summary(name, "step1"),
            chunk=self._summary(name, "chunk"),
            executed=self._summary(name, "executed"),
        )

    def skill(self, names: Sequence[str] | None = None) -> dict[str, Skill]:
        """1 - MSE/MSE_baseline against each baseline: by scope, and by horizon step.

        Args:
            names: of the baselines; the trivial ones where None.
        """
        known = self._known.skill
        return {
            name: Skill(
                step1=known(name, self._steps("step1")).measured(),
                chunk=known(name, self._steps("chunk")).measured(),
                executed=known(name, self._steps("executed")).measured(),
                by_horizon=[known(name, slice(h, h + 1)).value for h in range(self.horizon)],
            )
            for name in (self.baselines if names is None else names)
        }

    def by_dim(self) -> list[DimRow]:
        """A row for each scope and dim."""
        rows = []
        for scope in SCOPES:
            native, scaled = self._known.pooled(self._steps(scope))
            ratio = self._known.variance_ratio(self._steps(scope))
            rows += [
                self._dim(scope, d, native, scaled, float(ratio[d])) for d in range(self.schema.dim)
            ]
        return rows

    def by_horizon(self) -> list[HorizonRow]:
        """A row for each horizon step (1 is the step executed first)."""
        return [self._step(h) for h in range(self.horizon)]

    def by_episode(self, scopes: Sequence[Scope] = SCOPES) -> list[EpisodeRow]:
        """A row for each scope and episode."""
        groups: dict[int, list[int]] = {}
        segments = self.sums.segments
        for at, episode in enumerate(segments.episode.tolist()):
            groups.setdefault(episode, []).append(at)
        rows = []
        for scope in scopes:
            steps = self._steps(scope)
            known = {n: self._known.by_episode(n, steps) for n in (POLICY, *self.baselines)}
            for episode, group in groups.items():
                ours = known[POLICY](episode)
                columns = self._beside(ours, {n: known[n](episode) for n in self.baselines})
                row = EpisodeRow(
                    scope=scope,
                    episode_index=episode,
                    n_frames=int(segments.n_frames[group].sum()),
                    task=segments.task[group[0]],
                    tasks=[segments.task[at] for at in group],
                    **dict(ours),
                )
                rows.append(row.beside(columns))
        return rows

    def by_task(self) -> list[TaskRow]:
        """A row for each scope and task."""
        groups, segments = self._known.tasks(), self.sums.segments
        rows = []
        for scope in SCOPES:
            for task, group in groups.items():
                ours, columns = self._group(scope, group)
                columns |= self._intervals(scope, group)
                row = TaskRow(
                    scope=scope,
                    task=task,
                    n_frames=int(segments.n_frames[group].sum()),
                    n_episodes=len(set(segments.episode[group].tolist())),
                    **dict(ours),
                )
                rows.append(row.beside(columns))
        return rows

    def by_meaning(self) -> list[MeaningRow]:
        """A row for each thing that dims are together; none where nobody said what they are."""
        return meaning_rows(
            self.sums.meanings,
            self.sums.who,
            self.schema,
            steps={scope: self._steps(scope) for scope in SCOPES},
            fps=self.fps,
        )

    def similarity(self) -> Similarity:
        """ADE, FDE and path-length ratio; its ``unit`` says in which space."""
        return similarity(self.sums.shapes, self.schema.single_unit or "std")

    def smoothness(self) -> Seams:
        """Chunk seams; distances in the unit that ``unit`` names."""
        return smoothness(self.sums.shapes, self.schema.single_unit or "std")

    def samples(self) -> SampleScores | None:
        """Scores of stochastic policies with K > 1 samples a frame, else None."""
        return sample_scores(self.sums.samples) if self.sums.samples else None

    # ── rows ──────────────────────────────────────────────────────────

    def _steps(self, scope: Scope) -> slice:
        return self.sums.measure.steps(scope)

    def _summary(self, name: str, scope: Scope) -> Errors:
        steps = self._steps(scope)
        ratio = self._known.variance_ratio(steps, name)[self.included]
        return Errors(
            **dict(self._known.errors(name, steps)),
            by_unit=self._known.by_unit(name, steps),
            relative=self._known.relative(name, steps).measured(),
            variance_ratio=float(np.nanmean(ratio)) if np.isfinite(ratio).any() else None,
            macro=MacroErrors(
                episode=self._known.macro(name, steps, "episode"),
                task=self._known.macro(name, steps, "task"),
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
            mean=float(self.sums.measure.stats["mean"][d]),
            std=float(self.sums.measure.stats["std"][d]),
            excluded=not use,
            mae=mae,
            mse=mse,
            rmse=mse**0.5,
            nmae=nmae if use else None,
            nmse=nmse if use else None,
            variance_ratio=variance_ratio if use else None,
            out_of_range_share=self._share(1, d),
            saturated_share=self._share(2, d),
            noise_floor=self._noise(d),
        )
        columns: dict[str, float | None] = {}
        for name in self.baselines:
            columns[f"{name}_mae"], base = _dim_errors(native[name], d)
            columns[f"skill_{name}"] = 1 - mse / base if base > 0 else None
        return row.beside(columns)

    def _step(self, h: int) -> HorizonRow:
        one = slice(h, h + 1)
        ours, relative = self._known.errors(POLICY, one), self._known.relative(POLICY, one)
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
            base, gain = self._known.errors(name, one), self._known.skill(name, one)
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
        self, scope: Scope, group: NDArray[np.int64]
    ) -> tuple[MeanErrors, dict[str, float | None]]:
        """Errors of the policy over some segments, and columns of each baseline."""
        steps = self._steps(scope)
        errors = self._known.task_errors
        ours = errors(group, POLICY, steps)
        others = {name: errors(group, name, steps) for name in self.baselines}
        return ours, self._beside(ours, others)

    def _beside(
        self, ours: MeanErrors, others: Mapping[str, MeanErrors]
    ) -> dict[str, float | None]:
        columns: dict[str, float | None] = {}
        for name, base in others.items():
            columns |= {f"{name}_mae": base.mae, f"{name}_nmae": base.nmae}
            native = self.basis == "native"
            mine, theirs = (ours.mse, base.mse) if native else (ours.nmse, base.nmse)
            columns[f"skill_{name}"] = 1 - mine / theirs if theirs and mine is not None else None
        return columns

    def _intervals(self, scope: Scope, group: NDArray[np.int64]) -> dict[str, float | None]:
        """Ends of intervals over some segments; the unit of chance stays the episode."""
        steps, known = self._steps(scope), Estimates(self.sums, group)
        ours = known.errors(POLICY, steps)
        columns: dict[str, float | None] = {}
        for key, value in (("mae", ours.mae), ("nmae", ours.nmae)):
            columns |= {f"{key}_ci_low": value.ci_low, f"{key}_ci_high": value.ci_high}
        for name in self.baselines:
            gain = known.skill(name, steps)
            columns |= {f"skill_{name}_ci_low": gain.low, f"skill_{name}_ci_high": gain.high}
        return columns

    def _noise(self, dim: int) -> float | None:
        """White noise of deviation s has second differences of √6 s, of mean size √(12 / π) s."""
        n, size = self.sums.in_range[3:, dim]
        return float(size / n / (12 / np.pi) ** 0.5) if n else None

    def _share(self, kind: int, dim: int) -> float | None:
        seen = self.sums.in_range[0, dim]
        return float(self.sums.in_range[kind, dim] / seen) if seen else None


def _dim_errors(sums: ErrorSums, dim: int) -> tuple[float, float]:
    """Mean absolute and mean squared error of one dim."""
    n = sums.count.sum()
    return float(sums.absolute[:, dim].sum() / n), float(sums.squared[:, dim].sum() / n)
