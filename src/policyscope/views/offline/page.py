"""report.html: a run on one page that opens anywhere, offline, drawn from the run alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyscope.config import Language
from policyscope.metrics.scorecard import SCOPES
from policyscope.runs.clips import Clip
from policyscope.runs.directory import PAGE, RunDirectory
from policyscope.views.html import _ranges, command, fill, sampling_rows
from policyscope.views.language import Say, speaker
from policyscope.views.offline.series import Series, collect
from policyscope.views.offline.words import (
    BASELINE_NAMES,
    SPLIT_NAMES,
    error_metric,
    headline,
    main_baseline,
    scope_titles,
    shape_line,
    subject,
)
from policyscope.views.words import forced_notice, unit_name

if TYPE_CHECKING:
    pass

_LATENCIES = (
    ("model call", "model_call"),
    ("queue pop", "queue_pop"),
    ("end to end", "end_to_end"),
)
_ORDER = tuple(BASELINE_NAMES)
_RECORD_KEYS = ("summary", "baselines", "skill", "by_horizon", "by_task", "latency", "throughput")


def write_page(
    directory: RunDirectory,
    record: dict[str, Any],
    chosen: dict[int, str],
    clips: list[Clip],
    language: Language,
) -> Path:
    """Write ``report.html`` into the run directory and return its path.

    Args:
        directory: of the run.
        record: its ``run.json``.
        chosen: episodes whose pictures to play, with their roles.
        clips: the pictures that the run keeps.
        language: of the page.
    """
    say = speaker(language)
    series = collect(directory, record, chosen, clips, say)
    page = fill(
        "report.html.j2",
        ("report.js", "charts.js", "player.js"),
        page_data(record, series, say),
        language,
        record=record,
        headline=headline(record, say),
        subject=subject(record, say),
        notice=forced_notice(record, say),
        shape=shape_line(record, say),
        scopes=[(scope, scope_titles(record, say)[scope]) for scope in SCOPES],
        unit=unit_name(error_metric(record)[1], say),
        metric=error_metric(record)[0],
        main=main_baseline(record),
        dims=[row for row in record["by_dim"] if row["scope"] == "chunk"],
        tasks=[row for row in record["by_task"] if row["scope"] == "chunk"],
        episodes=[row for row in record["by_episode"] if row["scope"] == "chunk"],
        latency=[
            (title, record["latency"][key]) for title, key in _LATENCIES if record["latency"][key]
        ],
        provenance=provenance(record, say),
        command=command(record),
        left_out=_left_out(series, chosen, say),
    )
    directory.write_text(PAGE, page)
    return directory.path / PAGE


def page_data(record: dict[str, Any], series: Series, say: Say) -> dict[str, Any]:
    """What the page's scripts draw."""
    units = record["actions"]["units"]
    metric, unit = error_metric(record)
    dims = [row for row in record["by_dim"] if row["scope"] == "chunk"]
    views = ["native"]
    views += ["normalized"] if any(not row["excluded"] for row in dims) else []
    views += ["relative"] if {"hold_state", "zero"} & record["baselines"].keys() else []
    return {
        **{key: record[key] for key in _RECORD_KEYS},
        "policy": record["policy"]["type"],
        "chunk_size": record["policy"]["chunk_size"],
        "n_action_steps": record["policy"]["n_action_steps"],
        "fps": record["dataset"]["fps"],
        "names": record["actions"]["names"],
        "units": [unit_name(u, say) for u in units],
        "one_unit": unit_name(unit, say) if metric == "mae" else None,
        "plane": record["actions"].get("image_plane"),
        "main": main_baseline(record),
        "baseline_order": sorted(record["baselines"], key=_ORDER.index),
        "baseline_names": {name: say(BASELINE_NAMES[name]) for name in record["baselines"]},
        "scopes": scope_titles(record, say),
        "views": views,
        "dims": dims,
        "by_episode": [row for row in record["by_episode"] if row["scope"] == "chunk"],
        "device": record["environment"].get("device_name"),
        "density": series.density,
        "progress": series.progress,
        "episodes": [episode.to_json() for episode in series.episodes],
    }


def _left_out(series: Series, chosen: dict[int, str], say: Say) -> list[str]:
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
    return lines


def provenance(record: dict[str, Any], say: Say) -> list[tuple[str, str]]:
    """Where a run comes from, line by line."""
    policy, data, where = record["policy"], record["dataset"], record["environment"]
    actions = record["actions"]
    normalization = actions["normalization"]
    versions = ", ".join(f"{k} {v}" for k, v in where["versions"].items() if v)
    forced = [f["code"] for f in record["findings"] if f["severity"] == "error"]
    feeds = ", ".join(f"{k} ← {v}" for k, v in record.get("inputs", {}).items())
    return [
        (
            say("policy"),
            say(
                "{path} ({type}, {n} parameters)",
                path=policy["path"],
                type=policy["type"],
                n=f"{policy['n_parameters'] or 0:,}",
            ),
        ),
        (say("weights, sha256"), policy["sha256"] or say("none")),
        (
            say("dataset"),
            say(
                "{id} at {root}, metadata {revision}",
                id=data["repo_id"],
                root=data.get("root"),
                revision=data.get("revision"),
            ),
        ),
        (say("episodes"), f"{_ranges(data['episodes'])} ({say(SPLIT_NAMES[data['split']])})"),
        (say("robot"), str(data.get("robot_type") or say("not recorded"))),
        (
            say("normalization"),
            say(
                "{mode}, {id}, from {source}",
                mode=normalization["mode"],
                id=normalization["stats_id"],
                source=say(normalization["source"]),
            ),
        ),
        (say("inputs"), feeds or say("as the policy names them")),
        (
            say("seed and samples"),
            say("{seed}, {k} a frame", seed=where["seed"], k=policy.get("samples", 1)),
        ),
        *sampling_rows(policy, say),
        (say("device"), f"{where.get('device_name')}, {where.get('dtype')}"),
        (say("versions"), f"{versions}, Python {where.get('python')}"),
        (
            say("forced"),
            ", ".join(forced) if record["forced"] else say("nothing"),
        ),
    ]
