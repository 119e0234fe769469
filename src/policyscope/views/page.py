"""report.html: the run on one page that opens anywhere, offline, drawn from the record alone."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from policyscope.metrics.scorecard import SCOPES
from policyscope.run.directory import PAGE, PICTURE, RunDirectory
from policyscope.views.words import (
    BASELINE_NAMES,
    CAVEAT,
    error_metric,
    forced_notice,
    headline,
    interval,
    main_baseline,
    number,
    ratio,
    scope_titles,
    shape_line,
    subject,
    unit_name,
)


def write_page(directory: RunDirectory, record: dict[str, Any]) -> Path:
    """Write ``report.html`` beside the picture that it embeds, and return its path."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("policyscope", "views"),
        autoescape=True,  # names, tasks and paths come from strangers
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    picture = (directory.path / PICTURE).read_bytes()
    metric, unit = error_metric(record)
    page = environment.get_template("report.html.j2").render(
        record=record,
        headline=headline(record),
        subject=subject(record),
        notice=forced_notice(record),
        caveat=CAVEAT,
        picture=base64.b64encode(picture).decode(),
        unit=unit,
        shape=shape_line(record),
        scopes=[(scope, scope_titles(record)[scope]) for scope in SCOPES],
        metric=metric,
        baselines=BASELINE_NAMES,
        main=main_baseline(record),
        dims=[row for row in record["by_dim"] if row["scope"] == "chunk"],
        episodes=[row for row in record["by_episode"] if row["scope"] == "chunk"],
        latency=[
            (title, record["latency"][key])
            for title, key in (
                ("model call", "model_call"),
                ("queue pop", "queue_pop"),
                ("end to end", "end_to_end"),
            )
            if record["latency"][key]
        ],
        provenance=_provenance(record),
        interval=interval,
        number=number,
        ratio=ratio,
        unit_name=unit_name,
    )
    directory.write_text(PAGE, page)
    return directory.path / PAGE


def _provenance(record: dict[str, Any]) -> list[tuple[str, str]]:
    policy, data, where = record["policy"], record["dataset"], record["environment"]
    normalization = record["actions"]["normalization"]
    versions = ", ".join(f"{k} {v}" for k, v in where["versions"].items() if v)
    return [
        ("policy", f"{policy['path']} ({policy['type']}, {policy['n_parameters']:,} parameters)"),
        ("weights, sha256", policy["sha256"] or "none"),
        ("dataset", f"{data['repo_id']} at {data['root']}, metadata {data['revision']}"),
        ("episodes", json.dumps(data["episodes"])),
        (
            "normalization",
            f"{normalization['mode']}, {normalization['stats_id']}, from {normalization['source']}",
        ),
        ("seed and samples", f"{where['seed']}, {policy['samples']} a frame"),
        ("device", f"{where['device_name']}, {where['dtype']}"),
        ("versions", f"{versions}, Python {where['python']}"),
        ("command", " ".join(where["command_line"])),
    ]
