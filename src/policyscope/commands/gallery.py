"""What is made of finished episodes for people and for other tools: videos, recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import numpy as np

from policyscope.checks.inputs import ClosedLoopInputs
from policyscope.commands.streams import chatter_in
from policyscope.data.source import FrameSource
from policyscope.engine.episodes import Planned
from policyscope.engine.progress import Watch
from policyscope.engine.recorder import Recorder
from policyscope.engine.replay import Moment, OpenSink, Replayed, Sink, replay
from policyscope.errors import Finding, UsageError
from policyscope.metrics.nearest import nearest_demonstration
from policyscope.runs.chosen import choose, roles
from policyscope.runs.clips import SIMULATOR, Clip, GrowingClip, write_clips
from policyscope.runs.directory import LOG, VIDEOS, RunDirectory
from policyscope.runs.rollouts import StoredRollout
from policyscope.runs.rows import NearestRow, RolloutRow
from policyscope.sim.pool import Pool
from policyscope.views.rollout.video import Video

_MOST_CLIPS = 6  # episodes whose pictures the page's player can show


def show(
    inputs: ClosedLoopInputs,
    pool: Pool,
    directory: RunDirectory,
    rows: Sequence[RolloutRow],
    episodes: Sequence[Planned],
    stored: Sequence[StoredRollout],
    watch: Watch,
) -> tuple[list[RolloutRow], list[Finding]]:
    """Make videos, clips and recordings.

    Returns:
        The rows of the episodes, with the names of their videos, and findings where an episode did
        not come out again as it was, or not at all.
    """
    config = inputs.config
    odd: list[Replayed] = []

    def again(indices: Sequence[int], open_sink: OpenSink) -> None:
        chosen = [(episodes[i], stored[i]) for i in indices]
        for seen in replay(pool, chosen, open_sink, timeout_s=config.env.timeout_s):
            if seen.outcome != "same":
                odd.append(seen)

    rows = list(rows)
    shown = choose(rows, config.video)
    if shown:
        watch.stage(f"drawing {len(shown)} video{'s' if len(shown) > 1 else ''}")
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

            def drawn() -> None:
                rows[planned.index] = rows[planned.index].model_copy(update={"video": name})

            growing = None
            if planned.index in kept:
                growing = GrowingClip(planned.index, SIMULATOR, len(known.actions) + 1)
            return _Film(video, drawn, growing, clips)

        again(shown, film)
        write_clips(directory.path, clips)
    if config.record is not None:
        watch.stage("recording the rollouts")
        with chatter_in(directory.path / LOG):
            recorder = _recorder(inputs, Path(config.record).expanduser())
            again([row.episode for row in rows if row.steps], recorder.episode)
            recorder.finish()
    return rows, _second_time(odd)


def _recorder(inputs: ClosedLoopInputs, root: Path) -> Recorder:
    return Recorder(
        root,
        repo_id=f"rollouts/{root.name}",
        eyes=inputs.eyes,
        schema=inputs.robot.actions,
        fps=inputs.simulator.fps,
        robot_type=inputs.adapter.robot_type,
    )


@final
class _Film:
    """A video of an episode, and its pictures for the page's player.

    Args:
        video: that is drawn.
        drawn: told when its file is whole.
        growing: the pictures, or None.
        clips: where they go.
    """

    def __init__(
        self,
        video: Video,
        drawn: Callable[[], None],
        growing: GrowingClip | None,
        clips: list[Clip],
    ) -> None:
        self._video, self._drawn, self._growing, self._clips = video, drawn, growing, clips

    def add(self, moment: Moment) -> None:
        """See `Sink`."""
        self._video.add(moment)
        if self._growing is not None and moment.picture is not None:
            self._growing.add(moment.picture)

    def close(self, *, whole: bool) -> None:
        """See `Sink`."""
        self._video.close(whole=whole)
        if not whole or not self._video.drawn:
            return
        self._drawn()
        clip = self._growing.clip() if self._growing is not None else None
        if clip is not None:
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


def nearest_table(source: FrameSource, stored: Sequence[StoredRollout]) -> list[NearestRow]:
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
            rows.append(
                NearestRow(
                    episode=episode.row.episode,
                    demonstration=known.demonstration,
                    dtw=known.dtw,
                    frechet=known.frechet,
                )
            )
    return rows
