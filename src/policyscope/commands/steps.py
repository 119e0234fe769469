"""The same seeds with several numbers of steps of each chunk, by running them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from policyscope.checks.steps import STEPS, StepSweep, step_sweep
from policyscope.commands.compare import stored_run
from policyscope.commands.rollout import rollout
from policyscope.commands.session import Run, output_dir, policy_name
from policyscope.commands.streams import console
from policyscope.config import ReportConfig, RolloutConfig
from policyscope.config.executions import parse_sweep
from policyscope.files import write_text
from policyscope.runs.content import RolloutRecord
from policyscope.views.steps.page import PAGE, write_steps_page
from policyscope.views.steps.table import steps_table

Roll = Callable[[RolloutConfig], Run[RolloutRecord]]


def sweep_steps(config: RolloutConfig, roll: Roll = rollout) -> tuple[Path, StepSweep]:
    """Run a policy with each number of steps.

    Args:
        config: with ``sweep``; ``output_dir`` is of all runs together.
        roll: runs one of them.

    Returns:
        The directory, and what came of it.

    Raises:
        InputError: as of one rollout; a number of steps beyond the chunk ends it before any runs.
    """
    assert config.sweep is not None, "it is asked for"
    steps = parse_sweep(config.sweep)
    name = f"{policy_name(config.policy)}_steps"
    directory = output_dir(config.output_dir, name, several=True)
    done = {}
    for n in sorted(steps, reverse=True):  # too many for the chunk are refused before the rest
        path = directory / f"n_action_steps-{n}"
        one = replace(config, sweep=None, n_action_steps=n, output_dir=str(path))
        done[n] = stored_run(roll(one).directory)
    swept = step_sweep([(n, done[n]) for n in steps])
    text = json.dumps(swept.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(directory / STEPS, text + "\n")
    write_steps_page(directory, swept, config.lang)
    return directory, swept


def print_steps(config: RolloutConfig) -> int:
    """What the command line prints of it."""
    from policyscope.commands.report import render
    from policyscope.views.terminal import RolloutDashboard

    out, typed = console(), sys.argv

    def roll(one: RolloutConfig) -> Run[RolloutRecord]:
        out.print(f"n_action_steps {one.n_action_steps}", markup=False)
        sys.argv = [*_alone(typed), "--n_action_steps", str(one.n_action_steps)]
        sys.argv += ["--output_dir", str(one.output_dir)]
        with RolloutDashboard(console(stderr=True)) as progress:
            run = rollout(one, progress)
        render(ReportConfig(str(run.directory), one.report, one.lang))
        return run

    try:
        directory, swept = sweep_steps(config, roll)
    finally:
        sys.argv = typed
    out.print(steps_table(swept))
    out.print(f"{directory / PAGE}, beside {STEPS} and a run of each", markup=False)
    return 1 if any(row.record.errors for row in swept.rows) else 0


def _alone(words: list[str]) -> list[str]:
    """A command line without the sweep: what repeats one run, as its record holds it."""
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word.partition("=")[0] != "--sweep":
            kept.append(word)
        skip = word == "--sweep"
    return kept
