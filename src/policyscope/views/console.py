"""A terminal on which nothing acts but what we mean to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from policyscope.errors import visible


@final
class Terminal(Console):
    """A console that shows control and format characters as text, whatever they stand in.

    Colours and cursor movements are rich's own: they never come from the text.
    """

    def on_broken_pipe(self) -> None:
        """Rich would exit with 1, as a failed check does."""
        raise BrokenPipeError

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """See `Console.render`."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control or text.isprintable():
                yield segment
            else:
                yield Segment(visible(text, keep="\n"), style, control)


def plain_table(title: str = "") -> Table:
    """The one style of table: a rule under the heads, nothing at its sides.

    Columns share the space between them, so that three intervals stand in 80 letters.

    Args:
        title: above it, after an empty line; shown literally.
    """
    return Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
        title=Text(f"\n{title}", style="italic") if title else None,
        title_justify="left",
    )
