"""What a terminal shows while a run goes on: stage, rate, remaining time."""

from __future__ import annotations

from types import TracebackType
from typing import Self, final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


@final
class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} frames/s" if task.speed else "", style="dim")


@final
class TerminalProgress:
    """A live progress bar; on anything but a terminal, a plain line for each stage."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def stage(self, text: str) -> None:
        """See `policyscope.predict.Progress`."""
        self._bar.update(self._task, description=text)
        if not self._console.is_terminal:
            self._console.print(text, highlight=False)

    def begin(self, n_frames: int) -> None:
        """See `policyscope.predict.Progress`."""
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task("predicting", total=n_frames)
        if not self._console.is_terminal:
            self._console.print(f"predicting {n_frames} frames", highlight=False)

    def advance(self, n_frames: int) -> None:
        """See `policyscope.predict.Progress`."""
        self._bar.advance(self._task, n_frames)
