"""A stored run, executed in other ways: its chunks are stitched again, nobody is asked."""

from __future__ import annotations

import json

from rich.console import Console

from policyscope.config import ExecuteConfig
from policyscope.config.executions import chosen_executions, parse_executions
from policyscope.errors import OutputError
from policyscope.metrics.executions import Executions
from policyscope.metrics.packed import unpack
from policyscope.runs.arrays import read_arrays
from policyscope.runs.carried import brought
from policyscope.runs.content import OfflineRecord
from policyscope.runs.directory import SUMS, RunDirectory
from policyscope.runs.record import read_complete
from policyscope.runs.rows import ExecutionRow
from policyscope.views.language import speaker
from policyscope.views.offline.executions import execution_text


def execute(config: ExecuteConfig) -> tuple[OfflineRecord, list[ExecutionRow]]:
    """Run the predictions of a stored evaluation in many ways.

    Returns:
        The record of the run, and a row for each way.

    Raises:
        OutputError: no complete evaluation, or a file of it is missing or broken.
        UsageError: a way that needs other chunks than the run has.
    """
    path = brought(config.run)
    record = read_complete(path)
    if not isinstance(record, OfflineRecord):
        raise OutputError(
            str(path),
            expected="an evaluation on demonstrations",
            found="a closed-loop run, which ran in one way",
            fix="policyscope rollout --n_action_steps N for another",
        )
    measure = unpack(*read_arrays(path / SUMS)).measure
    ways = chosen_executions(
        parse_executions(config.execute),
        horizon=measure.horizon,
        n_action_steps=measure.n_action_steps,
        stride=record.plan.stride,
        ensembling=record.policy.ensembling,
    )
    runs = Executions(measure, ways)
    for stored in RunDirectory(path).stored():
        predicted = [sample.values for sample in stored.predicted]
        runs.add(predicted, stored.target.values, stored.is_pad, stored.frame_index)
    return record, runs.rows()


def show_executions(config: ExecuteConfig, terminal: Console) -> None:
    """Print what `execute` finds (errors as there)."""
    record, rows = execute(config)
    if config.format == "json":
        print(json.dumps([row.to_json() for row in rows], indent=1))
    else:
        terminal.print(execution_text(record, rows, speaker(config.lang)))
