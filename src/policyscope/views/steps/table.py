"""Success by steps of each chunk, in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from policyscope.checks.steps import StepSweep
from policyscope.views.console import plain_table
from policyscope.views.steps.words import cells, headline, how_tested, subject, titles


def steps_table(swept: StepSweep) -> RenderableType:
    """A row for each number of steps."""
    table = plain_table("Success by steps of each chunk")
    for title in titles(swept):
        table.add_column(title, justify="right")
    for row in swept.rows:
        table.add_row(*map(Text, cells(row)), style="bold" if row.steps == swept.base else "")
    return Group(
        Text(subject(swept)),
        table,
        Text(""),
        Text(headline(swept), style="bold"),
        Text(how_tested(), style="dim"),
    )
