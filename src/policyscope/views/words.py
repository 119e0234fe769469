"""Numbers and findings in words, shared by every place that shows them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Protocol

from rich.text import Text

from policyscope.actions.meanings import UNDECLARED_UNIT
from policyscope.errors import Severity, visible
from policyscope.metrics.proportions import at_most
from policyscope.runs.content import Head, PolicyFacts
from policyscope.runs.values import Value
from policyscope.views.language import Say, english


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits; a dash where there is none."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    rounded, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if not 1e-4 <= abs(value) < 1e5:
        return f"{rounded}e{exponent}"
    return f"{value:.{max(0, digits - 1 - int(exponent))}f}"  # 9.999 has one digit more than 9.99


def ratio(value: float | None) -> str:
    """A dimensionless number of order one, such as skill: no finer than a hundredth."""
    if value is None or abs(value) >= 1:
        return number(value)
    return f"{round(value, 2) or 0.0:.2f}"  # never "-0.00"


def share(rate: float | None, n: int, say: Say = english) -> str:
    """A count of n, with what so many still allow: none of 64 may yet be 4.6 %."""
    if rate is None or not n:
        return "–"
    k = round(rate * n)
    if k == n:
        return say("{k} of {n}", k=k, n=n)
    return say("{k} of {n} (at most {most} %)", k=k, n=n, most=number(100 * at_most(k, n), 2))


def interval(known: Value, show: Callable[[float | None], str] = number) -> str:
    """A value with its 95 % interval, where there is one."""
    return between(known.value, known.ci_low, known.ci_high, show)


def between(
    value: float | None,
    low: float | None,
    high: float | None,
    show: Callable[[float | None], str] = number,
) -> str:
    """A value with the ends of its interval, where there is one."""
    if low is None or low == high:
        return show(value)
    return f"{show(value)} [{show(low)}, {show(high)}]"


def tail(path: str) -> str:
    """The telling end of a long path; the record holds all of it."""
    parts = path.rstrip("/").split("/")
    return path if len(parts) <= 3 else "…/" + "/".join(parts[-2:])


def who(policy: PolicyFacts) -> str:
    """What to call a policy: its type, and where its weights lie."""
    return policy.type if policy.sha256 is None else f"{policy.type} ({tail(policy.path)})"


def unit_name(unit: str, say: Say = english) -> str:
    """A unit as text."""
    return say("native unit") if unit == UNDECLARED_UNIT else say("std") if unit == "std" else unit


def forced_notice(record: Head, say: Say = english) -> str | None:
    """What must stand beside every number of a forced run, or of suspicious predictions."""
    codes = ", ".join(finding.code for finding in record.errors)
    if record.forced:
        return say("FORCED in spite of {codes}: these numbers may mean nothing", codes=codes)
    if codes:
        return say(
            "{codes}: these numbers may mean nothing (see the findings)", codes=codes.upper()
        )
    return None


_COLOURS = {"error": "bold red", "warning": "yellow", "info": "cyan"}


class Told(Protocol):
    """A finding, fresh or from a record."""

    @property
    def code(self) -> str:
        """Its stable identifier."""

    @property
    def severity(self) -> Severity:
        """``error``, ``warning`` or ``info``."""

    @property
    def message(self) -> str:
        """What was expected and what was found."""

    @property
    def fix(self) -> str:
        """What to do."""


def findings_text(findings: Iterable[Told]) -> Text:
    """Findings with their fixes."""
    text = Text()
    for finding in findings:
        text.append(f"{finding.severity} ", style=_COLOURS[finding.severity])
        text.append(finding.code, style="bold")
        text.append(f": {finding.message}\n")
        text.append(f"  fix: {finding.fix}\n", style="dim")
    text.rstrip()
    return text


def code_span(text: str) -> str:
    """Text for Markdown, on GitHub, too: within code nothing links, mentions, or becomes HTML."""
    shown = visible(text).replace("|", "\\|")  # bars end the cells of tables, even there
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {shown} {fence}" if longest or not shown.strip() else f"{fence}{shown}{fence}"


def counted(n: int, what: str = "episode") -> str:
    """A number of things: ``1 episode``, ``3 episodes``."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
