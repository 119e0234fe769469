"""The rows of a record's tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, Protocol, final

from pydantic import Field

from policyscope.runs.parts import Columns, Finite, Flag, Metric, Number, Part, Scope, Whole
from policyscope.runs.values import Rate, Value


class Scoped(Protocol):
    """A row that stands in a table once for each scope."""

    @property
    def scope(self) -> Scope:
        """Which steps it is about."""


def in_scope[R: Scoped](rows: Iterable[R], scope: Scope) -> list[R]:
    """The rows of one scope, in their order."""
    return [row for row in rows if row.scope == scope]


@final
class DimRow(Columns):
    """Errors of one dim of the actions."""

    scope: Scope
    dim: Whole
    name: str
    unit: str
    mean: Finite
    std: Finite
    excluded: Flag
    """Hardly varies: it has no normalized error."""
    mae: Finite
    mse: Finite
    rmse: Finite
    nmae: Number
    nmse: Number
    variance_ratio: Number
    out_of_range_share: Number
    saturated_share: Number
    noise_floor: Number = None
    """Standard deviation of the white noise that would make the demonstrations as uneven from
    frame to frame as they are, in its unit: a smaller error says nothing."""

    def error(self, metric: Metric) -> float | None:
        """One of its errors."""
        return self.column(metric)


@final
class GripperScores(Part):
    """A gripper over the steps that a robot would run: its states, and when they change."""

    ends_declared: Flag
    """Whether closed and open are known; else above and below the middle of the data's range."""
    f1: Number
    """Of being closed."""
    balanced_accuracy: Number
    baselines: Mapping[str, Number]
    """Balanced accuracy of each."""
    n_events: Finite
    """Openings and closings in the demonstrations."""
    met: Finite
    """Those with a predicted one within a second."""
    spurious: Finite
    """Predicted ones without a demonstrated one; means over samples, like `met`."""
    late_frames: Number
    """How late the met ones are; negative is early."""
    late_ms: Number
    off_frames: Number
    """How far from their time, late or early."""
    off_ms: Number


@final
class MeaningRow(Part):
    """Errors of some dims by what they are together: a point, joints, a rotation, a gripper."""

    kind: Literal["position", "angle", "rotation", "gripper", "other"]
    group: str
    names: Sequence[str]
    dims: Sequence[Whole]
    unit: str
    """Of the errors: distance of points, angle of rotations, mean over joints and others."""
    delta: Flag
    """Displacements, added up over the chunk."""
    step1: Value | None
    """None of grippers, as all errors are."""
    chunk: Value | None
    executed: Value | None
    ade: Value | None
    """Mean over a chunk."""
    fde: Value | None
    """At its last step."""
    baselines: Mapping[str, Number]
    """Executed error of each."""
    gripper: GripperScores | None


@final
class ExecutionRow(Part):
    """The same predictions, run in one way: stitched as a robot would, without asking again."""

    n_action_steps: Whole
    """That are run of a chunk before the next is asked for."""
    ensembling: Number
    """Coefficient of a temporal ensemble; null where chunks follow one another."""
    mae: Value
    nmae: Value
    baselines: Mapping[str, Number]
    """Error of each, run in the same way: native where all dims share a unit, else normalized."""
    seam: Number
    """Step into a new chunk over the demonstration's step there; null where there is none."""
    jerk: Number
    """RMS of third differences over the demonstration's."""
    path: Number
    """Length over the demonstration's."""
    n_seams: Whole
    calls_per_s: Finite
    """Of the policy, in real time."""


@final
class HorizonRow(Columns):
    """Errors at one step of the chunk; step 1 is executed first."""

    step: Whole
    seconds: Finite
    mae: Number
    mse: Number
    rmse: Number
    nmae: Number
    nmse: Number
    mae_ci_low: Number
    mae_ci_high: Number
    nmae_ci_low: Number
    nmae_ci_high: Number
    n_frames: Whole
    relative: Number
    relative_ci_low: Number
    relative_ci_high: Number


class GroupRow(Columns):
    """Errors over the frames of one group, for each scope."""

    scope: Scope
    n_frames: Whole
    mae: Number
    mse: Number
    nmae: Number
    nmse: Number
    task: str

    def error(self, metric: Metric) -> float | None:
        """One of its errors."""
        return self.column(metric)


@final
class EpisodeRow(GroupRow):
    """Errors of one episode; `task` is its first one."""

    episode_index: Whole
    tasks: Sequence[str] = ()
    """All of its tasks in their order; earlier versions told the first alone."""


@final
class TaskRow(GroupRow):
    """Errors of one task."""

    n_episodes: Whole


@final
class Spread(Part):
    """The episodes at the ends and in the middle of one scope, ranked by `metric`."""

    metric: Literal["mae", "nmae"]
    best: EpisodeRow
    median: EpisodeRow
    worst: EpisodeRow

    @classmethod
    def of(cls, rows: Sequence[EpisodeRow]) -> Spread:
        """Those of the rows of one scope."""
        order = ranked(rows)
        best, median, worst = order[0], order[len(order) // 2], order[-1]
        return cls(metric=_ranked_by(rows), best=best, median=median, worst=worst)


def ranked(rows: Sequence[EpisodeRow]) -> list[EpisodeRow]:
    """Episodes of one scope, best first: by native error where there is one."""
    key = _ranked_by(rows)
    return sorted(rows, key=lambda row: (row.error(key) or 0.0, row.episode_index))


def _ranked_by(rows: Sequence[EpisodeRow]) -> Literal["mae", "nmae"]:
    if not rows:
        raise ValueError("expected episodes in each scope")
    return "mae" if rows[0].mae is not None else "nmae"


@final
class EpisodeTable(Part):
    """The table by episode: where it is, and what stands out in it."""

    file: Literal["by_episode.parquet"] | None
    """Beside the record; null in a run of version 0.1, whose rows stand here."""
    n_episodes: Whole
    step1: Spread
    chunk: Spread
    executed: Spread
    rows: Sequence[EpisodeRow] | None = None

    @classmethod
    def of(
        cls, rows: Sequence[EpisodeRow], *, file: Literal["by_episode.parquet"] | None
    ) -> EpisodeTable:
        """What the record says of a table.

        Args:
            rows: of all scopes.
            file: where they are; None keeps them here.

        Raises:
            ValueError: a scope has none.
        """
        return cls(
            file=file,
            n_episodes=len({row.episode_index for row in rows}),
            step1=Spread.of(in_scope(rows, "step1")),
            chunk=Spread.of(in_scope(rows, "chunk")),
            executed=Spread.of(in_scope(rows, "executed")),
            rows=rows if file is None else None,
        )


# ── closed loop ───────────────────────────────────────────────────────


@final
class FaultRow(Part):
    """A simulator that died or hung."""

    kind: str
    detail: str


class OutcomeRow(Part):
    """What came of one episode in simulation."""

    episode: Whole
    """Its place in the run."""
    seed: Whole | None
    """Null where nobody noted it."""
    task_group: str
    task_id: Whole
    task: str
    success: Flag | None
    """Null where the simulator never ran it, or nobody says."""
    max_reward: Number
    sum_reward: Number


@final
class RolloutRow(OutcomeRow):
    """One episode of a closed-loop run."""

    demonstration: Whole | None
    """Where it starts, or what it replays."""
    success_step: Whole | None = None
    """The step of its first success; version 0.1 did not note it."""
    max_coverage: Number
    steps: Whole | None
    """Null where nobody counted them; then there are none in ``steps.parquet`` either."""
    ended: str
    detail: str
    n_calls: Whole | None
    attempts: Whole
    faults: Sequence[FaultRow]
    sim_s: Number
    undrawn: str = ""
    """Why there is no picture of it, where there is none."""
    video: Annotated[str, Field(pattern=r"^videos/\d{6,}\.mp4$")] | None
    """In the run directory; nothing outside it is ever shown."""
    recorded: Whole | None = None
    """Of an imported run: the episode of the recording that it is."""
    note: str = ""
    """What somebody wrote down about it."""


@final
class RolloutTable(Part):
    """Where the episodes of a long closed-loop run are listed: beside the record."""

    file: Literal["by_episode.parquet"]
    n_episodes: Whole


@final
class RolloutTaskRow(Rate):
    """Success in one task."""

    task_group: str
    task_id: Whole
    task: str
    max_reward: Number


@final
class ActionRow(Part):
    """Executed actions of one dim, beside those that the policy was trained on."""

    dim: Whole
    name: str
    mean: Finite
    std: Finite
    min: Finite
    max: Finite
    out_of_bounds_share: Number
    trained_mean: Number
    trained_std: Number
    trained_min: Number
    trained_max: Number
    out_of_range_share: Number


@final
class NearestRow(Part):
    """The demonstration whose path is nearest to an episode's."""

    episode: Whole
    demonstration: Whole
    dtw: Finite
    frechet: Finite
