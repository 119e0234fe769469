"""Errors at the frames that matter, beside those at all frames: a table."""

from __future__ import annotations

from collections.abc import Mapping

from policyscope.runs.content import OfflineRecord
from policyscope.runs.values import Errors, Skill, WindowScores
from policyscope.views.language import Say, english
from policyscope.views.offline.words import BASELINE_NAMES, error_metric
from policyscope.views.words import interval, ratio, unit_name


def critical_table(record: OfflineRecord, say: Say = english) -> tuple[list[str], list[list[str]]]:
    """Titles, and the cells of a row for each window and for all frames; none without windows."""
    metric, unit = error_metric(record)
    titles = [
        say("frames"),
        say("share"),
        say("executed MAE in {unit}", unit=unit_name(unit, say)),
        say("skill, best baseline"),
    ]
    if not record.critical:
        return titles, []

    def cells(errors: Errors | None, skill: Mapping[str, Skill]) -> list[str]:
        if errors is None:
            return ["–", "–"]
        known = [s.executed for n, s in skill.items() if n in BASELINE_NAMES]
        gains = [s for s in known if s.value is not None]
        least = min(gains, key=lambda s: s.value or 0.0, default=None)
        return [interval(errors.of(metric)), interval(least, ratio) if least else "–"]

    rows = [
        [
            _name(window, say),
            f"{100 * window.share:.0f} %",
            *cells(window.summary.executed if window.summary else None, window.skill),
        ]
        for window in record.critical
    ]
    return titles, [[say("all"), "100 %", *cells(record.summary.executed, record.skill)], *rows]


def _name(window: WindowScores, say: Say) -> str:
    if window.kind == "gripper":
        return say("grippers that change")
    return say("slow motion") if window.kind == "slow" else window.name
