"""The records of runs: offline and closed loop, complete or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, final

from pydantic import ConfigDict, Field, model_validator

from policyscope.errors import Finding
from policyscope.runs.facts import ActionFacts, EnvFacts
from policyscope.runs.parts import SCOPES, Episodes, Finite, Flag, Number, Part, Scope, Whole
from policyscope.runs.plans import OfflinePlan, RolloutPlan
from policyscope.runs.rows import (
    ActionRow,
    DimRow,
    EpisodeTable,
    ExecutionRow,
    HorizonRow,
    MeaningRow,
    NearestRow,
    RolloutRow,
    RolloutTable,
    RolloutTaskRow,
    TaskRow,
    in_scope,
)
from policyscope.runs.values import (
    Ablation,
    ClosedLoop,
    Latency,
    MotionSummary,
    RolloutSpeed,
    SampleScores,
    Scopes,
    Seams,
    Similarity,
    Skill,
    Speed,
    Standing,
    Success,
    TimeBudget,
    WindowScores,
)

SCHEMA_VERSION: Literal[2] = 2

Kind = Literal["offline", "rollout"]
Status = Literal["complete", "partial", "refused"]
Unfinished = Literal["partial", "refused"]
Split = Literal["held_out", "in_sample", "unknown"]


@final
class PolicyFacts(Part):
    """Who was evaluated."""

    path: str
    type: str
    sha256: str | None
    n_parameters: Whole | None
    chunk_size: Annotated[Whole, Field(ge=1)] | None
    n_action_steps: Annotated[Whole, Field(ge=1)] | None
    sampling: Literal["lerobot", "faster"] | None = None
    """Whose code sampled: lerobot's own, or ours, with the same actions to float tolerance."""
    draws: str | None = None
    """How its noise is drawn."""
    compiled: Flag | None = None
    ensembling: Number = None
    """Coefficient of the temporal ensemble that a robot runs, where it runs one."""
    samples: Whole = 1
    """Predictions a frame."""

    @property
    def chunk(self) -> int:
        """Steps of a chunk, of a policy that was opened."""
        assert self.chunk_size is not None, "every complete run has one"
        return self.chunk_size

    @property
    def executed(self) -> int:
        """Steps that a robot runs before it asks again, of a policy that was opened."""
        assert self.n_action_steps is not None, "every complete run has it"
        return self.n_action_steps


@final
class DatasetFacts(Part):
    """On what it was evaluated; of a rollout, the episodes are seeds."""

    repo_id: str
    root: str | None = None
    revision: str | None = None
    episodes: Episodes
    n_frames: Whole
    fps: Annotated[Finite, Field(gt=0)]
    robot_type: str | None = None
    tasks: Sequence[str] = ()
    split: Split


@final
class FindingRow(Part):
    """What was noticed about the policy, the dataset or the predictions."""

    code: str
    severity: Literal["error", "warning", "info"]
    message: str
    fix: str
    evidence: Mapping[str, Number] | None = None

    @classmethod
    def of(cls, finding: Finding) -> FindingRow:
        """A finding as the record holds it."""
        evidence = finding.evidence
        return cls(
            code=finding.code,
            severity=finding.severity,
            message=finding.message,
            fix=finding.fix,
            evidence=None if evidence is None else dict(evidence),
        )


@final
class Environment(Part):
    """Where and how a run was made."""

    versions: Mapping[str, str | None]
    python: str | None = None
    platform: str | None = None
    processor: str | None = None
    device: str
    device_name: str | None = None
    n_threads: Whole | None = None
    dtype: str | None = None
    seed: int | None
    """Of the policy's noise; null where nobody noted it."""
    command_line: Sequence[str]


class Head(Part):
    """What every record begins with, whatever became of the run."""

    schema_version: Literal[2]
    kind: Kind
    status: Status
    forced: Flag
    """Computed in spite of findings of severity error."""
    policy: PolicyFacts
    dataset: DatasetFacts
    actions: ActionFacts
    inputs: Mapping[str, str] = {}
    """Which of the policy's keys is fed by what."""
    findings: Sequence[FindingRow]
    environment: Environment

    @property
    def errors(self) -> list[FindingRow]:
        """Findings of severity error."""
        return [f for f in self.findings if f.severity == "error"]


class OfflineHead(Head):
    """An evaluation on recorded demonstrations."""

    kind: Literal["offline"]


@final
class Imported(Part):
    """Where a closed-loop run comes from that somebody else made."""

    form: Literal["eval_info", "labels", "recording"]
    """lerobot's ``eval_info.json``, a table of labels, or a dataset with ``next.success``."""
    source: str
    sha256: str
    """Of that file; of a recording, of its metadata and its labels."""
    unknown: Sequence[str]
    """What it does not say."""


class RolloutHead(Head):
    """An evaluation in simulation, or on a robot."""

    kind: Literal["rollout"]
    env: EnvFacts
    imported: Imported | None = None
    """None where we ran it ourselves."""


def _without_numbers(content: Any) -> Any:
    found = {"summary", "success"} & content.keys() if isinstance(content, Mapping) else set()
    if found:
        raise ValueError(f"{found.pop()} in a run that is not complete")
    return content


_NO_NUMBERS = ConfigDict(
    json_schema_extra={"not": {"anyOf": [{"required": ["summary"]}, {"required": ["success"]}]}}
)


@final
class UnfinishedOffline(OfflineHead):
    """A refused or interrupted run: it has a head and findings, and no numbers."""

    model_config = _NO_NUMBERS
    status: Unfinished
    _check = model_validator(mode="before")(_without_numbers)

    @classmethod
    def of(cls, head: OfflineHead) -> UnfinishedOffline:
        """The record of a run that has no more than a head."""
        return cls(**dict(head))


@final
class UnfinishedRollout(RolloutHead):
    """A refused or interrupted closed-loop run: no numbers."""

    model_config = _NO_NUMBERS
    status: Unfinished
    _check = model_validator(mode="before")(_without_numbers)

    @classmethod
    def of(cls, head: RolloutHead) -> UnfinishedRollout:
        """The record of a run that has no more than a head."""
        return cls(**dict(head))


@final
class BlindScores(Part):
    """The policy against baselines that learn and see no picture."""

    learnt_on: Literal["training", "left_out"]
    """The episodes of the policy's training, or the evaluated ones, each left out in turn."""
    n_episodes: int
    """That they learnt from."""
    baselines: Mapping[str, Scopes]
    skill: Mapping[str, Skill]
    """Against each of them."""


class OfflineScores(Part):
    """What a scorecard says of all episodes together."""

    summary: Scopes
    baselines: Mapping[str, Scopes]
    skill: Mapping[str, Skill]
    """Against each baseline."""
    basis: Literal["native", "normalized"]
    """What skill, relative errors and distances are computed in."""
    by_dim: Sequence[DimRow]
    by_horizon: Sequence[HorizonRow]
    by_task: Sequence[TaskRow]
    similarity: Similarity
    smoothness: Seams
    samples: SampleScores | None
    by_meaning: Sequence[MeaningRow] = ()
    """Errors by what the dims are; empty where nobody said."""


@final
class OfflineRecord(OfflineScores, OfflineHead):
    """A complete offline run."""

    status: Literal["complete"]
    plan: OfflinePlan
    blind: BlindScores | None = None
    """None where the dataset has no states to learn from, or too few episodes."""
    standing: Standing | None = None
    """What may be said of it; earlier versions did not write it."""
    headline: str | None = None
    """The same in a sentence."""
    ablation: Ablation | None = None
    """None where nobody asked for it."""
    executions: Sequence[ExecutionRow] = ()
    """The same predictions, run in other ways."""
    critical: Sequence[WindowScores] = ()
    """At the frames that matter."""
    by_episode: EpisodeTable
    latency: Latency
    throughput: Speed
    within: TimeBudget | None = None
    """Where a time budget said how many frames there are."""

    @classmethod
    def of(
        cls,
        head: OfflineHead,
        scores: OfflineScores,
        *,
        blind: BlindScores | None,
        ablation: Ablation | None,
        plan: OfflinePlan,
        by_episode: EpisodeTable,
        latency: Latency,
        throughput: Speed,
        within: TimeBudget | None = None,
    ) -> OfflineRecord:
        """The record of a run that came to its end."""
        return cls(
            **dict(head),
            **dict(scores),
            blind=blind,
            ablation=ablation,
            plan=plan,
            by_episode=by_episode,
            latency=latency,
            throughput=throughput,
            within=within,
        )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """What readers rely on: a row for each dim and step, and a baseline that does nothing."""
        dims = list(range(len(self.actions.names)))
        steps = list(range(1, self.policy.chunk + 1))
        if len(self.actions.units) != len(dims) or len(self.actions.shown) != len(dims):
            raise ValueError("expected a unit, and a label if any, for each action dim")
        if any(d not in dims for row in self.by_meaning for d in row.dims):
            raise ValueError("expected dims of the action in by_meaning")
        if any([row.dim for row in self.dims(scope)] != dims for scope in SCOPES):
            raise ValueError("expected a row for each action dim in by_dim")
        if [row.step for row in self.by_horizon] != steps or self.policy.n_action_steps is None:
            raise ValueError("expected a row for each step of a chunk in by_horizon")
        if self.skill.keys() != self.baselines.keys() or "repeat_last" not in self.skill:
            raise ValueError("expected the skill against each baseline, repeat_last among them")
        return self

    def dims(self, scope: Scope = "chunk") -> list[DimRow]:
        """Rows of the table by dim, of one scope."""
        return in_scope(self.by_dim, scope)

    def tasks(self, scope: Scope = "chunk") -> list[TaskRow]:
        """Rows of the table by task, of one scope."""
        return in_scope(self.by_task, scope)


class RolloutScores(Part):
    """What all episodes say together."""

    success: Success
    closed_loop: ClosedLoop
    by_task: Sequence[RolloutTaskRow]
    smoothness: MotionSummary


@final
class RolloutRecord(RolloutScores, RolloutHead):
    """A complete closed-loop run."""

    status: Literal["complete"]
    plan: RolloutPlan | None
    """None of an imported run, which nobody goes on with; so are its times."""
    episodes: Sequence[RolloutRow]
    """Empty where `by_episode` says that they are beside the record."""
    by_episode: RolloutTable | None = None
    executed_actions: Sequence[ActionRow]
    nearest: Sequence[NearestRow] | None = None
    latency: Latency | None
    throughput: RolloutSpeed | None

    @property
    def n_episodes(self) -> int:
        """How many it lists, here or beside it."""
        return self.by_episode.n_episodes if self.by_episode else len(self.episodes)

    @classmethod
    def of(
        cls,
        head: RolloutHead,
        scores: RolloutScores,
        *,
        plan: RolloutPlan | None,
        episodes: Sequence[RolloutRow],
        executed_actions: Sequence[ActionRow],
        nearest: Sequence[NearestRow] | None = None,
        latency: Latency | None,
        throughput: RolloutSpeed | None,
    ) -> RolloutRecord:
        """The record of a run that came to its end."""
        return cls(
            **dict(head),
            **dict(scores),
            plan=plan,
            episodes=episodes,
            executed_actions=executed_actions,
            nearest=nearest,
            latency=latency,
            throughput=throughput,
        )


Offline = Annotated[OfflineRecord | UnfinishedOffline, Field(discriminator="status")]
Rollout = Annotated[RolloutRecord | UnfinishedRollout, Field(discriminator="status")]
AnyRecord = OfflineRecord | UnfinishedOffline | RolloutRecord | UnfinishedRollout
Complete = OfflineRecord | RolloutRecord
