"""The terminal table: error, skill, interval, latency, findings."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from policyscope.runs.content import OfflineRecord
from policyscope.runs.parts import SCOPES
from policyscope.runs.values import Value
from policyscope.views.console import plain_table
from policyscope.views.language import Say, english
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


def run_table(record: OfflineRecord, say: Say = english) -> RenderableType:
    """Everything about a finished run that fits a terminal. All text is shown literally."""
    parts: list[RenderableType] = [Text(subject(record, say))]
    notice = forced_notice(record, say)
    if notice:
        parts.append(Text(notice, style="bold white on red"))
    parts.append(Text(headline(record, say), style="bold"))
    parts += [Text(f"- {line}") for line in claims(record, say)]
    parts += [Text(line) for line in [within_line(record, say)] if line]
    parts += [_errors(record, say), _skills(record, say), Text(sight_note(say), style="dim")]
    if len(record.actions.names) > 2 or error_metric(record)[0] == "nmae":
        parts.append(_dims(record, say))
    if record.ablation is not None:
        parts.append(ablation_table(record.ablation, say))
    parts += _limbs(record, say)
    parts += [Text(f"\n{line}") for line in sample_lines(record, say)]
    parts += [Text(f"\n{shape_line(record, say)}"), _latency(record, say)]
    parts.append(Text(say(CAVEAT), style="dim"))
    if record.findings:
        parts.append(findings_text(record.findings))
    return Group(*parts)


def _errors(record: OfflineRecord, say: Say) -> Table:
    metric, unit = error_metric(record)
    titles = scope_titles(record, say)
    table = plain_table(say("MAE in {unit} [95 % interval]", unit=unit_name(unit, say)))
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
            say(BASELINE_NAMES[name]),
            *(number(errors.of(scope).of(metric).value) for scope in SCOPES),
        )
    return table


def _skills(record: OfflineRecord, say: Say) -> Table:
    table = plain_table(say("Skill = 1 − MSE / MSE of the baseline"))
    table.add_column(say("against"))
    for scope in SCOPES:
        table.add_column(scope_titles(record, say)[scope], justify="right")
    for name in rivals(record):
        known = record.skill[name]
        table.add_row(say(BASELINE_NAMES[name]), *(_skill(known.of(scope)) for scope in SCOPES))
    return table


def _skill(known: Value) -> Text:
    low, high = known.ci_low, known.ci_high
    style = "green" if low is not None and low > 0 else ""
    style = "red" if high is not None and high < 0 else style
    return Text(interval(known, ratio), style=style)


def _dims(record: OfflineRecord, say: Say) -> Table:
    rows = worst_dims(record)
    shown = rows[:_MOST_DIMS]
    if len(rows) > len(shown):
        words = {"n": len(shown), "all": len(rows)}
        title = say("Error and skill by dim over the chunk, worst {n} of {all}", **words)
    else:
        title = say("Error and skill by dim over the chunk")
    table = plain_table(title)
    table.add_column(say("dim"), no_wrap=True)
    table.add_column("MAE", justify="right", no_wrap=True)
    table.add_column(say("in std"), justify="right")
    table.add_column(say("noise floor"), justify="right")
    others = [name for name in ("repeat_last", "hold_state", "zero") if name in rivals(record)]
    baselines = list(dict.fromkeys((main_baseline(record), *others)))[:2]
    for name in baselines:
        table.add_column(say("vs {baseline}", baseline=say(BASELINE_NAMES[name])), justify="right")
    for row in shown:
        table.add_row(
            Text(record.actions.shown[row.dim]),
            Text(f"{number(row.mae)} {unit_name(row.unit, say)}"),
            number(row.nmae),
            number(row.noise_floor, 2),
            *(ratio(row.skill(name)) for name in baselines),
        )
    return table


def _limbs(record: OfflineRecord, say: Say) -> list[Table]:
    """By what the dims are, where that says more than the tables above; and where it matters."""
    tables = []
    named, found = critical_table(record, say)
    for title, (titles, rows) in (
        (say("By limb, in its own unit"), distances(record, say)),
        (say("Grippers, over the executed steps"), grippers(record, say)),
        (say("Frames that matter"), (named[1:], [Limb(c[0], "", tuple(c[1:])) for c in found])),
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


def _latency(record: OfflineRecord, say: Say) -> RenderableType:
    latency, throughput = record.latency, record.throughput
    kinds = (
        (say("model call"), latency.model_call),
        (say("queue pop"), latency.queue_pop),
        (say("end to end"), latency.end_to_end),
        (say("transfer"), latency.network),
    )
    speed = say("nothing was left to predict")
    if throughput.frames_per_s:
        speed = say(
            "{rate} frames/s{of} in batches, {wall} s of which {model} s model",
            rate=number(throughput.frames_per_s),
            of=rate_of_samples(record, say),
            wall=number(throughput.wall_s),
            model=number(throughput.model_s),
        )
    if not any(known for _, known in kinds):
        return Text(say("No latency: not timed. Throughput: {speed}.", speed=speed))
    device = record.environment.device_name
    table = plain_table(say("Latency in ms at batch 1 on {device}", device=device))
    for title in ("", "n", "min", "mean", "p50", "p95", "p99", "max"):
        table.add_column(title, justify="left" if not title else "right")
    for name, known in kinds:
        if known:
            times = (known.min_ms, known.mean_ms, known.p50_ms)
            tails = (known.p95_ms, known.p99_ms, known.max_ms)
            table.add_row(name, str(known.n), *(number(ms) for ms in (*times, *tails)))
    notes = say("– means too few calls. Throughput: {speed}.", speed=speed)
    return Group(table, Text(f"{budget_line(record, say)} {notes}"))
