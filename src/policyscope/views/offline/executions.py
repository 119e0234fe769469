"""One set of predictions, run in many ways: a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.text import Text

from policyscope.runs.content import OfflineRecord
from policyscope.runs.rows import ExecutionRow
from policyscope.views.console import plain_table
from policyscope.views.language import Say, english
from policyscope.views.offline.words import BASELINE_NAMES, error_metric
from policyscope.views.words import interval, number, ratio, unit_name


def execution_table(
    record: OfflineRecord, rows: Sequence[ExecutionRow], say: Say = english
) -> tuple[list[str], list[list[str]]]:
    """Titles, and the cells of a row for each way.

    Args:
        record: of the run.
        rows: ways to run it.
        say: the language.
    """
    metric, unit = error_metric(record)
    titles = [
        say("asks again after"),
        say("MAE in {unit}", unit=unit_name(unit, say)),
        say("best baseline"),
        say("seam"),
        say("jerk"),
        say("path"),
        say("calls/s"),
    ]
    with_baselines = any(row.baselines for row in rows)
    cells = []
    for row in rows:
        known = [v for n, v in row.baselines.items() if v is not None and n in BASELINE_NAMES]
        cells.append(
            [
                way_name(row, say),
                interval(row.mae if metric == "mae" else row.nmae),
                number(min(known, default=None)),
                ratio(row.seam),
                ratio(row.jerk),
                ratio(row.path),
                number(row.calls_per_s),
            ]
        )
    if not with_baselines:
        titles.pop(2)
        for row_cells in cells:
            row_cells.pop(2)
    return titles, cells


def way_name(row: ExecutionRow, say: Say = english) -> str:
    """What to call a way."""
    if row.ensembling is not None:
        return say("1, ensemble {c}", c=f"{row.ensembling:g}")
    return str(row.n_action_steps)


def execution_note(say: Say = english) -> str:
    """What the columns are."""
    return say(
        "The same predictions, stitched as a robot would run them, without asking again. Seam: the "
        "step into a new chunk; jerk: RMS of third differences; path: length; each over the "
        "demonstration's own. Open loop all the same: every chunk saw the demonstrator's states."
    )


def execution_text(
    record: OfflineRecord, rows: Sequence[ExecutionRow], say: Say = english
) -> Group:
    """For the terminal."""
    titles, cells = execution_table(record, rows, say)
    table = plain_table()
    for i, title in enumerate(titles):
        table.add_column(title, justify="right" if i else "left", no_wrap=i < 2)
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    return Group(table, Text(execution_note(say), style="dim"))
