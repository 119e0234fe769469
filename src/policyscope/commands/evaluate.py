"""Offline evaluation, end to end: config → policy × frames → predictions → metrics → run."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from policyscope.actions.robots import image_plane
from policyscope.actions.spaces import NativeActions
from policyscope.checks.detector.findings import examine
from policyscope.checks.detector.probe import stored
from policyscope.checks.inputs import OfflineInputs, read_offline
from policyscope.checks.postflight import postflight
from policyscope.commands.check import declared_of
from policyscope.commands.session import Run, Session, head, output_dir, policy_name, session
from policyscope.config import EvalConfig
from policyscope.data.facts import ACTION, dataset_revision
from policyscope.engine.footage import footage, keep_clips
from policyscope.engine.offline import plan_frames, predict_and_store, rows_of
from policyscope.engine.progress import RunningScore, Watch
from policyscope.engine.timing import chosen_batch_size, cost_of_speed, measure_latency
from policyscope.errors import UsageError, errors_in
from policyscope.metrics.ensembling import executed
from policyscope.metrics.packed import pack
from policyscope.metrics.scorecard import Scorecard
from policyscope.metrics.sums import ScoredEpisode
from policyscope.policies.base import Policy, PolicySpec
from policyscope.policies.builtin import baseline_chunks
from policyscope.policies.split import label
from policyscope.runs.arrays import write_arrays
from policyscope.runs.chosen import named_episodes
from policyscope.runs.directory import SUMS, RunDirectory
from policyscope.runs.predictions import StoredEpisode


def evaluate(config: EvalConfig, progress: Watch | None = None) -> Run:
    """Evaluate a policy on recorded demonstrations and write a run directory.

    Args:
        config: what to do.
        progress: told while it runs.

    Returns:
        The finished run.

    Raises:
        InputError: something can't be read or makes no sense.
        RefusedError: findings of severity error; ``run.json`` holds them.
        KeyboardInterrupt: the run was interrupted; ``--resume`` continues it.
    """
    path = output_dir(config.output_dir, policy_name(config.policy))
    with session(path, config) as held:
        return _evaluated(config, held, progress or Watch())


def _evaluated(config: EvalConfig, held: Session, watch: Watch) -> Run:
    if config.live:
        from policyscope.views.stream import LiveStream

        watch = LiveStream(held.directory.path, watch)
    watch.stage("reading policy and dataset")
    inputs = read_offline(config)
    _require_every_frame(config, inputs)
    held.refuse(inputs.findings, partial(_record, config, inputs, None))
    plan = _plan(inputs, config)
    if (finished := held.finished(plan)) is not None:
        return finished
    watch.stage("loading the policy")
    policy = inputs.open_policy(config)
    try:
        with held.running(plan, partial(_record, config, inputs, policy)):
            record = _run(config, inputs, policy, held.directory, watch)
            return held.finish({**record, "plan": plan})
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
    directory: RunDirectory,
    watch: Watch,
) -> dict[str, Any]:
    spec, source = policy.spec, inputs.source
    frames = plan_frames(
        source, inputs.episodes, max_frames=config.max_frames, stride=config.stride
    )
    if config.report.episodes is not None:  # said now, not after hours
        named_episodes(config.report.episodes, [e for e, _ in frames])
    watch.stage("timing single calls")
    latency = measure_latency(
        policy, source, frames[0][0], calls=config.latency_calls, fps=source.facts.robot.fps
    )
    watch.stage("choosing a batch size")
    rows = rows_of(frames, config.samples)
    batch_size = chosen_batch_size(config.batch_size, policy, source, rows, directory)
    watch.begin(sum(len(chosen) for _, chosen in frames))
    dims = inputs.alignment.dataset_dims
    running = RunningScore(
        inputs.alignment.schema,
        np.asarray(source.facts.robot.stats[ACTION]["std"]).reshape(-1)[list(dims)],
    )

    def tell(episode: int) -> None:
        scored = _scored(directory.part(episode), inputs, config, spec)
        watch.scored(running.add(scored, footage(source, episode, scored.frame_index.tolist())))

    clock = predict_and_store(
        policy,
        source,
        frames,
        directory,
        inputs.alignment,
        samples=config.samples,
        batch_size=batch_size,
        progress=watch,
        tell=tell,
    )
    watch.stage("computing metrics")
    scores = _scorecard(config, inputs, policy, directory, [e for e, _ in frames])
    record = _record(config, inputs, policy, "complete")
    record["plan"] = _plan(inputs, config)
    record["dataset"]["n_frames"] = scores.n_frames
    record["dataset"]["episodes"] = [e for e, _ in frames]
    found = postflight(config, scores, policy.spec)
    if inputs.checkpoint is not None:
        parts = (directory.part(e) for e, _ in frames)
        native = ((p.index, p.frame_index, p.predicted[0].values) for p in parts)
        sample = stored(source, inputs.alignment, native, len(frames))
        found += [*examine(sample, declared_of(config, inputs))]
    if not policy.exact:
        found.append(cost_of_speed(policy, source, frames, config.dtype, config.compile))
    record["findings"] += [f.to_json() for f in found]
    record |= _tables(scores)
    record |= {"latency": latency, "throughput": {**clock.to_json(), "batch_size": batch_size}}
    watch.stage("keeping pictures for the page")
    record["findings"] += [
        f.to_json() for f in keep_clips(source, record, config.report, directory.path)
    ]
    write_arrays(directory.path / SUMS, *pack(scores.sums))
    directory.merge([e for e, _ in frames])
    return record


def _scorecard(
    config: EvalConfig,
    inputs: OfflineInputs,
    policy: Policy,
    directory: RunDirectory,
    episodes: list[int],
) -> Scorecard:
    facts, spec = inputs.source.facts, policy.spec
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
        scores.add(_scored(directory.part(index), inputs, config, spec))
    return scores


def _scored(
    stored: StoredEpisode, inputs: OfflineInputs, config: EvalConfig, spec: PolicySpec
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
    return ScoredEpisode(
        index=stored.index,
        frame_index=stored.frame_index,
        tasks=tuple(episode.tasks[i] for i in at),
        predicted=stored.predicted,
        target=stored.target,
        is_pad=stored.is_pad,
        baselines={
            name: NativeActions(chunks.values[at][:, :, dims], units)
            for name, chunks in baselines.items()
        },
        executed=()
        if spec.ensembling is None
        else tuple(executed(sample, spec.ensembling) for sample in stored.predicted),
    )


def _tables(scores: Scorecard) -> dict[str, Any]:
    return {
        "summary": scores.summary(),
        "baselines": {name: scores.summary(name) for name in scores.baselines},
        "skill": scores.skill(),
        "basis": scores.basis,
        "by_dim": scores.by_dim(),
        "by_horizon": scores.by_horizon(),
        "by_episode": scores.by_episode(),
        "by_task": scores.by_task(),
        "similarity": scores.similarity(),
        "smoothness": scores.smoothness(),
        "samples": scores.samples(),
    }


def _record(
    config: EvalConfig, inputs: OfflineInputs, policy: Policy | None, status: str
) -> dict[str, Any]:
    facts, alignment = inputs.source.facts, inputs.alignment
    record = head(
        kind="offline",
        status=status,
        force=config.force,
        policy=config.policy,
        checkpoint=inputs.checkpoint,
        spec=policy.spec if policy is not None else None,
        schema=alignment.schema,
        action_kind=config.action_kind,
        feeds=alignment.feeds,
        findings=inputs.findings,
        samples=config.samples,
        seed=config.seed,
    )
    record["actions"] |= {
        "policy_dims": alignment.policy_dims,
        "dataset_dims": alignment.dataset_dims,
        "image_plane": image_plane(facts.robot.name, alignment.schema.units),
    }
    record["dataset"] = {
        "repo_id": facts.robot.name,
        "root": str(facts.root),
        "revision": dataset_revision(facts.root),
        "episodes": inputs.episodes,
        "n_frames": 0,
        "fps": facts.robot.fps,
        "robot_type": facts.robot.robot_type,
        "tasks": facts.robot.tasks,
        "split": label(inputs.trained, inputs.episodes),
    }
    return record


def _plan(inputs: OfflineInputs, config: EvalConfig) -> dict[str, Any]:
    """What determines the predictions: a resumed run must agree on it."""
    checkpoint = inputs.checkpoint
    return {
        "policy": checkpoint.sha256 if checkpoint else config.policy.type,
        "processors": checkpoint.processors_sha256 if checkpoint else None,
        "forced": sorted(f.code for f in errors_in(inputs.findings)) if config.force else [],
        "action_kind": config.action_kind,
        "chunk_size": None if checkpoint else config.policy.chunk_size,
        "dataset": dataset_revision(inputs.source.facts.root),
        "episodes": list(inputs.episodes),
        "max_frames": config.max_frames,
        "stride": config.stride,
        "dtype": config.dtype,
        "compile": config.compile,
        "video_backend": config.dataset.video_backend,
        "samples": config.samples,
        "seed": config.seed,
        "n_action_steps": config.n_action_steps,
        "sampling": config.policy.sampling,
        "stats": config.stats,
        "policy_dims": list(inputs.alignment.policy_dims),
        "dataset_dims": list(inputs.alignment.dataset_dims),
        "units": list(inputs.alignment.schema.units),
        "feeds": inputs.alignment.feeds,
    }
