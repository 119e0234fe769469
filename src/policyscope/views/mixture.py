"""One policy on several datasets, in a terminal: a row each, then the mean over them."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from policyscope.metrics.mixture import Mixture
from policyscope.views.console import plain_table
from policyscope.views.offline.words import CAVEAT
from policyscope.views.words import interval, number, ratio, tail

_TITLES = {
    "executed.nmae": "MAE, executed",
    "chunk.nmae": "MAE, chunk",
    "executed.skill": "skill, executed",
    "chunk.skill": "skill, chunk",
}


def mixture_table(mixture: Mixture) -> RenderableType:
    """A row of each dataset, and their mean. All text is shown literally."""
    table = plain_table(
        "MAE in std of each dataset, skill against its strongest baseline [95 % interval]"
    )
    table.add_column("dataset")
    for title in _TITLES.values():
        table.add_column(title, justify="right")
    for part in mixture.parts:
        known = part.numbers
        cells = [
            interval(known[name], ratio if name.endswith("skill") else number) if known else "–"
            for name in _TITLES
        ]
        table.add_row(Text(tail(part.dataset), style="bold"), *map(Text, cells))
    macro = mixture.macro
    cells = [(ratio if name.endswith("skill") else number)(macro.get(name)) for name in _TITLES]
    n = sum(part.record is not None for part in mixture.parts)
    table.add_section()
    table.add_row(Text(f"mean of {n}", style="bold"), *map(Text, cells))
    notes = [Text(f"{part.dataset}: {part.why}", style="red") for part in mixture.parts if part.why]
    notes += [
        Text(f"{part.dataset}: {', '.join(f.code for f in part.record.errors)}", style="red")
        for part in mixture.parts
        if part.record is not None and part.record.errors
    ]
    said = "Each dataset counts once in the mean, however many episodes it has."
    return Group(table, Text(""), *notes, Text(said, style="dim"), Text(CAVEAT, style="dim"))
