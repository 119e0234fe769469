"""Closed-loop runs of one policy that differ in how many steps of each chunk are run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from policyscope.checks.comparison import Compared, StoredRun, compare
from policyscope.metrics.verdicts import Verdict
from policyscope.runs.content import RolloutRecord

STEPS = "steps.json"


@final
@dataclass(frozen=True)
class StepRow:
    """One number of steps.

    Attributes:
        steps: that are run of each chunk.
        run: name of its run's directory.
        record: of the run.
        compared: with the first one, over the same seeds; None of the first one, and where nobody
            knows what a success is.
    """

    steps: int
    run: str
    record: RolloutRecord
    compared: Compared | None

    @property
    def tested(self) -> Compared | None:
        """The comparison, where there is one that says something of success."""
        known = self.compared
        return known if known is not None and known.closed_loop is not None else None

    def to_json(self) -> dict[str, Any]:
        """As ``steps.json`` holds it."""
        record, row = self.record, self.tested
        calls = sum(known.n_calls or 0 for known in record.episodes)
        content: dict[str, Any] = {
            "n_action_steps": self.steps,
            "run": self.run,
            "success": record.success.to_json(),
            "max_reward": record.closed_loop.max_reward.to_json(),
            "model_calls": calls or None,
        }
        if row is None or row.closed_loop is None:
            return content
        gap = row.closed_loop.success
        return content | {
            "against_first": {
                "difference": gap.value,
                "low": gap.low,
                "high": gap.high,
                "p_holm": row.decision.p,
                "verdict": row.decision.verdict.value,
            }
        }


@final
@dataclass(frozen=True)
class StepSweep:
    """All numbers of steps, rising.

    Attributes:
        rows: one each.
        base: steps of the run that the others are compared with.
    """

    rows: tuple[StepRow, ...]
    base: int

    @property
    def most(self) -> list[StepRow]:
        """Those with the largest success rate; none where nobody knows of success."""
        rates = [row.record.success.rate for row in self.rows]
        known = [rate for rate in rates if rate is not None]
        return [row for row in self.rows if known and row.record.success.rate == max(known)]

    @property
    def apart(self) -> list[StepRow]:
        """Those that are shown to succeed more or less often than the base."""
        told = (Verdict.BETTER, Verdict.WORSE)
        return [row for row in self.rows if row.tested and row.tested.decision.verdict in told]

    def to_json(self) -> dict[str, Any]:
        """As ``steps.json`` holds it."""
        rows = [row.to_json() for row in self.rows]
        return {"schema_version": 1, "base": self.base, "rows": rows}


def step_sweep(runs: Sequence[tuple[int, StoredRun]]) -> StepSweep:
    """Put runs together.

    Args:
        runs: steps and run; the first one is the base.
    """
    (base, first), *others = runs
    known = isinstance(first.record, RolloutRecord) and first.record.success.rate is not None
    compared: dict[int, Compared] = {}
    if known and all(run.record.kind == "rollout" for _, run in others):
        told = compare(first, [run for _, run in others], metric="success")
        compared = {steps: one for (steps, _), one in zip(others, told.runs, strict=True)}
    rows = []
    for steps, run in sorted(runs, key=lambda pair: pair[0]):
        assert isinstance(run.record, RolloutRecord), "they were rolled out a moment ago"
        rows.append(StepRow(steps, run.path.name, run.record, compared.get(steps)))
    return StepSweep(tuple(rows), base)
