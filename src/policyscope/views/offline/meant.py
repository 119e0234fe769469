"""Errors by what the dims are, in words: limb by limb, in millimetres and degrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from policyscope.runs.content import OfflineRecord
from policyscope.runs.rows import MeaningRow
from policyscope.views.language import Say, english
from policyscope.views.offline.words import BASELINE_NAMES
from policyscope.views.words import interval, number, ratio, unit_name

KIND_NAMES = {
    "position": "position",
    "angle": "joints",
    "rotation": "rotation",
    "gripper": "gripper",
    "other": "other",
}


@final
@dataclass(frozen=True)
class Limb:
    """One row, as it is shown.

    Attributes:
        what: of which limb, and what.
        names: of its dims.
        values: under the titles of its table.
    """

    what: str
    names: str
    values: tuple[str, ...]


def distances(record: OfflineRecord, say: Say = english) -> tuple[list[str], list[Limb]]:
    """Titles, and a row for each thing that is so far from where it was demonstrated.

    None where one point is all there is: distances over all dims are given elsewhere.
    """
    titles = [
        say("executed"),
        say("best baseline"),
        "ADE",
        "FDE",
    ]
    rows = []
    alone = [row.unit for row in record.by_meaning] == [record.similarity.unit]
    for row in () if alone else record.by_meaning:
        if row.executed is None or row.ade is None or row.fde is None:
            continue
        unit = unit_name(row.unit, say)
        values = (
            interval(row.executed),
            number(min(_among(row.baselines), default=None)),
            number(row.ade.value),
            number(row.fde.value),
        )
        rows.append(Limb(f"{_what(row, say)}, {unit}", ", ".join(row.names), values))
    return titles, rows


def grippers(record: OfflineRecord, say: Say = english) -> tuple[list[str], list[Limb]]:
    """Titles, and a row for each gripper: its states, and when they change."""
    titles = [
        say("balanced accuracy"),
        say("best baseline"),
        say("F1 of closed"),
        say("changes met + spurious"),
        say("frames late"),
        say("off"),
    ]
    rows = []
    for row in record.by_meaning:
        known = row.gripper
        if known is None:
            continue
        values = (
            ratio(known.balanced_accuracy),
            ratio(max(_among(known.baselines), default=None)),
            ratio(known.f1),
            f"{known.met:.4g}/{known.n_events:.4g} +{known.spurious:.4g}",
            _time(known.late_frames, known.late_ms),
            number(known.off_frames, 2),
        )
        what = row.group or say(KIND_NAMES[row.kind])
        rows.append(Limb(what, ", ".join(row.names), values))
    return titles, rows


def _what(row: MeaningRow, say: Say) -> str:
    kind = say(KIND_NAMES[row.kind])
    return f"{row.group}: {kind}" if row.group else kind


def _among(values: Mapping[str, float | None]) -> list[float]:
    """The values of trivial baselines."""
    return [v for name, v in values.items() if v is not None and name in BASELINE_NAMES]


def _time(frames: float | None, ms: float | None) -> str:
    return "–" if frames is None or ms is None else f"{number(frames, 2)} ({ms:.0f} ms)"
