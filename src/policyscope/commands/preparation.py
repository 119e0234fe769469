"""An evaluation before any weights are loaded: its inputs, its plan, the head of its record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.declared import digest
from policyscope.actions.robots import image_plane
from policyscope.checks.inputs import OfflineInputs, read_offline
from policyscope.commands.session import Evaluated
from policyscope.config import EvalConfig
from policyscope.data.facts import dataset_revision
from policyscope.data.source import FrameSource
from policyscope.engine.offline import Frames, plan_frames
from policyscope.engine.spread import spread
from policyscope.errors import Finding, UsageError, errors_in
from policyscope.policies.base import Policy, PolicySpec
from policyscope.policies.split import label
from policyscope.runs.content import (
    SCHEMA_VERSION,
    DatasetFacts,
    FindingRow,
    OfflineHead,
    Status,
    Unfinished,
    UnfinishedOffline,
)
from policyscope.runs.plans import OfflinePlan


@final
@dataclass(frozen=True)
class Prepared:
    """An evaluation before any weights are loaded.

    Attributes:
        config: what was asked for.
        inputs: policy and dataset.
        plan: what determines the predictions.
        began: when the command began, by `time.perf_counter`.
    """

    config: EvalConfig
    inputs: OfflineInputs
    plan: OfflinePlan
    began: float

    @property
    def lengths(self) -> dict[int, int]:
        """Episode → its frames, of those that were chosen."""
        known = self.inputs.source.facts.lengths
        return {episode: known[episode] for episode in self.inputs.episodes}

    @property
    def frames(self) -> list[Frames]:
        """Which frames of which episodes, in order; with a time budget, those that may be asked."""
        config, inputs = self.config, self.inputs
        if self.plan.spread:
            return frames_of(self.order)
        return plan_frames(
            inputs.source, inputs.episodes, max_frames=config.max_frames, stride=config.stride
        )

    @property
    def order(self) -> NDArray[np.int64]:
        """[N, 2] the frames that a time budget may reach, in the order in which they are asked."""
        config = self.config
        return spread(self.lengths, seed=config.seed, stride=config.stride, most=config.max_frames)


def frames_of(places: NDArray[np.int64]) -> list[Frames]:
    """Frames in any order, by episode.

    Args:
        places: [N, 2] episode and frame.
    """
    places = places[np.lexsort((places[:, 1], places[:, 0]))]
    episodes, first = np.unique(places[:, 0], return_index=True)
    parts = np.split(places[:, 1], first[1:])
    return [(int(e), part) for e, part in zip(episodes, parts, strict=True)]


def prepare(
    config: EvalConfig, *, scripted: Policy | None = None, source: FrameSource | None = None
) -> Prepared:
    """Read a policy's files and a dataset, and say what determines the run.

    Args:
        config: what to do.
        scripted: a policy object instead of the one that the config names.
        source: the dataset, where it is open already.

    Raises:
        InputError: something can't be read or makes no sense.
    """
    began = time.perf_counter()
    inputs = read_offline(config, scripted=scripted, source=source)
    _require_every_frame(config, inputs)
    return Prepared(config, inputs, _plan(inputs, config), began)


def _require_every_frame(config: EvalConfig, inputs: OfflineInputs) -> None:
    """An ensemble is over the chunks of consecutive frames."""
    ensembles = inputs.checkpoint is not None and inputs.checkpoint.ensembling is not None
    if ensembles and (config.stride > 1 or config.time_budget is not None):
        strided = config.stride > 1
        raise UsageError(
            "--stride" if strided else "--time_budget",
            expected="every frame: with temporal ensembling a robot asks for a chunk at each, and "
            "what it runs is the mean of them",
            found=f"every {config.stride}th" if strided else "frames spread over the episodes",
            fix="--max_frames for fewer frames, which takes the first",
        )


def _plan(inputs: OfflineInputs, config: EvalConfig) -> OfflinePlan:
    """What determines the predictions: a resumed run must agree on it."""
    checkpoint, opened = inputs.checkpoint, inputs.opened
    named = config.policy.type if opened is None else opened.spec.identity or opened.spec.path
    chunk_size = config.policy.chunk_size if opened is None else opened.spec.chunk_size
    return OfflinePlan(
        policy=checkpoint.sha256 if checkpoint else named,
        processors=checkpoint.processors_sha256 if checkpoint else None,
        forced=sorted(f.code for f in errors_in(inputs.findings)) if config.force else [],
        action_kind=inputs.alignment.action_kind,
        chunk_size=None if checkpoint else chunk_size,
        dataset=dataset_revision(inputs.source.facts.root),
        episodes=inputs.episodes,
        max_frames=config.max_frames,
        spread=None if config.time_budget is None else True,
        stride=config.stride,
        dtype=config.dtype,
        compile=config.compile,
        video_backend=config.dataset.video_backend,
        samples=config.samples,
        seed=config.seed,
        n_action_steps=config.n_action_steps,
        sampling=config.policy.sampling,
        stats=config.stats,
        policy_dims=inputs.alignment.policy_dims,
        dataset_dims=inputs.alignment.dataset_dims,
        units=inputs.alignment.schema.units,
        actions=digest(inputs.alignment.schema.meanings) if config.dataset.actions else None,
        feeds=inputs.alignment.feeds,
    )


def unfinished(prepared: Prepared, policy: Policy | None, status: Unfinished) -> UnfinishedOffline:
    """The record of a run that has no numbers."""
    spec = policy.spec if policy is not None else None
    return UnfinishedOffline.of(head(prepared, spec, status, episodes=prepared.inputs.episodes))


def head(
    prepared: Prepared,
    spec: PolicySpec | None,
    status: Status,
    *,
    episodes: Sequence[int],
    n_frames: int = 0,
    found: Sequence[Finding] = (),
) -> OfflineHead:
    """What the record of a run begins with.

    Args:
        prepared: the evaluation.
        spec: of the opened policy; None where it was not opened.
        status: what became of the run.
        episodes: that were evaluated, or were to be.
        n_frames: that were evaluated.
        found: beyond the findings of the preflight.
    """
    config, inputs = prepared.config, prepared.inputs
    facts, alignment = inputs.source.facts, inputs.alignment
    robot, who = facts.robot, Evaluated(config.policy, inputs.checkpoint, spec)
    return OfflineHead(
        schema_version=SCHEMA_VERSION,
        kind="offline",
        status=status,
        forced=bool(config.force and errors_in(inputs.findings)),
        policy=who.facts(config.samples),
        dataset=DatasetFacts(
            repo_id=robot.name,
            root=facts.place,
            revision=dataset_revision(facts.root),
            episodes=episodes,
            n_frames=n_frames,
            fps=robot.fps,
            robot_type=robot.robot_type,
            tasks=robot.tasks,
            split=label(inputs.trained, inputs.episodes),
        ),
        actions=who.actions(
            alignment.schema,
            inputs.alignment.action_kind,
            policy_dims=alignment.policy_dims,
            dataset_dims=alignment.dataset_dims,
            plane=image_plane(robot.name, alignment.schema.units),
        ),
        inputs=alignment.feeds,
        findings=[FindingRow.of(f) for f in (*inputs.findings, *found)],
        environment=who.environment(config.seed),
    )
