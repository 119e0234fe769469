"""What a terminal shows while a sweep goes on: a line a checkpoint, the present one live."""

from __future__ import annotations

from types import TracebackType
from typing import Self, final

from rich.console import Console

from policyscope.engine.progress import EpisodeNews, Watch
from policyscope.runs.rows import RolloutRow
from policyscope.runs.sweep import SweepRow
from policyscope.views.sweep.words import label, measured, why_apart
from policyscope.views.terminal import RolloutDashboard, TerminalProgress


@final
class SweepProgress(Watch):
    """The dashboard of the present run, under a line for every finished checkpoint."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._inner: TerminalProgress | RolloutDashboard | None = None
        self._name = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def stage(self, text: str) -> None:
        """See `Watch`."""
        if text == "starting the simulator":
            self._show(RolloutDashboard(self._console))
        if self._inner is None:
            self._show(TerminalProgress(self._console))
        assert self._inner is not None
        self._inner.stage(f"{self._name}{text}")

    def begin(self, total: int) -> None:
        """See `Watch`."""
        if self._inner is not None:
            self._inner.begin(total)

    def advance(self, n_frames: int) -> None:
        """See `Watch`."""
        if self._inner is not None:
            self._inner.advance(n_frames)

    def scored(self, news: EpisodeNews) -> None:
        """See `Watch`."""
        if self._inner is not None:
            self._inner.scored(news)

    def ended(self, row: RolloutRow) -> None:
        """See `Watch`."""
        if self._inner is not None:
            self._inner.ended(row)

    def checkpoint(self, name: str, place: int, total: int) -> None:
        """See `Watch`."""
        self._end()
        self._name = f"{name} ({place} of {total}): "

    def finished(self, row: SweepRow) -> None:
        """See `Watch`."""
        self._end()
        self._name = ""
        text = why_apart(row) or f"executed error {measured(row, 'executed.error')}"
        if not why_apart(row):
            text += f", skill {measured(row, 'executed.skill')}"
            text += "" if row.success is None else f", success {measured(row, 'success')}"
        self._console.print(f"{label(row)}: {text}", markup=False, highlight=False)

    def _show(self, inner: TerminalProgress | RolloutDashboard) -> None:
        self._end()
        self._inner = inner
        inner.__enter__()

    def _end(self) -> None:
        if self._inner is not None:
            self._inner.__exit__(None, None, None)
            self._inner = None
