"""What was looked at, in a terminal: a line each, then what was found."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from policyscope.checks.trial.looks import Trial
from policyscope.views.trial.words import headline, subject
from policyscope.views.words import findings_text

_MARKS = {
    "fine": ("✓", "green"),
    "info": ("i", "cyan"),
    "warning": ("!", "bold yellow"),
    "error": ("✗", "bold red"),
    "absent": ("–", "dim"),
}


def checklist(trial: Trial) -> RenderableType:
    """The looks, each with its outcome, and the findings. All text is shown literally."""
    table = Table.grid(padding=(0, 1))
    for look in trial.looks:
        mark, style = _MARKS[look.outcome]
        table.add_row(
            Text(mark, style=style),
            Text(look.title, style="" if look.outcome == "absent" else "bold"),
            Text(look.said.format(**look.values), style="dim"),
        )
    parts: list[RenderableType] = [Text(subject(trial)), table]
    if trial.findings:
        parts += [Text(), findings_text(trial.findings)]
    return Group(*parts, Text(f"\n{headline(trial)}", style="bold"))
