"""report.html: a run on one page that opens anywhere, offline, drawn from the run alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from policyscope.config import Language
from policyscope.runs.clips import Clip
from policyscope.runs.content import OfflineRecord
from policyscope.runs.directory import PAGE, RunDirectory, in_language
from policyscope.runs.parts import SCOPES, Scope, spans
from policyscope.runs.rows import EpisodeRow, ranked
from policyscope.runs.values import Latency, Times
from policyscope.views.html import command, fill, machine_lines, policy_line, sampling_rows
from policyscope.views.language import Say, speaker
from policyscope.views.offline.ablation import ablation_note, ablation_rows
from policyscope.views.offline.claims import claims, headline, main_baseline, rivals, sight_note
from policyscope.views.offline.critical import critical_table
from policyscope.views.offline.executions import execution_note, execution_table, way_name
from policyscope.views.offline.meant import distances, grippers
from policyscope.views.offline.series import MOST_ROWS, Series, collect
from policyscope.views.offline.words import (
    BASELINE_NAMES,
    SPLIT_NAMES,
    budget_line,
    error_metric,
    rate_of_samples,
    sample_lines,
    scope_titles,
    shape_line,
    subject,
    within_line,
)
from policyscope.views.words import forced_notice, number, unit_name

_ORDER = tuple(BASELINE_NAMES)
_DRAWN = {"summary", "baselines", "skill", "by_horizon", "by_task", "latency", "throughput"}


def write_page(
    directory: RunDirectory,
    record: OfflineRecord,
    rows: Sequence[EpisodeRow],
    chosen: dict[int, str],
    clips: list[Clip],
    language: Language,
) -> Path:
    """Write ``report.html`` into the run directory and return its path.

    Args:
        directory: of the run.
        record: its ``run.json``.
        rows: errors of each episode over whole chunks.
        chosen: episodes whose pictures to play, with their roles.
        clips: the pictures that the run keeps.
        language: of the page.
    """
    say = speaker(language)
    listed = ranked(rows)[-MOST_ROWS:] if len(rows) > MOST_ROWS else rows
    series = collect(directory, record, rows, chosen, clips, say)
    page = fill(
        "report.html.j2",
        ("report.js", "rows.js", "shared.js", "frames.js", "charts.js", "player.js"),
        page_data(record, listed, series, say),
        language,
        record=record,
        headline=headline(record, say),
        subject=subject(record, say),
        within=within_line(record, say),
        notice=forced_notice(record, say),
        shape=shape_line(record, say),
        claims=claims(record, say),
        rivals=rivals(record),
        sight=sight_note(say),
        uses=ablation_rows(record.ablation, say) if record.ablation else (),
        uses_note=ablation_note(record.ablation, say) if record.ablation else "",
        budget=budget_line(record, say),
        samples=sample_lines(record, say),
        rate_of=rate_of_samples(record, say),
        scopes=[(scope, scope_titles(record, say)[scope]) for scope in SCOPES],
        unit=unit_name(error_metric(record)[1], say),
        metric=error_metric(record)[0],
        beside=lambda scope: _beside(record, scope, say),
        main=main_baseline(record),
        dims=record.dims(),
        **_tables(record, say),
        tasks=record.tasks(),
        episodes=listed,
        latency=_latencies(record.latency),
        provenance=provenance(record, say),
        command=command(record),
        left_out=_left_out(series, chosen, len(rows), say),
    )
    name = in_language(PAGE, language)
    directory.write_text(name, page)
    return directory.path / name


def page_data(
    record: OfflineRecord, rows: Sequence[EpisodeRow], series: Series, say: Say
) -> dict[str, Any]:
    """What the page's scripts draw."""
    metric, unit = error_metric(record)
    dims = record.dims()
    views = ["native"]
    views += ["normalized"] if any(not row.excluded for row in dims) else []
    views += ["relative"] if {"hold_state", "zero"} & set(rivals(record)) else []
    plane = record.actions.image_plane
    limbs = {dim: row.group for row in record.by_meaning for dim in row.dims}
    return {
        **record.model_dump(mode="json", include=_DRAWN),
        "policy": record.policy.type,
        "chunk_size": record.policy.chunk,
        "n_action_steps": record.policy.executed,
        "fps": record.dataset.fps,
        "names": record.actions.shown,
        "units": [unit_name(u, say) for u in record.actions.units],
        "one_unit": unit_name(unit, say) if metric == "mae" else None,
        "plane": None if plane is None else plane.to_json(),
        "main": main_baseline(record),
        "baseline_order": sorted(rivals(record), key=_ORDER.index),
        "baseline_names": {name: say(BASELINE_NAMES[name]) for name in record.baselines},
        "scopes": scope_titles(record, say),
        "views": views,
        "executions": _ways(record, say),
        "dims": [
            row.to_json() | {"name": record.actions.shown[row.dim], "group": limbs.get(row.dim, "")}
            for row in dims
        ],
        "by_episode": [row.to_json() for row in rows],
        "device": record.environment.device_name,
        "density": series.density,
        "progress": series.progress,
        "episodes": [episode.to_json() for episode in series.episodes],
    }


def _beside(record: OfflineRecord, scope: Scope, say: Say) -> str:
    """The strongest baseline's error, and how far the policy's is from it; empty for none."""
    name, metric = main_baseline(record), error_metric(record)[0]
    own = record.summary.of(scope).of(metric).value
    other = record.baselines[name].of(scope).of(metric).value
    if not own or not other:
        return ""
    percent = f"{100 * (own / other - 1):+.0f}".replace("-", "−")
    words = {"baseline": say(BASELINE_NAMES[name]), "value": number(other), "percent": percent}
    return say("{baseline} {value}, {percent} %", **words)


def _tables(record: OfflineRecord, say: Say) -> dict[str, Any]:
    """Limb by limb, and way by way: titles and rows."""
    return {
        "ways": execution_table(record, record.executions, say) if record.executions else None,
        "ways_note": execution_note(say),
        "critical": critical_table(record, say),
        "limbs": [
            (title, *table(record, say))
            for title, table in (
                (say("By limb, in its own unit"), distances),
                (say("Grippers, over the executed steps"), grippers),
            )
        ],
    }


def _ways(record: OfflineRecord, say: Say) -> list[dict[str, Any]]:
    """What the curve of ways to execute draws."""
    return [
        {
            "steps": row.n_action_steps,
            "name": way_name(row, say),
            "ensemble": row.ensembling is not None,
            "mae": row.mae.model_dump(),
            "nmae": row.nmae.model_dump(),
            "baselines": dict(row.baselines),
            "seam": row.seam,
            "jerk": row.jerk,
        }
        for row in record.executions
    ]


def _latencies(latency: Latency) -> list[tuple[str, Times]]:
    kinds = (
        ("model call", latency.model_call),
        ("queue pop", latency.queue_pop),
        ("transfer", latency.network),
        ("end to end", latency.end_to_end),
    )
    return [(title, known) for title, known in kinds if known is not None]


def _left_out(series: Series, chosen: dict[int, str], n: int, say: Say) -> list[str]:
    """What the page does not hold, in words."""
    with_pictures = [e.index for e in series.episodes if e.clips]
    lines = []
    if any(e.clips for e in series.episodes):
        lines.append(
            say("Pictures: episodes {episodes}.", episodes=", ".join(map(str, with_pictures)))
        )
    else:
        lines.append(say("No pictures of any episode."))
    lines += [
        say("Episode {episode}: {why}", episode=e.index, why=e.left_out)
        for e in series.episodes
        if e.index in chosen and e.left_out
    ]
    if series.without_actions:
        lines.append(
            say(
                "Actions of {n} episodes are left out to keep the page below 15 MB; they are in "
                "predictions.parquet.",
                n=len(series.without_actions),
            )
        )
    if n > MOST_ROWS:
        lines.append(
            say(
                "Errors of the {most} worst of {n} episodes; all are in by_episode.parquet.",
                most=MOST_ROWS,
                n=n,
            )
        )
    return lines


def provenance(record: OfflineRecord, say: Say) -> list[tuple[str, str]]:
    """Where a run comes from, line by line."""
    policy, data, where = record.policy, record.dataset, record.environment
    normalization = record.actions.normalization
    feeds = ", ".join(f"{k} ← {v}" for k, v in record.inputs.items())
    return [
        policy_line(policy, say),
        (say("weights, sha256"), policy.sha256 or say("none")),
        (
            say("dataset"),
            say(
                "{id} at {root}, metadata {revision}",
                id=data.repo_id,
                root=data.root,
                revision=data.revision,
            ),
        ),
        (say("episodes"), f"{spans(data.episodes)} ({say(SPLIT_NAMES[data.split])})"),
        (say("robot"), str(data.robot_type or say("not recorded"))),
        (
            say("normalization"),
            say(
                "{mode}, {id}, from {source}",
                mode=normalization.mode,
                id=normalization.stats_id,
                source=say(normalization.source),
            ),
        ),
        (say("inputs"), feeds or say("as the policy names them")),
        (
            say("seed and samples"),
            say("{seed}, {k} a frame", seed=where.seed, k=policy.samples),
        ),
        *sampling_rows(policy, say),
        *machine_lines(where, say),
        (
            say("forced"),
            ", ".join(f.code for f in record.errors) if record.forced else say("nothing"),
        ),
    ]
