"""The terminal table: error, skill, interval, latency, findings."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from policyscope.runs.content import OfflineRecord
from policyscope.runs.parts import SCOPES
from policyscope.runs.values import Value
from policyscope.views.console import plain_table
from policyscope.views.offline.ablation import ablation_table
from policyscope.views.offline.claims import (
    claims,
    headline,
    main_baseline,
    rivals,
    sight_note,
)
from policyscope.views.offline.critical import critical_table
from policyscope.views.offline.meant import Limb, distances, grippers
from policyscope.views.offline.words import (
    BASELINE_NAMES,
    CAVEAT,
    budget_line,
    error_metric,
    rate_of_samples,
    sample_lines,
    scope_titles,
    shape_line,
    subject,
    within_line,
    worst_dims,
)
from policyscope.views.words import findings_text, forced_notice, interval, number, ratio, unit_name

_MOST_DIMS = 8


def run_table(record: OfflineRecord) -> RenderableType:
    """Everything about a finished run that fits a terminal. All text is shown literally."""
    parts: list[RenderableType] = [Text(subject(record))]
    notice = forced_notice(record)
    if notice:
        parts.append(Text(notice, style="bold white on red"))
    parts.append(Text(headline(record), style="bold"))
    parts += [Text(f"- {line}") for line in claims(record)]
    parts += [Text(line) for line in [within_line(record)] if line]
    parts += [_errors(record), _skills(record), Text(sight_note(), style="dim")]
    if len(record.actions.names) > 2 or error_metric(record)[0] == "nmae":
        parts.append(_dims(record))
    if record.ablation is not None:
        parts.append(ablation_table(record.ablation))
    parts += _limbs(record)
    parts += [Text(f"\n{line}") for line in sample_lines(record)]
    parts += [Text(f"\n{shape_line(record)}"), _latency(record), Text(CAVEAT, style="dim")]
    if record.findings:
        parts.append(findings_text(record.findings))
    return Group(*parts)


def _errors(record: OfflineRecord) -> Table:
    metric, unit = error_metric(record)
    titles = scope_titles(record)
    table = plain_table(f"MAE in {unit} [95 % interval]")
    table.add_column("")
    for scope in SCOPES:
        table.add_column(titles[scope], justify="right")
    table.add_row(
        Text(record.policy.type, style="bold"),
        *(Text(interval(record.summary.of(scope).of(metric))) for scope in SCOPES),
        end_section=True,
    )
    for name in rivals(record):
        errors = record.baselines[name]
        table.add_row(
            BASELINE_NAMES[name],
            *(number(errors.of(scope).of(metric).value) for scope in SCOPES),
        )
    return table


def _skills(record: OfflineRecord) -> Table:
    table = plain_table("Skill = 1 − MSE / MSE of the baseline")
    table.add_column("against")
    for scope in SCOPES:
        table.add_column(scope_titles(record)[scope], justify="right")
    for name in rivals(record):
        known = record.skill[name]
        table.add_row(BASELINE_NAMES[name], *(_skill(known.of(scope)) for scope in SCOPES))
    return table


def _skill(known: Value) -> Text:
    low, high = known.ci_low, known.ci_high
    style = "green" if low is not None and low > 0 else ""
    style = "red" if high is not None and high < 0 else style
    return Text(interval(known, ratio), style=style)


def _dims(record: OfflineRecord) -> Table:
    rows = worst_dims(record)
    shown = rows[:_MOST_DIMS]
    more = f", worst {len(shown)} of {len(rows)}" if len(rows) > len(shown) else ""
    table = plain_table(f"Error and skill by dim over the chunk{more}")
    table.add_column("dim", no_wrap=True)
    table.add_column("MAE", justify="right", no_wrap=True)
    table.add_column("in std", justify="right")
    table.add_column("noise floor", justify="right")
    others = [name for name in ("repeat_last", "hold_state", "zero") if name in rivals(record)]
    baselines = list(dict.fromkeys((main_baseline(record), *others)))[:2]
    for name in baselines:
        table.add_column(f"vs {BASELINE_NAMES[name]}", justify="right")
    for row in shown:
        table.add_row(
            Text(record.actions.shown[row.dim]),
            Text(f"{number(row.mae)} {unit_name(row.unit)}"),
            number(row.nmae),
            number(row.noise_floor, 2),
            *(ratio(row.skill(name)) for name in baselines),
        )
    return table


def _limbs(record: OfflineRecord) -> list[Table]:
    """By what the dims are, where that says more than the tables above; and where it matters."""
    tables = []
    named, found = critical_table(record)
    for title, (titles, rows) in (
        ("By limb, in its own unit", distances(record)),
        ("Grippers, over the executed steps", grippers(record)),
        ("Frames that matter", (named[1:], [Limb(c[0], "", tuple(c[1:])) for c in found])),
    ):
        if not rows:
            continue
        table = plain_table(title)
        table.padding = (0, 0)  # seven columns in 80 letters
        table.add_column("", no_wrap=True)
        for i, name in enumerate(titles):
            widest = max(len(text) for text in (*(row.values[i] for row in rows), *name.split()))
            table.add_column(name, justify="right", min_width=widest)
        for row in rows:
            table.add_row(Text(row.what), *(Text(value) for value in row.values))
        tables.append(table)
    return tables


def _latency(record: OfflineRecord) -> RenderableType:
    latency, throughput = record.latency, record.throughput
    kinds = (
        ("model call", latency.model_call),
        ("queue pop", latency.queue_pop),
        ("network", latency.network),
        ("end to end", latency.end_to_end),
    )
    rate = throughput.frames_per_s
    speed = (
        f"{number(rate)} frames/s{rate_of_samples(record)} in batches, "
        f"{number(throughput.wall_s)} s of which {number(throughput.model_s)} s model"
        if rate
        else "nothing was left to predict"
    )
    if not any(known for _, known in kinds):
        return Text(f"No latency: not timed. Throughput: {speed}.")
    table = plain_table(f"Latency in ms at batch 1 on {record.environment.device_name}")
    for title in ("", "n", "min", "mean", "p50", "p95", "p99", "max"):
        table.add_column(title, justify="left" if not title else "right")
    for name, known in kinds:
        if known:
            times = (known.min_ms, known.mean_ms, known.p50_ms)
            tails = (known.p95_ms, known.p99_ms, known.max_ms)
            table.add_row(name, str(known.n), *(number(ms) for ms in (*times, *tails)))
    notes = Text(f"{budget_line(record)} – means too few calls. Throughput: {speed}.")
    return Group(table, notes)
