"""A comparison for machines and for pull requests: JSON, Markdown, JUnit."""

from __future__ import annotations

import html
import json
import math
from typing import Any
from xml.etree import ElementTree

from policyscope.checks.comparison import Compared, Comparison, Exit
from policyscope.metrics.compared import Row
from policyscope.metrics.proportions import RateDifference
from policyscope.metrics.verdicts import Verdict
from policyscope.runs.carried import shown
from policyscope.views.compared.words import (
    gate_line,
    leading_line,
    name,
    numbers_line,
    reasons,
    shown_ratio,
    unit_text,
    verdict_line,
    why,
)
from policyscope.views.language import Say, english
from policyscope.views.words import number

COMPARISON_VERSION = 1
MARKER = "<!-- policyscope-compare -->"
"""First line of the Markdown: by it CI finds the comment again that it wrote before."""
_MOST_TASKS = 40
_LONGEST = 65_000  # characters: a comment of a pull request may have 65 536


# ── JSON ──────────────────────────────────────────────────────────────


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """All of it, versioned, with the hashes of what was compared."""
    return {
        "schema_version": COMPARISON_VERSION,
        "kind": "comparison",
        "metric": comparison.metric,
        "margin": None
        if comparison.margin is None
        else {"value": comparison.margin.value, "relative": comparison.margin.relative},
        "base": {"path": shown(comparison.base.path), "sha256": comparison.base.sha256},
        "exit": int(comparison.exit),
        "leading": list(comparison.leading),
        "runs": [_run_json(comparison, c) for c in comparison.runs],
    }


def _run_json(comparison: Comparison, compared: Compared) -> dict[str, Any]:
    decision = compared.decision
    closed = compared.closed_loop
    return {
        "path": shown(compared.run.path),
        "sha256": compared.run.sha256,
        "verdict": str(decision.verdict),
        "reason": decision.reason,
        "test": decision.test.name if decision.test else None,
        "p": decision.p,
        "text": f"{verdict_line(comparison, compared)}. {numbers_line(comparison, compared)}",
        "detectable": _detectable_json(comparison, compared),
        "differences": [vars(d) for d in compared.differences],
        "gates": [{"condition": text, "holds": holds} for text, holds in compared.gates],
        "rows": [_row_json(row) for row in compared.offline.rows] if compared.offline else [],
        "success": None if closed is None else _rate_json(closed.success),
        "by_task": []
        if closed is None
        else [{"task": task, **_rate_json(rates)} for task, rates in closed.by_task],
        "max_reward": None
        if closed is None or closed.reward is None
        else closed.reward.measured().to_json(),
    }


def _detectable_json(comparison: Comparison, compared: Compared) -> dict[str, Any] | None:
    """What so many episodes would have shown: a ratio of errors, or success rates of B."""
    if compared.closed_loop is not None:
        return compared.closed_loop.detectable().to_json()
    row = compared.offline.row(comparison.metric) if compared.offline else None
    ratio = row.paired.detectable() if row else None
    if row is None or ratio is None:
        return None
    return {"lower": 1 / ratio, "higher": ratio, "test": row.paired.test().name, "power": 0.8}


def _row_json(row: Row) -> dict[str, Any]:
    cell = row.paired
    ends = [f"{name}{end}" for name in ("ratio", "difference") for end in ("", "_low", "_high")]
    return {
        "table": row.table,
        "name": row.name,
        "label": row.label,
        "unit": row.unit,
        **{key: _finite(float(getattr(cell, key))) for key in ("a", "b", *ends, "p")},
        "n_episodes": int(cell.n_episodes),
        "n_b_better": int(cell.n_b_better),
    }


def _rate_json(known: RateDifference) -> dict[str, Any]:
    return {
        "a": known.a.to_json(),
        "b": known.b.to_json(),
        "difference": known.value,
        "ci_low": known.low,
        "ci_high": known.high,
        "interval": known.interval,
        "test": known.test.name,
        "p": known.test.p,
        "pairs": None if known.pairs is None else vars(known.pairs),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def comparison_json_text(comparison: Comparison) -> str:
    """The JSON as text."""
    return json.dumps(comparison_json(comparison), indent=1, ensure_ascii=False, allow_nan=False)


# ── Markdown ──────────────────────────────────────────────────────────


def comparison_markdown(comparison: Comparison, say: Say = english) -> str:
    """For a pull request: verdicts in the headings, numbers in tables, reasons folded away."""
    parts = [MARKER]
    for compared in comparison.runs:
        parts += _run_markdown(comparison, compared, say)
    if (best := leading_line(comparison, say)) is not None:
        parts.append(f"**{_escaped(best)}**")
    text = "\n\n".join(parts) + "\n"
    if len(text) <= _LONGEST:
        return text
    short = [MARKER]
    for compared in comparison.runs:
        short += [f"### {_escaped(verdict_line(comparison, compared, say)[:200])}"]
        short += [_escaped(numbers_line(comparison, compared, say)[:400])]
    return "\n\n".join(short)[:_LONGEST] + "\n"


def _run_markdown(comparison: Comparison, compared: Compared, say: Say) -> list[str]:
    parts = [
        f"### {_escaped(verdict_line(comparison, compared, say))}",
        _escaped(numbers_line(comparison, compared, say)),
    ]
    parts += [f"- {_escaped(gate_line(text, holds, say))}" for text, holds in compared.gates]
    if compared.offline is not None:
        parts.append(_markdown_table(compared.offline.of("scope"), say))
        if tasks := compared.offline.of("task"):
            parts.append(_markdown_table(tasks[:_MOST_TASKS], say))
    folded = "\n".join(f"- {_escaped(line)}" for line in reasons(comparison, compared, say))
    parts.append(f"<details><summary>{say('Why')}</summary>\n\n{folded}\n\n</details>")
    return parts


def _markdown_table(rows: list[Row], say: Say) -> str:
    lines = ["| | A | B | | B / A |", "|---|---:|---:|---|---|"]
    for row in rows:
        cell = row.paired
        cells = (
            row.label or row.name,
            number(float(cell.a)),
            number(float(cell.b)),
            unit_text(row.unit, say),
            shown_ratio(cell),
        )
        lines.append("| " + " | ".join(_escaped(c) for c in cells) + " |")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Text that Markdown and HTML show as it is: names of runs and dims come from strangers."""
    plain = html.escape("".join(c if c.isprintable() else "?" for c in text), quote=False)
    return "".join(f"\\{c}" if c in r"\`*_{}[]|#!@" else c for c in plain)


# ── JUnit ─────────────────────────────────────────────────────────────


def comparison_junit(comparison: Comparison) -> str:
    """A test case for each run: failed where the gate fails, in error where not comparable."""
    suite = ElementTree.Element(
        "testsuite",
        name="policyscope compare",
        tests=str(len(comparison.runs)),
        failures=str(sum(_failed(comparison, c) for c in comparison.runs)),
        errors=str(sum(_no_comparison(c) for c in comparison.runs)),
    )
    for compared in comparison.runs:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=_xml(name(comparison.base.path)),
            name=_xml(name(compared.run.path)),
        )
        text = _xml(
            f"{verdict_line(comparison, compared)}. {numbers_line(comparison, compared)}. "
            f"{why(compared.decision)}"
        )
        if _no_comparison(compared):
            ElementTree.SubElement(case, "error", message=text)
        elif _failed(comparison, compared):
            ElementTree.SubElement(case, "failure", message=text)
        else:
            ElementTree.SubElement(case, "system-out").text = text
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _no_comparison(compared: Compared) -> bool:
    return compared.decision.verdict is Verdict.NOT_COMPARABLE


def _failed(comparison: Comparison, compared: Compared) -> bool:
    """Whether this run is a reason for the gate not to pass."""
    if comparison.exit is Exit.PASSED or _no_comparison(compared):
        return False
    held = [holds for _, holds in compared.gates]
    judged = comparison.margin is not None
    bad = any(held) or (judged and compared.decision.verdict is Verdict.WORSE)
    undecided = None in held or (judged and compared.decision.verdict is Verdict.UNDECIDED)
    return bad or (comparison.exit is Exit.UNDECIDED and undecided)


def _xml(text: str) -> str:
    """Text without the characters that XML forbids."""
    return "".join(c if c.isprintable() else "?" for c in text)
