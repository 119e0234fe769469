"""Closed loop, end to end: config → policy × simulators → episodes → numbers → run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from policyscope.checks.inputs import ClosedLoopInputs, read_closed_loop
from policyscope.checks.postflight import findings_after
from policyscope.commands.gallery import nearest_table, show
from policyscope.commands.session import Run, Session, head, output_dir, policy_name, session
from policyscope.config import RolloutConfig
from policyscope.data.facts import ACTION
from policyscope.data.source import FrameSource
from policyscope.engine.brain import PolicyBrain, example
from policyscope.engine.episodes import Planned, describe_plan, plan_episodes
from policyscope.engine.progress import Watch
from policyscope.engine.recorder import require_absent
from policyscope.engine.scheduler import Clock, Scheduler, finished
from policyscope.engine.timing import time_control_steps
from policyscope.errors import errors_in
from policyscope.metrics.tally import action_statistics, episodes_per_minute, eval_info, tally
from policyscope.policies.base import Policy
from policyscope.policies.open import open_for_simulator
from policyscope.runs.directory import EVAL_INFO, RunDirectory
from policyscope.runs.record import plain_json
from policyscope.runs.rollouts import RolloutStore, StoredRollout
from policyscope.sim.contract import layout
from policyscope.sim.pool import Pool

_AUTO_WIDTH = {"cpu": 4, "mps": 8, "cuda": 16}


def rollout(
    config: RolloutConfig,
    progress: Watch | None = None,
    *,
    policy: Policy | None = None,
) -> Run:
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
    if config.record is not None:
        require_absent(Path(config.record).expanduser())
    with session(path, config) as held:
        return _rolled_out(config, held, progress or Watch(), policy)


def _rolled_out(config: RolloutConfig, held: Session, watch: Watch, policy: Policy | None) -> Run:
    live = None
    if config.live:
        from policyscope.views.stream import LiveRollout

        watch = live = LiveRollout(held.directory.path, watch)
    watch.stage("starting the simulator")
    with Pool(config.env, 1) as pool:
        inputs = read_closed_loop(config, pool, scripted=policy)
        episodes, source = plan_episodes(config, inputs.simulator, inputs.checkpoint)
        held.refuse(inputs.findings, partial(_record, inputs, policy))
        plan = _plan(inputs, episodes, policy)
        if (done := held.finished(plan)) is not None:
            return done
        watch.stage("loading the policy")
        opened = policy or open_for_simulator(
            config, inputs.checkpoint, inputs.spoken, inputs.alignment, source
        )
        if live is not None:
            live.meet(inputs.eyes.see, inputs.adapter.board, inputs.robot.actions.names)
        try:
            with held.running(plan, partial(_record, inputs, opened)):
                record = _run(inputs, opened, held.directory, pool, episodes, source, watch)
                return held.finish({**record, "plan": plan})
        finally:
            watch.close()


def _run(
    inputs: ClosedLoopInputs,
    policy: Policy,
    directory: RunDirectory,
    pool: Pool,
    episodes: Sequence[Planned],
    source: FrameSource | None,
    watch: Watch,
) -> dict[str, Any]:
    config = inputs.config
    done = directory.finished()
    todo = [e for e in episodes if e.index not in done]
    pool.grow(max(1, min(_n_envs(config, policy), len(todo))))
    dims, width = inputs.alignment.dataset_dims, _width(config, policy)
    brain = PolicyBrain(policy, inputs.eyes, dims=dims, width=width)
    first = example(inputs.simulator)
    watch.stage("timing single calls")
    alone = brain.batch([first])  # as a robot would meet it
    latency = time_control_steps(
        policy, lambda _: alone, calls=config.latency_calls, fps=inputs.simulator.fps
    )
    brain.settle(first)
    schema, spec = inputs.robot.actions, policy.spec
    store = RolloutStore(directory, schema, spec.normalization.stats_id)
    clock = Clock()
    scheduler = Scheduler(
        pool,
        brain,
        timeout_s=config.env.timeout_s,
        clock=clock,
        layout=layout(inputs.simulator.first.observations[0]),
        look=watch.called,
    )
    watch.begin(len(episodes))
    for index in sorted(done):
        watch.ended(store.episode(index).row)
    groups = [task.group for task in inputs.simulator.tasks]
    for trace in scheduler.run(todo):
        group = trace.episode.group or groups[0]
        over = finished(trace, group=group, dim=schema.dim, rule=config.success)
        store.add(over, trace.picture)
        watch.ended(over.row)
    watch.stage("computing metrics")
    stored = [store.episode(e.index) for e in episodes]
    record = _record(inputs, policy, "complete") | _numbers(inputs, stored)
    record["dataset"]["n_frames"] = sum(row["steps"] for row in record["episodes"])
    record["dataset"]["episodes"] = sorted({e.seed for e in episodes})
    record["latency"] = latency
    record["throughput"] = _throughput(clock, len(todo), brain, len(pool.workers))
    if config.nearest:
        watch.stage("comparing with demonstrations")
        assert source is not None
        record["nearest"] = nearest_table(source, stored)
    found = findings_after(record, inputs, stored)
    found += show(inputs, pool, directory, record, episodes, stored, watch)
    record["findings"] += [finding.to_json() for finding in found]
    store.merge([e.index for e in episodes])
    directory.write_text(EVAL_INFO, plain_json(eval_info(record, wall_s=clock.wall_s)))
    return record


def _numbers(inputs: ClosedLoopInputs, stored: Sequence[StoredRollout]) -> dict[str, Any]:
    """What the finished episodes say, of success, rewards, motion and actions."""
    known = tally(
        stored,
        fps=inputs.simulator.fps if inputs.simulator.fps_known else None,
        method=inputs.config.interval,
        action_kind=inputs.action_kind,
        reward_range=inputs.adapter.reward_range,
    )
    return known | {"executed_actions": _executed(inputs, stored)}


def _throughput(clock: Clock, n: int, brain: PolicyBrain, n_envs: int) -> dict[str, Any]:
    return {
        "episodes_per_min": episodes_per_minute(n, clock.wall_s),
        "frames_per_s": clock.n_steps / clock.wall_s if clock.wall_s > 0 else None,
        "n_episodes": n,
        "n_frames": clock.n_steps,
        "n_envs": n_envs,
        "batch_size": brain.width,
        "filled_up": brain.fills,
        "n_calls": clock.n_calls,
        "rows_per_call": clock.n_rows / clock.n_calls if clock.n_calls else None,
        "wall_s": clock.wall_s,
        "model_s": clock.model_s,
        "data_s": clock.wait_s,
    }


def _executed(inputs: ClosedLoopInputs, stored: Sequence[StoredRollout]) -> list[dict[str, Any]]:
    step = inputs.checkpoint.unnormalizer if inputs.checkpoint else None
    trained = step.stats.get(ACTION, {}) if step else {}
    if any(np.size(v) != inputs.robot.actions.dim for k, v in trained.items() if k != "count"):
        trained = {}
    bounds = (inputs.simulator.action_low, inputs.simulator.action_high)
    return action_statistics(stored, inputs.robot.actions.names, trained, bounds)


def _record(inputs: ClosedLoopInputs, policy: Policy | None, status: str) -> dict[str, Any]:
    config, simulator = inputs.config, inputs.simulator
    record = head(
        kind="rollout",
        status=status,
        force=config.force,
        policy=config.policy,
        checkpoint=inputs.checkpoint,
        spec=policy.spec if policy is not None else None,
        schema=inputs.robot.actions,
        action_kind=inputs.action_kind,
        feeds=inputs.alignment.feeds,
        findings=inputs.findings,
        samples=1,
        seed=config.noise_seed,
    )
    record["dataset"] = {
        "repo_id": simulator.name,
        "root": "",
        "revision": None,
        "episodes": [],
        "n_frames": 0,
        "fps": simulator.fps,
        "robot_type": inputs.adapter.robot_type,
        "tasks": inputs.robot.tasks,
        "split": "unknown",
    }
    record["env"] = {
        "type": config.env.type,
        "task": config.env.task,
        "name": simulator.name,
        "tasks": [
            {
                "task_group": t.group,
                "task_id": t.task_id,
                "task": t.text,
                "max_steps": t.max_steps,
            }
            for t in simulator.tasks
        ],
        "fps": simulator.fps,
        "fps_known": simulator.fps_known,
        "success": config.success,
        "settings": config.env.settings,
        "first_seed": config.seed,
        "init_from": config.init_from,
        "cameras": {key: list(shape) for key, shape in inputs.robot.cameras.items()},
        "board": inputs.adapter.board,
    }
    return record


def _plan(
    inputs: ClosedLoopInputs, episodes: Sequence[Planned], policy: Policy | None
) -> dict[str, Any]:
    """What determines the episodes: a resumed run must agree on it."""
    config, checkpoint = inputs.config, inputs.checkpoint
    return {
        "kind": "rollout",
        "policy": checkpoint.sha256
        if checkpoint
        else (policy.spec.path if policy is not None else config.policy.type),
        "processors": checkpoint.processors_sha256 if checkpoint else None,
        "chunk_size": None if checkpoint else config.policy.chunk_size,
        "forced": sorted(f.code for f in errors_in(inputs.findings)) if config.force else [],
        "env": [
            config.env.type,
            config.env.task,
            config.env.settings,
            list(inputs.robot.tasks),
        ],
        "episodes": describe_plan(episodes),
        "success": config.success,
        "noise_seed": config.noise_seed,
        "n_action_steps": config.n_action_steps,
        "sampling": config.policy.sampling,
        "batch_size": config.batch_size,
        "device": config.device,
        "feeds": inputs.alignment.feeds,
    }


def _width(config: RolloutConfig, policy: Policy) -> int:
    """Most rows of a model call."""
    auto = config.batch_size == "auto"
    return _AUTO_WIDTH[policy.spec.device] if auto else int(config.batch_size)


def _n_envs(config: RolloutConfig, policy: Policy) -> int:
    if config.n_envs != "auto":
        return int(config.n_envs)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(_AUTO_WIDTH["cpu"], 2 * (cores or 1)) if policy.spec.n_parameters else cores or 1


def _name(config: RolloutConfig, policy: Policy | None) -> str:
    name = policy_name(config.policy) if policy is None else policy.spec.type
    env = config.env.type if config.env.type != "gym" else str(config.env.task).rpartition("/")[2]
    return f"{name}_{env}"
