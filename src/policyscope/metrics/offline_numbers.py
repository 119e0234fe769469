"""The numbers of an offline run that could foretell success, by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, final

from policyscope.runs.content import OfflineRecord
from policyscope.runs.parts import SCOPES, Metric, Scope
from policyscope.runs.values import Skill, Value

Better = Literal["lower", "higher"]
_ERRORS: tuple[Metric, ...] = ("mae", "mse", "nmae", "nmse")


@final
@dataclass(frozen=True)
class OfflineNumber:
    """One number of one run.

    Attributes:
        name: for example ``executed.mae``.
        better: whether lower or higher ones are.
        value: of the number.
        low: lower end of its own interval, or None.
        high: upper end, or None.
    """

    name: str
    better: Better
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def score(self) -> float:
        """Higher for better."""
        return self.value if self.better == "higher" else -self.value


def offline_numbers(record: OfflineRecord) -> dict[str, OfflineNumber]:
    """All of them that the run has, by name.

    Errors in native units where all dims share one (``executed.mae``), and in the dataset's
    standard deviations (``executed.nmae``); skill against the strongest trivial baseline and
    against each one that learns without pictures; what samples, shapes and seams add.
    """
    known: list[OfflineNumber | None] = [*_errors(record), *_skills(record), *_shapes(record)]
    known += [*_ablated(record), *_critical(record)]
    return {number.name: number for number in known if number is not None}


def _of(name: str, better: Better, value: Value | float | None) -> OfflineNumber | None:
    if isinstance(value, Value):
        if value.value is None or not math.isfinite(value.value):
            return None
        return OfflineNumber(name, better, value.value, value.ci_low, value.ci_high)
    if value is None or not math.isfinite(value):
        return None
    return OfflineNumber(name, better, value)


def _errors(record: OfflineRecord) -> Iterator[OfflineNumber | None]:
    one_unit = len(set(record.actions.units)) == 1
    for scope in SCOPES:
        for metric in _ERRORS:
            if one_unit or metric.startswith("n"):
                yield _of(f"{scope}.{metric}", "lower", record.summary.of(scope).of(metric))


def _skills(record: OfflineRecord) -> Iterator[OfflineNumber | None]:
    for scope in SCOPES:
        yield _of(f"{scope}.skill", "higher", _least(record.skill, scope))
    for baseline, skill in sorted(record.blind.skill.items() if record.blind else ()):
        yield _of(f"blind.{baseline}", "higher", skill.executed)


def _least(against: Mapping[str, Skill], scope: Scope) -> Value | None:
    """The skill against the strongest baseline, which leaves the least."""
    known = [s.of(scope) for s in against.values() if s.of(scope).value is not None]
    return min(known, key=lambda value: value.value or 0.0, default=None)


def _shapes(record: OfflineRecord) -> Iterator[OfflineNumber | None]:
    yield _of("ade", "lower", record.similarity.ade)
    yield _of("fde", "lower", record.similarity.fde)
    ratio = record.similarity.path_length_ratio.value
    yield _of("path_length_off_1", "lower", _off_one(ratio))
    yield _of("boundary_jump", "lower", record.smoothness.boundary_jump)
    yield _of("overlap_disagreement", "lower", record.smoothness.overlap_disagreement)
    if record.samples is not None:
        yield _of("energy_score", "lower", record.samples.energy_score)
        yield _of("spread_off_1", "lower", _off_one(record.samples.spread_skill))


def _off_one(ratio: float | None) -> float | None:
    """How far a ratio is from 1, alike above and below."""
    return abs(math.log(ratio)) if ratio is not None and ratio > 0 else None


def _ablated(record: OfflineRecord) -> Iterator[OfflineNumber | None]:
    """How much worse the policy gets without an input; of runs that looked at it."""
    ablation = getattr(record, "ablation", None)
    for known in ablation.inputs if ablation is not None else ():
        yield _of(f"without_{known.key}", "higher", known.error_ratio)


def _critical(record: OfflineRecord) -> Iterator[OfflineNumber | None]:
    """Executed steps at the frames that matter; of runs that looked at some."""
    for window in record.critical:
        if window.summary is None:
            continue
        name = f"critical.{window.name or window.kind}"
        yield _of(f"{name}.nmae", "lower", window.summary.executed.nmae)
        yield _of(f"{name}.skill", "higher", _least(window.skill, "executed"))
