"""Everything policyscope raises on purpose, and what it notices.

    PolicyscopeError
    ├── InputError            something the user gave can't be used (exit status 2)
    │   ├── UsageError        a flag or a combination of flags
    │   ├── DatasetError      a dataset, or one of its files
    │   ├── CheckpointError   a policy checkpoint, or one of its files
    │   ├── RemoteError       a policy server, or what it answers
    │   ├── SpaceError        actions of different spaces, units or statistics were mixed
    │   │   └── MissingStatsError   a conversion lacks the statistics that it needs
    │   ├── OutputError       the run directory
    │   │   └── OtherPlanError      it holds a run that something else determines
    │   ├── NonFiniteError    NaN or inf in states, actions or predictions
    │   └── OutOfMemoryError  a batch does not fit; smaller ones are tried first
    └── RefusedError          preflight findings of severity error refuse the run (exit status 2)

Each message is one line that says what was expected, what was found and how to mend it. A
`Finding` is what was noticed about a policy, a dataset or their predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final


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
        if found.strip() == expected.strip():  # two values, one text
            found = f"another one that reads the same ({found!r})"
        self.what, self.expected, self.found, self.fix = what, expected, found, fix
        text = f"{what}: expected {expected}; found {found}. Fix: {fix}"
        super().__init__(visible(" ".join(text.split()), most=_MOST_LETTERS))

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


class RemoteError(InputError):
    """A policy server that can't be reached, or whose answer is none."""


class SpaceError(InputError):
    """Actions of different spaces, units or normalization statistics meet."""


class MissingStatsError(SpaceError):
    """A conversion between action spaces lacks the statistics that it needs."""


class OutputError(InputError):
    """A run directory that can't be written, read or resumed."""


class OtherPlanError(OutputError):
    """A run directory holds a run that other inputs or options determine."""


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
        super().__init__(visible(f"refused: {text}"))


_MOST_LETTERS = 2000


def visible(text: str, *, keep: str = "", most: int | None = None) -> str:
    """Text as a terminal, a log or a picture may show it: nothing in it acts.

    Control and format characters, marks that turn the direction of reading, lone surrogates and
    what is not assigned are shown by their numbers.

    Args:
        text: from wherever.
        keep: characters that stay as they are, for example line ends.
        most: letters after which the middle is left out.
    """
    if most is not None and len(text) > most:
        text = f"{text[: most // 2]} … {text[-most // 2 :]}"
    if text.isprintable():
        return text
    shown = (c if c.isprintable() or c in keep or c in _SPACES else _escape(c) for c in text)
    return "".join(shown)


_SPACES = "\u00a0\u2002\u2003\u2009\u202f\u3000"  # wide or narrow, and harmless


def _escape(character: str) -> str:
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


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
