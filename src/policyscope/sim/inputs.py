"""A policy and a simulator that were read, matched and checked, before any weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from policyscope.alignment import Alignment, align
from policyscope.checkpoint import Checkpoint, read_checkpoint
from policyscope.config import DatasetConfig, EvalConfig, RolloutConfig
from policyscope.errors import InputError, UsageError
from policyscope.facts import ACTION, STATE, DatasetFacts
from policyscope.findings import Finding
from policyscope.frames import FrameSource
from policyscope.parsing import parse_episodes
from policyscope.policies.base import Policy
from policyscope.policies.builtin import ReplayPolicy
from policyscope.preflight import preflight_policy
from policyscope.sim.adapters import Adapter, adapter_for
from policyscope.sim.brain import Eyes
from policyscope.sim.pool import Fault, Pool
from policyscope.sim.scheduler import Planned, Wanted
from policyscope.sim.scripted import Still
from policyscope.sim.simulator import SimulatorSpec, environment_config
from policyscope.sim.worker import Describe
from policyscope.spaces import UNDECLARED_UNIT, ActionSchema


@final
@dataclass(frozen=True)
class Inputs:
    """What a closed-loop run starts from.

    Attributes:
        config: what was asked for.
        simulator: what the simulator says about itself.
        adapter: what we know about it.
        eyes: its processors.
        facts: the simulator in the terms of a dataset.
        checkpoint: None for a policy without one.
        alignment: how policy and simulator meet.
        findings: of the preflight.
        episodes: to run.
        source: the demonstrations that episodes start from or are compared with, or None.
    """

    config: RolloutConfig
    simulator: SimulatorSpec
    adapter: Adapter
    eyes: Eyes
    facts: DatasetFacts
    checkpoint: Checkpoint | None
    alignment: Alignment
    findings: tuple[Finding, ...]
    episodes: tuple[Planned, ...]
    source: FrameSource | None

    @property
    def example(self) -> Wanted:
        """The first observation of seed 0, as the policy will be asked."""
        task = self.simulator.tasks[0]
        first = self.simulator.first
        episode = Planned(0, None, task.task_id, task.text, 0, task.max_steps)
        return Wanted(episode, 0, first.observations, dict(first.info))


def read_inputs(config: RolloutConfig, pool: Pool, *, scripted: Policy | None) -> Inputs:
    """Ask the simulator what it is, read the checkpoint, match the two.

    Args:
        config: what was asked for.
        pool: with at least one worker.
        scripted: a policy object instead of a checkpoint or a built-in policy.

    Raises:
        InputError: something can't be read, opened, or makes no sense.
    """
    if scripted is None and (config.policy.path is None) == (config.policy.type is None):
        raise UsageError(
            "--policy.path / --policy.type",
            expected="exactly one of them",
            found="neither" if config.policy.path is None else "both",
            fix="--policy.path DIR_OR_REPO_ID, or --policy.type hold_state",
        )
    checkpoint = None
    if scripted is None and config.policy.path is not None:
        checkpoint = read_checkpoint(config.policy)
    described = pool.ask(pool.workers[0], Describe(), config.env.timeout_s)
    if isinstance(described, Fault):
        raise UsageError(
            f"--env.type {config.env.type}",
            expected="a simulator that opens and resets",
            found=f"one that {described.kind} ({described.detail})",
            fix="a longer --env.timeout_s if it is slow; else check its installation",
        )
    adapter = adapter_for(config.env.type, config.env.task)
    eyes = Eyes(environment_config(config.env))
    facts = _facts(described, adapter, eyes)
    try:
        alignment = align(checkpoint, facts, offline_config(config, facts.repo_id))
    except InputError as error:
        raise UsageError(
            error.what,
            expected=_in_simulation(error.expected),
            found=error.found,
            fix=_in_simulation(error.fix),
        ) from error
    findings: tuple[Finding, ...] = alignment.findings
    if checkpoint is not None:
        known = offline_config(config, facts.repo_id)
        findings = preflight_policy(checkpoint, facts, alignment, known)
        findings = (*findings, *_closed_loop_findings(checkpoint))
    findings = tuple(_worded(f) for f in findings)
    episodes, source = _episodes(config, described, checkpoint)
    return Inputs(
        config, described, adapter, eyes, facts, checkpoint, alignment, findings, episodes, source
    )


def _episodes(
    config: RolloutConfig, simulator: SimulatorSpec, checkpoint: Checkpoint | None
) -> tuple[tuple[Planned, ...], FrameSource | None]:
    """Every episode of the run, in order: the seeds of each task, or the demonstrations."""
    suite = config.env.type == "libero"
    planned: list[Planned] = []
    for task in simulator.tasks:
        group = task.group if suite else None
        for seed in range(config.seed, config.seed + config.n_episodes):
            planned.append(
                Planned(len(planned), group, task.task_id, task.text, seed, task.max_steps)
            )
    if config.init_from == "seed":
        return tuple(planned), _demonstrations(config) if config.nearest else None
    from policyscope.sim.starts import starts_from_dataset

    source, demonstrated = starts_from_dataset(config, planned[0], checkpoint)
    return tuple(demonstrated), source


def _demonstrations(config: RolloutConfig) -> FrameSource:
    source = FrameSource(config.dataset, repo_id=config.dataset.repo_id or str(config.dataset.root))
    n = len(source.facts.lengths)
    wanted = config.dataset.episodes
    source.load(range(n) if wanted is None else parse_episodes(wanted, n))
    return source


def offline_config(config: RolloutConfig, name: str) -> EvalConfig:
    """The part of a closed-loop config that the offline rooms know."""
    policy = config.policy
    if policy.path is None and policy.type is None:
        policy = replace(policy, type="hold_state")  # a policy object: nothing reads this
    return EvalConfig(
        policy=policy,
        dataset=DatasetConfig(repo_id=name),
        seed=config.noise_seed,
        device=config.device,
        n_action_steps=config.n_action_steps,
        rename_map=config.rename_map,
        force=config.force,
    )


def open_policy(inputs: Inputs) -> Policy:
    """The policy that the config names, ready to answer simulators."""
    config = inputs.config
    if inputs.checkpoint is None:
        return _open_builtin(inputs)
    from policyscope.policies.lerobot import LerobotPolicy

    known = offline_config(config, inputs.facts.repo_id)
    return LerobotPolicy(inputs.checkpoint, inputs.facts, inputs.alignment, known)


def _open_builtin(inputs: Inputs) -> Policy:
    config = inputs.config
    name, horizon = config.policy.type, config.policy.chunk_size
    steps = config.n_action_steps
    if steps is not None and steps > horizon:
        raise UsageError(
            "--n_action_steps",
            expected=f"at most {horizon}, the steps of a chunk",
            found=str(steps),
            fix=f"--n_action_steps {horizon}, or a longer --policy.chunk_size",
        )
    if name in ("hold_state", "zero"):
        return Still(name, inputs.facts, horizon=horizon, n_action_steps=steps)
    if name == "replay" and config.init_from == "dataset" and inputs.source is not None:
        dims = tuple(range(inputs.facts.actions.dim))
        return ReplayPolicy(inputs.source, dims=dims, horizon=horizon, n_action_steps=steps)
    raise UsageError(
        f"--policy.type {name}",
        expected="hold_state, zero, or replay with --init_from dataset",
        found=str(name),
        fix="--policy.type hold_state",
    )


def _facts(simulator: SimulatorSpec, adapter: Adapter, eyes: Eyes) -> DatasetFacts:
    """The simulator in the terms in which datasets are described."""
    seen = eyes.see(simulator.first.observations[-1:], [simulator.tasks[0].text])
    shapes = {key: tuple(int(n) for n in value.shape[1:]) for key, value in seen.items()}
    dim = len(simulator.action_low)
    names, units = simulator.action_names, simulator.action_units
    if names is None or len(names) != dim:
        names = tuple(f"action[{i}]" for i in range(dim))
    if units is None or len(units) != dim:
        units = (UNDECLARED_UNIT,) * dim
    state = shapes.get(STATE, (0,))
    return DatasetFacts(
        repo_id=simulator.name,
        root=Path(),
        fps=simulator.fps,
        robot_type=adapter.robot_type,
        actions=ActionSchema(names, units),
        state_names=tuple(f"state[{i}]" for i in range(state[0])),
        features={**shapes, ACTION: (dim,)},
        cameras={key: (s[0], s[1], s[2]) for key, s in shapes.items() if len(s) == 3},
        stats={},
        tasks=tuple(task.text for task in simulator.tasks),
        lengths=(),
        episode_tasks=(),
    )


def _closed_loop_findings(checkpoint: Checkpoint) -> list[Finding]:
    findings = []
    if checkpoint.config.get("temporal_ensemble_coeff") is not None:
        findings.append(
            Finding(
                "temporal_ensemble_ignored",
                "warning",
                "the checkpoint asks for temporal ensembling; found here: whole chunks, run "
                "without it.",
                "lerobot-eval, to run it with ensembling",
            )
        )
    return findings


def _worded(finding: Finding) -> Finding:
    return replace(
        finding,
        message=_in_simulation(finding.message),
        fix="--env.settings with the height and width of the training camera"
        if finding.code == "image_shape_mismatch"
        else "--env.task_text with the text the policy was trained with"
        if finding.code == "task_text_missing"
        else _in_simulation(finding.fix),
    )


def _in_simulation(text: str) -> str:
    for word, instead in (
        ("the dataset", "the simulator"),
        ("this dataset", "this simulator"),
        ("dataset key", "simulator key"),
        ("a dataset", "a simulator"),
    ):
        text = text.replace(word, instead)
    return text


def describe_plan(episodes: list[Planned]) -> list[list[Any]]:
    """What a resumed run must agree on about its episodes."""
    return [[e.group, e.task_id, e.seed, e.max_steps, e.demonstration] for e in episodes]
