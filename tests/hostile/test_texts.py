"""Forty hostile texts wherever text is shown: none of them acts."""

from __future__ import annotations

import io
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

import fakes
import policyscope as ps
from policyscope.errors import Finding, InputError, RefusedError, visible
from policyscope.views.console import Terminal
from policyscope.views.figure import STYLE, plain, write_titles
from policyscope.views.words import code_span, findings_text

TEXTS = (
    "\x1b[31mred",
    "\x1b[2J\x1b[H",
    "\x1b]0;title\x07",
    "\x1b]8;;file:///etc/passwd\x1b\\click\x1b]8;;\x1b\\",
    "\x1b]52;c;cm0gLXJm\x07",
    "\x1bP+q544e\x1b\\",
    "\x1b[?1049h",
    "\x1b[6n",
    "\x9b31m",
    "\x9d0;x\x9c",
    "a\rb",
    "a\x08\x08b",
    "bell\x07",
    "null\x00",
    "line\nrefused: nothing",
    "tab\tand\x0bmore\x0c",
    "next\x85line\u2028\u2029",
    "\u202egnp.exe",
    "\u2066isolate\u2069",
    "\u200f\u061cright",
    "zero\u200bwidth\u200d\ufeff",
    "\u00adsoft",
    "tags\U000e0041",
    "\ue000private",
    "\ud800",
    "\udcff",
    "[bold]x[/bold]",
    "[link=file:///etc/passwd]y[/link]",
    "[@click=app.bell]z",
    ":skull: :warning:",
    "$\\frac{$",
    "$x^2$ \\input{/etc/passwd}",
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    '" onmouseover="alert(3)',
    "javascript:alert(4)",
    "{{ 7 * 7 }} {% raw %}",
    "| a | b |\n|---|---|",
    "`` ` `` ![x](http://x/y.png) @user #1 <b>",
    "[x](javascript:alert(5)) http://x www.x",
)
_OWN = re.compile(r"\x1b\[[0-9;]*m")
"""Colours, which are rich's."""


def harmless(shown: str) -> bool:
    """No character that a terminal, a log or a reader's eye would act on."""
    kinds = {unicodedata.category(c) for c in shown if c != "\n"}
    return not kinds & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def test_there_are_forty() -> None:
    assert len(set(TEXTS)) == 40


@pytest.mark.parametrize("text", TEXTS)
def test_in_one_line(text: str) -> None:
    shown = visible(text)
    assert harmless(shown)
    assert "\n" not in shown
    assert visible(shown) == shown
    error = InputError(text, expected=text, found=text, fix=text)
    finding = Finding(text, "error", text, text)
    for line in (str(error), str(RefusedError((finding,)))):
        assert harmless(line)
        assert "\n" not in line


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("push the T", "推动方块 到目标", "é – “x” ±3 °C", "דחוף את הקוביה", "🤖"):
        assert visible(text) == text


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("text", TEXTS)
def test_on_a_terminal_and_in_a_log(text: str, terminal: bool) -> None:
    file = io.StringIO()
    console = Terminal(file=file, force_terminal=terminal, width=60, highlight=False)
    table = Table(title=Text(text))
    table.add_column(Text(text))
    table.add_row(Text(text), Text(text, style="red"))
    finding = Finding(text, "error", text, text)
    console.print(table)
    console.print(findings_text([finding]))
    console.print(text, markup=False, emoji=False)
    shown = file.getvalue()
    assert harmless(_OWN.sub("", shown) if terminal else shown)
    if "[" in text and harmless(text):
        assert text in _OWN.sub("", shown)


def test_while_a_run_goes_on() -> None:
    from policyscope.views.terminal import RolloutDashboard, TerminalProgress

    for dashboard in (TerminalProgress, RolloutDashboard):
        for terminal in (True, False):
            file = io.StringIO()
            console = Terminal(file=file, force_terminal=terminal, width=60, highlight=False)
            with dashboard(console) as progress:
                for text in TEXTS:
                    progress.stage(Text(text).plain)
            moves = re.compile(r"\x1b\[\??[0-9;]*[a-zA-Z]|\r")
            assert harmless(moves.sub("", file.getvalue()))
            assert "\x1b]" not in file.getvalue()


def test_in_pictures(tmp_path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(16, 10))
        FigureCanvasAgg(figure)
        for i, text in enumerate(TEXTS):
            shown = plain(text)
            assert harmless(shown)
            assert not re.search(r"(?<!\\)\$", shown)
            figure.text(0.1, i / len(TEXTS), shown)
            write_titles(figure, text, text, text, footer=text)
        figure.savefig(tmp_path / "p.png")


@pytest.mark.parametrize("text", TEXTS)
def test_in_markdown(text: str) -> None:
    from markdown_it import MarkdownIt

    span = code_span(text)
    assert harmless(span)
    parser = MarkdownIt("gfm-like", {"linkify": False})
    (cell,) = _inline(parser.parse(f"| name |\n|---|\n| {span} |\n")[6:])
    assert {token.type for token in cell} == {"code_inline"}
    (alone,) = _inline(parser.parse(span))
    assert {token.type for token in alone} == {"code_inline"}


def _inline(tokens: list[Any]) -> list[list[Any]]:
    return [token.children for token in tokens if token.type == "inline"]


def test_in_rerun() -> None:
    from policyscope.views.stream import _entity

    for text in TEXTS:
        assert re.fullmatch(r"[\w.-]+", _entity(text))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ps.Run:
    """A run whose dims and task carry all of the texts that a dataset can hold."""
    folder = tmp_path_factory.mktemp("texts")
    names = [text.encode("utf-8", "replace").decode() for text in TEXTS]
    root = fakes.write_dataset(
        folder / "d", lengths=(8,) * 5, dim=len(names), names=names, cameras=(), tasks=tuple(names)
    )
    config = fakes.config_for(root, "repeat_last", folder / "o")
    return ps.evaluate(config)


def test_on_the_page(run: ps.Run) -> None:
    page = ps.render(ps.ReportConfig(str(run.directory))).read_text(encoding="utf-8")
    before, data, after = re.split(
        r'(<script type="application/json".*?</script>)', page, flags=re.S
    )
    for part in (before, data[len("<script type") : -len("</script>")]):
        assert "<script>alert" not in part
        assert "<img src=x" not in part
        assert "</script><img" not in part
    assert "alert(1)" not in after
    assert not re.search(r"<[^>]*\son\w+\s*=\s*[\"']?alert", page)
    assert 'href="javascript:' not in page
    assert "49" not in re.findall(r"\{\{ (.*?) \}\}", page)


def test_in_the_table_of_a_run(run: ps.Run) -> None:
    from policyscope.views.offline.table import run_table

    file = io.StringIO()
    Terminal(file=file, force_terminal=True, width=200).print(run_table(run.record))
    assert harmless(_OWN.sub("", file.getvalue()))
