"""What a run starts from: policy and data, read, matched and checked before any weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np

from policyscope.actions.meanings import UNDECLARED_UNIT
from policyscope.actions.robots import Robot
from policyscope.actions.spaces import ActionSchema
from policyscope.checks.dataset import check_demonstrations
from policyscope.checks.preflight import preflight, preflight_policy
from policyscope.config import OfflineOptions, PolicyOptions, RolloutConfig
from policyscope.config.options import require_one_policy
from policyscope.data.facts import ACTION, STATE
from policyscope.data.frames import FrameBatch
from policyscope.data.source import FrameSource
from policyscope.errors import Finding, RefusedError, UsageError
from policyscope.policies.alignment import Alignment, align
from policyscope.policies.base import Policy
from policyscope.policies.checkpoint import Checkpoint
from policyscope.policies.open import CheckedPolicy, open_for_dataset, require_keys
from policyscope.policies.own import open_own
from policyscope.policies.reading import read_checkpoint
from policyscope.policies.remote.policy import Example, RemotePolicy, meet
from policyscope.policies.split import held_out, leakage, trained_on
from policyscope.sim.adapter import Adapter
from policyscope.sim.opening import adapter_for, environment_config
from policyscope.sim.pool import Pool
from policyscope.sim.processors import Eyes
from policyscope.sim.simulator import SimulatorSpec
from policyscope.sim.worker import Describe, Unusable


@final
@dataclass(frozen=True)
class OfflineInputs:
    """A policy and a dataset that were read, matched and checked, before any weights.

    Attributes:
        checkpoint: None for a built-in policy.
        source: the dataset, its chosen episodes loaded.
        alignment: how the two meet.
        episodes: chosen episode indices.
        trained: episodes that the checkpoint says it saw, or None.
        findings: of the preflight.
        asked: frames about which the policy was asked.
        opened: a policy that is there already: an object of the user's, or a server's.
    """

    checkpoint: Checkpoint | None
    source: FrameSource
    alignment: Alignment
    episodes: tuple[int, ...]
    trained: frozenset[int] | None
    findings: tuple[Finding, ...]
    asked: int = 0
    opened: Policy | None = None

    def open_policy(self, config: OfflineOptions) -> Policy:
        """The policy itself, with its weights.

        Raises:
            CheckpointError: it can't be opened.
            UsageError: a built-in policy that this dataset does not support, or the spec of a
                policy object that makes no sense.
        """
        if self.opened is not None:
            return CheckedPolicy(self.opened, self.alignment.schema, config.n_action_steps)
        return open_for_dataset(config, self.checkpoint, self.source, self.alignment)


def read_offline(
    config: OfflineOptions,
    *,
    scripted: Policy | None = None,
    source: FrameSource | None = None,
) -> OfflineInputs:
    """Read a policy's files and a dataset, and match the two.

    Args:
        config: what was asked for.
        scripted: a policy object instead of a checkpoint or a built-in policy.
        source: the dataset, where it is open already.

    Raises:
        InputError: something can't be read or makes no sense.
    """
    checkpoint = None
    if scripted is None:
        require_one_policy(config.policy)
        if config.policy.path is not None:
            checkpoint = read_checkpoint(config.policy)
    source = source or FrameSource(config.dataset, repo_id=config.dataset_name)
    facts = source.facts
    if scripted is None and config.policy.own:
        scripted = open_own(config.policy.name, facts.robot)
    if scripted is not None:
        require_keys(scripted, facts.robot)
    trained = trained_on(checkpoint, facts)
    episodes = (
        facts.choose(config.dataset.episodes)
        if config.dataset.episodes is not None
        else held_out(trained, facts.lengths)
    )
    if scripted is None and config.policy.url is not None:
        source.load(episodes)
        first = (episodes[0], 0, 0)
        alignment, scripted, said = _remote(
            config, facts.robot, lambda keys, steps: source.batch([first], keys=keys, steps=steps)
        )
    else:
        alignment, said = align(checkpoint, facts.robot, config), ()
    findings = (*said, *preflight(checkpoint, facts, alignment, config))
    source.load(episodes)
    leak = leakage(trained, episodes)
    seen = {e: source.seen[e] for e in episodes}  # others may have been read for another policy
    findings = (*findings, *check_demonstrations(source.facts, seen))
    findings = (*findings, leak) if leak else findings
    return OfflineInputs(
        checkpoint, source, alignment, episodes, trained, findings, opened=scripted
    )


def _remote(
    config: PolicyOptions, robot: Robot, example: Example
) -> tuple[Alignment, Policy, tuple[Finding, ...]]:
    """The server that a config names, how it meets the robot, and what is to be said of it."""
    met = meet(config, robot, example)
    alignment = align(None, robot, config, action_dim=met.action_dim)
    alignment = replace(alignment, feeds=met.feeds)
    return alignment, RemotePolicy(met, alignment, config.n_action_steps), met.findings


@final
@dataclass(frozen=True)
class ClosedLoopInputs:
    """A policy and a simulator, before any weights.

    Attributes:
        config: what was asked for.
        simulator: what the simulator says about itself.
        adapter: what we know about it.
        eyes: its processors.
        robot: what the simulator plays.
        spoken: the same, in the action dims that the policy speaks of.
        checkpoint: None for a policy without one.
        alignment: how policy and simulator meet.
        findings: of the preflight.
        opened: a policy that is there already: an object of the user's, or a server's.
    """

    config: RolloutConfig
    simulator: SimulatorSpec
    adapter: Adapter
    eyes: Eyes
    robot: Robot
    spoken: Robot
    checkpoint: Checkpoint | None
    alignment: Alignment
    findings: tuple[Finding, ...]
    opened: Policy | None

    @property
    def action_kind(self) -> Literal["absolute", "delta"]:
        """What an action of the simulator means."""
        return self.adapter.kind_of_action(self.config.env)


def read_closed_loop(
    config: RolloutConfig, pool: Pool, *, scripted: Policy | None
) -> ClosedLoopInputs:
    """Ask the simulator what it is, read the checkpoint, match the two.

    Args:
        config: what was asked for.
        pool: with at least one worker.
        scripted: a policy object instead of a checkpoint or a built-in policy.

    Raises:
        InputError: something can't be read, opened, or makes no sense.
    """
    checkpoint = None
    if scripted is None:
        require_one_policy(config.policy)
        if config.policy.path is not None:
            checkpoint = read_checkpoint(config.policy)
    described = pool.require(Describe(), config.env.timeout_s)
    if isinstance(described, Unusable):
        raise RefusedError(described.findings)
    adapter = adapter_for(config.env.type, config.env.task)
    eyes = Eyes(environment_config(config.env), checkpoint.type if checkpoint else None)
    robot = _robot(described, adapter, eyes)
    spoken = robot
    if checkpoint is not None and eyes.translates:
        spoken = _spoken(robot, checkpoint.action_dim, eyes)
    if scripted is None and config.policy.url is not None:
        alignment, scripted, said = _remote(config, robot, lambda _, n: _first(described, eyes, n))
    else:
        alignment, said = align(checkpoint, spoken, config), ()
        if scripted is None and config.policy.own:
            scripted = open_own(config.policy.name, robot)
            require_keys(scripted, robot)
    if scripted is not None and config.policy.named:
        scripted = CheckedPolicy(scripted, alignment.schema, config.n_action_steps)
    findings: tuple[Finding, ...] = (*said, *alignment.findings)
    if checkpoint is not None:
        findings = preflight_policy(checkpoint, spoken, alignment, config)
    findings = (*described.findings, *(_led_on(f, adapter) for f in findings))
    moot = {"env_success"}  # whether it ever speaks of success is known when episodes are over
    moot |= set() if described.fps_known else {"fps_mismatch"}  # that nobody says it is said
    findings = tuple(f for f in findings if f.code not in moot)
    return ClosedLoopInputs(
        config, described, adapter, eyes, robot, spoken, checkpoint, alignment, findings, scripted
    )


def _first(simulator: SimulatorSpec, eyes: Eyes, steps: tuple[int, ...]) -> FrameBatch:
    """What a policy is shown at the beginning of an episode."""
    task, none = simulator.tasks[0].text, np.zeros(1, np.int64)
    seen = eyes.see(simulator.first.observations[-1:], [task])
    return FrameBatch(none, none, none, (task,), (seen,) * len(steps))


def _led_on(finding: Finding, adapter: Adapter) -> Finding:
    """A finding whose fix is one that works for this simulator."""
    if finding.code == "image_shape_mismatch" and finding.fix.startswith("--env.settings"):
        return replace(finding, fix=adapter.resized)
    return finding


def _spoken(robot: Robot, dim: int, eyes: Eyes) -> Robot:
    """A robot in the action dims of a policy whose chunks are translated.

    Raises:
        UsageError: the translation does not give the robot's dims.
    """
    given = eyes.act(np.zeros((1, dim))).shape[1]
    if given != robot.actions.dim:
        raise UsageError(
            "the policy's own processors for this simulator",
            expected=f"{robot.actions.dim} action dims of a policy's {dim}",
            found=str(given),
            fix="a checkpoint trained for this simulator",
        )
    names = tuple(f"policy[{i}]" for i in range(dim))
    return replace(robot, actions=ActionSchema(names, (UNDECLARED_UNIT,) * dim))


def _robot(simulator: SimulatorSpec, adapter: Adapter, eyes: Eyes) -> Robot:
    """The robot that a simulator plays, as the policy will see it."""
    seen = eyes.see(simulator.first.observations[-1:], [simulator.tasks[0].text])
    shapes = {key: tuple(int(n) for n in value.shape[1:]) for key, value in seen.items()}
    dim = len(simulator.action_low)
    names, units = simulator.action_names, simulator.action_units
    if names is None or len(names) != dim:
        names = tuple(f"action[{i}]" for i in range(dim))
    if units is None or len(units) != dim:
        units = (UNDECLARED_UNIT,) * dim
    state = shapes.get(STATE, (0,))
    return Robot(
        kind="simulator",
        name=simulator.name,
        fps=simulator.fps,
        robot_type=adapter.robot_type,
        actions=ActionSchema(names, units),
        state_names=tuple(f"state[{i}]" for i in range(state[0])),
        features={**shapes, ACTION: (dim,)},
        cameras={key: (s[0], s[1], s[2]) for key, s in shapes.items() if len(s) == 3},
        tasks=tuple(task.text for task in simulator.tasks),
    )
