"""Closed loop, end to end: config → policy × simulators → episodes → numbers → run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from policyscope.checks.inputs import ClosedLoopInputs, read_closed_loop
from policyscope.checks.postflight import findings_after
from policyscope.commands.gallery import nearest_table, show
from policyscope.commands.session import Evaluated, Run, Session, output_dir, policy_name, session
from policyscope.config import RolloutConfig
from policyscope.config.parsing import parse_until
from policyscope.data.facts import ACTION
from policyscope.data.source import FrameSource
from policyscope.engine.brain import PolicyBrain, example
from policyscope.engine.episodes import Planned, describe_plan, plan_episodes
from policyscope.engine.progress import Watch
from policyscope.engine.recorder import require_absent
from policyscope.engine.scheduler import Clock, Scheduler, finished
from policyscope.engine.timing import time_control_steps
from policyscope.errors import Finding, UsageError, errors_in
from policyscope.metrics.sequential import Looks, Until
from policyscope.metrics.tally import action_statistics, episodes_per_minute, eval_info, tally
from policyscope.metrics.verdict import settled
from policyscope.policies.base import Policy, PolicySpec
from policyscope.policies.open import open_for_simulator
from policyscope.runs.content import (
    SCHEMA_VERSION,
    DatasetFacts,
    FindingRow,
    RolloutHead,
    RolloutRecord,
    RolloutScores,
    Status,
    Unfinished,
    UnfinishedRollout,
)
from policyscope.runs.directory import EVAL_INFO, RunDirectory
from policyscope.runs.facts import EnvFacts, TaskFacts
from policyscope.runs.plans import PlannedStop, RolloutPlan
from policyscope.runs.record import plain_json
from policyscope.runs.rollouts import RolloutStore, StoredRollout
from policyscope.runs.rows import ActionRow, NearestRow, RolloutRow
from policyscope.runs.values import RolloutSpeed
from policyscope.sim.actors import RayPool
from policyscope.sim.cluster import joined, require_ray
from policyscope.sim.contract import layout
from policyscope.sim.pool import Pool, ProcessPool

_AUTO_WIDTH = {"cpu": 4, "mps": 8, "cuda": 16, "remote": 4}


def rollout(
    config: RolloutConfig,
    progress: Watch | None = None,
    *,
    policy: Policy | None = None,
) -> Run[RolloutRecord]:
    """Run a policy in simulation and write a run directory.

    Args:
        config: what to do.
        progress: told while it runs.
        policy: a policy object instead of the one that the config names; keys of its spec that
            begin with ``info.`` read the simulator's own numbers.

    Returns:
        The finished run.

    Raises:
        InputError: something can't be read, opened, or makes no sense.
        RefusedError: findings of severity error; ``run.json`` holds them.
        KeyboardInterrupt: the run was interrupted; ``--resume`` continues it.
    """
    path = output_dir(config.output_dir, _name(config, policy))
    if config.engine == "ray":
        require_ray(config.ray)
    if config.record is not None:
        require_absent(Path(config.record).expanduser())
    with session(path, config) as held:
        return _rolled_out(config, held, progress or Watch(), policy)


def _rolled_out(
    config: RolloutConfig, held: Session, watch: Watch, policy: Policy | None
) -> Run[RolloutRecord]:
    live = None
    if config.live:
        from policyscope.views.stream import LiveRollout

        watch = live = LiveRollout(held.directory.path, watch)
    watch.stage("starting the simulator")
    with _simulators(config) as pool:
        inputs = read_closed_loop(config, pool, scripted=policy)
        _require_one_task(config, inputs)
        episodes, source = plan_episodes(config, inputs.simulator, inputs.checkpoint)
        policy = inputs.opened
        held.refuse(inputs.findings, partial(_unfinished, inputs, policy))
        plan = _plan(inputs, episodes, policy)
        if (done := held.finished(plan, RolloutRecord)) is not None:
            return done
        watch.stage("loading the policy")
        opened = policy or open_for_simulator(
            config, inputs.checkpoint, inputs.spoken, inputs.alignment, source
        )
        if live is not None:
            live.meet(inputs.eyes.see, inputs.adapter.board, inputs.robot.actions.names)
        try:
            with held.running(plan, partial(_unfinished, inputs, opened)):
                return held.finish(
                    _run(inputs, opened, plan, held.directory, pool, episodes, source, watch)
                )
        finally:
            watch.close()


def _run(
    inputs: ClosedLoopInputs,
    policy: Policy,
    plan: RolloutPlan,
    directory: RunDirectory,
    pool: Pool,
    episodes: Sequence[Planned],
    source: FrameSource | None,
    watch: Watch,
) -> RolloutRecord:
    config = inputs.config
    schema, spec = inputs.robot.actions, policy.spec
    store = RolloutStore(directory, schema, spec.normalization.stats_id)
    looks = _looks(config, store, directory, len(episodes))
    done = directory.finished()
    todo = [e for e in episodes[: looks.limit] if e.index not in done]
    pool.grow(max(1, min(_n_envs(config, policy, pool), len(todo))))
    dims, width = inputs.alignment.dataset_dims, _width(config, policy)
    brain = PolicyBrain(policy, inputs.eyes, dims=dims, width=width)
    first = example(inputs.simulator)
    watch.stage("timing single calls")
    alone = brain.batch([first])  # as a robot would meet it
    latency = time_control_steps(
        policy, lambda _: alone, calls=config.latency_calls, fps=inputs.simulator.fps
    )
    brain.settle(first)
    clock = Clock()
    seen = layout(inputs.simulator.first.observations[0])
    patience = config.env.timeout_s
    scheduler = Scheduler(
        pool, brain, timeout_s=patience, clock=clock, layout=seen, look=watch.called
    )
    watch.begin(len(episodes))
    for index in sorted(done):
        watch.ended(store.episode(index).row)
    n_run = _roll(scheduler, todo, store, looks, inputs, watch)
    store.forget(range(looks.limit, len(episodes)))
    episodes = episodes[: looks.limit]
    watch.stage("computing metrics")
    stored = [store.episode(e.index) for e in episodes]
    rows = settled([episode.row for episode in stored])
    scores, executed = _scores(inputs, stored, looks), _executed(inputs, stored)
    nearest = _nearest(source, stored, watch) if config.nearest else None
    found = findings_after(rows, executed, inputs, stored)
    rows, odd = show(inputs, pool, directory, rows, episodes, stored, watch)
    store.merge([e.index for e in episodes])
    directory.write_text(EVAL_INFO, plain_json(eval_info(rows, wall_s=clock.wall_s)))
    return RolloutRecord.of(
        _head(inputs, spec, "complete", found=[*found, *odd], rows=rows),
        scores,
        plan=plan,
        episodes=rows,
        executed_actions=executed,
        nearest=nearest,
        latency=latency,
        throughput=_speed(clock, n_run, brain, len(pool.workers)),
    )


def _looks(config: RolloutConfig, store: RolloutStore, directory: RunDirectory, most: int) -> Looks:
    """Looks at outcomes as far as an interrupted run had them."""
    stop = parse_until(config.until)
    until = None
    if stop is not None:
        until = Until(stop.rate, None if stop.width is None else stop.width / 2)
    looks = Looks(until, most)
    for index in sorted(directory.finished()):
        row = store.episode(index).row
        looks.add(index, row.success, ran=row.ended != "fault")
    return looks


def _roll(
    scheduler: Scheduler,
    todo: Sequence[Planned],
    store: RolloutStore,
    looks: Looks,
    inputs: ClosedLoopInputs,
    watch: Watch,
) -> int:
    """Run episodes until all that count are stored; how many ran."""
    n = 0
    group, dim = inputs.simulator.tasks[0].group, inputs.robot.actions.dim
    for trace in scheduler.run(todo, limit=lambda: looks.limit):
        n += 1
        if (index := trace.episode.index) >= looks.limit:
            continue  # it ran ahead of the stop
        known = trace.episode.group or group
        over = finished(trace, group=known, dim=dim, rule=inputs.config.success)
        store.add(over, trace.picture)
        watch.ended(over.row)
        looks.add(index, over.row.success, ran=over.row.ended != "fault")
    return n


def _require_one_task(config: RolloutConfig, inputs: ClosedLoopInputs) -> None:
    tasks = inputs.simulator.tasks
    if config.until and len(tasks) > 1:
        raise UsageError(
            "--until",
            expected="one task: the rate that is looked at must be that of each episode",
            found=f"{len(tasks)} tasks",
            fix="name one of them, or leave --until out",
        )


def _nearest(
    source: FrameSource | None, stored: Sequence[StoredRollout], watch: Watch
) -> list[NearestRow]:
    watch.stage("comparing with demonstrations")
    assert source is not None
    return nearest_table(source, stored)


def _scores(
    inputs: ClosedLoopInputs, stored: Sequence[StoredRollout], looks: Looks
) -> RolloutScores:
    """What the finished episodes say, of success, rewards and motion."""
    return tally(
        stored,
        fps=inputs.simulator.fps if inputs.simulator.fps_known else None,
        method="anytime" if inputs.config.until else inputs.config.interval,
        action_kind=inputs.action_kind,
        reward_range=inputs.adapter.reward_range,
        stopped=looks.stopped,
        units=inputs.alignment.schema.units,
    )


def _speed(clock: Clock, n: int, brain: PolicyBrain, n_envs: int) -> RolloutSpeed:
    return RolloutSpeed(
        episodes_per_min=episodes_per_minute(n, clock.wall_s),
        frames_per_s=clock.n_steps / clock.wall_s if clock.wall_s > 0 else None,
        n_episodes=n,
        n_frames=clock.n_steps,
        n_envs=n_envs,
        batch_size=brain.width,
        filled_up=brain.fills,
        n_calls=clock.n_calls,
        rows_per_call=clock.n_rows / clock.n_calls if clock.n_calls else None,
        wall_s=clock.wall_s,
        model_s=clock.model_s,
        data_s=clock.wait_s,
    )


def _executed(inputs: ClosedLoopInputs, stored: Sequence[StoredRollout]) -> list[ActionRow]:
    step = inputs.checkpoint.unnormalizer if inputs.checkpoint else None
    trained = step.stats.get(ACTION, {}) if step else {}
    if any(np.size(v) != inputs.robot.actions.dim for k, v in trained.items() if k != "count"):
        trained = {}
    bounds = (inputs.simulator.action_low, inputs.simulator.action_high)
    return action_statistics(stored, inputs.robot.actions.names, trained, bounds)


def _unfinished(
    inputs: ClosedLoopInputs, policy: Policy | None, status: Unfinished
) -> UnfinishedRollout:
    return UnfinishedRollout.of(_head(inputs, policy.spec if policy is not None else None, status))


def _head(
    inputs: ClosedLoopInputs,
    spec: PolicySpec | None,
    status: Status,
    *,
    found: Sequence[Finding] = (),
    rows: Sequence[RolloutRow] = (),
) -> RolloutHead:
    """What the record of a run begins with.

    Args:
        inputs: policy and simulator.
        spec: of the opened policy; None where it was not opened.
        status: what became of the run.
        found: beyond the findings of the preflight.
        rows: of the finished episodes.
    """
    config, robot = inputs.config, inputs.robot
    who = Evaluated(config.policy, inputs.checkpoint, spec)
    return RolloutHead(
        schema_version=SCHEMA_VERSION,
        kind="rollout",
        status=status,
        forced=bool(config.force and errors_in(inputs.findings)),
        policy=who.facts(samples=1),
        dataset=DatasetFacts(
            repo_id=inputs.simulator.name,
            root="",
            episodes=sorted({row.seed for row in rows}),
            n_frames=sum(row.steps for row in rows),
            fps=inputs.simulator.fps,
            robot_type=inputs.adapter.robot_type,
            tasks=robot.tasks,
            split="unknown",
        ),
        actions=who.actions(robot.actions, inputs.action_kind),
        inputs=inputs.alignment.feeds,
        findings=[FindingRow.of(f) for f in (*inputs.findings, *found)],
        environment=who.environment(config.noise_seed),
        env=_env(inputs),
    )


def _env(inputs: ClosedLoopInputs) -> EnvFacts:
    config, simulator = inputs.config, inputs.simulator
    return EnvFacts(
        type=config.env.type,
        task=config.env.task,
        name=simulator.name,
        tasks=[
            TaskFacts(
                task_group=task.group,
                task_id=task.task_id,
                task=task.text,
                max_steps=task.max_steps,
            )
            for task in simulator.tasks
        ],
        fps=simulator.fps,
        fps_known=simulator.fps_known,
        success=config.success,
        settings=config.env.settings,
        first_seed=config.seed,
        init_from=config.init_from,
        cameras=inputs.robot.cameras,
        board=inputs.adapter.board,
    )


def _plan(
    inputs: ClosedLoopInputs, episodes: Sequence[Planned], policy: Policy | None
) -> RolloutPlan:
    """What determines the episodes: a resumed run must agree on it."""
    config, checkpoint = inputs.config, inputs.checkpoint
    named: str | None = config.policy.type
    chunk_size = config.policy.chunk_size
    if policy is not None:
        named, chunk_size = policy.spec.identity or policy.spec.path, policy.spec.chunk_size
    return RolloutPlan(
        kind="rollout",
        policy=checkpoint.sha256 if checkpoint else named,
        processors=checkpoint.processors_sha256 if checkpoint else None,
        chunk_size=None if checkpoint else chunk_size,
        forced=sorted(f.code for f in errors_in(inputs.findings)) if config.force else [],
        env=[config.env.type, config.env.task, config.env.settings, inputs.robot.tasks],
        episodes=describe_plan(episodes),
        until=None if (stop := parse_until(config.until)) is None else PlannedStop(**vars(stop)),
        success=config.success,
        noise_seed=config.noise_seed,
        n_action_steps=config.n_action_steps,
        sampling=config.policy.sampling,
        batch_size=config.batch_size,
        device=config.device,
        feeds=inputs.alignment.feeds,
    )


def _width(config: RolloutConfig, policy: Policy) -> int:
    """Most rows of a model call."""
    auto = config.batch_size == "auto"
    return _AUTO_WIDTH[policy.spec.device] if auto else int(config.batch_size)


def _n_envs(config: RolloutConfig, policy: Policy, pool: Pool) -> int:
    if config.n_envs != "auto":
        return int(config.n_envs)
    cores = max(1, pool.cores)
    return max(_AUTO_WIDTH["cpu"], 2 * cores) if policy.spec.n_parameters else cores


@contextlib.contextmanager
def _simulators(config: RolloutConfig) -> Iterator[Pool]:
    """One simulator, and the place for others: on this machine, or wherever Ray is."""
    if config.engine == "local":
        with ProcessPool(config.env, 1) as pool:
            yield pool
        return
    with joined(config.ray) as ray, RayPool(ray, config.env, config.ray, 1) as actors:
        yield actors


def _name(config: RolloutConfig, policy: Policy | None) -> str:
    name = policy_name(config.policy) if policy is None else policy.spec.type
    env = config.env.type if config.env.type != "gym" else str(config.env.task).rpartition("/")[2]
    return f"{name}_{env}"
