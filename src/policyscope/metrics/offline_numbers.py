"""The numbers of an offline run that could foretell success, by name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, final

from policyscope.runs.content import OfflineRecord
from policyscope.runs.parts import SCOPES, Metric
from policyscope.runs.values import Value

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
    known += _ablated(record)
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
        against = [skill.of(scope) for skill in record.skill.values()]
        known = [value for value in against if value.value is not None]
        if known:  # the strongest baseline leaves the least skill
            least = min(known, key=lambda value: value.value or 0.0)
            yield _of(f"{scope}.skill", "higher", least)
    for baseline, skill in sorted(record.blind.skill.items() if record.blind else ()):
        yield _of(f"blind.{baseline}", "higher", skill.executed)


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
