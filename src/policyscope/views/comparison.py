"""Several runs on one page, side by side: the same tables and charts, a colour a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from policyscope.config import Language
from policyscope.files import write_text
from policyscope.runs.content import OfflineRecord
from policyscope.runs.parts import SCOPES, Metric
from policyscope.views.html import command, fill
from policyscope.views.language import Say, speaker
from policyscope.views.offline.claims import headline, main_baseline, rivals
from policyscope.views.offline.page import provenance
from policyscope.views.offline.words import (
    BASELINE_NAMES,
    error_metric,
    scope_titles,
    subject,
)
from policyscope.views.words import forced_notice, unit_name


def write_together(
    paths: list[Path], records: Sequence[OfflineRecord], output: Path, language: Language
) -> Path:
    """Write the page of several finished runs and return its path.

    Raises:
        OutputError: the page can't be written.
    """
    say = speaker(language)
    names = _names(paths)
    metric, unit = _common_metric(records, say)
    columns: list[dict[str, Any]] = [
        {
            "name": name,
            "path": str(path),
            "record": record,
            "headline": headline(record, say),
            "subject": subject(record, say),
            "notice": forced_notice(record, say),
            "main": main_baseline(record),
            "command": command(record),
            "provenance": provenance(record, say),
        }
        for name, path, record in zip(names, paths, records, strict=True)
    ]
    page = fill(
        "together.html.j2",
        ("report.js", "together.js"),
        {
            "runs": [
                {
                    "name": name,
                    **record.model_dump(mode="json", include={"by_horizon"}),
                    "skill": {k: record.skill[k].to_json() for k in rivals(record)},
                    "main": main_baseline(record),
                    "dims": [row.to_json() for row in record.dims()],
                }
                for name, record in zip(names, records, strict=True)
            ],
            "metric": metric,
            "unit": unit,
            "baseline_names": {k: say(v) for k, v in BASELINE_NAMES.items()},
            "episodes": [],
            "views": [],
        },
        language,
        columns=columns,
        metric=metric,
        unit=unit,
        scopes=[
            (s, {c["name"]: scope_titles(c["record"], say)[s] for c in columns}) for s in SCOPES
        ],
        differences=_differences(records, say),
    )
    write_text(output, page)
    return output


def _names(paths: list[Path]) -> list[str]:
    """The shortest endings of the paths that tell the runs apart."""
    parts = [path.resolve().parts for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _common_metric(records: Sequence[OfflineRecord], say: Say) -> tuple[Metric, str]:
    """The native error where all runs share its unit, else the normalized one."""
    known = {error_metric(record) for record in records}
    if len(known) > 1:
        return "nmae", unit_name("std", say)
    metric, unit = known.pop()
    return metric, unit_name(unit, say)


def _differences(records: Sequence[OfflineRecord], say: Say) -> list[str]:
    """What the runs do not share: numbers from different frames are not comparable."""
    checks: tuple[tuple[str, Callable[[OfflineRecord], object]], ...] = (
        (say("dataset"), lambda r: (r.dataset.repo_id, r.dataset.revision)),
        (say("episodes"), lambda r: r.dataset.episodes),
        (say("number of frames"), lambda r: r.dataset.n_frames),
        (say("action dims"), lambda r: (r.actions.names, r.actions.units)),
        (say("chunk length"), lambda r: r.policy.chunk_size),
        (say("executed steps"), lambda r: r.policy.n_action_steps),
        (say("held-out or not"), lambda r: r.dataset.split),
        (say("seed"), lambda r: r.environment.seed),
    )
    first = records[0]
    return [name for name, of in checks if any(of(r) != of(first) for r in records[1:])]
