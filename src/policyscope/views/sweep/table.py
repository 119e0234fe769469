"""A sweep in a terminal: a row a checkpoint, and what can be said of the best."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from policyscope.runs.sweep import SweepRecord, SweepRow
from policyscope.views.console import plain_table
from policyscope.views.offline.words import BASELINE_NAMES, CAVEAT
from policyscope.views.sweep.words import (
    best_lines,
    how_tested,
    label,
    measured,
    scope_names,
    why_apart,
)
from policyscope.views.words import unit_name

_SHOWN = ("executed.error", "executed.skill", "chunk.error")


def sweep_table(record: SweepRecord) -> RenderableType:
    """Everything about a sweep that fits a terminal. All text is shown literally."""
    alike: dict[str, set[str]] = {best.measure: set(best.alike) for best in record.best}
    scopes = scope_names(record)
    measures = [*_SHOWN, *(["success"] if record.env else [])]
    table = plain_table(
        f"MAE in {unit_name(record.unit)}, skill against {BASELINE_NAMES[record.against]} "
        "[95 % interval]; ● not told apart from the best"
    )
    table.add_column("checkpoint")
    for measure in measures:
        scope, _, what = measure.partition(".")
        title = "success" if not what else f"{'MAE' if what == 'error' else 'skill'}, "
        title += "" if not what else scopes[scope]  # type: ignore[index]  # a scope, as above
        table.add_column(title, justify="right")
    for row in record.checkpoints:
        cells = [_cell(row, measure, alike.get(measure, set())) for measure in measures]
        table.add_row(Text(label(row), style="bold"), *cells)
    apart = [
        Text(f"{label(row)}: {why}", style="red")
        for row in record.checkpoints
        if (why := why_apart(row))
    ]
    said = [Text(line) for line in best_lines(record)]
    for line in said[:1]:
        line.stylize("bold")
    notes = [Text(text, style="dim") for text in (how_tested(record), CAVEAT) if text]
    return Group(table, Text(""), *apart, *said, *notes)


def _cell(row: SweepRow, measure: str, alike: set[str]) -> Text:
    return Text(f"{measured(row, measure)} {'●' if row.name in alike else ' '}", no_wrap=True)
