"""report.png of a closed-loop run, drawn from what is stored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from policyscope.runs.content import RolloutRecord
from policyscope.runs.directory import FRAMES, PICTURE, RunDirectory
from policyscope.runs.rollouts import StoredRollout
from policyscope.runs.rows import ActionRow, RolloutRow
from policyscope.runs.values import Value
from policyscope.views.figure import STYLE, plain, save, write_titles
from policyscope.views.rollout.series import GOAL
from policyscope.views.rollout.words import headline, outcome, percent, subject
from policyscope.views.words import forced_notice, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GOOD, _BAD, _INK = "#0072B2", "#D55E00", "#222222"
_COLOURS = {"success": _GOOD, "failure": _BAD, "unknown": "#888888"}
_MOST_FRAMES = 60


def draw_rollout(
    directory: RunDirectory, record: RolloutRecord, episodes: Sequence[StoredRollout]
) -> Path:
    """Draw ``report.png`` (1600 × 1000) into the run directory and return its path."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [known.row for known in episodes]
    with rc_context(STYLE):
        figure = Figure(figsize=(16, 10), dpi=100)
        FigureCanvasAgg(figure)
        rect = (0.008, 0.02, 0.984, 0.878)
        figure.set_layout_engine("constrained", rect=rect, wspace=0.05, hspace=0.06)
        grid = figure.add_gridspec(2, 3)
        _frames(figure.add_subplot(grid[:, 0]), directory.path, rows)
        _curve(figure.add_subplot(grid[0, 1]), record)
        _rewards(figure.add_subplot(grid[1, 1]), rows, record.closed_loop.max_reward)
        _paths(figure.add_subplot(grid[0, 2]), record, episodes)
        _actions(figure.add_subplot(grid[1, 2]), record.executed_actions)
        write_titles(figure, headline(record), subject(record), forced_notice(record))
        path = directory.path / PICTURE
        save(figure, path)
    return path


def _frames(ax: Axes, path: Path, listed: Sequence[RolloutRow]) -> None:
    """The last picture of each episode, framed by its outcome."""
    from PIL import Image

    rows = [row for row in listed if (path / FRAMES / f"{row.episode:06d}.png").is_file()]
    more = len(rows) - _MOST_FRAMES
    rows = rows[:_MOST_FRAMES]
    if not rows:
        _nothing(ax, "Last frame of each episode")
        return
    ax.set_title("Last frame of each episode" + (f" (first {_MOST_FRAMES})" if more > 0 else ""))
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


def _nothing(ax: Axes, title: str) -> None:
    """A panel that says that there is nothing to draw."""
    ax.set_title(title)
    ax.set_axis_off()
    ax.text(0.5, 0.5, "not recorded", transform=ax.transAxes, ha="center", color="#888888")


def _curve(ax: Axes, record: RolloutRecord) -> None:
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
            "nobody noted the times" if record.imported else "no rate of control",
            transform=ax.transAxes,
            ha="center",
            color=_INK,
        )
    ax.set_ylim(0, 1)
    ax.set_xlim(0, end)
    ax.set_title("Succeeded by then (95 % interval)")
    ax.set_xlabel("seconds")
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    success = record.success
    if success.ci_low is not None and success.ci_high is not None:
        text = (
            f"{success.k} of {success.n}: {percent(success.rate)}\n"
            f"[{100 * success.ci_low:.0f}, {100 * success.ci_high:.0f}] %"
        )
        ax.annotate(
            text, (0.02, 0.97), xycoords="axes fraction", va="top", fontsize=13, weight="bold"
        )


def _rewards(ax: Axes, rows: Sequence[RolloutRow], mean: Value) -> None:
    known = [(row.max_reward, row) for row in rows if row.max_reward is not None]
    if not known:
        _nothing(ax, "Highest reward of each episode")
        return
    ordered = sorted(known, key=lambda pair: (-pair[0], pair[1].episode))
    colours = [_COLOURS[outcome(row)] for _, row in ordered]
    ax.bar(range(len(ordered)), [reward for reward, _ in ordered], color=colours, width=0.8)
    if mean.value is not None:
        ax.axhline(mean.value, color=_INK, lw=1.4, ls="--")
        if mean.ci_low is not None and mean.ci_high is not None:
            ax.axhspan(mean.ci_low, mean.ci_high, color=_INK, alpha=0.1, lw=0)
        ax.annotate(
            f"mean {number(mean.value)}",
            (1, mean.value),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=9,
        )
    ax.set_title("Highest reward of each episode")
    ax.set_xlabel("episodes, best first")
    ax.set_xticks([])
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    nobody_knows = all(row.success is None for _, row in ordered)
    for text in ("unknown",) if nobody_knows else ("success", "failure"):
        ax.plot([], [], "s", color=_COLOURS[text], label=text)
    ax.legend(loc="upper right", ncols=2)


def _paths(ax: Axes, record: RolloutRecord, episodes: Sequence[StoredRollout]) -> None:
    """Where the robot went: over the board where there is one, else reward over time."""
    board = record.env.board
    if not any(np.isfinite(e.rewards).any() or e.states.size for e in episodes):
        _nothing(ax, "Reward over time")
        return
    if board is None or any(e.states.shape[1] < 2 for e in episodes):
        for e in episodes:
            seconds = np.arange(1, len(e.rewards) + 1) / record.env.fps
            colour = _COLOURS[outcome(e.row)]
            ax.plot(seconds, e.rewards, color=colour, lw=1.1, alpha=0.7)
        ax.set_title("Reward over time")
        ax.set_xlabel("seconds")
        return
    for e in episodes:
        colour = _COLOURS[outcome(e.row)]
        ax.plot(e.states[:, 0], e.states[:, 1], color=colour, lw=0.7, alpha=0.45)
        if "block_pose" in e.extras:
            poses = e.extras["block_pose"]
            ax.plot(poses[-1, 0], poses[-1, 1], "x", color=colour, ms=6, mew=1.6)
    if any("block_pose" in e.extras for e in episodes):
        ax.fill(GOAL[:, 0], GOAL[:, 1], color="#90c890", alpha=0.45, lw=0, label="goal")
        ax.plot([], [], "x", color=_INK, label="block at the end")
        ax.legend(loc="lower right", ncols=2)
    ax.set_xlim(0, board[0])
    ax.set_ylim(board[1], 0)
    ax.set_aspect("equal")
    unit = record.actions.units[0]
    ax.set_title(f"Paths over the board ({plain(unit)})")


def _actions(ax: Axes, rows: Sequence[ActionRow]) -> None:
    if not rows:
        _nothing(ax, "Executed actions")
        return
    trained = any(r.trained_std for r in rows)
    title = "Executed actions against training" if trained else "Executed actions"
    ax.set_title(f"{title}: mean ± std")
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
    ax.set_xlabel("in std of the training actions" if trained else "native units")
    ax.plot([], [], color=_GOOD, lw=5, label="executed")
    if trained:
        ax.plot([], [], color="#999999", lw=5, label="training")
    ax.legend(loc="upper right", ncols=2)
