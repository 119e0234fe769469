"""What is made of finished episodes for people and for other tools: videos, recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from policyscope.checks.inputs import ClosedLoopInputs
from policyscope.data.source import FrameSource
from policyscope.engine.episodes import Planned
from policyscope.engine.progress import Watch
from policyscope.engine.recorder import Recorder
from policyscope.engine.replay import Moment, Sink, replay
from policyscope.errors import Finding, UsageError
from policyscope.metrics.nearest import nearest_demonstration
from policyscope.runs.chosen import choose, roles
from policyscope.runs.clips import Clip, GrowingClip, write_clips
from policyscope.runs.directory import VIDEOS, RunDirectory
from policyscope.runs.rollouts import StoredRollout
from policyscope.runs.rows import NearestRow, RolloutRow
from policyscope.sim.pool import Pool
from policyscope.views.rollout.video import Video, sink_for

_MOST_CLIPS = 6  # episodes whose pictures the page's player can show


def show(
    inputs: ClosedLoopInputs,
    pool: Pool,
    directory: RunDirectory,
    episodes: Sequence[Planned],
    stored: Sequence[StoredRollout],
    watch: Watch,
) -> tuple[list[RolloutRow], list[Finding]]:
    """Make videos, clips and recordings.

    Returns:
        The rows of the episodes, with the names of their videos, and a finding where an episode
        did not come out again as it was.
    """
    config = inputs.config
    wrong: list[tuple[int, str]] = []

    def again(
        indices: Sequence[int],
        sink: Callable[[Planned, StoredRollout], tuple[Sink, Callable[[], None]]],
    ) -> None:
        chosen = [(episodes[i], stored[i]) for i in indices]
        for planned, problem in replay(pool, chosen, sink, timeout_s=config.env.timeout_s):
            if problem:
                wrong.append((planned.seed, problem))

    rows = [known.row for known in stored]
    shown = choose(rows, config.video)
    if shown:
        watch.stage(f"drawing {len(shown)} videos")
        first = [e for e in roles(rows) if e in shown]
        kept = [*first, *(e for e in shown if e not in first)][:_MOST_CLIPS]
        clips: list[Clip] = []

        def video(planned: Planned, known: StoredRollout) -> tuple[Sink, Callable[[], None]]:
            name = f"{VIDEOS}/{planned.index:06d}.mp4"
            rows[planned.index] = rows[planned.index].model_copy(update={"video": name})
            film = Video(
                directory.path / name,
                known,
                fps=inputs.simulator.fps,
                board=inputs.adapter.board,
                title=f"seed {planned.seed}",
            )
            if planned.index not in kept:
                return sink_for(film)
            growing = GrowingClip(planned.index, "simulator", len(known.actions) + 1)

            def add(moment: Moment) -> None:
                film.add(moment)
                growing.add(moment.picture)

            def close() -> None:
                film.close()
                clip = growing.clip()
                clips.extend([] if clip is None else [clip])

            return add, close

        again(shown, video)
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
        again([row.episode for row in rows if row.steps], recorder.episode)
        recorder.finish()
    return rows, _again_otherwise(wrong)


def _again_otherwise(wrong: Sequence[tuple[int, str]]) -> list[Finding]:
    if not wrong:
        return []
    seed, problem = wrong[0]
    return [
        Finding(
            "not_reproducible",
            "warning",
            "expected the same actions to give the same rewards; found otherwise in "
            f"{len(wrong)} replayed episodes (seed {seed}: {problem}). Their videos and recordings "
            "show the second time.",
            "a simulator that is deterministic for its seed; resumed runs may differ, too",
        )
    ]


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
