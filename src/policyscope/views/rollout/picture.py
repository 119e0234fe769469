"""report.png of a closed-loop run, drawn from what is stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from policyscope.config import Language
from policyscope.runs.content import RolloutRecord
from policyscope.runs.directory import FRAMES, RunDirectory
from policyscope.runs.rollouts import StoredRollout
from policyscope.runs.rows import ActionRow, RolloutRow
from policyscope.runs.values import Value
from policyscope.views.figure import canvas, plain, save_all, write_titles
from policyscope.views.language import Say
from policyscope.views.rollout.series import GOAL
from policyscope.views.rollout.words import headline, outcome, percent, subject
from policyscope.views.words import forced_notice, number, unit_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GOOD, _BAD, _INK = "#0072B2", "#D55E00", "#222222"
_COLOURS = {"success": _GOOD, "failure": _BAD, "unknown": "#888888"}
_MOST_FRAMES = 60


def draw_rollout(
    directory: RunDirectory,
    record: RolloutRecord,
    episodes: Sequence[StoredRollout],
    language: Language = "en",
    formats: Sequence[str] = ("png",),
) -> Path:
    """Draw ``report.png`` (1600 × 1000) into the run directory and return the first path.

    Args:
        directory: of the run.
        record: its ``run.json``.
        episodes: of the run, in order.
        language: of the picture; English where no font here has its glyphs.
        formats: endings of the files.
    """
    with canvas(language) as (figure, say, note):
        rect = (0.008, 0.045 if note else 0.02, 0.984, 0.878 - (0.025 if note else 0))
        figure.set_layout_engine("constrained", rect=rect, wspace=0.05, hspace=0.06)
        _panels(figure, directory.path, record, episodes, say)
        write_titles(
            figure,
            headline(record, say),
            subject(record, say),
            forced_notice(record, say),
            footer=note.strip(),
        )
        return save_all(figure, directory.path, language, formats)


def _panels(
    figure: Figure,
    path: Path,
    record: RolloutRecord,
    episodes: Sequence[StoredRollout],
    say: Say,
) -> None:
    """What there is, the last pictures to the left; what is not there takes no room."""
    rows = [known.row for known in episodes]
    pictured = [row for row in rows if (path / FRAMES / f"{row.episode:06d}.png").is_file()]
    panels: list[Callable[[Axes], None]] = []
    if record.success.n:
        panels.append(lambda ax: _curve(ax, record, say))
    if any(np.isfinite(e.rewards).any() or e.states.size for e in episodes):
        panels.append(lambda ax: _paths(ax, record, episodes, say))
    if any(row.max_reward is not None for row in rows):
        panels.append(lambda ax: _rewards(ax, rows, record.closed_loop.max_reward, say))
    if record.executed_actions:
        panels.append(lambda ax: _actions(ax, record.executed_actions, say))
    if not panels:
        panels.append(lambda ax: _nothing(ax, say("Episodes"), say))
    first = 1 if pictured else 0
    columns = (len(panels) + 1) // 2
    grid = figure.add_gridspec(2, first + columns)
    if pictured:
        _frames(figure.add_subplot(grid[:, 0]), path, pictured, say)
    for i, draw in enumerate(panels):
        line, column = divmod(i, columns)
        last = None if i == len(panels) - 1 else first + column + 1  # the last takes what is left
        lines = slice(line, line + 1) if len(panels) > 1 else slice(None)
        draw(figure.add_subplot(grid[lines, first + column : last]))


def _frames(ax: Axes, path: Path, rows: Sequence[RolloutRow], say: Say) -> None:
    """The last picture of each episode, framed by its outcome."""
    from PIL import Image

    if len(rows) > _MOST_FRAMES:
        ax.set_title(say("Last frame of the first {n} episodes", n=_MOST_FRAMES))
    else:
        ax.set_title(say("Last frame of each episode"))
    rows = rows[:_MOST_FRAMES]
    ax.set_axis_off()
    pictures = [Image.open(path / FRAMES / f"{row.episode:06d}.png") for row in rows]
    width, height = pictures[0].size
    shape = height / width * 0.62  # the panel is taller than wide
    columns = max(1, round(math.sqrt(len(rows) * shape)))
    columns = max(columns, 2 if len(rows) > 2 else 1)
    lines = math.ceil(len(rows) / columns)
    ax.set_xlim(0, columns)
    ax.set_ylim(lines * height / width, 0)
    ax.set_aspect("equal")
    for i, (row, picture) in enumerate(zip(rows, pictures, strict=True)):
        x, y = i % columns, (i // columns) * height / width
        pad = 0.03
        box = (x + pad, x + 1 - pad, y + height / width - pad, y + pad)
        ax.imshow(np.asarray(picture), extent=box, aspect="equal", interpolation="bilinear")
        colour = _COLOURS[outcome(row)]
        ax.plot(
            [box[0], box[1], box[1], box[0], box[0]],
            [box[2], box[2], box[3], box[3], box[2]],
            color=colour,
            lw=2.2,
        )
        ax.text(
            box[0] + 0.02,
            box[3] + 0.02,
            f"{row.episode if row.seed is None else row.seed}",
            fontsize=7,
            va="top",
            color="white",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.2},
        )
    ax.set_xlim(0, columns)
    ax.set_ylim(lines * height / width, 0)


def _nothing(ax: Axes, title: str, say: Say) -> None:
    """A panel that says that there is nothing to draw."""
    ax.set_title(title)
    ax.set_axis_off()
    ax.text(0.5, 0.5, say("not recorded"), transform=ax.transAxes, ha="center", color="#888888")


def _curve(ax: Axes, record: RolloutRecord, say: Say) -> None:
    curve = record.closed_loop.time_to_success.curve
    limit = max((task.max_steps or 0 for task in record.env.tasks), default=0) / record.env.fps
    end = max([limit, *curve.time_s]) or 1.0
    if curve.time_s:
        time = [*curve.time_s, end]
        share, low, high = ([*ys, ys[-1]] for ys in (curve.share, curve.low, curve.high))
        ax.step(time, share, where="post", color=_GOOD, lw=2.2)
        ax.fill_between(time, low, high, step="post", color=_GOOD, alpha=0.18, lw=0)
    else:
        ax.text(
            0.5,
            0.5,
            say("nobody noted the times") if record.imported else say("no rate of control"),
            transform=ax.transAxes,
            ha="center",
            color=_INK,
        )
    ax.set_ylim(0, 1)
    ax.set_xlim(0, end)
    ax.set_title(say("Succeeded by then (95 % interval)"))
    ax.set_xlabel(say("seconds"))
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    success = record.success
    if success.ci_low is not None and success.ci_high is not None:
        text = (
            f"{success.k}/{success.n}: {percent(success.rate)}\n"
            f"[{100 * success.ci_low:.0f}, {100 * success.ci_high:.0f}] %"
        )
        ax.annotate(
            text, (0.02, 0.97), xycoords="axes fraction", va="top", fontsize=13, weight="bold"
        )


def _rewards(ax: Axes, rows: Sequence[RolloutRow], mean: Value, say: Say) -> None:
    known = [(row.max_reward, row) for row in rows if row.max_reward is not None]
    ordered = sorted(known, key=lambda pair: (-pair[0], pair[1].episode))
    colours = [_COLOURS[outcome(row)] for _, row in ordered]
    ax.bar(range(len(ordered)), [reward for reward, _ in ordered], color=colours, width=0.8)
    if mean.value is not None:
        ax.axhline(mean.value, color=_INK, lw=1.4, ls="--")
        if mean.ci_low is not None and mean.ci_high is not None:
            ax.axhspan(mean.ci_low, mean.ci_high, color=_INK, alpha=0.1, lw=0)
        ax.annotate(
            say("mean {value}", value=number(mean.value)),
            (1, mean.value),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=9,
        )
    ax.set_title(say("Highest reward of each episode"))
    ax.set_xlabel(say("episodes, best first"))
    ax.set_xticks([])
    low, high = min(0.0, ax.get_ylim()[0]), ax.get_ylim()[1]
    ax.set_ylim(low, high + 0.12 * (high - low))  # room for the key
    nobody_knows = all(row.success is None for _, row in ordered)
    for text in ("unknown",) if nobody_knows else ("success", "failure"):
        ax.plot([], [], "s", color=_COLOURS[text], label=say(text))
    ax.legend(loc="upper right", ncols=2)


def _paths(ax: Axes, record: RolloutRecord, episodes: Sequence[StoredRollout], say: Say) -> None:
    """Where the robot went: over the board where there is one, else reward over time."""
    board = record.env.board
    if board is None or any(e.states.shape[1] < 2 for e in episodes):
        for e in episodes:
            seconds = np.arange(1, len(e.rewards) + 1) / record.env.fps
            colour = _COLOURS[outcome(e.row)]
            ax.plot(seconds, e.rewards, color=colour, lw=1.1, alpha=0.7)
        ax.set_title(say("Reward over time"))
        ax.set_xlabel(say("seconds"))
        return
    for e in episodes:
        colour = _COLOURS[outcome(e.row)]
        ax.plot(e.states[:, 0], e.states[:, 1], color=colour, lw=0.7, alpha=0.45)
        if "block_pose" in e.extras:
            poses = e.extras["block_pose"]
            ax.plot(poses[-1, 0], poses[-1, 1], "x", color=colour, ms=6, mew=1.6)
    if any("block_pose" in e.extras for e in episodes):
        ax.fill(GOAL[:, 0], GOAL[:, 1], color="#90c890", alpha=0.45, lw=0, label=say("goal"))
        ax.plot([], [], "x", color=_INK, label=say("block at the end"))
        ax.legend(loc="lower right", ncols=2)
    ax.set_xlim(0, board[0])
    ax.set_ylim(board[1], 0)
    ax.set_aspect("equal")
    ax.set_title(say("Paths over the board"))
    ax.set_xlabel(plain(unit_name(record.actions.units[0], say)))


def _actions(ax: Axes, rows: Sequence[ActionRow], say: Say) -> None:
    trained = any(r.trained_std for r in rows)
    title = say("Executed actions against training") if trained else say("Executed actions")
    ax.set_title(f"{title}: {say('mean ± std')}")
    at = np.arange(len(rows))
    names = [plain(r.name[:22]) for r in rows]
    for i, r in enumerate(rows):
        centre, scale = 0.0, 1.0
        if trained and r.trained_std and r.trained_mean is not None:
            centre, scale = r.trained_mean, r.trained_std
            ax.plot([-1, 1], [i + 0.16] * 2, color="#999999", lw=5, solid_capstyle="butt")
            ax.plot(0, i + 0.16, "|", color="#555555", ms=9, mew=1.5)
        elif trained:
            continue
        mean, std = (r.mean - centre) / scale, r.std / scale
        ax.plot([mean - std, mean + std], [i - 0.16] * 2, color=_GOOD, lw=5, solid_capstyle="butt")
        ax.plot(mean, i - 0.16, "|", color=_INK, ms=9, mew=1.5)
    ax.set_yticks(at, names, fontsize=10 if len(rows) < 10 else 7.5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(
        say("in standard deviations of the training actions") if trained else say("native units")
    )
    ax.plot([], [], color=_GOOD, lw=5, label=say("executed"))
    if trained:
        ax.plot([], [], color="#999999", lw=5, label=say("training"))
    ax.legend(loc="upper right", ncols=2)
