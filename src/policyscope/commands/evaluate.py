"""Offline evaluation, end to end: config → policy × frames → predictions → metrics → run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from policyscope.checks.ablation import ablation_findings
from policyscope.checks.detector.findings import examine
from policyscope.checks.detector.probe import stored
from policyscope.checks.inputs import OfflineInputs
from policyscope.checks.postflight import postflight
from policyscope.commands.ablate import ablation, require_ablatable, require_ablated
from policyscope.commands.check import declared_of
from policyscope.commands.critical import Critical
from policyscope.commands.preparation import Prepared, head, prepare, unfinished
from policyscope.commands.scoring import Scoring
from policyscope.commands.session import Run, Session, output_dir, policy_name, session
from policyscope.commands.within import predict_in_time
from policyscope.config import EvalConfig
from policyscope.config.executions import Execution, chosen_executions, parse_executions
from policyscope.config.options import require_one_policy
from policyscope.engine.blind import Learned, learn
from policyscope.engine.footage import keep_clips
from policyscope.engine.offline import Ask, Frames, predict_and_store, predict_rows, rows_of
from policyscope.engine.progress import Watch
from policyscope.engine.ray import RayWorkers, on_ray, require_workers
from policyscope.engine.timing import chosen_batch_size, cost_of_speed, measure_latency
from policyscope.errors import Finding, UsageError
from policyscope.files import give_back_memory
from policyscope.metrics.blind import BLIND
from policyscope.metrics.executions import Executions
from policyscope.metrics.packed import pack
from policyscope.metrics.scorecard import Scorecard
from policyscope.metrics.standing import standing
from policyscope.metrics.sums import ScoredEpisode, Sums
from policyscope.policies.base import Policy, PolicySpec
from policyscope.runs.arrays import write_arrays
from policyscope.runs.chosen import named_episodes
from policyscope.runs.content import BlindScores, OfflineRecord
from policyscope.runs.directory import SUMS, RunDirectory
from policyscope.runs.episodes import write_episodes
from policyscope.runs.values import Latency, Speed
from policyscope.views.offline.claims import headline


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
    require_workers(config, policy)
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
    run = carry_out(prepare(config, scripted=scripted), held, watch)
    assert run is not None, "nothing told it to stop early"
    return run


def carry_out(
    prepared: Prepared, held: Session, watch: Watch, *, until: int | None = None
) -> Run[OfflineRecord] | None:
    """Do what was prepared, in a directory that is held.

    Args:
        prepared: the evaluation.
        held: its directory.
        watch: told while it runs.
        until: predict so many of the plan's rows at least, then stop as if interrupted; the next
            call goes on. None goes on to the end.

    Returns:
        The finished run; None where it stopped early.

    Raises:
        RefusedError: findings of severity error; ``run.json`` holds them.
    """
    inputs = prepared.inputs
    held.refuse(inputs.findings, partial(unfinished, prepared, None))
    if (finished := held.finished(prepared.plan, OfflineRecord)) is not None:
        require_ablated(prepared.config, finished.record)
        return finished
    with _hired(prepared, watch) as workers:  # who open the policy while this process does
        watch.stage("loading the policy")
        policy = inputs.open_policy(prepared.config)
        try:
            with held.running(prepared.plan, partial(unfinished, prepared, policy)):
                record = _run(prepared, policy, held.directory, watch, until, workers)
                return None if record is None else held.finish(record)
        finally:
            watch.close()


def _run(
    prepared: Prepared,
    policy: Policy,
    directory: RunDirectory,
    watch: Watch,
    until: int | None,
    workers: RayWorkers | None,
) -> OfflineRecord | None:
    config, inputs, frames = prepared.config, prepared.inputs, prepared.frames
    episodes = [e for e, _ in frames]
    if config.report.episodes is not None:  # said now, not after hours
        named_episodes(config.report.episodes, episodes)
    require_ablatable(config, policy, inputs)
    ways, critical = _ways(config, policy.spec), Critical(config.critical, inputs)
    with _asking(workers, policy.spec, watch) as ask:
        if until is not None and until < len(rows_of(frames, config.samples)):
            _predict(prepared, policy, directory, watch, ask, until)
            return None
        watch.stage("timing single calls")
        latency = _latency(prepared, policy, directory, episodes)
        scoring = Scoring(prepared, policy.spec, directory)
        if prepared.plan.spread:
            speed, frames, within = predict_in_time(scoring, policy, watch, ask)
            episodes = [e for e, _ in frames]
        else:
            speed, within = _predict(prepared, policy, directory, watch, ask, None), None
    if config.ablate:
        watch.stage("asking again with inputs of other frames")
    ablated = ablation(prepared, frames, policy, directory, speed.batch_size)
    watch.stage("computing metrics")
    runs = Executions(scoring.measure, ways)
    scores, blind = _scorecard(scoring, policy, episodes, partial(_beside, runs, critical))
    found = _found(config, inputs, policy, directory, frames, scores)
    found += ablation_findings(ablated) if ablated else []
    by_episode = write_episodes(directory.path, scores.by_episode)
    watch.stage("keeping pictures for the page")
    found += _pictures(prepared, frames, scores, directory)
    record = OfflineRecord.of(
        head(
            prepared,
            policy.spec,
            "complete",
            found=found,
            episodes=episodes,
            n_frames=scores.n_frames,
        ),
        scores.tables(),
        blind=blind,
        ablation=ablated,
        plan=prepared.plan,
        by_episode=by_episode,
        latency=latency,
        throughput=speed,
        within=within,
    )
    said: dict[str, Any] = {"standing": standing(record), "headline": headline(record)}
    said |= {"executions": runs.rows(), "critical": critical.scores()}
    directory.merge(episodes)
    return record.model_copy(update=said)


def _latency(
    prepared: Prepared, policy: Policy, directory: RunDirectory, episodes: Sequence[int]
) -> Latency:
    """Seconds of single calls; of a run that goes on, at what comes next."""
    source, calls = prepared.inputs.source, prepared.config.latency_calls
    episode = episodes[-1 if directory.finished() else 0]
    return measure_latency(policy, source, episode, calls=calls, fps=source.facts.robot.fps)


def _ways(config: EvalConfig, spec: PolicySpec) -> tuple[Execution, ...]:
    wanted = parse_executions(config.execute)
    if config.time_budget is not None:
        if wanted:
            raise UsageError(
                "--execute",
                expected="no --time_budget beside it: what is run one after the other are chunks "
                "of consecutive frames",
                found=f"{config.execute!r} and {config.time_budget!r}",
                fix="leave one of them out",
            )
        return ()
    return chosen_executions(
        wanted,
        horizon=spec.chunk_size,
        n_action_steps=spec.n_action_steps,
        stride=config.stride,
        ensembling=spec.ensembling,
    )


def _beside(runs: Executions, critical: Critical, episode: ScoredEpisode) -> None:
    """Run an episode in all ways, and look at its frames that matter."""
    critical.add(episode, runs.measure)
    runs.add(
        [sample.values for sample in episode.predicted],
        episode.target.values,
        episode.is_pad,
        episode.frame_index,
        {name: chunks.values for name, chunks in episode.baselines.items()},
    )


def _hired(
    prepared: Prepared, watch: Watch
) -> contextlib.AbstractContextManager[RayWorkers | None]:
    """Workers, where not this process predicts."""
    if prepared.config.engine == "local":
        return contextlib.nullcontext()
    watch.stage("starting workers")
    return on_ray(prepared.config, prepared.inputs)


@contextlib.contextmanager
def _asking(workers: RayWorkers | None, spec: PolicySpec, watch: Watch) -> Iterator[Ask]:
    """Who predicts: this process, or workers, who are let go of after."""
    if workers is None:
        yield predict_rows
        return
    watch.stage("waiting for workers")
    workers.ready(spec)
    with contextlib.closing(workers):
        yield workers


def _predict(
    prepared: Prepared,
    policy: Policy,
    directory: RunDirectory,
    watch: Watch,
    ask: Ask,
    until: int | None,
) -> Speed:
    """Predict what is not stored yet, up to a row of the plan or to its end."""
    config, inputs, frames = prepared.config, prepared.inputs, prepared.frames
    watch.stage("choosing a batch size")
    rows = rows_of(frames, config.samples)
    batch_size = chosen_batch_size(config.batch_size, policy, inputs.source, rows, directory)
    del rows  # of many frames it is large, and they are counted again where they are asked
    watch.begin(sum(len(chosen) for _, chosen in frames))
    clock = predict_and_store(
        policy,
        inputs.source,
        frames,
        directory,
        inputs.alignment,
        samples=config.samples,
        batch_size=batch_size,
        progress=watch,
        tell=Scoring(prepared, policy.spec, directory).told(watch),
        until=until,
        ask=ask,
    )
    give_back_memory()
    return clock.speed(batch_size)


def _pictures(
    prepared: Prepared, frames: Sequence[Frames], scores: Scorecard, directory: RunDirectory
) -> list[Finding]:
    """Keep those that the page plays."""
    rows, lengths = scores.by_episode(["chunk"]), {e: int(some[-1]) + 1 for e, some in frames}
    source, page = prepared.inputs.source, prepared.config.report
    return keep_clips(source, rows, lengths, page, directory.path)


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
    if inputs.checkpoint is not None or config.policy.url is not None:
        parts = directory.parts([e for e, _ in frames])
        native = ((p.index, p.frame_index, p.predicted[0].values) for p in parts)
        sample = stored(inputs.source, inputs.alignment, native, len(frames))
        found += [*examine(sample, declared_of(config, inputs))]
    if not policy.exact:
        found.append(cost_of_speed(policy, inputs.source, frames, config.dtype, config.compile))
    return found


def _scorecard(
    scoring: Scoring, policy: Policy, episodes: list[int], also: Callable[[ScoredEpisode], None]
) -> tuple[Scorecard, BlindScores | None]:
    """Score what is stored, beside the blind baselines, and keep the sums with the run.

    Each episode is read once: `also` is shown it, beside the trivial baselines alone.
    """
    inputs, spec = scoring.inputs, policy.spec
    learned = learn(
        inputs.source,
        episodes,
        trained=inputs.trained,
        horizon=spec.chunk_size,
        action_kind=inputs.alignment.action_kind,
    )
    scores = Scorecard.of(Sums.nothing(scoring.measure), room=len(episodes))
    for scored in scoring.scored(episodes, learned):
        scores.add(scored)
        trivial = {name: b for name, b in scored.baselines.items() if name not in BLIND}
        also(replace(scored, baselines=trivial))
    write_arrays(scoring.directory.path / SUMS, *pack(scores.sums))
    return scores, _blind(scores, learned)


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
