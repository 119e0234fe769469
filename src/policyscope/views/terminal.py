"""What a terminal shows while a run goes on: rate, remaining time, error and skill so far."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self, final

from rich.console import Console, Group
from rich.live import Live
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
from rich.table import Table
from rich.text import Text

from policyscope.engine.progress import EpisodeNews, Watch
from policyscope.metrics.intervals import Estimate
from policyscope.runs.rows import RolloutRow
from policyscope.runs.values import Rate
from policyscope.views.offline.words import BASELINE_NAMES
from policyscope.views.words import counted, number, ratio, unit_name

_SILENCE_S = 30.0  # a log file says no less often than this that a run goes on


@final
class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} frames/s" if task.speed else "", style="dim")


@final
class TerminalProgress(Watch):
    """A dashboard that is redrawn in place; on anything but a terminal, plain lines.

    Such a line stands after each tenth of the frames, and where that takes longer, each 30 s.

    Args:
        console: where it is shown.
        clock: seconds that only grow.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._done = self._total = 0
        self._said_at = self._began = clock()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("left to predict", style="dim"),
            console=console,
        )
        self._task = self._bar.add_task("starting", total=None)
        self._news: EpisodeNews | None = None
        self._worst: EpisodeNews | None = None
        self._narrowed = ""
        self._live = Live(
            console=console, transient=True, refresh_per_second=8, get_renderable=self.render
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def render(self) -> Group:
        """The dashboard as it stands."""
        parts: list[Progress | Table] = [self._bar]
        if self._news is not None and self._worst is not None:
            parts.append(_standings(self._news, self._worst))
        elif self._narrowed:
            table = Table.grid(padding=(0, 2))
            titles = Text("error over the chunk, all frames", style="dim")
            table.add_row(titles, Text(self._narrowed, style="bold"))
            parts.append(table)
        return Group(*parts)

    def stage(self, text: str) -> None:
        """See `Watch`."""
        self._bar.update(self._task, description=text)
        if not self._console.is_terminal:
            self._console.print(text, highlight=False)

    def begin(self, total: int) -> None:
        """See `Watch`."""
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task("predicting", total=total)
        self._done, self._total = 0, total
        self._said_at = self._began = self._clock()
        if not self._console.is_terminal:
            self._console.print(f"predicting {total} frames", highlight=False)

    def advance(self, n_frames: int) -> None:
        """See `Watch`."""
        self._bar.advance(self._task, n_frames)
        before, self._done = self._done, self._done + n_frames
        now = self._clock()
        tenth = self._done * 10 // max(self._total, 1) > before * 10 // max(self._total, 1)
        if self._console.is_terminal or not (tenth or now - self._said_at >= _SILENCE_S):
            return
        self._said_at = now
        self._console.print(self._line(now - self._began), highlight=False, soft_wrap=True)

    def _line(self, elapsed_s: float) -> str:
        """How far a run is, for a file."""
        rate = self._done / max(elapsed_s, 1e-9)
        left = timedelta(seconds=round((self._total - self._done) / rate))
        line = f"{self._done}/{self._total} frames, {number(rate)} frames/s, {left} left to predict"
        if self._news is None:
            return line
        known = self._news
        error = f"{number(known.running_error)} {unit_name(known.unit)}"
        return f"{line}; error over the chunk so far {error} in {counted(known.n_episodes)}"

    def narrowed(self, error: Estimate, unit: str) -> None:
        """See `Watch`."""
        ends = f" [{number(error.low)}, {number(error.high)}]" if error.low is not None else ""
        self._narrowed = f"{number(error.value)}{ends} {unit_name(unit)}"
        if not self._console.is_terminal:
            told = f"{error.n_frames} frames: error over the chunk {self._narrowed}"
            self._console.print(told, highlight=False)

    def scored(self, news: EpisodeNews) -> None:
        """See `Watch`."""
        self._news = news
        if self._worst is None or news.error > self._worst.error:
            self._worst = news


def _standings(news: EpisodeNews, worst: EpisodeNews) -> Table:
    unit = unit_name(news.unit)
    table = Table.grid(padding=(0, 2))
    table.add_row(
        Text("error over the chunk so far", style="dim"),
        Text(f"{number(news.running_error)} {unit}", style="bold"),
        Text(counted(news.n_episodes), style="dim"),
    )
    skill = news.running_skill
    table.add_row(
        Text(f"skill against {BASELINE_NAMES[news.against]}", style="dim"),
        Text(ratio(skill), style="bold"),
        Text("no interval before the end", style="dim"),
    )
    table.add_row(
        Text("last episode", style="dim"),
        Text(f"{number(news.error)} {unit}"),
        Text(f"episode {news.scored.index}", style="dim"),
    )
    table.add_row(
        Text("worst episode", style="dim"),
        Text(f"{number(worst.error)} {unit}", style="yellow"),
        Text(f"episode {worst.scored.index}", style="dim"),
    )
    return table


@final
class RolloutDashboard(Watch):
    """Episodes as they end, with the running success rate and its interval.

    On anything but a terminal, a plain line for each stage and each tenth of the episodes.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[result]}", style="bold"),
            TimeRemainingColumn(),
            TextColumn("left to run", style="dim"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None, result="")
        self._k = self._n = self._rewarded = self._total = 0
        self._best = 0.0

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
        """See `Watch`."""
        self._bar.update(self._task, description=text)
        if not self._console.is_terminal:
            self._console.print(text, highlight=False)

    def begin(self, total: int) -> None:
        """See `Watch`."""
        self._total = total
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task("episodes", total=total, result="")
        if not self._console.is_terminal:
            self._console.print(f"running {total} episodes", highlight=False)

    def ended(self, row: RolloutRow) -> None:
        """See `Watch`."""
        from policyscope.metrics.proportions import proportion
        from policyscope.views.rollout.words import rate

        if row.success is not None:
            self._n += 1
            self._k += row.success
        if row.max_reward is not None:
            self._rewarded += 1
            self._best += row.max_reward
        mean = self._best / max(self._rewarded, 1)
        text = f"{rate(Rate(**proportion(self._k, self._n).to_json()))}, max reward {mean:.2f}"
        self._bar.update(self._task, advance=1, result=text)
        tenth = max(1, self._total // 10)
        if not self._console.is_terminal and self._n % tenth == 0:
            self._console.print(f"{self._n}/{self._total} episodes: {text}", highlight=False)
