"""What the command line says, and where: streams that take any text, errors of one line."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from policyscope.errors import PolicyscopeError, RefusedError, visible

if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import Console


def open_streams() -> None:
    """Have streams that take any text; a closed one swallows it. Say what takes long."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    logger = logging.getLogger("policyscope")
    logger.setLevel(logging.INFO)
    logger.addHandler(_TOLD)


class _Told(logging.Handler):
    """What takes long, as a line on standard error, above what is redrawn there."""

    terminal: Callable[[], Console | None] = staticmethod(lambda: None)

    def emit(self, record: logging.LogRecord) -> None:
        line, terminal = visible(record.getMessage()), self.terminal()
        if terminal is None:
            print(line, file=sys.stderr)
        else:
            terminal.print(line, markup=False, highlight=False, soft_wrap=True)


_TOLD = _Told(logging.INFO)


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

    if not stderr:
        return Terminal(highlight=False)
    made = Terminal(file=_of_its_own(sys.stderr), highlight=False)
    _TOLD.terminal = weakref.ref(made)
    return made


def _of_its_own(stream: TextIO) -> TextIO:
    """The same place under another number, which `chatter_in` does not lead elsewhere."""
    try:
        return os.fdopen(
            os.dup(stream.fileno()), "w", encoding=stream.encoding, errors="backslashreplace"
        )
    except (OSError, ValueError):  # no file is behind it
        return stream


@contextlib.contextmanager
def chatter_in(log: Path) -> Iterator[None]:
    """Lead what libraries and their encoders say to a file, whatever they say it through.

    Args:
        log: the file, which is added to. It is not there where nothing was said.
    """
    with contextlib.ExitStack() as stack:
        said = stack.enter_context(open(log, "a", encoding="utf-8"))  # noqa: PTH123
        for number in (1, 2):
            with contextlib.suppress(OSError):  # closed
                kept = os.dup(number)
                os.dup2(said.fileno(), number)
                stack.callback(os.close, kept)
                stack.callback(os.dup2, kept, number)
        stack.enter_context(contextlib.redirect_stdout(said))
        stack.enter_context(contextlib.redirect_stderr(said))
        stack.callback(said.flush)
        yield
    if not log.stat().st_size:
        log.unlink()


def complain(error: PolicyscopeError) -> None:
    """Say what was wrong: a line an error, a line a finding."""
    from policyscope.runs.carried import shown_in

    if isinstance(error, RefusedError):
        for finding in error.findings:
            line = f"refused: {finding.code}: {finding.message} Fix: {finding.fix}"
            print(visible(line), file=sys.stderr)
    else:
        print(f"error: {shown_in(str(error))}", file=sys.stderr)


def from_outside(error: Exception) -> bool:
    """Whether an error comes from the machine or a file, not from a mistake of ours."""
    outside = isinstance(error, MemoryError | RecursionError | OSError)
    return outside or type(error).__module__.partition(".")[0] == "pyarrow"
