"""Offline evaluation, end to end: config → policy × frames → predictions → metrics → run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from policyscope.actions.robots import image_plane
from policyscope.actions.spaces import NativeActions
from policyscope.checks.detector.findings import examine
from policyscope.checks.detector.probe import stored
from policyscope.checks.inputs import OfflineInputs, read_offline
from policyscope.checks.postflight import postflight
from policyscope.commands.check import declared_of
from policyscope.commands.session import Evaluated, Run, Session, output_dir, policy_name, session
from policyscope.config import EvalConfig
from policyscope.config.options import require_one_policy
from policyscope.data.facts import ACTION, dataset_revision
from policyscope.engine.blind import Learned, learn
from policyscope.engine.footage import footage, keep_clips
from policyscope.engine.offline import Frames, plan_frames, predict_and_store, rows_of
from policyscope.engine.progress import RunningScore, Watch
from policyscope.engine.timing import chosen_batch_size, cost_of_speed, measure_latency
from policyscope.errors import Finding, UsageError, errors_in
from policyscope.metrics.ensembling import executed
from policyscope.metrics.packed import pack
from policyscope.metrics.scorecard import Scorecard
from policyscope.metrics.sums import ScoredEpisode
from policyscope.policies.base import Policy, PolicySpec
from policyscope.policies.builtin import baseline_chunks
from policyscope.policies.open import CheckedPolicy
from policyscope.policies.split import label
from policyscope.runs.arrays import write_arrays
from policyscope.runs.chosen import named_episodes
from policyscope.runs.content import (
    SCHEMA_VERSION,
    BlindScores,
    DatasetFacts,
    FindingRow,
    OfflineHead,
    OfflineRecord,
    Status,
    Unfinished,
    UnfinishedOffline,
)
from policyscope.runs.directory import BY_EPISODE, SUMS, RunDirectory
from policyscope.runs.episodes import write_episodes
from policyscope.runs.plans import OfflinePlan
from policyscope.runs.predictions import StoredEpisode
from policyscope.runs.rows import EpisodeTable, in_scope


def evaluate(
    config: EvalConfig, progress: Watch | None = None, *, policy: Policy | None = None
) -> Run[OfflineRecord]:
    """Evaluate a policy on recorded demonstrations and write a run directory.

    Args:
        config: what to do.
        progress: told while it runs.
        policy: a policy object instead of the one that the config names; its answers are native
            actions with the dims and units of the dataset's.

    Returns:
        The finished run.

    Raises:
        InputError: something can't be read or makes no sense.
        RefusedError: findings of severity error; ``run.json`` holds them.
        KeyboardInterrupt: the run was interrupted; ``--resume`` continues it.
    """
    if policy is None:
        require_one_policy(config.policy)
    name = policy_name(config.policy) if policy is None else policy.spec.type
    with session(output_dir(config.output_dir, name), config) as held:
        return _evaluated(config, held, progress or Watch(), policy)


def _evaluated(
    config: EvalConfig, held: Session, watch: Watch, scripted: Policy | None
) -> Run[OfflineRecord]:
    if config.live:
        from policyscope.views.stream import LiveStream

        watch = LiveStream(held.directory.path, watch)
    watch.stage("reading policy and dataset")
    inputs = read_offline(config, scripted=scripted)
    _require_every_frame(config, inputs)
    held.refuse(inputs.findings, partial(_unfinished, config, inputs, None))
    plan = _plan(inputs, config, scripted)
    if (finished := held.finished(plan, OfflineRecord)) is not None:
        return finished
    watch.stage("loading the policy")
    policy = (
        inputs.open_policy(config)
        if scripted is None
        else CheckedPolicy(scripted, inputs.alignment.schema)
    )
    try:
        with held.running(plan, partial(_unfinished, config, inputs, policy)):
            return held.finish(_run(config, inputs, policy, plan, held.directory, watch))
    finally:
        watch.close()


def _require_every_frame(config: EvalConfig, inputs: OfflineInputs) -> None:
    """An ensemble is over the chunks of consecutive frames."""
    ensembles = inputs.checkpoint is not None and inputs.checkpoint.ensembling is not None
    if ensembles and config.stride > 1:
        raise UsageError(
            "--stride",
            expected="1: with temporal ensembling a robot asks for a chunk at every frame, and "
            "what it runs is the mean of them",
            found=str(config.stride),
            fix="--stride 1, with --max_frames for fewer frames",
        )


def _run(
    config: EvalConfig,
    inputs: OfflineInputs,
    policy: Policy,
    plan: OfflinePlan,
    directory: RunDirectory,
    watch: Watch,
) -> OfflineRecord:
    spec, source = policy.spec, inputs.source
    frames = plan_frames(
        source, inputs.episodes, max_frames=config.max_frames, stride=config.stride
    )
    episodes = [e for e, _ in frames]
    if config.report.episodes is not None:  # said now, not after hours
        named_episodes(config.report.episodes, episodes)
    watch.stage("timing single calls")
    latency = measure_latency(
        policy, source, episodes[0], calls=config.latency_calls, fps=source.facts.robot.fps
    )
    watch.stage("choosing a batch size")
    rows = rows_of(frames, config.samples)
    batch_size = chosen_batch_size(config.batch_size, policy, source, rows, directory)
    watch.begin(sum(len(chosen) for _, chosen in frames))
    clock = predict_and_store(
        policy,
        source,
        frames,
        directory,
        inputs.alignment,
        samples=config.samples,
        batch_size=batch_size,
        progress=watch,
        tell=_told(config, inputs, spec, directory, watch),
    )
    watch.stage("computing metrics")
    scores, blind = _scorecard(config, inputs, policy, directory, episodes)
    found = _found(config, inputs, policy, directory, frames, scores)
    by_episode = scores.by_episode()
    write_episodes(directory.path, by_episode)
    watch.stage("keeping pictures for the page")
    shown = in_scope(by_episode, "chunk")
    found += keep_clips(source, shown, config.stride, config.report, directory.path)
    directory.merge(episodes)
    return OfflineRecord.of(
        _head(
            config,
            inputs,
            spec,
            "complete",
            found=found,
            episodes=episodes,
            n_frames=scores.n_frames,
        ),
        scores.tables(),
        blind=blind,
        plan=plan,
        by_episode=EpisodeTable.of(by_episode, file=BY_EPISODE),
        latency=latency,
        throughput=clock.speed(batch_size),
    )


def _told(
    config: EvalConfig,
    inputs: OfflineInputs,
    spec: PolicySpec,
    directory: RunDirectory,
    watch: Watch,
) -> Callable[[int], None]:
    """What tells a watch how each finished episode came out."""
    source, alignment = inputs.source, inputs.alignment
    std = np.asarray(source.facts.robot.stats[ACTION]["std"]).reshape(-1)
    running = RunningScore(alignment.schema, std[list(alignment.dataset_dims)])

    def tell(episode: int) -> None:
        scored = _scored(directory.part(episode), inputs, config, spec, None)
        watch.scored(running.add(scored, footage(source, episode, scored.frame_index.tolist())))

    return tell


def _found(
    config: EvalConfig,
    inputs: OfflineInputs,
    policy: Policy,
    directory: RunDirectory,
    frames: Sequence[Frames],
    scores: Scorecard,
) -> list[Finding]:
    """What only the finished predictions show."""
    found = postflight(config, scores, policy.spec)
    if inputs.checkpoint is not None:
        parts = (directory.part(e) for e, _ in frames)
        native = ((p.index, p.frame_index, p.predicted[0].values) for p in parts)
        sample = stored(inputs.source, inputs.alignment, native, len(frames))
        found += [*examine(sample, declared_of(config, inputs))]
    if not policy.exact:
        found.append(cost_of_speed(policy, inputs.source, frames, config.dtype, config.compile))
    return found


def _scorecard(
    config: EvalConfig,
    inputs: OfflineInputs,
    policy: Policy,
    directory: RunDirectory,
    episodes: list[int],
) -> tuple[Scorecard, BlindScores | None]:
    """Score what is stored, beside the blind baselines, and keep the sums with the run."""
    facts, spec = inputs.source.facts, policy.spec
    learned = learn(
        inputs.source,
        episodes,
        trained=inputs.trained,
        horizon=spec.chunk_size,
        action_kind=config.action_kind,
    )
    dims = list(inputs.alignment.dataset_dims)
    stats = {
        name: np.asarray(values).reshape(-1)[dims]
        for name, values in facts.robot.stats[ACTION].items()
        if np.asarray(values).size == facts.robot.actions.dim
    }
    scores = Scorecard(
        inputs.alignment.schema,
        stats,
        horizon=spec.chunk_size,
        n_action_steps=spec.n_action_steps,
        fps=facts.robot.fps,
        action_kind=config.action_kind,
        ensembled=spec.ensembling is not None,
    )
    for index in episodes:
        scores.add(_scored(directory.part(index), inputs, config, spec, learned))
    write_arrays(directory.path / SUMS, *pack(scores.sums))
    return scores, _blind(scores, learned)


def _scored(
    stored: StoredEpisode,
    inputs: OfflineInputs,
    config: EvalConfig,
    spec: PolicySpec,
    learned: Learned | None,
) -> ScoredEpisode:
    episode = inputs.source.episode(stored.index)
    dims, units = list(inputs.alignment.dataset_dims), inputs.alignment.schema.units
    at = stored.frame_index
    baselines = baseline_chunks(
        episode,
        spec.chunk_size,
        stats=inputs.source.facts.robot.stats,
        action_kind=config.action_kind,
    )
    known = {name: chunks.values for name, chunks in baselines.items()}
    if learned is not None:
        known |= learned.chunks(inputs.source, episode)
    return ScoredEpisode(
        index=stored.index,
        frame_index=stored.frame_index,
        tasks=tuple(episode.tasks[i] for i in at),
        predicted=stored.predicted,
        target=stored.target,
        is_pad=stored.is_pad,
        baselines={
            name: NativeActions(chunks[at][:, :, dims], units) for name, chunks in known.items()
        },
        executed=()
        if spec.ensembling is None
        else tuple(executed(sample, spec.ensembling) for sample in stored.predicted),
    )


def _blind(scores: Scorecard, learned: Learned | None) -> BlindScores | None:
    """The policy against baselines that learn and see no picture."""
    if learned is None:
        return None
    return BlindScores(
        learnt_on=learned.on,
        n_episodes=len(learned.episodes),
        baselines={name: scores.summary(name) for name in scores.blind},
        skill=scores.skill(scores.blind),
    )


def _unfinished(
    config: EvalConfig, inputs: OfflineInputs, policy: Policy | None, status: Unfinished
) -> UnfinishedOffline:
    spec = policy.spec if policy is not None else None
    return UnfinishedOffline.of(_head(config, inputs, spec, status, episodes=inputs.episodes))


def _head(
    config: EvalConfig,
    inputs: OfflineInputs,
    spec: PolicySpec | None,
    status: Status,
    *,
    episodes: Sequence[int],
    n_frames: int = 0,
    found: Sequence[Finding] = (),
) -> OfflineHead:
    """What the record of a run begins with.

    Args:
        config: what was asked for.
        inputs: policy and dataset.
        spec: of the opened policy; None where it was not opened.
        status: what became of the run.
        episodes: that were evaluated, or were to be.
        n_frames: that were evaluated.
        found: beyond the findings of the preflight.
    """
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
            root=str(facts.root),
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
            config.action_kind,
            policy_dims=alignment.policy_dims,
            dataset_dims=alignment.dataset_dims,
            plane=image_plane(robot.name, alignment.schema.units),
        ),
        inputs=alignment.feeds,
        findings=[FindingRow.of(f) for f in (*inputs.findings, *found)],
        environment=who.environment(config.seed),
    )


def _plan(inputs: OfflineInputs, config: EvalConfig, scripted: Policy | None) -> OfflinePlan:
    """What determines the predictions: a resumed run must agree on it."""
    checkpoint = inputs.checkpoint
    named = config.policy.type if scripted is None else scripted.spec.path
    chunk_size = config.policy.chunk_size if scripted is None else scripted.spec.chunk_size
    return OfflinePlan(
        policy=checkpoint.sha256 if checkpoint else named,
        processors=checkpoint.processors_sha256 if checkpoint else None,
        forced=sorted(f.code for f in errors_in(inputs.findings)) if config.force else [],
        action_kind=config.action_kind,
        chunk_size=None if checkpoint else chunk_size,
        dataset=dataset_revision(inputs.source.facts.root),
        episodes=inputs.episodes,
        max_frames=config.max_frames,
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
        feeds=inputs.alignment.feeds,
    )
