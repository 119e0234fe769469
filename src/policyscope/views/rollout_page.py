"""report.html of a closed-loop run: one page that opens anywhere, offline."""

from __future__ import annotations

import base64
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from policyscope.run.directory import PAGE, PICTURE, RunDirectory
from policyscope.views.rollout_words import (
    detectable_line,
    headline,
    motion_line,
    rate,
    subject,
    throughput_line,
    time_line,
)
from policyscope.views.words import forced_notice, number

_MOST_EMBEDDED = 24_000_000  # bytes of video that the page carries; others stay beside it
_STYLE = (
    ".videos { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); "
    "gap: 1rem; } img { max-width: 100%; height: auto; } "
    "figure { margin: 0; } video { width: 100%; background: #000; }"
)


def write_rollout_page(directory: RunDirectory, record: dict[str, Any]) -> Path:
    """Write ``report.html`` beside the picture that it embeds, and return its path."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("policyscope", "views"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = files("policyscope.views").joinpath("web/report.css").read_text(encoding="utf-8")
    page = environment.get_template("rollout.html.j2").render(
        record=record,
        style=Markup(style + _STYLE),  # ours, not a stranger's
        headline=headline(record),
        subject=subject(record),
        notice=forced_notice(record),
        detectable=detectable_line(record),
        time=time_line(record),
        motion=motion_line(record),
        throughput=throughput_line(record),
        picture=base64.b64encode((directory.path / PICTURE).read_bytes()).decode(),
        videos=_videos(directory.path, record),
        provenance=_provenance(record),
        rate=rate,
        number=number,
    )
    directory.write_text(PAGE, page)
    return directory.path / PAGE


def _videos(path: Path, record: dict[str, Any]) -> list[dict[str, str]]:
    shown, left = [], _MOST_EMBEDDED
    for row in record["episodes"]:
        if not row["video"] or not (path / row["video"]).is_file():
            continue
        content = (path / row["video"]).read_bytes()
        left -= len(content)
        src = row["video"]
        if left >= 0:
            src = "data:video/mp4;base64," + base64.b64encode(content).decode()
        how = "success" if row["success"] else "failure"
        title = f"seed {row['seed']}: {how}, max reward {number(row['max_reward'])}"
        shown.append({"src": src, "title": title})
    return shown


def _provenance(record: dict[str, Any]) -> list[tuple[str, str]]:
    policy, env, where = record["policy"], record["env"], record["environment"]
    versions = ", ".join(f"{k} {v}" for k, v in where["versions"].items() if v)
    cameras = ", ".join(f"{k} {v[1]}×{v[2]}" for k, v in env["cameras"].items())
    seen = record["dataset"]["episodes"]
    return [
        ("policy", f"{policy['path']} ({policy['type']}, {policy['n_parameters']:,} parameters)"),
        ("weights, sha256", policy["sha256"] or "none"),
        ("simulator", f"{env['name']} at {env['fps']:g} Hz; cameras {cameras or 'none'}"),
        ("seeds", json.dumps(seen)),
        ("normalization", f"{record['actions']['normalization']['mode']}"),
        ("device", f"{where['device_name']}, {where['dtype']}"),
        ("versions", f"{versions}, Python {where['python']}"),
        ("command", " ".join(where["command_line"])),
    ]
