"""Findings: what policyscope noticed about a policy, a dataset or their predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

Severity = Literal["error", "warning", "info"]


@final
@dataclass(frozen=True)
class Finding:
    """One observation about the inputs or the predictions.

    Attributes:
        code: a stable identifier that scripts can match, for example ``action_dim_mismatch``.
        severity: ``error`` refuses the run, ``warning`` and ``info`` do not.
        message: what was expected and what was found, with the numbers.
        fix: what to do, as a command or a line of config where possible.
        forceable: whether ``--force`` can compute a number all the same.
        evidence: the numbers behind a suspicion, by name.
    """

    code: str
    severity: Severity
    message: str
    fix: str
    forceable: bool = True
    evidence: Mapping[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """The finding as ``run.json`` holds it."""
        row: dict[str, Any] = {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "fix": self.fix,
        }
        return row if self.evidence is None else row | {"evidence": dict(self.evidence)}


def errors_in(findings: tuple[Finding, ...] | list[Finding]) -> tuple[Finding, ...]:
    """The findings of severity error."""
    return tuple(f for f in findings if f.severity == "error")
