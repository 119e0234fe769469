"""What every picture of a run shares: its style, and the titles around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyscope.errors import visible
from policyscope.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE: Any = {
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "legend.frameon": False,
    "legend.fontsize": 9,
}
_LEFT = 0.012


def write_titles(
    figure: Figure,
    verdict: str,
    about: str,
    notice: str | None,
    *,
    claims: Sequence[str] = (),
    footer: str = "",
) -> None:
    """Verdict, subject, notice and claims above a picture, and a line below it."""
    figure.text(_LEFT, 0.953, plain(verdict), fontsize=17, weight="bold", va="center")
    figure.text(_LEFT, 0.92, plain(shorten(about, 170)), fontsize=11.5, va="center")
    for i, line in enumerate(claims):
        figure.text(_LEFT, 0.898 - 0.017 * i, plain(shorten(line, 190)), fontsize=10, va="center")
    figure.text(_LEFT, 0.02, plain(footer), fontsize=9.5, color="#555555", va="center")
    if notice:
        figure.text(
            0.98,
            0.984,
            plain(notice),
            fontsize=12,
            weight="bold",
            color="white",
            backgroundcolor="#b00020",
            ha="right",
            va="center",
        )


def save(figure: Figure, path: Path) -> None:
    """Write a picture whole.

    Raises:
        OutputError: it can't be written.
    """
    write_whole(path, lambda tmp: figure.savefig(tmp, metadata={"Software": "policyscope"}))


def plain(text: str) -> str:
    """Text as it stands: matplotlib reads a pair of dollar signs as mathematics."""
    return visible(text, keep="\n").replace("$", r"\$")


def shorten(text: str, most: int) -> str:
    """At most so many letters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
