"""What is made of finished episodes for people and for other tools: videos, recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import numpy as np

from policyscope.checks.inputs import ClosedLoopInputs
from policyscope.data.source import FrameSource
from policyscope.engine.episodes import Planned
from policyscope.engine.progress import Watch
from policyscope.engine.recorder import Recorder
from policyscope.engine.replay import Moment, OpenSink, Replayed, Sink, replay
from policyscope.errors import Finding, UsageError
from policyscope.metrics.nearest import nearest_demonstration
from policyscope.runs.chosen import choose, roles
from policyscope.runs.clips import Clip, GrowingClip, write_clips
from policyscope.runs.directory import VIDEOS, RunDirectory
from policyscope.runs.rollouts import StoredRollout
from policyscope.sim.pool import Pool
from policyscope.views.rollout.video import Video

_MOST_CLIPS = 6  # episodes whose pictures the page's player can show


def show(
    inputs: ClosedLoopInputs,
    pool: Pool,
    directory: RunDirectory,
    record: dict[str, Any],
    episodes: Sequence[Planned],
    stored: Sequence[StoredRollout],
    watch: Watch,
) -> list[Finding]:
    """Make videos, clips and recordings; the record's episodes learn the names of videos.

    Returns:
        Findings where an episode did not come out again as it was, or not at all.
    """
    config = inputs.config
    odd: list[Replayed] = []

    def again(indices: Sequence[int], open_sink: OpenSink) -> None:
        chosen = [(episodes[i], stored[i]) for i in indices]
        for seen in replay(pool, chosen, open_sink, timeout_s=config.env.timeout_s):
            if seen.outcome != "same":
                odd.append(seen)

    rows = record["episodes"]
    shown = choose(rows, config.video)
    if shown:
        watch.stage(f"drawing {len(shown)} videos")
        first = [e for e in roles(rows) if e in shown]
        kept = [*first, *(e for e in shown if e not in first)][:_MOST_CLIPS]
        clips: list[Clip] = []

        def film(planned: Planned, known: StoredRollout) -> Sink:
            name = f"{VIDEOS}/{planned.index:06d}.mp4"
            video = Video(
                directory.path / name,
                known,
                fps=inputs.simulator.fps,
                board=inputs.adapter.board,
                title=f"seed {planned.seed}",
            )
            row = rows[planned.index]
            return _Film(video, name, row, clips if planned.index in kept else None)

        again(shown, film)
        write_clips(directory.path, clips)
    if config.record is not None:
        watch.stage("recording the rollouts")
        root = Path(config.record).expanduser()
        recorder = Recorder(
            root,
            repo_id=f"rollouts/{root.name}",
            eyes=inputs.eyes,
            schema=inputs.robot.actions,
            fps=inputs.simulator.fps,
            robot_type=inputs.adapter.robot_type,
        )
        again([row["episode"] for row in rows if row["steps"]], recorder.episode)
        recorder.finish()
    return _second_time(odd)


@final
class _Film:
    """A video of an episode, and its pictures for the page's player.

    Args:
        video: that is drawn.
        name: of its file, which the record learns when it is whole.
        row: of the episode.
        clips: where the pictures go, or None.
    """

    def __init__(
        self, video: Video, name: str, row: dict[str, Any], clips: list[Clip] | None
    ) -> None:
        self._video, self._name, self._row, self._clips = video, name, row, clips
        self._growing = GrowingClip(row["episode"], "simulator", row["steps"] + 1)

    def add(self, moment: Moment) -> None:
        """See `Sink`."""
        self._video.add(moment)
        if self._clips is not None and moment.picture is not None:
            self._growing.add(moment.picture)

    def close(self, *, whole: bool) -> None:
        """See `Sink`."""
        self._video.close(whole=whole)
        if not whole or not self._video.drawn:
            return
        self._row["video"] = self._name
        clip = self._growing.clip() if self._clips is not None else None
        if clip is not None and self._clips is not None:
            self._clips.append(clip)


def _second_time(odd: Sequence[Replayed]) -> list[Finding]:
    """What to say of episodes that did not come out again."""
    findings = []
    differing = {seen.episode.seed: seen for seen in odd if seen.outcome == "differs"}
    if differing:
        first = next(iter(differing.values()))
        findings.append(
            Finding(
                "not_reproducible",
                "warning",
                "expected the same actions to give the same rewards; found otherwise in "
                f"{len(differing)} replayed episodes (seed {first.episode.seed}: {first.detail}). "
                "Their videos and recordings show the second time.",
                "a simulator that is deterministic for its seed; resumed runs may differ, too",
            )
        )
    lost = {seen.episode.seed: seen for seen in odd if seen.outcome == "lost"}
    if lost:
        first = next(iter(lost.values()))
        findings.append(
            Finding(
                "replay_failed",
                "warning",
                "expected simulators that run episodes once more, to draw and record them; found "
                f"{len(lost)} that failed each time (seed {first.episode.seed}: {first.detail}). "
                "They have no video, and are missing from recordings; their numbers stand.",
                "the same command with --overwrite, or --video none",
            )
        )
    return findings


def nearest_table(source: FrameSource, stored: Sequence[StoredRollout]) -> list[dict[str, Any]]:
    """For each episode, the demonstration whose path of states is nearest.

    Raises:
        UsageError: states of demonstrations and simulator differ in their number of dims.
    """
    paths = {}
    for index in source.loaded:
        state = source.episode(index).state
        if state is not None:
            paths[index] = state.astype(np.float64)
    width = stored[0].states.shape[1]
    if not paths or next(iter(paths.values())).shape[1] != width:
        raise UsageError(
            "--nearest",
            expected=f"demonstrations with a state of {width} dims, as the simulator has",
            found=f"{len(source.facts.robot.state_names)}",
            fix="demonstrations of this robot",
        )
    rows = []
    for episode in stored:
        if len(episode.states) > 1:
            known = nearest_demonstration(episode.states, paths)
            rows.append({"episode": episode.row["episode"], **asdict(known)})
    return rows
