"""A comparison in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from policyscope.checks.comparison import Compared, Comparison
from policyscope.metrics.compared import Row
from policyscope.metrics.power import Plan
from policyscope.metrics.verdicts import Verdict
from policyscope.views.compared.words import (
    gate_line,
    leading_line,
    numbers_line,
    p_text,
    reasons,
    shown_points,
    shown_ratio,
    unit_text,
    verdict_line,
)
from policyscope.views.console import plain_table
from policyscope.views.language import Say, english
from policyscope.views.words import number

_STYLES = {
    Verdict.BETTER: "bold green",
    Verdict.NO_WORSE: "bold green",
    Verdict.WORSE: "bold red",
    Verdict.UNDECIDED: "bold yellow",
    Verdict.NOT_COMPARABLE: "bold red",
}
_MOST_STEPS = 6


def comparison_text(comparison: Comparison, say: Say = english) -> RenderableType:
    """Words first, then the tables."""
    parts: list[RenderableType] = []
    for compared in comparison.runs:
        if parts:
            parts.append(Text())
        parts += _one(comparison, compared, say)
    if (best := leading_line(comparison, say)) is not None:
        parts += [Text(), Text(best, style="bold")]
    return Group(*parts)


def _one(comparison: Comparison, compared: Compared, say: Say) -> list[RenderableType]:
    parts: list[RenderableType] = [
        Text(verdict_line(comparison, compared, say), style=_STYLES[compared.decision.verdict]),
        Text(numbers_line(comparison, compared, say)),
    ]
    parts += [Text(line, style="dim") for line in reasons(comparison, compared, say)]
    parts += [Text(gate_line(text, holds, say)) for text, holds in compared.gates]
    if compared.offline is not None:
        rows = compared.offline
        title = say("Over all frames; executed: {n} steps", n=rows.n_action_steps)
        parts.append(_table(title, rows.of("scope"), say, named=True))
        steps = [r for r in rows.of("horizon") if r.name == comparison.metric.split(".")[1]]
        stride = max(1, -(-len(steps) // _MOST_STEPS))
        parts.append(_table(say("By horizon step"), steps[::stride], say))
        parts.append(_table(say("By dim, over the chunk"), rows.of("dim"), say))
        if tasks := rows.of("task"):
            title = say("By task, {metric}", metric=comparison.metric)
            parts.append(_table(title, tasks, say))
    if compared.closed_loop is not None and compared.closed_loop.by_task:
        parts.append(_tasks(compared, say))
    return parts


def _table(title: str, rows: list[Row], say: Say, *, named: bool = False) -> Table:
    table = plain_table(title)
    table.add_column("", justify="left")
    for column in ("A", "B", "", "B / A", ""):
        table.add_column(column, justify="right" if column != "" else "left", no_wrap=True)
    for row in rows:
        cell = row.paired
        table.add_row(
            Text(row.name if named else row.label),
            number(float(cell.a)),
            number(float(cell.b)),
            Text(unit_text(row.unit, say), style="dim"),
            shown_ratio(cell),
            Text(p_text(None if cell.p != cell.p else float(cell.p)), style="dim"),
        )
    return table


def _tasks(compared: Compared, say: Say) -> Table:
    assert compared.closed_loop is not None
    table = plain_table(say("By task"))
    for column in ("", "A", "B", say("points")):
        table.add_column(column, no_wrap=True)
    for task, known in compared.closed_loop.by_task:
        a, b = known.a, known.b
        table.add_row(Text(task), f"{a.k}/{a.n}", f"{b.k}/{b.n}", shown_points(known))
    return table


def plan_text(plans: tuple[Plan, ...], say: Say = english) -> RenderableType:
    """Episodes that a question needs, by design."""
    first = plans[0]
    question = (
        say("Is the rate different from {rate}?", rate=f"{first.rate_from:g}")
        if first.margin is None
        else say(
            "Is the rate at most {margin} below {rate}?",
            margin=f"{first.margin:g}",
            rate=f"{first.rate_from:g}",
        )
    )
    table = plain_table()
    for column in (say("design"), say("episodes of each run"), say("chance of an answer"), ""):
        table.add_column(column)
    designs = {
        "one": say("one run against a known rate"),
        "paired": say("two runs on the same seeds"),
        "unpaired": say("two runs on seeds of their own"),
    }
    for known in plans:
        table.add_row(
            designs[known.design],
            say("more than can be counted here") if known.n is None else str(known.n),
            "–" if known.power is None else f"{100 * known.power:.1f} %",
            Text(known.test, style="dim"),
        )
    told = say("Assumed: the rate is {rate}.", rate=f"{first.rate_to:g}")
    return Group(Text(question, style="bold"), Text(told, style="dim"), table)
