"""report.png: one picture, six panels, drawn from the stored run without the policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.runs.content import OfflineRecord
from policyscope.runs.directory import PICTURE, RunDirectory
from policyscope.runs.rows import EpisodeRow
from policyscope.runs.values import Budget, Latency, Times
from policyscope.views.figure import STYLE, plain, save, shorten, write_titles
from policyscope.views.offline.claims import claims, headline, rivals, sight_note
from policyscope.views.offline.words import (
    BASELINE_NAMES,
    CAVEAT,
    error_metric,
    sample_lines,
    subject,
    worst_dims,
)
from policyscope.views.words import forced_notice, interval, number, unit_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe-Ito: told apart by colour-blind readers, too
_POLICY, _DEMO = "#0072B2", "#222222"
_BASELINES = {
    "hold_state": ("#D55E00", "o"),
    "repeat_last": ("#009E73", "s"),
    "dataset_mean": ("#CC79A7", "^"),
    "zero": ("#D55E00", "o"),
}
_MOST_POINTS = 4000


@final
@dataclass(frozen=True, eq=False)
class _Drawn:
    """What the panels show of the predictions.

    Attributes:
        dims: the two dims (one, where there is only one).
        frame_index: [T] of the episode drawn over time.
        predicted: [T, H, A] of that episode.
        target: [T, H, A] of that episode.
        is_pad: [T, H] of that episode.
        episode: its index.
        points: [N, 2, A] predicted and demonstrated values over all episodes.
        steps: [N] horizon step of each point.
    """

    dims: tuple[int, ...]
    frame_index: NDArray[np.int64]
    predicted: FloatArray
    target: FloatArray
    is_pad: NDArray[np.bool_]
    episode: int
    points: FloatArray
    steps: NDArray[np.int64]


def draw_picture(
    directory: RunDirectory, record: OfflineRecord, rows: Sequence[EpisodeRow]
) -> Path:
    """Draw ``report.png`` (1600 × 1000) into the run directory and return its path."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = _collect(directory, record, rows)
    with rc_context(STYLE):
        figure = Figure(figsize=(16, 10), dpi=100)
        FigureCanvasAgg(figure)
        said = [*claims(record), *sample_lines(record)[:1]]
        panels = (0.008, 0.045, 0.984, 0.855 - 0.017 * len(said))
        figure.set_layout_engine("constrained", rect=panels, wspace=0.05, hspace=0.06)
        axes = figure.subplots(2, 3)
        _latency(axes[0, 0], record.latency, record.policy.executed)
        _errors_by_dim(axes[1, 0], record)
        for column, dim in enumerate(drawn.dims, start=1):
            _over_time(axes[0, column], record, drawn, dim)
            _scatter(axes[1, column], record, drawn, dim)
        for column in range(len(drawn.dims) + 1, 3):
            axes[0, column].set_axis_off()
            axes[1, column].set_axis_off()
        write_titles(
            figure,
            headline(record),
            subject(record),
            forced_notice(record),
            claims=said,
            footer=f"{CAVEAT} Dims drawn: largest error in std.\n{sight_note()}",
        )
        path = directory.path / PICTURE
        save(figure, path)
    return path


def _latency(ax: Axes, latency: Latency, n_action_steps: int) -> None:
    known = (
        ("model call", latency.model_call),
        ("end to end", latency.end_to_end),
        ("queue pop", latency.queue_pop),
        ("network", latency.network),
    )
    kinds = [(label, times) for label, times in known if times is not None]
    ax.set_title("Inference time, batch 1")
    if not kinds:
        middle: dict[str, Any] = {"ha": "center", "va": "center", "transform": ax.transAxes}
        ax.text(0.5, 0.5, "not timed: no network to call", **middle)
        ax.set_xlabel("milliseconds")
        ax.set_yticks([])
        ax.set_xticks([])
        return
    _calls(ax, [times for _, times in kinds])
    _limits(ax, latency.budget, n_action_steps)
    ax.set_xscale("log")
    ax.set_ylim(-0.75, len(kinds) - 0.25)
    ax.set_xlim(right=max(ax.get_xlim()[1], latency.budget.async_ms * 3))
    ax.set_yticks(range(len(kinds)), [label for label, _ in reversed(kinds)])
    ax.set_xlabel(f"milliseconds (first call {number(latency.first_call_ms)})")


def _calls(ax: Axes, kinds: Sequence[Times]) -> None:
    """Each call as a dot, with quantiles; the first kind on top."""
    spread = np.random.default_rng(0)
    for y, known in enumerate(reversed(kinds)):
        values = np.asarray(known.samples_ms)
        ax.scatter(
            values,
            y + spread.uniform(-0.16, 0.16, len(values)),
            s=9,
            alpha=0.45,
            color=_POLICY,
            linewidths=0,
        )
        ax.plot([known.p50_ms] * 2, [y - 0.27, y + 0.27], color=_DEMO, lw=2)
        tail = f", p95 {number(known.p95_ms)}" if known.p95_ms else ""
        ax.annotate(
            f"p50 {number(known.p50_ms)}{tail}, max {number(known.max_ms)} (n={known.n})",
            (0.01, y + 0.33),
            xycoords=("axes fraction", "data"),
            fontsize=9,
            va="bottom",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85},
        )


def _limits(ax: Axes, budget: Budget, n_action_steps: int) -> None:
    """How long a robot can wait."""
    limits = [(budget.sync_ms, f"1 step at {budget.fps:g} Hz", "--")]
    if budget.async_ms != budget.sync_ms:
        limits.append((budget.async_ms, f"{n_action_steps} steps", ":"))
    for ms, text, style in limits:
        ax.axvline(ms, color="#D55E00", ls=style, lw=1.5)
        ax.text(ms, -0.7, f"{text} ", color="#B04A00", fontsize=9, rotation=90, ha="right")


def _over_time(ax: Axes, record: OfflineRecord, drawn: _Drawn, dim: int) -> None:
    name, unit = _name(record, dim)
    m, fps = record.policy.executed, record.dataset.fps
    seconds = drawn.frame_index / fps
    asked = np.flatnonzero((drawn.frame_index - drawn.frame_index[0]) % m == 0)
    for i in asked:
        real = ~drawn.is_pad[i]
        when = seconds[i] + np.arange(len(real))[real] / fps
        values = drawn.predicted[i, real, dim]
        ax.plot(when, values, color=_POLICY, lw=0.8, alpha=0.35)
        ax.plot(
            when[:m],
            values[:m],
            color=_POLICY,
            lw=1.9,
            label="predicted" if i == asked[0] else None,
        )
    ax.plot(seconds, drawn.target[:, 0, dim], color=_DEMO, lw=1.4, label="demonstrated")
    mean = record.dims()[dim].mean
    colour = _BASELINES["dataset_mean"][0]
    ax.axhline(mean, color=colour, ls="--", lw=1.2, label="dataset mean")
    ax.set_title(plain(f"{shorten(name, 28)}, episode {drawn.episode} (median error)"))
    ax.set_xlabel("time in seconds")
    ax.set_ylabel(plain(f"{shorten(name, 28)} ({unit})"))
    ax.margins(x=0.01, y=0.16)
    ax.legend(loc="upper right", ncols=3, columnspacing=1.0, handlelength=1.4)


def _errors_by_dim(ax: Axes, record: OfflineRecord) -> None:
    metric, unit = error_metric(record)
    rows = record.dims()
    names = [plain(shorten(record.actions.shown[row.dim], 22)) for row in rows]
    at = np.arange(len(rows))
    ax.barh(
        at,
        [row.error(metric) or 0.0 for row in rows],
        color=_POLICY,
        height=0.62,
        label=plain(record.policy.type),
    )
    for name in rivals(record):
        colour, marker = _BASELINES[name]
        values = [
            (row.column(f"{name}_mae") or 0.0)
            / (row.std if metric == "nmae" and not row.excluded else 1.0)
            for row in rows
        ]
        ax.plot(
            values,
            at,
            ls="",
            marker=marker,
            ms=6 if len(rows) < 15 else 4.5,
            color=colour,
            label=BASELINE_NAMES[name],
        )
    ax.set_yticks(at, names, fontsize=10 if len(rows) < 10 else 7.5)
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.set_ylim(len(rows) - 0.4, -0.6 - 0.16 * len(rows))
    ax.set_xlim(left=0)
    total = interval(record.summary.chunk.of(metric))
    ax.set_title(plain(f"Error by dim, chunk MAE {total}"), fontsize=10.5)
    ax.set_xlabel(plain(f"mean absolute error in {unit}"))
    ax.legend(loc="upper right", ncols=2, columnspacing=1.0, handletextpad=0.4)


def _scatter(ax: Axes, record: OfflineRecord, drawn: _Drawn, dim: int) -> None:
    name, unit = _name(record, dim)
    predicted, target = drawn.points[:, 0, dim], drawn.points[:, 1, dim]
    low = float(min(predicted.min(), target.min()))
    high = float(max(predicted.max(), target.max()))
    pad = 0.04 * (high - low or 1.0)
    dots = ax.scatter(
        target, predicted, c=drawn.steps, s=6, alpha=0.55, linewidths=0, cmap="viridis_r"
    )
    ax.plot([low - pad, high + pad], [low - pad, high + pad], color=_DEMO, lw=1.2)
    mean = record.dims()[dim].mean
    ax.axhline(mean, color=_BASELINES["dataset_mean"][0], ls="--", lw=1.2)
    ax.annotate(
        "dataset mean",
        (0.99, mean),
        xycoords=("axes fraction", "data"),
        color="#8a3a68",
        fontsize=9,
        ha="right",
        va="bottom",
    )
    ax.set_xlim(low - pad, high + pad)
    ax.set_ylim(low - pad, high + pad)
    rmse = record.dims()[dim].rmse
    ax.set_title(plain(f"{shorten(name, 28)}: RMSE {number(rmse)} ({unit})"))
    ax.set_xlabel(plain(f"demonstrated ({unit})"))
    ax.set_ylabel(plain(f"predicted ({unit})"))
    bar = ax.figure.colorbar(dots, ax=ax, fraction=0.04, pad=0.02, aspect=30)
    bar.solids.set_alpha(1.0)  # type: ignore[union-attr]
    bar.set_label("horizon step", fontsize=9)
    bar.ax.invert_yaxis()
    bar.outline.set_visible(False)


def _collect(directory: RunDirectory, record: OfflineRecord, rows: Sequence[EpisodeRow]) -> _Drawn:
    """Read what the panels show, episode by episode."""
    median = record.by_episode.chunk.median.episode_index
    total = sum(row.n_frames for row in rows) * record.policy.chunk
    share = min(1.0, _MOST_POINTS / max(total, 1))
    draw = np.random.default_rng(0)
    points, steps, shown = [], [], None
    for episode in directory.stored():
        predicted, target = episode.predicted[0].values, episode.target.values
        if episode.index == median:
            shown = (episode.frame_index, predicted, target, episode.is_pad)
        picked = ~episode.is_pad & (draw.random(episode.is_pad.shape) < share)
        points.append(np.stack([predicted[picked], target[picked]], axis=1))
        steps.append(np.nonzero(picked)[1] + 1)
    assert shown is not None
    worst = worst_dims(record)[:2]
    order = draw.permutation(sum(len(s) for s in steps))
    return _Drawn(
        tuple(sorted(row.dim for row in worst)),
        *shown,
        median,
        np.concatenate(points)[order],
        np.concatenate(steps)[order],
    )


def _name(record: OfflineRecord, dim: int) -> tuple[str, str]:
    return record.actions.shown[dim], unit_name(record.actions.units[dim])
