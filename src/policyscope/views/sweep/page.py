"""sweep.html: error, skill and success over training steps, drawn from the sweep's record alone."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from policyscope.config import Language
from policyscope.files import write_text
from policyscope.runs.directory import PAGE, in_language
from policyscope.runs.parts import SCOPES, spans
from policyscope.runs.sweep import SWEEP_PAGE, SweepRecord, SweepRow
from policyscope.views.html import fill, machine_lines
from policyscope.views.language import Say, speaker
from policyscope.views.offline.words import BASELINE_NAMES, SPLIT_NAMES
from policyscope.views.rollout.words import rate
from policyscope.views.sweep.words import (
    STATUS,
    best_lines,
    how_tested,
    label,
    scope_names,
    why_apart,
)
from policyscope.views.words import unit_name


def write_sweep_page(directory: Path, record: SweepRecord, language: Language) -> Path:
    """Write ``sweep.html`` into the sweep's directory and return its path.

    Args:
        directory: of the sweep.
        record: its ``sweep.json``.
        language: of the page.
    """
    say = speaker(language)
    lines = best_lines(record, say)
    page = fill(
        "sweep.html.j2",
        ("report.js", "sweep.js"),
        page_data(record, say),
        language,
        record=record,
        headline=lines[0] if lines else say("No checkpoint has numbers that can be compared."),
        lines=lines[1:],
        tested=how_tested(record, say),
        subject=_subject(record, say),
        status=say(STATUS[record.status]),
        rows=[_row(row, record, say) for row in record.checkpoints],
        scopes=scope_names(record, say),
        against=say(BASELINE_NAMES[record.against]),
        unit=unit_name(record.unit, say),
        page=in_language(PAGE, language),
        rate=rate,
        provenance=_provenance(record, say),
        command=shlex.join(record.environment.command_line),
    )
    write_text(directory / SWEEP_PAGE, page)
    return directory / SWEEP_PAGE


def page_data(record: SweepRecord, say: Say) -> dict[str, Any]:
    """What the page's scripts draw."""
    alike = {best.measure: set(best.alike) for best in record.best}
    return {
        "checkpoints": [
            {
                "label": label(row, say),
                "x": row.step if record.by_step else place,
                "error": {scope: value.to_json() for scope, value in row.error.items()},
                "skill": {scope: value.to_json() for scope, value in row.skill.items()},
                "success": None if row.success is None else row.success.to_json(),
                "alike": [measure for measure, names in alike.items() if row.name in names],
                "compared": row.compared,
            }
            for place, row in enumerate(record.checkpoints)
            if row.status == "complete"
        ],
        "by_step": record.by_step,
        "unit": unit_name(record.unit, say),
        "against": say(BASELINE_NAMES[record.against]),
        "scopes": scope_names(record, say),
        "views": [],
        "episodes": [],
    }


def _row(row: SweepRow, record: SweepRecord, say: Say) -> dict[str, Any]:
    measures = {best.measure for best in record.best if row.name in best.alike}
    return {
        "known": row,
        "label": label(row, say),
        "why": why_apart(row, say),
        "alike": {scope: f"{scope}.error" in measures for scope in SCOPES},
        "alike_skill": {scope: f"{scope}.skill" in measures for scope in SCOPES},
        "alike_success": "success" in measures,
    }


def _subject(record: SweepRecord, say: Say) -> str:
    splits = {row.split for row in record.done}
    return say(
        "{n} checkpoints on {data}: {frames} frames of {episodes} episodes, {split}",
        n=len(record.done),
        data=record.dataset.repo_id,
        frames=record.dataset.n_frames,
        episodes=len(record.dataset.episodes),
        split=", ".join(say(SPLIT_NAMES[split]) for split in sorted(splits)),
    )


def _provenance(record: SweepRecord, say: Say) -> list[tuple[str, str]]:
    data = record.dataset
    return [
        (
            say("dataset"),
            say(
                "{id} at {root}, metadata {revision}",
                id=data.repo_id,
                root=data.root,
                revision=data.revision,
            ),
        ),
        (say("episodes"), spans(data.episodes)),
        (say("links passed over"), ", ".join(record.passed_over) or say("none")),
        *machine_lines(record.environment, say),
    ]
