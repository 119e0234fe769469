"""Findings: what policyscope noticed about a policy, a dataset or their predictions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
    """

    code: str
    severity: Severity
    message: str
    fix: str
    forceable: bool = True

    def to_json(self) -> dict[str, Any]:
        """The finding as ``run.json`` holds it."""
        row = asdict(self)
        del row["forceable"]
        return row


def errors_in(findings: tuple[Finding, ...] | list[Finding]) -> tuple[Finding, ...]:
    """The findings of severity error."""
    return tuple(f for f in findings if f.severity == "error")
