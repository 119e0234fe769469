"""The terminal's view of a closed-loop run."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from policyscope.runs.content import RolloutRecord
from policyscope.views.console import plain_table
from policyscope.views.rollout.words import (
    detectable_line,
    headline,
    motion_line,
    rate,
    subject,
    throughput_line,
    time_line,
)
from policyscope.views.words import findings_text, forced_notice, interval, number

_MOST_TASKS = 12


def rollout_table(record: RolloutRecord) -> RenderableType:
    """Everything about a finished closed-loop run that fits a terminal."""
    parts: list[RenderableType] = [Text(subject(record))]
    notice = forced_notice(record)
    if notice:
        parts.append(Text(notice, style="bold white on red"))
    parts += [Text(headline(record), style="bold"), Text(detectable_line(record)), _rewards(record)]
    if len(record.by_task) > 1:
        parts.append(_tasks(record))
    lines = (time_line(record), motion_line(record), throughput_line(record))
    parts += [Text(line) for line in lines if line]
    if record.findings:
        parts.append(findings_text(record.findings))
    return Group(*parts)


def _rewards(record: RolloutRecord) -> Table:
    known = record.closed_loop
    table = plain_table()
    table.add_column("mean over episodes")
    table.add_column("[95 % interval]", justify="right")
    for title, mean in (
        ("max reward", known.max_reward),
        ("max coverage", known.max_coverage),
        ("return", known.sum_reward),
    ):
        if mean.value is not None:
            table.add_row(title, Text(interval(mean)))
    return table


def _tasks(record: RolloutRecord) -> Table:
    rows = sorted(record.by_task, key=lambda row: (row.rate or 0.0, row.task_id))
    shown = rows[:_MOST_TASKS]
    more = f", worst {len(shown)} of {len(rows)}" if len(rows) > len(shown) else ""
    table = plain_table(f"Success by task{more}")
    table.add_column("task")
    table.add_column("success", justify="right")
    table.add_column("max reward", justify="right")
    for row in shown:
        name = f"{row.task_group} {row.task_id} {row.task}"
        table.add_row(Text(name[:60]), Text(rate(row)), number(row.max_reward))
    return table
