"""One policy on several datasets: what their runs say together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from policyscope.metrics.standing import standing
from policyscope.runs.content import OfflineRecord
from policyscope.runs.values import Value


@final
@dataclass(frozen=True)
class Part:
    """What became of one dataset of a mixture.

    Attributes:
        dataset: its name.
        run: its directory.
        record: of the run; None where it was refused, or could not be read.
        why: it has no record, or an empty text.
    """

    dataset: str
    run: Path
    record: OfflineRecord | None = None
    why: str = ""

    @property
    def numbers(self) -> dict[str, Value]:
        """Those that mean the same on every dataset; errors in its standard deviations."""
        if self.record is None:
            return {}
        summary, against = self.record.summary, standing(self.record).strongest
        skill = self.record.skill[against]
        return {
            "executed.nmae": summary.executed.nmae,
            "chunk.nmae": summary.chunk.nmae,
            "executed.skill": skill.executed,
            "chunk.skill": skill.chunk,
        }


@final
@dataclass(frozen=True)
class Mixture:
    """One policy on several datasets.

    Attributes:
        directory: of all their runs.
        parts: a dataset each, in order.
    """

    directory: Path
    parts: tuple[Part, ...]

    @property
    def whole(self) -> bool:
        """Whether every dataset has numbers, and none that may mean nothing."""
        return all(part.record is not None and not part.record.errors for part in self.parts)

    @property
    def macro(self) -> Mapping[str, float | None]:
        """The mean of each number over datasets, each counting once; None where one lacks it."""
        numbers = [part.numbers for part in self.parts if part.record is not None]
        names = numbers[0].keys() if numbers else ()
        means = {}
        for name in names:
            known = [one[name].value for one in numbers]
            values = [value for value in known if value is not None]
            means[name] = sum(values) / len(values) if len(values) == len(known) else None
        return means

    def to_json(self) -> dict[str, Any]:
        """As ``mixture.json`` holds it."""
        rows = []
        for part in self.parts:
            row: dict[str, Any] = {"dataset": part.dataset, "run": part.run.name}
            if part.record is None:
                rows.append({**row, "status": "refused", "why": part.why})
                continue
            data = part.record.dataset
            row |= {
                "status": "complete",
                "errors": [finding.code for finding in part.record.errors],
                "n_episodes": len(data.episodes),
                "n_frames": data.n_frames,
                "against": standing(part.record).strongest,
            }
            rows.append(row | {name: value.to_json() for name, value in part.numbers.items()})
        return {"schema_version": 1, "datasets": rows, "macro_mean": dict(self.macro)}
