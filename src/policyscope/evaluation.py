"""Offline evaluation, end to end: config → policy × frames → predictions → metrics → run."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from policyscope.alignment import Alignment, align
from policyscope.baselines import baseline_chunks
from policyscope.checkpoint import Checkpoint, read_checkpoint
from policyscope.config import EvalConfig
from policyscope.detector.findings import examine
from policyscope.detector.hypotheses import Declared
from policyscope.detector.probe import ask, declared, stored
from policyscope.errors import RefusedError
from policyscope.facts import ACTION, DatasetFacts, dataset_revision
from policyscope.findings import Finding, errors_in
from policyscope.footage import footage, keep_clips
from policyscope.frames import FrameSource, Row
from policyscope.metrics.running import RunningScore
from policyscope.metrics.scorecard import Scorecard, ScoredEpisode
from policyscope.parsing import parse_episodes
from policyscope.policies.base import Policy
from policyscope.policies.builtin import open_builtin
from policyscope.postflight import postflight
from policyscope.predict import (
    Frames,
    Progress,
    Silent,
    best_batch_size,
    measure_latency,
    plan_frames,
    rows_of,
)
from policyscope.preflight import preflight
from policyscope.run.clips import named_episodes
from policyscope.run.directory import RECORD, RunDirectory, StoredEpisode, require_same_plan
from policyscope.run.record import (
    SCHEMA_VERSION,
    dump_record,
    environment,
    read_record,
)
from policyscope.run.storing import predict_and_store
from policyscope.spaces import NativeActions
from policyscope.split import held_out, label, leakage, trained_on
from policyscope.units import image_plane

if TYPE_CHECKING:
    from policyscope.live import LiveStream

_AUTO_BATCH = {"cpu": 32, "cuda": 64, "mps": 32}


@final
@dataclass(frozen=True)
class Run:
    """A run on disk.

    Attributes:
        directory: where it lies.
        record: the content of its ``run.json``.
    """

    directory: Path
    record: dict[str, Any]


@final
@dataclass(frozen=True)
class Inputs:
    """A policy and a dataset that were read, matched and checked, before any weights.

    Attributes:
        checkpoint: None for a built-in policy.
        source: the dataset, its chosen episodes loaded.
        alignment: how the two meet.
        episodes: chosen episode indices.
        trained: episodes that the checkpoint says it saw, or None.
        findings: of the preflight.
    """

    checkpoint: Checkpoint | None
    source: FrameSource
    alignment: Alignment
    episodes: tuple[int, ...]
    trained: frozenset[int] | None
    findings: tuple[Finding, ...]


def check(config: EvalConfig) -> Inputs:
    """Preflight alone: everything that can be known without loading the weights.

    Raises:
        InputError: something can't be read or makes no sense.
    """
    checkpoint = read_checkpoint(config.policy) if config.policy.path is not None else None
    source = FrameSource(config.dataset, repo_id=config.dataset_name)
    facts = source.facts
    alignment = align(checkpoint, facts, config)
    findings = preflight(checkpoint, facts, alignment, config)
    trained = trained_on(checkpoint, facts)
    n = len(facts.lengths)
    episodes = (
        parse_episodes(config.dataset.episodes, n)
        if config.dataset.episodes is not None
        else held_out(trained, n)
    )
    source.load(episodes)
    leak = leakage(trained, episodes)
    findings = (*findings, leak) if leak else findings
    return Inputs(checkpoint, source, alignment, episodes, trained, findings)


def evaluate(config: EvalConfig, progress: Progress | None = None) -> Run:
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
    watch = progress or Silent()
    directory = RunDirectory(_output_dir(config))
    directory.require_free(resume=config.resume, overwrite=config.overwrite)
    live: LiveStream | None = None
    if config.live:
        from policyscope.live import LiveStream

        watch = live = LiveStream(directory.path, watch)
    watch.stage("reading policy and dataset")
    inputs = check(config)
    blocking = [f for f in errors_in(inputs.findings) if not (config.force and f.forceable)]
    if blocking:
        if not directory.holds_predictions():  # an earlier run is worth more than this refusal
            record = _record(config, inputs, policy=None, status="refused")
            directory.write_text(RECORD, dump_record(record))
        raise RefusedError(tuple(blocking))
    plan = _plan(inputs, config)
    if config.resume and (finished := _finished(directory, plan)) is not None:
        return finished
    watch.stage("loading the policy")
    policy = open_policy(config, inputs)
    directory.prepare(plan, resume=config.resume, overwrite=config.overwrite)
    try:
        return _run(config, inputs, policy, directory, watch)
    except KeyboardInterrupt:
        record = _record(config, inputs, policy=policy, status="partial")
        directory.write_text(RECORD, dump_record(record))
        raise KeyboardInterrupt(str(directory.path)) from None
    finally:
        if live is not None:
            live.close()


def open_policy(config: EvalConfig, inputs: Inputs) -> Policy:
    """The policy that the config names, ready to predict."""
    if inputs.checkpoint is None:
        return open_builtin(
            config.policy,
            inputs.source,
            dims=inputs.alignment.dataset_dims,
            n_action_steps=config.n_action_steps,
            action_kind=config.action_kind,
        )
    from policyscope.policies.lerobot import LerobotPolicy

    return LerobotPolicy(inputs.checkpoint, inputs.source.facts, inputs.alignment, config)


def probe(config: EvalConfig, inputs: Inputs, n_frames: int) -> tuple[Finding, ...]:
    """Findings of the predictions on a sample of frames: seconds instead of a whole evaluation.

    Args:
        config: what to check.
        inputs: what `check` returned, without findings of severity error.
        n_frames: about how many frames to ask for.

    Raises:
        InputError: the policy can't be opened or called.
    """
    if inputs.checkpoint is None:
        return ()
    policy = open_policy(config, inputs)
    sample = ask(policy, inputs.source, inputs.alignment, inputs.episodes, n_frames)
    return examine(sample, _declared(config, inputs))


def _declared(config: EvalConfig, inputs: Inputs) -> Declared:
    assert inputs.checkpoint is not None
    return declared(
        inputs.checkpoint,
        inputs.source.facts,
        inputs.alignment,
        stats=config.stats,
        action_kind=config.action_kind,
    )


def _run(
    config: EvalConfig, inputs: Inputs, policy: Policy, directory: RunDirectory, watch: Progress
) -> Run:
    spec, source = policy.spec, inputs.source
    frames = plan_frames(
        source, inputs.episodes, max_frames=config.max_frames, stride=config.stride
    )
    if config.report.episodes is not None:  # said now, not after hours
        named_episodes(config.report.episodes, [e for e, _ in frames])
    watch.stage("timing single calls")
    latency = measure_latency(
        policy, source, frames[0][0], calls=config.latency_calls, fps=source.facts.fps
    )
    watch.stage("choosing a batch size")
    rows = rows_of(frames, config.samples)
    batch_size = _batch_size(config, inputs, policy, directory, rows)
    watch.begin(sum(len(chosen) for _, chosen in frames))
    dims = inputs.alignment.dataset_dims
    running = RunningScore(
        inputs.alignment.schema,
        np.asarray(source.facts.stats[ACTION]["std"]).reshape(-1)[list(dims)],
    )

    def tell(episode: int) -> None:
        scored = _scored(directory.part(episode), inputs, config, spec.chunk_size)
        watch.episode(running.add(scored, footage(source, episode, scored.frame_index.tolist())))

    clock = predict_and_store(
        policy,
        source,
        frames,
        directory,
        samples=config.samples,
        batch_size=batch_size,
        schema=inputs.alignment.schema,
        dims=dims,
        progress=watch,
        tell=tell,
    )
    watch.stage("computing metrics")
    scores = _scorecard(config, inputs, policy, directory, [e for e, _ in frames])
    record = _record(config, inputs, policy=policy, status="complete")
    record["plan"] = _plan(inputs, config)
    record["dataset"]["n_frames"] = scores.n_frames
    record["dataset"]["episodes"] = [e for e, _ in frames]
    found = postflight(config, scores, policy.spec)
    if inputs.checkpoint is not None:
        parts = (directory.part(e) for e, _ in frames)
        native = ((p.index, p.frame_index, p.predicted[0].values) for p in parts)
        sample = stored(source, inputs.alignment, native, len(frames))
        found += [*examine(sample, _declared(config, inputs))]
    record["findings"] += [f.to_json() for f in found]
    if not policy.exact:
        record["findings"].append(_cost_of_speed(policy, source, frames, config).to_json())
    record |= _tables(scores)
    record |= {"latency": latency, "throughput": {**clock.to_json(), "batch_size": batch_size}}
    watch.stage("keeping pictures for the page")
    record["findings"] += [
        f.to_json() for f in keep_clips(source, record, config.report, directory.path)
    ]
    directory.merge([e for e, _ in frames])
    directory.write_text(RECORD, dump_record(record))
    directory.close()
    return Run(directory.path, read_record(directory.path))


def _scorecard(
    config: EvalConfig,
    inputs: Inputs,
    policy: Policy,
    directory: RunDirectory,
    episodes: list[int],
) -> Scorecard:
    facts, spec = inputs.source.facts, policy.spec
    dims = list(inputs.alignment.dataset_dims)
    stats = {
        name: np.asarray(values).reshape(-1)[dims]
        for name, values in facts.stats[ACTION].items()
        if np.asarray(values).size == facts.actions.dim
    }
    scores = Scorecard(
        inputs.alignment.schema,
        stats,
        horizon=spec.chunk_size,
        n_action_steps=spec.n_action_steps,
        fps=facts.fps,
        action_kind=config.action_kind,
    )
    for index in episodes:
        scores.add(_scored(directory.part(index), inputs, config, spec.chunk_size))
    return scores


def _scored(
    stored: StoredEpisode, inputs: Inputs, config: EvalConfig, horizon: int
) -> ScoredEpisode:
    episode = inputs.source.episode(stored.index)
    dims, units = list(inputs.alignment.dataset_dims), inputs.alignment.schema.units
    at = stored.frame_index
    baselines = baseline_chunks(
        episode, horizon, stats=inputs.source.facts.stats, action_kind=config.action_kind
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
    config: EvalConfig, inputs: Inputs, *, policy: Policy | None, status: str
) -> dict[str, Any]:
    facts, checkpoint = inputs.source.facts, inputs.checkpoint
    spec = policy.spec if policy is not None else None
    schema = inputs.alignment.schema
    forced = bool(config.force and errors_in(inputs.findings))
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "offline",
        "status": status,
        "forced": forced,
        "policy": {
            "path": config.policy.path or config.policy.type,
            "type": checkpoint.type if checkpoint else config.policy.type,
            "sha256": checkpoint.sha256 if checkpoint else None,
            "n_parameters": checkpoint.n_parameters if checkpoint else 0,
            "chunk_size": spec.chunk_size if spec else None,
            "n_action_steps": spec.n_action_steps if spec else None,
            "sampling": spec.sampling if spec else None,
            "draws": spec.draws if spec else None,
            "samples": config.samples,
        },
        "dataset": _dataset(facts, inputs),
        "actions": {
            "names": schema.names,
            "units": schema.units,
            "space": "native",
            "normalization": {
                "mode": spec.normalization.mode if spec else _declared_mode(checkpoint),
                "stats_id": spec.normalization.stats_id if spec else None,
                "source": spec.normalization.source if spec else "none",
            },
            "kind": config.action_kind,
            "policy_dims": inputs.alignment.policy_dims,
            "dataset_dims": inputs.alignment.dataset_dims,
            "image_plane": image_plane(facts.repo_id, schema.units),
        },
        "inputs": dict(inputs.alignment.feeds),
        "findings": [f.to_json() for f in inputs.findings],
        "environment": environment(
            device=spec.device if spec else "none",
            dtype=spec.dtype if spec else "none",
            seed=config.seed,
        ),
    }


def _declared_mode(checkpoint: Checkpoint | None) -> str:
    return checkpoint.action_mode if checkpoint else "IDENTITY"


def _dataset(facts: DatasetFacts, inputs: Inputs) -> dict[str, Any]:
    return {
        "repo_id": facts.repo_id,
        "root": str(facts.root),
        "revision": dataset_revision(facts.root),
        "episodes": inputs.episodes,
        "n_frames": 0,
        "fps": facts.fps,
        "robot_type": facts.robot_type,
        "tasks": facts.tasks,
        "split": label(inputs.trained, inputs.episodes),
    }


def _plan(inputs: Inputs, config: EvalConfig) -> dict[str, Any]:
    """What determines the predictions: a resumed run must agree on it."""
    checkpoint = inputs.checkpoint
    plan: Mapping[str, Any] = {
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
    return dict(plan)


def _finished(directory: RunDirectory, plan: dict[str, Any]) -> Run | None:
    """The complete run that is there already, if it is the one that was asked for."""
    if not (directory.path / RECORD).exists():
        return None
    record = read_record(directory.path)
    if record["status"] != "complete":
        return None
    require_same_plan(record["plan"], plan, directory.path)
    directory.close()  # a run killed at its very end may have left its parts
    return Run(directory.path, record)


def _cost_of_speed(
    policy: Policy, source: FrameSource, frames: list[Frames], config: EvalConfig
) -> Finding:
    """How far the fast road leads from float32 without compilation, on a few frames."""
    some = [(e, f, 0) for e, chosen in frames[:4] for f in chosen[:: max(1, len(chosen) // 4)]]
    batch = source.batch(some, keys=policy.spec.keys, steps=policy.spec.steps)
    fast, plain = policy.predict(batch).actions.values, policy.predict_plain(batch).actions.values
    apart = np.abs(fast - plain) / np.maximum(plain.std(axis=(0, 1)), 1e-12)
    road = config.dtype + (", compiled" if config.compile else "")
    return Finding(
        "cost_of_speed",
        "info",
        f"expected the actions of float32 without compilation; found that {road} moves them by "
        f"{apart.mean():.2g} of their standard deviation on average, {apart.max():.2g} at most "
        f"({len(some)} frames).",
        "--dtype float32 without --compile where this matters",
    )


def _batch_size(
    config: EvalConfig, inputs: Inputs, policy: Policy, directory: RunDirectory, rows: list[Row]
) -> int:
    if config.batch_size != "auto":
        return int(config.batch_size)
    default = _AUTO_BATCH[policy.spec.device]
    return directory.batch_size(
        lambda: best_batch_size(policy, inputs.source, rows, default=default)
    )


def _output_dir(config: EvalConfig) -> Path:
    if config.output_dir is not None:
        return Path(config.output_dir).expanduser()
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    name = Path(config.policy.path).name if config.policy.path else str(config.policy.type)
    return Path("outputs") / "policyscope" / f"{now}_{name}"
