"""The page of a comparison: what is shown of the runs, and one player in which they all play."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from policyscope.checks.comparison import Compared, Comparison, StoredRun
from policyscope.config import Language
from policyscope.errors import UsageError
from policyscope.files import write_text
from policyscope.metrics.compared import ClosedLoopComparison, OfflineComparison, Row, Table
from policyscope.metrics.verdicts import Verdict
from policyscope.runs.carried import shown
from policyscope.runs.content import OfflineRecord, RolloutRecord
from policyscope.runs.parts import SCOPES
from policyscope.views.compared.player import played_offline, played_together
from policyscope.views.compared.words import (
    gate_line,
    leading_line,
    numbers_line,
    p_text,
    reasons,
    shown_difference,
    shown_points,
    shown_ratio,
    unit_text,
    verdict_line,
)
from policyscope.views.html import command, fill
from policyscope.views.language import Say, speaker
from policyscope.views.offline.words import error_metric, scope_titles
from policyscope.views.offline.words import subject as offline_subject
from policyscope.views.player import PlayerEpisode
from policyscope.views.rollout.words import subject as rollout_subject
from policyscope.views.words import forced_notice, interval, number, unit_name

MOST_RUNS = 6
"""Colours that can be told apart."""

_TONES = {
    Verdict.BETTER: "good",
    Verdict.NO_WORSE: "good",
    Verdict.WORSE: "bad",
    Verdict.NOT_COMPARABLE: "bad",
    Verdict.UNDECIDED: "",
}


def write_comparison(comparison: Comparison, output: Path, language: Language) -> Path:
    """Write the page of a comparison and return its path.

    Raises:
        UsageError: an offline run beside a rollout, or more runs than there are colours.
        OutputError: the page can't be written, or what it shows can't be read.
    """
    say = speaker(language)
    stored = [comparison.base, *(c.run for c in comparison.runs)]
    _require_one_kind(stored)
    names = _names([run.path for run in stored])
    comparable = [comparison.base, *(c.run for c in comparison.runs if _measured(c))]
    places = [i for i, run in enumerate(stored) if run in comparable]
    called = [names[i] for i in places]
    played = _played(comparison, comparable, called, say) if len(comparable) > 1 else []
    page = fill(
        "compare.html.j2",
        ("report.js", "rows.js", "shared.js", "frames.js", "compare.js", "player.js"),
        {
            **_charts(comparison, stored, names, say),
            **_player_data(comparison, called, comparable, played, say),
        },
        language,
        verdicts=[_verdict(comparison, c, say) for c in comparison.runs],
        leading=leading_line(comparison, say),
        columns=[_column(run, name, say) for run, name in zip(stored, names, strict=True)],
        offline=[
            {"run": name, "groups": _tables(_as_called(c.offline, comparison), say)}
            for name, c in zip(names[1:], comparison.runs, strict=True)
            if c.offline is not None
        ],
        closed=[
            {"run": name, **_closed(c.closed_loop, say)}
            for name, c in zip(names[1:], comparison.runs, strict=True)
            if c.closed_loop is not None
        ],
        metric=comparison.metric,
        played=played,
    )
    write_text(output, page)
    return output


def _require_one_kind(stored: Sequence[StoredRun]) -> None:
    kinds = {"offline": "an evaluation", "rollout": "a rollout"}
    first = stored[0]
    for run in stored[1:]:
        if run.record.kind != first.record.kind:
            raise UsageError(
                f"{first.path} beside {run.path}",
                expected="runs of one kind on a page",
                found=f"{kinds[first.record.kind]} and {kinds[run.record.kind]}",
                fix="compare evaluations with evaluations, rollouts with rollouts",
            )
    if len(stored) > MOST_RUNS:
        raise UsageError(
            "the page of a comparison",
            expected=f"{MOST_RUNS} runs at most",
            found=f"{len(stored)}",
            fix="leave --html out: the text and the JSON hold any number",
        )


def _measured(compared: Compared) -> bool:
    return compared.offline is not None or compared.closed_loop is not None


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest endings of the paths that tell the runs apart."""
    parts = [path.resolve().parts for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


# ── words and tables ──────────────────────────────────────────────────


def _verdict(comparison: Comparison, compared: Compared, say: Say) -> dict[str, Any]:
    return {
        "line": verdict_line(comparison, compared, say),
        "tone": _TONES[compared.decision.verdict],
        "numbers": numbers_line(comparison, compared, say),
        "reasons": reasons(comparison, compared, say),
        "gates": [gate_line(text, holds, say) for text, holds in compared.gates],
    }


def _column(run: StoredRun, name: str, say: Say) -> dict[str, Any]:
    """A run by itself."""
    record = run.record
    if isinstance(record, RolloutRecord):
        known = record.success
        low, high = known.ci_low, known.ci_high
        ends = "" if low is None or high is None else f" [{100 * low:.0f}, {100 * high:.0f}]"
        rate = "–" if known.rate is None else f"{100 * known.rate:.0f} %{ends}"
        own = [
            (say("success"), f"{known.k}/{known.n}, {rate}"),
            (say("max reward"), interval(record.closed_loop.max_reward)),
        ]
        subject = rollout_subject(record)
    else:
        metric, _ = error_metric(record)
        titles = scope_titles(record, say)
        own = [(titles[s], interval(record.summary.of(s).of(metric))) for s in SCOPES]
        subject = offline_subject(record, say)
    return {
        "name": name,
        "path": shown(run.path),
        "subject": subject,
        "own": own,
        "notice": forced_notice(record, say),
        "command": command(record),
        "sha256": run.sha256,
    }


def _tables(rows: OfflineComparison, say: Say) -> list[dict[str, Any]]:
    titles: dict[Table, str] = {
        "scope": say("Over all frames; executed: {n} steps", n=rows.n_action_steps),
        "horizon": say("By horizon step"),
        "dim": say("By dim, over the chunk"),
        "task": say("By task"),
        "episode": say("By episode"),
    }
    return [
        {
            "kind": kind,
            "title": title,
            "rows": [(_key(kind, i, row), _cells(row, say)) for i, row in enumerate(rows.of(kind))],
        }
        for kind, title in titles.items()
        if rows.of(kind)
    ]


def _as_called(found: OfflineComparison, comparison: Comparison) -> OfflineComparison:
    """The rows, dims as people call them."""
    names = iter(comparison.base.record.actions.shown)
    rows = (replace(r, label=next(names)) if r.table == "dim" else r for r in found.rows)
    return replace(found, rows=tuple(rows))


def _key(kind: str, place: int, row: Row) -> str | None:
    """What the page's script finds a row's frames by."""
    match kind:
        case "dim":
            return str(place)
        case "horizon" | "task" | "episode":
            return row.label
        case _:
            return None


def _cells(row: Row, say: Say) -> tuple[str, ...]:
    cell = row.paired
    label = f"{row.label} {row.name}" if row.table == "horizon" else row.label or row.name
    one = row.table == "episode"  # a single episode has neither interval nor test
    return (
        label,
        number(float(cell.a)),
        number(float(cell.b)),
        unit_text(row.unit, say),
        f"{float(cell.ratio):.2f}" if one else shown_ratio(cell),
        number(float(cell.difference)) if one else shown_difference(cell),
        "" if one else p_text(None if math.isnan(float(cell.p)) else float(cell.p)),
    )


def _closed(known: ClosedLoopComparison, say: Say) -> dict[str, Any]:
    words = {True: say("yes"), False: say("no")}
    return {
        "by_task": [
            (task, f"{r.a.k}/{r.a.n}", f"{r.b.k}/{r.b.n}", shown_points(r))
            for task, r in known.by_task
        ],
        "by_seed": [
            (
                f"{a.task[0]} {a.task[1]}, {a.seed}" if known.by_task else str(a.seed),
                words[a.success],
                words[b.success],
                number(a.max_reward),
                number(b.max_reward),
            )
            for a, b in known.episodes
        ],
    }


# ── what the scripts draw ─────────────────────────────────────────────


def _charts(
    comparison: Comparison, stored: Sequence[StoredRun], names: Sequence[str], say: Say
) -> dict[str, Any]:
    return {
        "run_names": names,
        "metric": comparison.metric,
        "unit": _unit(comparison, say),
        "rows": [
            {"run": place, **_row(row)}
            for place, compared in enumerate(comparison.runs, 1)
            if compared.offline is not None
            for row in _as_called(compared.offline, comparison).rows
            if _drawn(row, comparison.metric)
        ],
        "success": [_success(run, i) for i, run in enumerate(stored)],
        "outcomes": [
            {"run": place, **_outcomes(compared.closed_loop)}
            for place, compared in enumerate(comparison.runs, 1)
            if compared.closed_loop is not None
        ],
    }


def _drawn(row: Row, metric: str) -> bool:
    if row.table == "horizon":
        return row.name == metric.partition(".")[2]
    return row.table != "scope" or not row.name.endswith("mse")


def _row(row: Row) -> dict[str, Any]:
    keys = ("a", "b", "ratio", "ratio_low", "ratio_high", "difference")
    values = {key: float(getattr(row.paired, key)) for key in keys}
    finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
    return {"table": row.table, "name": row.name, "label": row.label, "unit": row.unit, **finite}


def _unit(comparison: Comparison, say: Say) -> str:
    record = comparison.base.record
    if isinstance(record, RolloutRecord):
        return say("points")
    return unit_name("std" if ".n" in comparison.metric else record.actions.units[0], say)


def _success(run: StoredRun, place: int) -> dict[str, Any] | None:
    if not isinstance(run.record, RolloutRecord):
        return None
    known = run.record.success
    return {"run": place, "rate": known.rate, "low": known.ci_low, "high": known.ci_high}


def _outcomes(known: ClosedLoopComparison) -> dict[str, Any]:
    return {
        "difference": known.success.value,
        "low": known.success.low,
        "high": known.success.high,
        "pairs": [
            {"i": i, "seed": a.seed, "a": a.success, "b": b.success}
            for i, (a, b) in enumerate(known.episodes)
        ],
    }


def _played(
    comparison: Comparison, runs: Sequence[StoredRun], names: Sequence[str], say: Say
) -> list[PlayerEpisode]:
    if isinstance(comparison.base.record, RolloutRecord):
        return played_together(runs, names, say)
    first = next(c.offline for c in comparison.runs if c.offline is not None)
    gains = {int(r.label): float(r.paired.difference) for r in first.of("episode")}
    return played_offline(runs, gains, comparison.metric, say)


def _player_data(
    comparison: Comparison,
    names: Sequence[str],
    runs: Sequence[StoredRun],
    played: Sequence[PlayerEpisode],
    say: Say,
) -> dict[str, Any]:
    record = comparison.base.record
    plane, dims = None, []
    if isinstance(record, OfflineRecord):
        dims = [row.to_json() for row in record.dims()]
        plane = record.actions.image_plane and record.actions.image_plane.to_json()
    elif board := record.env.board:
        plane = {"x": 0, "y": 1, "width": board[0], "height": board[1]}
    return {
        "fps": record.dataset.fps,
        "names": record.actions.shown,
        "units": [unit_name(unit, say) for unit in record.actions.units],
        "plane": plane,
        "n_action_steps": record.policy.n_action_steps,
        "dims": dims,
        "views": [],
        "layers": [
            {"name": name, "n_action_steps": run.record.policy.n_action_steps}
            for name, run in zip(names, runs, strict=True)
        ],
        "episodes": [episode.to_json() for episode in played],
    }
