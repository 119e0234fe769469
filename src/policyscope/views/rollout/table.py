"""The terminal's view of a closed-loop run."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from policyscope.runs.content import RolloutRecord
from policyscope.views.console import plain_table
from policyscope.views.language import Say, english
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


def rollout_table(record: RolloutRecord, say: Say = english) -> RenderableType:
    """Everything about a finished closed-loop run that fits a terminal."""
    parts: list[RenderableType] = [Text(subject(record, say))]
    notice = forced_notice(record, say)
    if notice:
        parts.append(Text(notice, style="bold white on red"))
    parts += [
        Text(headline(record, say), style="bold"),
        Text(detectable_line(record, say)),
        _rewards(record, say),
    ]
    if len(record.by_task) > 1:
        parts.append(_tasks(record, say))
    lines = (time_line(record, say), motion_line(record, say), throughput_line(record, say))
    parts += [Text(line) for line in lines if line]
    if record.findings:
        parts.append(findings_text(record.findings))
    return Group(*parts)


def _rewards(record: RolloutRecord, say: Say) -> Table:
    known = record.closed_loop
    table = plain_table()
    table.add_column(say("mean over episodes"))
    table.add_column(say("[95 % interval]"), justify="right")
    for title, mean in (
        (say("max reward"), known.max_reward),
        (say("max coverage"), known.max_coverage),
        (say("return"), known.sum_reward),
    ):
        if mean.value is not None:
            table.add_row(title, Text(interval(mean)))
    return table


def _tasks(record: RolloutRecord, say: Say) -> Table:
    rows = sorted(record.by_task, key=lambda row: (row.rate or 0.0, row.task_id))
    shown = rows[:_MOST_TASKS]
    title = say("Success by task")
    if len(rows) > len(shown):
        title = say("Success by task, worst {n} of {all}", n=len(shown), all=len(rows))
    table = plain_table(title)
    table.add_column(say("task"))
    table.add_column(say("success"), justify="right")
    table.add_column(say("max reward"), justify="right")
    for row in shown:
        name = f"{row.task_group} {row.task_id} {row.task}"
        table.add_row(Text(name[:60]), Text(rate(row, say)), number(row.max_reward))
    return table
