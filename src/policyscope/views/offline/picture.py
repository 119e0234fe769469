"""report.png: one picture of a run, drawn from what is stored, without the policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.config import Language
from policyscope.runs.content import OfflineRecord
from policyscope.runs.directory import RunDirectory
from policyscope.runs.rows import EpisodeRow
from policyscope.runs.values import Budget, Latency, Times
from policyscope.views.figure import canvas, plain, save_all, shorten, write_titles
from policyscope.views.language import Say
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
    from matplotlib.figure import Figure

# Okabe-Ito: told apart by colour-blind readers, too
_POLICY, _DEMO = "#0072B2", "#222222"
_BASELINES = {
    "hold_state": ("#D55E00", "o"),
    "repeat_last": ("#009E73", "s"),
    "dataset_mean": ("#CC79A7", "^"),
    "zero": ("#D55E00", "o"),
}
_DASHES = ("--", ":", "-.")
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
    directory: RunDirectory,
    record: OfflineRecord,
    rows: Sequence[EpisodeRow],
    language: Language = "en",
    formats: Sequence[str] = ("png",),
) -> Path:
    """Draw ``report.png`` (1600 × 1000) into the run directory and return the last path.

    Args:
        directory: of the run.
        record: its ``run.json``.
        rows: errors of each episode over whole chunks.
        language: of the picture; English where no font here has its glyphs.
        formats: endings of the files.
    """
    drawn = _collect(directory, record, rows)
    with canvas(language) as (figure, say, note):
        said = [*claims(record, say), *sample_lines(record, say)[:1]]
        panels = (0.008, 0.045, 0.984, 0.855 - 0.017 * len(said))
        figure.set_layout_engine("constrained", rect=panels, wspace=0.05, hspace=0.06)
        _panels(figure, record, drawn, say)
        caveat = say(CAVEAT) + " " + say("Dims drawn: largest error in std.")
        write_titles(
            figure,
            headline(record, say),
            subject(record, say),
            forced_notice(record, say),
            claims=said,
            footer=f"{caveat}\n{sight_note(say)}{note}",
        )
        return save_all(figure, directory.path, language, formats)


def _panels(figure: Figure, record: OfflineRecord, drawn: _Drawn, say: Say) -> None:
    """Errors on top, the horizon first; below it a few dims. What is not there takes no room."""
    above: list[Callable[[Axes], None]] = [lambda ax: _errors_by_dim(ax, record, say)]
    if record.policy.chunk > 1:
        above.insert(0, lambda ax: _horizon(ax, record, say))
    if _timed(record.latency):
        above.append(lambda ax: _latency(ax, record.latency, record.policy.executed, say))
    below: list[Callable[[Axes], None]] = []
    for dim in drawn.dims:
        known: dict[str, Any] = {"record": record, "drawn": drawn, "dim": dim, "say": say}
        below += [partial(_over_time, **known), partial(_scatter, **known)]
    grid = figure.add_gridspec(2, 1)
    for line, panels in enumerate((above, below)):
        places = grid[line].subgridspec(1, len(panels))
        for place, draw in enumerate(panels):
            draw(figure.add_subplot(places[place]))


def _horizon(ax: Axes, record: OfflineRecord, say: Say) -> None:
    """How the error grows into the chunk, beside what needs no policy."""
    metric, unit = error_metric(record)
    step = [row.step for row in record.by_horizon]
    looks = [("", _POLICY, "-", record.policy.type, 2.6)]
    looks += [
        (f"{name}_", _BASELINES[name][0], _DASHES[i % 3], say(BASELINE_NAMES[name]), 1.7)
        for i, name in enumerate(rivals(record))
    ]
    for prefix, colour, dash, label, width in reversed(looks):
        rows = record.by_horizon
        value, low, high = (
            np.array([row.column(f"{prefix}{metric}{end}") for row in rows], dtype=float)
            for end in ("", "_ci_low", "_ci_high")
        )
        ax.fill_between(step, low, high, color=colour, alpha=0.15, lw=0)
        ax.plot(step, value, color=colour, ls=dash, lw=width, label=plain(label))
    ax.axvspan(1, record.policy.executed, color=_POLICY, alpha=0.06, lw=0)
    ax.set_xlim(1, record.policy.chunk)
    ax.set_ylim(bottom=0)
    ax.set_title(say("By horizon step"))
    ax.set_xlabel(say("horizon step (a step is {ms} ms)", ms=number(1000 / record.dataset.fps)))
    ax.set_ylabel(plain(say("MAE in {unit}", unit=unit_name(unit, say))))
    handles, labels = ax.get_legend_handles_labels()
    above: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1.08), "borderpad": 0}
    ax.legend(handles[::-1], labels[::-1], ncols=4, columnspacing=1.0, handlelength=1.6, **above)


def _timed(latency: Latency) -> bool:
    return any((latency.model_call, latency.end_to_end, latency.queue_pop))


def _latency(ax: Axes, latency: Latency, n_action_steps: int, say: Say) -> None:
    known = (
        (say("model call"), latency.model_call),
        (say("end to end"), latency.end_to_end),
        (say("queue pop"), latency.queue_pop),
        (say("transfer"), latency.network),
    )
    kinds = [(label, times) for label, times in known if times is not None]
    ax.set_title(say("One control step at batch 1"))
    _calls(ax, [times for _, times in kinds])
    _limits(ax, latency.budget, n_action_steps, say)
    ax.set_xscale("log")
    ax.set_ylim(-0.75, len(kinds) - 0.25)
    ax.set_xlim(right=max(ax.get_xlim()[1], latency.budget.async_ms * 3))
    ax.set_yticks(range(len(kinds)), [label for label, _ in reversed(kinds)])
    ax.set_xlabel(say("milliseconds (first call {ms})", ms=number(latency.first_call_ms)))


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


def _limits(ax: Axes, budget: Budget, n_action_steps: int, say: Say) -> None:
    """How long a robot can wait."""
    limits = [(budget.sync_ms, say("one step at {fps} Hz", fps=f"{budget.fps:g}"), "--")]
    if budget.async_ms != budget.sync_ms:
        limits.append((budget.async_ms, say("{n} steps", n=n_action_steps), ":"))
    for ms, text, style in limits:
        ax.axvline(ms, color="#D55E00", ls=style, lw=1.5)
        ax.text(ms, -0.7, f"{text} ", color="#B04A00", fontsize=9, rotation=90, ha="right")


def _over_time(ax: Axes, record: OfflineRecord, drawn: _Drawn, dim: int, say: Say) -> None:
    name, unit = _name(record, dim, say)
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
            label=say("predicted") if i == asked[0] else None,
        )
    ax.plot(seconds, drawn.target[:, 0, dim], color=_DEMO, lw=1.4, label=say("demonstrated"))
    mean = record.dims()[dim].mean
    colour = _BASELINES["dataset_mean"][0]
    ax.axhline(mean, color=colour, ls="--", lw=1.2)  # named beside it
    ax.set_title(plain(f"{shorten(name, 16)}, " + say("median episode {n}", n=drawn.episode)))
    ax.set_xlabel(say("seconds"))
    ax.set_ylabel(plain(f"{shorten(name, 28)} ({unit})"))
    ax.margins(x=0.01, y=0.16)
    ax.legend(loc="upper right", ncols=2, columnspacing=1.0, handlelength=1.4)


def _errors_by_dim(ax: Axes, record: OfflineRecord, say: Say) -> None:
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
            label=say(BASELINE_NAMES[name]),
        )
    ax.set_yticks(at, names, fontsize=10 if len(rows) < 10 else 7.5)
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.set_ylim(len(rows) - 0.4, -0.6 - 0.16 * len(rows))
    ax.set_xlim(left=0)
    total = interval(record.summary.chunk.of(metric))
    ax.set_title(plain(say("By dim, chunk MAE {total}", total=total)), fontsize=10.5)
    ax.set_xlabel(plain(say("MAE in {unit}", unit=unit_name(unit, say))))
    ax.legend(loc="upper right", ncols=2, columnspacing=1.0, handletextpad=0.4)


def _scatter(ax: Axes, record: OfflineRecord, drawn: _Drawn, dim: int, say: Say) -> None:
    name, unit = _name(record, dim, say)
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
        say("dataset mean"),
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
    ax.set_title(plain(f"{shorten(name, 12)}: RMSE {number(rmse)} {unit}"))
    ax.locator_params(nbins=4)
    ax.set_xlabel(plain(f"{say('demonstrated')} ({unit})"))
    ax.set_ylabel(plain(f"{say('predicted')} ({unit})"))
    bar = ax.figure.colorbar(dots, ax=ax, fraction=0.04, pad=0.02, aspect=30)
    bar.solids.set_alpha(1.0)  # type: ignore[union-attr]
    bar.set_label(say("horizon step"), fontsize=9)
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


def _name(record: OfflineRecord, dim: int, say: Say) -> tuple[str, str]:
    return record.actions.shown[dim], unit_name(record.actions.units[dim], say)
