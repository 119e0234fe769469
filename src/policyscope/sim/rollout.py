"""Closed loop, end to end: config → policy × simulators → episodes → numbers → run."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from policyscope.config import RolloutConfig
from policyscope.errors import RefusedError
from policyscope.evaluation import Run
from policyscope.facts import ACTION
from policyscope.findings import errors_in
from policyscope.policies.base import Policy
from policyscope.predict import time_control_steps
from policyscope.run.directory import EVAL_INFO, RECORD, RunDirectory, require_same_plan
from policyscope.run.record import SCHEMA_VERSION, dump_record, environment, plain_json, read_record
from policyscope.sim.afterwards import findings_after
from policyscope.sim.brain import PolicyBrain
from policyscope.sim.gallery import nearest_table, show
from policyscope.sim.inputs import Inputs, describe_plan, open_policy, read_inputs
from policyscope.sim.pool import Pool
from policyscope.sim.recorder import require_absent
from policyscope.sim.scheduler import Clock, Look, Planned, Scheduler, Trace
from policyscope.sim.store import RolloutStore, StoredRollout
from policyscope.sim.tally import (
    action_statistics,
    episode_row,
    episodes_per_minute,
    eval_info,
    tally,
)

if TYPE_CHECKING:
    from policyscope.live import LiveRollout

_AUTO_WIDTH = {"cpu": 4, "mps": 8, "cuda": 16}


class RolloutProgress(Protocol):
    """What a closed-loop run tells whoever watches it."""

    @property
    def look(self) -> Look | None:
        """Told of each model call, or None."""

    def stage(self, text: str) -> None:
        """A new stage begins."""

    def begin(self, n_episodes: int) -> None:
        """So many episodes begin."""

    def episode(self, row: dict[str, Any]) -> None:
        """An episode is over; `row` is what ``run.json`` will list of it."""


class Quiet:
    """Watches a closed-loop run and says nothing."""

    look: Look | None = None

    def stage(self, text: str) -> None:
        """See `RolloutProgress`."""

    def begin(self, n_episodes: int) -> None:
        """See `RolloutProgress`."""

    def episode(self, row: dict[str, Any]) -> None:
        """See `RolloutProgress`."""


def rollout(
    config: RolloutConfig,
    progress: RolloutProgress | None = None,
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
    watch: RolloutProgress = progress or Quiet()
    live: LiveRollout | None = None
    directory = RunDirectory(_output_dir(config, policy))
    directory.require_free(resume=config.resume, overwrite=config.overwrite)
    if config.record is not None:
        require_absent(Path(config.record).expanduser())
    if config.live:
        from policyscope.live import LiveRollout

        watch = live = LiveRollout(directory.path, watch)
    watch.stage("starting the simulator")
    with Pool(config.env, 1) as pool:
        inputs = read_inputs(config, pool, scripted=policy)
        _refuse(config, inputs, directory)
        episodes = list(inputs.episodes)
        plan = _plan(inputs, episodes, policy)
        if config.resume and (finished := _finished(directory, plan)) is not None:
            return finished
        watch.stage("loading the policy")
        opened = policy or open_policy(inputs)
        directory.prepare(plan, resume=config.resume, overwrite=config.overwrite)
        if live is not None:
            live.meet(inputs.eyes.see, inputs.adapter.board, inputs.facts.actions.names)
        try:
            return _run(config, inputs, opened, directory, pool, episodes, plan, watch)
        except KeyboardInterrupt:
            record = _record(inputs, policy=opened, status="partial")
            directory.write_text(RECORD, dump_record(record))
            raise KeyboardInterrupt(str(directory.path)) from None
        finally:
            if live is not None:
                live.close()


def _run(
    config: RolloutConfig,
    inputs: Inputs,
    policy: Policy,
    directory: RunDirectory,
    pool: Pool,
    episodes: list[Planned],
    plan: dict[str, Any],
    watch: RolloutProgress,
) -> Run:
    done = directory.finished()
    todo = [e for e in episodes if e.index not in done]
    pool.grow(max(1, min(_n_envs(config, policy), len(todo))))
    width = (
        _AUTO_WIDTH[policy.spec.device] if config.batch_size == "auto" else int(config.batch_size)
    )
    brain = PolicyBrain(policy, inputs.eyes, dims=inputs.alignment.dataset_dims, width=width)
    watch.stage("timing single calls")
    latency = _latency(config, inputs, policy, brain)
    brain.settle(inputs.example)
    schema, spec = inputs.facts.actions, policy.spec
    store = RolloutStore(directory, schema, spec.normalization.stats_id)
    clock = Clock()
    scheduler = Scheduler(pool, brain, timeout_s=config.env.timeout_s, clock=clock, look=watch.look)
    watch.begin(len(episodes))
    for index in sorted(done):
        watch.episode(store.episode(index).row)
    groups = [task.group for task in inputs.simulator.tasks]
    for trace in scheduler.run(todo):
        row = episode_row(trace, group=trace.episode.group or groups[0])
        store.add(trace, row)
        watch.episode(row)
    watch.stage("computing metrics")
    stored = [store.episode(e.index) for e in episodes]
    record = _record(inputs, policy=policy, status="complete")
    record["plan"] = plan
    kind = inputs.adapter.action_kind
    record |= tally(stored, fps=inputs.simulator.fps, method=config.interval, action_kind=kind)
    record["dataset"]["n_frames"] = sum(row["steps"] for row in record["episodes"])
    record["dataset"]["episodes"] = sorted({e.seed for e in episodes})
    record["executed_actions"] = _executed(inputs, stored)
    record["latency"] = latency
    record["throughput"] = _throughput(clock, len(todo), brain, len(pool.workers))
    if config.nearest:
        watch.stage("comparing with demonstrations")
        record["nearest"] = nearest_table(inputs, stored)
    record["findings"] += [f.to_json() for f in findings_after(record, inputs, stored)]
    record["findings"] += [
        f.to_json() for f in show(config, inputs, pool, directory, record, episodes, stored, watch)
    ]
    store.merge([e.index for e in episodes])
    directory.write_text(EVAL_INFO, plain_json(eval_info(record, wall_s=clock.wall_s)))
    directory.write_text(RECORD, dump_record(record))
    directory.close()
    return Run(directory.path, read_record(directory.path))


def _latency(
    config: RolloutConfig, inputs: Inputs, policy: Policy, brain: PolicyBrain
) -> dict[str, Any]:
    """Single control steps at batch 1, as a robot would meet them."""
    batch = brain.batch([inputs.example])
    return time_control_steps(
        policy, lambda _: batch, calls=config.latency_calls, fps=inputs.simulator.fps
    )


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


def _executed(inputs: Inputs, stored: Sequence[StoredRollout]) -> list[dict[str, Any]]:
    step = inputs.checkpoint.unnormalizer if inputs.checkpoint else None
    trained = step.stats.get(ACTION, {}) if step else {}
    if any(np.size(v) != inputs.facts.actions.dim for k, v in trained.items() if k != "count"):
        trained = {}
    bounds = (inputs.simulator.action_low, inputs.simulator.action_high)
    return action_statistics(stored, inputs.facts.actions.names, trained, bounds)


def _refuse(config: RolloutConfig, inputs: Inputs, directory: RunDirectory) -> None:
    blocking = [f for f in errors_in(inputs.findings) if not (config.force and f.forceable)]
    if not blocking:
        return
    if not directory.holds_predictions():
        record = _record(inputs, policy=None, status="refused")
        directory.write_text(RECORD, dump_record(record))
    raise RefusedError(tuple(blocking))


def _record(inputs: Inputs, *, policy: Policy | None, status: str) -> dict[str, Any]:
    config, checkpoint = inputs.config, inputs.checkpoint
    spec = policy.spec if policy is not None else None
    schema, simulator = inputs.facts.actions, inputs.simulator
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "rollout",
        "status": status,
        "forced": bool(config.force and errors_in(inputs.findings)),
        "policy": {
            "path": spec.path if spec else (config.policy.path or str(config.policy.type)),
            "type": spec.type if spec else (checkpoint.type if checkpoint else config.policy.type),
            "sha256": checkpoint.sha256 if checkpoint else None,
            "n_parameters": checkpoint.n_parameters if checkpoint else 0,
            "chunk_size": spec.chunk_size if spec else None,
            "n_action_steps": spec.n_action_steps if spec else None,
            "sampling": spec.sampling if spec else None,
            "draws": spec.draws if spec else None,
            "samples": 1,
        },
        "dataset": {
            "repo_id": simulator.name,
            "root": "",
            "revision": None,
            "episodes": [],
            "n_frames": 0,
            "fps": simulator.fps,
            "robot_type": inputs.adapter.robot_type,
            "tasks": inputs.facts.tasks,
            "split": "unknown",
        },
        "env": {
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
            "settings": config.env.settings,
            "first_seed": config.seed,
            "init_from": config.init_from,
            "cameras": {key: list(shape) for key, shape in inputs.facts.cameras.items()},
            "board": inputs.adapter.board,
        },
        "actions": {
            "names": schema.names,
            "units": schema.units,
            "space": "native",
            "normalization": {
                "mode": spec.normalization.mode
                if spec
                else (checkpoint.action_mode if checkpoint else "IDENTITY"),
                "stats_id": spec.normalization.stats_id if spec else None,
                "source": spec.normalization.source if spec else "none",
            },
            "kind": inputs.adapter.action_kind,
        },
        "inputs": dict(inputs.alignment.feeds),
        "findings": [f.to_json() for f in inputs.findings],
        "environment": environment(
            device=spec.device if spec else "none",
            dtype=spec.dtype if spec else "none",
            seed=config.noise_seed,
        ),
    }


def _plan(inputs: Inputs, episodes: list[Planned], policy: Policy | None) -> dict[str, Any]:
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
            list(inputs.facts.tasks),
        ],
        "episodes": describe_plan(episodes),
        "noise_seed": config.noise_seed,
        "n_action_steps": config.n_action_steps,
        "sampling": config.policy.sampling,
        "batch_size": config.batch_size,
        "device": config.device,
        "feeds": inputs.alignment.feeds,
    }


def _finished(directory: RunDirectory, plan: dict[str, Any]) -> Run | None:
    """The complete run that is there already, if it is the one that was asked for."""
    if not (directory.path / RECORD).exists():
        return None
    record = read_record(directory.path)
    if record["status"] != "complete":
        return None
    require_same_plan(record["plan"], plan, directory.path)
    directory.close()
    return Run(directory.path, record)


def _n_envs(config: RolloutConfig, policy: Policy) -> int:
    if config.n_envs != "auto":
        return int(config.n_envs)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(_AUTO_WIDTH["cpu"], 2 * (cores or 1)) if policy.spec.n_parameters else cores or 1


def _output_dir(config: RolloutConfig, policy: Policy | None) -> Path:
    if config.output_dir is not None:
        return Path(config.output_dir).expanduser()
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    if policy is not None:
        name = policy.spec.type
    else:
        name = Path(config.policy.path).name if config.policy.path else str(config.policy.type)
    env = config.env.type if config.env.type != "gym" else str(config.env.task).rpartition("/")[2]
    return Path("outputs") / "policyscope" / f"{now}_{name}_{env}"


__all__ = ["Quiet", "RolloutProgress", "Trace", "rollout"]
