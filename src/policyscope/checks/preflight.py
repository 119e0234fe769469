"""Preflight: what would make the numbers meaningless, found before the run.

Deterministic checks on the checkpoint's files and the dataset's metadata; no weights are loaded.
"""

from __future__ import annotations

from policyscope.actions.robots import Robot
from policyscope.checks.cameras import check_inputs, check_texts
from policyscope.checks.checkpoint import check_overruled, check_processors, check_type
from policyscope.checks.dataset import check_dataset
from policyscope.checks.statistics import check_input_stats, check_stats
from policyscope.config import PolicyOptions
from policyscope.data.facts import DatasetFacts
from policyscope.errors import Finding
from policyscope.policies.alignment import Alignment
from policyscope.policies.checkpoint import Checkpoint


def preflight(
    checkpoint: Checkpoint | None,
    facts: DatasetFacts,
    alignment: Alignment,
    config: PolicyOptions,
) -> tuple[Finding, ...]:
    """All deterministic findings, errors first."""
    findings = [*alignment.findings, *check_dataset(facts, alignment.action_kind)]
    if checkpoint is not None:
        robot = facts.robot
        findings += check_type(checkpoint, config)
        findings += check_processors(checkpoint, robot, config)
        findings += check_overruled(checkpoint, config)
        findings += check_input_stats(checkpoint, robot, alignment, config)
        findings += check_stats(checkpoint, robot, alignment, config)
        findings += check_texts(checkpoint, tuple(facts.episode_tasks.values()), robot)
        findings += check_inputs(checkpoint, robot, alignment, config)
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(findings, key=lambda f: order[f.severity]))


def preflight_policy(
    checkpoint: Checkpoint, robot: Robot, alignment: Alignment, config: PolicyOptions
) -> tuple[Finding, ...]:
    """The findings that concern a checkpoint and what it is fed with, without demonstrations."""
    return (
        *alignment.findings,
        *check_type(checkpoint, config),
        *check_processors(checkpoint, robot, config),
        *check_texts(checkpoint, robot.tasks, robot),
        *check_overruled(checkpoint, config),
        *check_inputs(checkpoint, robot, alignment, config),
    )
