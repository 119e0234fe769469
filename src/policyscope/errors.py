"""Everything policyscope raises on purpose.

    PolicyscopeError
    ├── InputError            something the user gave can't be used (exit status 2)
    │   ├── UsageError        a flag or a combination of flags
    │   ├── DatasetError      a dataset, or one of its files
    │   ├── CheckpointError   a policy checkpoint, or one of its files
    │   ├── SpaceError        actions of different spaces, units or statistics were mixed
    │   │   └── MissingStatsError   a conversion lacks the statistics that it needs
    │   ├── OutputError       the run directory
    │   ├── NonFiniteError    NaN or inf in states, actions or predictions
    │   └── OutOfMemoryError  a batch does not fit; smaller ones are tried first
    └── RefusedError          preflight findings of severity error refuse the run (exit status 2)

Each message is one line that says what was expected, what was found and how to mend it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policyscope.findings import Finding


class PolicyscopeError(Exception):
    """Base of all errors that policyscope raises on purpose."""


class InputError(PolicyscopeError):
    """Input that can't be used.

    Args:
        what: the thing that is wrong, for example ``"--batch_size"`` or a path.
        expected: what would have been right.
        found: what was there instead.
        fix: what the user can do, in a few words.
    """

    def __init__(self, what: str, *, expected: str, found: str, fix: str) -> None:
        self.what, self.expected, self.found, self.fix = what, expected, found, fix
        text = f"{what}: expected {expected}; found {found}. Fix: {fix}"
        super().__init__(" ".join(text.split()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross process borders whole."""
        return _again, (type(self), self.what, self.expected, self.found, self.fix)


def _again(kind: type[InputError], what: str, expected: str, found: str, fix: str) -> InputError:
    return kind(what, expected=expected, found=found, fix=fix)


class UsageError(InputError):
    """A flag, or a combination of flags, that makes no sense."""


class DatasetError(InputError):
    """A dataset that can't be read."""


class CheckpointError(InputError):
    """A policy checkpoint that can't be opened."""


class SpaceError(InputError):
    """Actions of different spaces, units or normalization statistics meet."""


class MissingStatsError(SpaceError):
    """A conversion between action spaces lacks the statistics that it needs."""


class OutputError(InputError):
    """A run directory that can't be written, read or resumed."""


class NonFiniteError(InputError):
    """NaN or inf in states, actions or predictions."""


class OutOfMemoryError(InputError):
    """A batch does not fit into the device's memory."""


class RefusedError(PolicyscopeError):
    """The run was refused: a number that could be wrong is not printed.

    Attributes:
        findings: the findings of severity error.
    """

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        self.findings = findings
        text = " | ".join(f"{f.code}: {f.message} Fix: {f.fix}" for f in findings)
        super().__init__(f"refused: {text}")
