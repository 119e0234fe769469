"""What the command line says, and where: streams that take any text, errors of one line."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING

from policyscope.errors import PolicyscopeError, RefusedError, visible

if TYPE_CHECKING:
    from rich.console import Console


def open_streams() -> None:
    """Have streams that take any text; a closed one swallows it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def close_stdout() -> None:
    """Keep what waits in standard output from failing once more at the very end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def quiet() -> None:
    """Keep the libraries' progress bars and chatter off the terminal."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def console(*, stderr: bool = False) -> Console:
    """A terminal on which nothing acts but what we mean to."""
    from policyscope.views.console import Terminal

    return Terminal(stderr=stderr, highlight=False)


def complain(error: PolicyscopeError) -> None:
    """Say what was wrong: a line an error, a line a finding."""
    if isinstance(error, RefusedError):
        for finding in error.findings:
            line = f"refused: {finding.code}: {finding.message} Fix: {finding.fix}"
            print(visible(line), file=sys.stderr)
    else:
        print(f"error: {error}", file=sys.stderr)


def from_outside(error: Exception) -> bool:
    """Whether an error comes from the machine or a file, not from a mistake of ours."""
    outside = isinstance(error, MemoryError | RecursionError | OSError)
    return outside or type(error).__module__.partition(".")[0] == "pyarrow"
