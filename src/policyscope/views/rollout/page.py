"""report.html of a closed-loop run: one page that opens anywhere, offline."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from policyscope.config import Language
from policyscope.runs.clips import Clip
from policyscope.runs.content import RolloutRecord
from policyscope.runs.directory import PAGE, RunDirectory, in_language
from policyscope.runs.parts import spans
from policyscope.runs.rollouts import StoredRollout
from policyscope.runs.rows import RolloutRow
from policyscope.views.html import command, fill, machine_lines, policy_line, sampling_rows
from policyscope.views.language import Say, speaker
from policyscope.views.rollout.player import played_rollouts
from policyscope.views.rollout.series import page_data
from policyscope.views.rollout.words import (
    called,
    detectable_line,
    ended_by,
    headline,
    motion_line,
    outcome,
    rate,
    subject,
    throughput_line,
    time_line,
)
from policyscope.views.words import forced_notice, interval, number, unit_name

_MOST_EMBEDDED = 24_000_000  # bytes of video that the page carries; others stay beside it


def write_rollout_page(
    directory: RunDirectory,
    record: RolloutRecord,
    episodes: Sequence[StoredRollout],
    clips: Sequence[Clip],
    language: Language,
) -> Path:
    """Write ``report.html`` into the run directory and return its path.

    Args:
        directory: of the run.
        record: its ``run.json``.
        episodes: of the run, in order.
        clips: the pictures that the run keeps.
        language: of the page.
    """
    say = speaker(language)
    played = played_rollouts(episodes, clips, say, many_tasks=len(record.by_task) > 1)
    board = record.env.board
    rows = [known.row for known in episodes]
    page = fill(
        "rollout.html.j2",
        ("report.js", "rows.js", "shared.js", "rollout.js", "player.js"),
        {
            **page_data(record, episodes, say),
            "fps": record.env.fps,
            "names": record.actions.shown,
            "units": [unit_name(unit, say) for unit in record.actions.units],
            "plane": {"x": 0, "y": 1, "width": board[0], "height": board[1]} if board else None,
            "n_action_steps": record.policy.n_action_steps,
            "dims": [],
            "episodes": [episode.to_json() for episode in played],
        },
        language,
        record=record,
        rows=rows,
        headline=headline(record, say),
        subject=subject(record, say),
        notice=forced_notice(record, say),
        cards=_cards(record, say),
        detectable=detectable_line(record, say),
        time=time_line(record, say),
        motion=motion_line(record, say),
        throughput=throughput_line(record, say),
        board=board is not None,
        drawn=any(np.isfinite(e.rewards).any() or e.states.size for e in episodes),
        trained=any(row.trained_std for row in record.executed_actions),
        latency=_timed(record),
        ended_by=ended_by,
        played=played,
        videos=_videos(directory.path, rows, say),
        provenance=_provenance(record, say),
        command=command(record),
        rate=rate,
        called=called,
        noted=any(row.note for row in rows),
    )
    name = in_language(PAGE, language)
    directory.write_text(name, page)
    return directory.path / name


def _cards(record: RolloutRecord, say: Say) -> list[tuple[str, str, str]]:
    """Title, number and interval of each card."""
    loop, success = record.closed_loop, record.success
    cards = []
    if success.n:
        ends = rate(success, say).partition("[")[2]
        cards.append((say("success"), f"{success.k}/{success.n}", f"[{ends} %" if ends else ""))
    for title, known in (
        (say("max reward"), loop.max_reward),
        (say("max coverage"), loop.max_coverage),
        (say("return"), loop.sum_reward),
    ):
        if known.value is not None:
            cards.append((title, number(known.value), interval(known).partition(" ")[2]))
    if loop.time_to_success.median_s is not None:
        seconds = say("{n} s", n=number(loop.time_to_success.median_s))
        cards.append((say("median time to success"), seconds, ""))
    return cards


def _timed(record: RolloutRecord) -> bool:
    latency = record.latency
    return latency is not None and any((latency.model_call, latency.end_to_end, latency.queue_pop))


def _videos(path: Path, rows: Sequence[RolloutRow], say: Say) -> list[dict[str, str]]:
    shown, left = [], _MOST_EMBEDDED
    for row in rows:
        if not row.video or not (path / row.video).is_file():
            continue
        content = (path / row.video).read_bytes()
        left -= len(content)
        src = row.video
        if left >= 0:
            src = "data:video/mp4;base64," + base64.b64encode(content).decode()
        title = say(
            "{name}: {how}, max reward {reward}",
            name=called(row, say),
            how=say(outcome(row)),
            reward=number(row.max_reward),
        )
        shown.append({"src": src, "title": title})
    return shown


def _origin(record: RolloutRecord, say: Say) -> list[tuple[str, str]]:
    """Which episodes they are, and of an imported run, where it comes from."""
    made = record.imported
    if made is None:
        return [(say("seeds"), spans(record.dataset.episodes))]
    unknown = ", ".join(say(what) for what in made.unknown)
    return [
        (say("imported from"), f"{made.source} (sha256 {made.sha256})"),
        (say("not known"), unknown or say("none")),
    ]


def _provenance(record: RolloutRecord, say: Say) -> list[tuple[str, str]]:
    policy, env = record.policy, record.env
    cameras = ", ".join(f"{k} {shape[1]}×{shape[2]}" for k, shape in env.cameras.items())
    return [
        policy_line(policy, say)
        if policy.n_parameters is not None
        else (say("policy"), policy.path),
        (say("weights, sha256"), policy.sha256 or say("none")),
        (
            say("environment" if record.imported else "simulator"),
            say(
                "{name} at {fps} Hz; cameras {cameras}",
                name=env.name,
                fps=f"{env.fps:g}",
                cameras=cameras or say("none"),
            )
            if env.fps_known or not record.imported
            else env.name,
        ),
        *_origin(record, say),
        (say("normalization"), record.actions.normalization.mode),
        *sampling_rows(policy, say),
        *machine_lines(record.environment, say),
    ]
