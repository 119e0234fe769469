"""What ``policyscope bench`` shows: a table for the terminal and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policyscope.runs.bench import BatchSpeed, BenchRecord, Road, TooLarge
from policyscope.runs.values import Budget, Times
from policyscope.views.figure import plain, save
from policyscope.views.words import between, number, share

if TYPE_CHECKING:
    from rich.console import Group

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_MARKS = ("o", "s", "^", "D")
_FEWEST = 4
"""Calls of each: of twice four that are alike, the ranges lie apart once in 35 times."""


def budget_line(budget: Budget, steps: Times | None) -> str:
    """Whether a control step fits into the time that the robot leaves, in words."""
    if steps is None:
        return "no control steps were timed"
    worst = steps.p99_ms if steps.p99_ms is not None else steps.max_ms
    which = "p99" if steps.p99_ms is not None else f"slowest of {steps.n}"
    fits = "fits into" if worst <= budget.sync_ms else "misses"
    chunk = "fits into" if worst <= budget.async_ms else "misses"
    missed = [share(rate, steps.n) for rate in (budget.sync_miss_rate, budget.async_miss_rate)]
    return (
        f"{number(worst)} ms ({which}) {fits} one period of {number(budget.sync_ms)} ms at "
        f"{budget.fps:g} Hz, missed in {missed[0]}, and {chunk} the "
        f"{number(budget.async_ms)} ms that the executed steps of a chunk last, "
        f"missed in {missed[1]}"
    )


def compile_lines(plain: Road, compiled: Road) -> list[str]:
    """Whether compilation pays, a line a batch size that was measured both ways.

    It says so where the slowest call of one is faster than the fastest of the other.
    """
    before = {row.batch_size: row for row in plain.throughput if isinstance(row, BatchSpeed)}
    lines = []
    for row in compiled.throughput:
        other = before.get(row.batch_size)
        if other is None or isinstance(row, TooLarge):
            continue
        times = f"{number(other.model_ms / row.model_ms)} times as fast"
        if min(row.n, other.n) < _FEWEST:
            said = f"{times} in {min(row.n, other.n)} calls, too few to tell; --repeats {_FEWEST}"
        elif row.model_ms_max < other.model_ms_min:
            # Single calls may have compiled for all sizes already.
            cost = max(row.first_ms, compiled.latency.first_call_ms) - row.model_ms
            calls = int(cost / (other.model_ms - row.model_ms)) + 1
            said = f"{times}, worth its {number(cost / 1e3)} s from {calls} calls on"
        elif row.model_ms_min > other.model_ms_max:
            said = f"{times}, advised against"
        else:
            said = f"{times}, no difference beyond that between calls: advised against"
        lines.append(f"--compile at batch {row.batch_size}: {said}")
    return lines


def bench_table(record: BenchRecord) -> Group:
    """Latency and throughput for the terminal."""
    from rich.console import Group
    from rich.text import Text

    from policyscope.views.console import plain_table

    parts: list[Any] = []
    for road in record.roads:
        latency = plain_table(f"Latency in ms at batch 1 ({road.name})")
        for column in ("", "n", "min", "p50", "p90", "p95", "p99", "max"):
            latency.add_column(column, justify="left" if not column else "right")
        for label, known in (
            ("model call", road.latency.model_call),
            ("queue pop", road.latency.queue_pop),
            ("transfer", road.latency.network),
            ("end to end", road.latency.end_to_end),
        ):
            if known is not None:
                tails = (known.p90_ms, known.p95_ms, known.p99_ms, known.max_ms)
                cells = (known.min_ms, known.p50_ms, *tails)
                shown = [number(c) for c in cells]
                latency.add_row(label, str(known.n), *shown)
        rate = plain_table(f"Throughput ({road.name})")
        for column in ("batch", "model call ms", "samples/s", "with processors"):
            rate.add_column(column, justify="right")
        for row in road.throughput:
            size = str(row.batch_size)
            if isinstance(row, TooLarge):
                rate.add_row(size, "out of memory", "", "")
            else:
                rate.add_row(
                    size,
                    between(row.model_ms, row.model_ms_min, row.model_ms_max),
                    number(row.samples_per_s),
                    number(row.samples_per_s_whole),
                )
        line = budget_line(road.latency.budget, road.latency.end_to_end)
        parts += [latency, rate, Text(f"{line}\n")]
    for plain_road in record.roads:
        for road in record.roads:
            if road.compile and not plain_road.compile and road.dtype == plain_road.dtype:
                parts += [Text(text) for text in compile_lines(plain_road, road)]
    return Group(*parts)


def draw_bench(record: BenchRecord, path: Path) -> None:
    """Throughput by batch size, and the distribution of one control step."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    with rc_context(
        {
            "font.size": 10.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    ):
        figure = Figure(figsize=(12, 6), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        rate, steps = figure.subplots(1, 2)
        _curves(record, rate, steps)
        rate.set(title="Throughput", xlabel="frames a model call", ylabel="frames a second")
        rate.set_xscale("log", base=2)
        rate.xaxis.set_major_formatter("{x:g}")
        rate.set_ylim(bottom=0)
        budget = record.roads[0].latency.budget
        steps.set(
            title="One control step with an empty queue, batch 1",
            xlabel="milliseconds, end to end",
            ylabel="share of steps",
            ylim=(0, 1.02),
        )
        steps.axvline(
            budget.sync_ms, color="#222", ls="--", lw=1, label=f"period at {budget.fps:g} Hz"
        )
        steps.axvline(
            budget.async_ms, color="#222", ls=":", lw=1, label="executed steps of a chunk"
        )
        steps.set_xscale("log")
        steps.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        steps.xaxis.set_major_formatter("{x:g}")
        steps.xaxis.set_minor_formatter(NullFormatter())
        for axes, ncols in ((rate, 1), (steps, 2)):  # keys below: nothing lies over a curve
            axes.grid(alpha=0.25)
            place = {"loc": "upper left", "bbox_to_anchor": (-0.06, -0.13)}
            axes.legend(frameon=False, fontsize=9.5, ncols=ncols, **place)
        policy, where = record.policy, record.environment
        figure.suptitle(
            plain(
                f"{Path(policy.path).name} ({policy.type}, {policy.n_parameters:,} "
                f"parameters) on {where.device}"
            ),
            x=0.01,
            ha="left",
            weight="bold",
        )
        save(figure, path)


def _curves(record: BenchRecord, rate: Any, steps: Any) -> None:
    """One line a road on both axes."""
    for road, colour, mark in zip(record.roads, _COLOURS, _MARKS, strict=False):
        rows = [row for row in road.throughput if isinstance(row, BatchSpeed)]
        rate.plot(
            [row.batch_size for row in rows],
            [row.samples_per_s for row in rows],
            color=colour,
            marker=mark,
            label=_fastest(road.name, rows),
        )
        known = road.latency.end_to_end
        if known is not None:
            ms = np.sort(known.samples_ms)
            share = np.arange(1, len(ms) + 1) / len(ms)
            tail = "" if known.p95_ms is None else f", p95 {number(known.p95_ms)}"
            label = f"{road.name}: p50 {number(known.p50_ms)}{tail} ms"
            steps.step(ms, share, where="post", color=colour, label=label)


def _fastest(name: str, rows: Sequence[BatchSpeed]) -> str:
    """A road's name with its best throughput."""
    best = max(rows, key=lambda row: row.samples_per_s, default=None)
    if best is None:
        return name
    return f"{name}: {number(best.samples_per_s)} frames/s in batches of {best.batch_size}"
