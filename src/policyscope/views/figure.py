"""What every picture of a run shares: its style, and the titles around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

from policyscope.config import Language
from policyscope.errors import visible
from policyscope.files import write_whole
from policyscope.runs.directory import in_language
from policyscope.views.language import Say, speaker

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
_WIDEST = 108  # letters of a headline


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
    size = min(17.0, 17.0 * _WIDEST / max(_width(verdict), 1))
    figure.text(_LEFT, 0.953, plain(verdict), fontsize=size, weight="bold", va="center")
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


_GLYPHS = (  # families with Chinese glyphs, as systems have them
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",  # the first face of the same file, which is all that matplotlib reads
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti SC",
    "Arial Unicode MS",
)


@contextmanager
def canvas(language: Language) -> Iterator[tuple[Figure, Say, str]]:
    """A figure of 1600 × 1000 pixels in our style, what puts its words into the language, and a
    note for its foot: where no font here has the glyphs, the words are English.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    family, note = ["DejaVu Sans"], ""
    if language != "en":
        found = _with_glyphs()
        family = [*family, *found]
        if not found:
            language = "en"
            note = " In English: no font with Chinese glyphs (such as Noto Sans CJK SC) is here."
    with rc_context({**STYLE, "font.family": family, "svg.hashsalt": "policyscope"}):
        figure = Figure(figsize=(16, 10), dpi=100)
        FigureCanvasAgg(figure)
        yield figure, speaker(language), note


def _with_glyphs() -> list[str]:
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return [name for name in _GLYPHS if name in there]


def save_all(figure: Figure, folder: Path, language: Language, formats: Sequence[str]) -> Path:
    """Write the picture of a run in each format, and return the first path.

    Raises:
        OutputError: one can't be written.
    """
    paths = [folder / in_language(f"report.{ending}", language) for ending in formats]
    for path in paths:
        save(figure, path)
    return paths[0]


def _width(text: str) -> int:
    """Letters, of which Chinese ones take the room of two."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def save(figure: Figure, path: Path) -> None:
    """Write a picture whole.

    Raises:
        OutputError: it can't be written.
    """
    kind = path.suffix.removeprefix(".")
    told: dict[str, dict[str, str | None]] = {
        "png": {"Software": "policyscope"},
        "svg": {"Creator": "policyscope", "Date": None},
        "pdf": {"Creator": "policyscope", "CreationDate": None},
    }
    write_whole(path, lambda tmp: figure.savefig(tmp, format=kind, metadata=told[kind]))


def plain(text: str) -> str:
    """Text as it stands: matplotlib reads a pair of dollar signs as mathematics."""
    return visible(text, keep="\n").replace("$", r"\$")


def shorten(text: str, most: int) -> str:
    """At most so many letters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
