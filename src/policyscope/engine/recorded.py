"""Episodes that a robot recorded while a policy ran it: outcome, motion and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import ActionSchema
from policyscope.config import DatasetConfig
from policyscope.data.facts import dataset_revision
from policyscope.data.source import FrameSource
from policyscope.engine.footage import episode_clips, pictures
from policyscope.errors import DatasetError, Finding
from policyscope.metrics.verdict import SuccessRule, judge
from policyscope.runs.chosen import choose, roles
from policyscope.runs.clips import write_clips
from policyscope.runs.directory import RunDirectory
from policyscope.runs.labelled import Labelled
from policyscope.runs.rollouts import RolloutStore, StoredRollout
from policyscope.runs.rows import RolloutRow

SUCCESS, REWARD = "next.success", "next.reward"
MOST_CLIPS = 6  # episodes whose pictures the page's player can show
_MOST_FRAMES = 60  # episodes whose last picture is kept


@final
@dataclass(frozen=True)
class Recording:
    """The episodes of a LeRobot dataset that are imported.

    Attributes:
        source: the dataset.
        name: what to call it.
        episodes: which of its episodes.
    """

    source: FrameSource
    name: str
    episodes: tuple[int, ...]

    @property
    def schema(self) -> ActionSchema:
        """The dims of its actions."""
        return self.source.facts.robot.actions

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.source.facts.robot.fps

    @property
    def robot_type(self) -> str | None:
        """As recorded."""
        return self.source.facts.robot.robot_type

    @property
    def cameras(self) -> Mapping[str, Sequence[int]]:
        """Key → channels, height, width."""
        return self.source.facts.robot.cameras

    @property
    def place(self) -> str:
        """Where it lies, as it can be typed."""
        return self.source.facts.place

    @property
    def revision(self) -> str:
        """A short hash of its metadata."""
        return dataset_revision(self.source.facts.root)

    def said(self, episode: int) -> NDArray[np.int8] | None:
        """[1 + T] what ``next.success`` says at each frame, nothing at first; None without it.

        Raises:
            DatasetError: it is neither true nor false.
        """
        values = self.source.said(episode, SUCCESS)
        if values is None:
            return None
        strange = values[~np.isin(values, (0, 1))]
        if len(strange):
            raise DatasetError(
                f"{SUCCESS} in episode {episode} of {self.name}",
                expected="true or false at each frame",
                found=f"{strange[0]}",
                fix="label it again, or import a CSV file with --dataset.root",
            )
        return np.concatenate([[-1], values]).astype(np.int8)

    def labelled(
        self, episodes: Sequence[Labelled], *, rule: SuccessRule
    ) -> tuple[list[Labelled], list[Finding]]:
        """Labels with the recording's own tasks where they name none, and what contradicts it."""
        known, odd = [], []
        for episode in episodes:
            index = episode.recorded
            assert index is not None, "every row of a table has an episode"
            said = self.said(index)
            if said is not None and judge(said, rule).success != episode.success:
                odd.append(index)
            task = episode.task or self.source.facts.episode_tasks.get(index, "")
            known.append(replace(episode, task=task))
        if not odd:
            return known, []
        message = (
            f"expected the labels that {SUCCESS} has; found others in {len(odd)} of {len(known)} "
            f"episodes (episode {odd[0]} first). Those of the table stand."
        )
        fix = f"look at these episodes, and correct the table or {SUCCESS}"
        return known, [Finding("labels_differ", "warning", message, fix)]

    def store(
        self,
        directory: RunDirectory,
        rows: Sequence[RolloutRow],
        episodes: Sequence[Labelled],
        *,
        rule: SuccessRule,
    ) -> list[StoredRollout]:
        """Write what was recorded into a run directory, and give it back."""
        store = RolloutStore(directory, self.schema, "unknown")
        stored = []
        for row, label in zip(rows, episodes, strict=True):
            rollout = self._rollout(row, label, rule)
            store.add(rollout, self._last_picture(rollout) if row.episode < _MOST_FRAMES else None)
            stored.append(rollout)
        store.merge([row.episode for row in rows])
        return stored

    def _rollout(self, row: RolloutRow, label: Labelled, rule: SuccessRule) -> StoredRollout:
        assert label.recorded is not None, "it is of this recording"
        index = label.recorded
        episode, said = self.source.episode(index), self.said(index)
        rewards = self.source.said(index, REWARD)
        n, dim = episode.length, self.schema.dim
        verdict = None if said is None else judge(said, rule)
        agreed = verdict is not None and verdict.success == label.success
        states = np.zeros((n, 0)) if episode.state is None else episode.state
        known = {} if rewards is None or label.max_reward is not None else _summed(rewards)
        after = np.full((1, states.shape[1]), np.nan)  # nobody saw what the last action led to
        return StoredRollout(
            row=row.model_copy(
                update={
                    "steps": n,
                    "success_step": verdict.step if verdict and agreed else None,
                    **known,
                }
            ),
            states=np.concatenate([states, after]),
            rewards=np.full(n, np.nan) if rewards is None else rewards.astype(np.float64),
            actions=episode.actions.values,
            extras={},
            called_at=np.zeros(0, dtype=np.int64),
            chunks=np.zeros((0, 1, dim)),
            model_s=np.zeros(0),
        )

    def _last_picture(self, rollout: StoredRollout) -> NDArray[np.uint8] | None:
        camera = next(iter(self.cameras), None)
        index = rollout.row.recorded
        if camera is None or index is None:
            return None
        shown = next(pictures(self.source, index, camera, [len(rollout.actions) - 1]))
        return np.repeat(shown, 3, axis=-1) if shown.shape[-1] == 1 else shown

    def show(self, directory: RunDirectory, rows: Sequence[RolloutRow], wanted: str) -> None:
        """Keep the pictures of a few episodes for the page's player."""
        shown = choose(rows, wanted)
        first = [e for e in roles(rows) if e in shown]
        for place in [*first, *(e for e in shown if e not in first)][:MOST_CLIPS]:
            index, n = rows[place].recorded, rows[place].steps
            if index is not None and n:
                clips = episode_clips(self.source, index, n)
                write_clips(directory.path, [replace(clip, episode=place) for clip in clips])


def _summed(rewards: NDArray[Any]) -> dict[str, float]:
    return {"max_reward": float(rewards.max()), "sum_reward": float(rewards.sum())}


def open_recording(config: DatasetConfig, name: str, wanted: Sequence[int] | None) -> Recording:
    """Open the dataset of a recording.

    Args:
        config: where it is, and which episodes of it.
        name: what to call it.
        wanted: the episodes that a table labels; None for those of the config.

    Raises:
        DatasetError: it can't be read, or lacks a labelled episode.
    """
    source = FrameSource(config, repo_id=name)
    lengths = source.facts.lengths
    episodes = tuple(wanted) if wanted is not None else source.facts.choose(config.episodes)
    lacking = [e for e in episodes if e not in lengths]
    if lacking or len(set(episodes)) < len(episodes):
        twice = next((e for e in episodes if episodes.count(e) > 1), None)
        raise DatasetError(
            f"labels of {name}",
            expected=f"each of its {len(lengths)} episodes at most once",
            found=f"episode {lacking[0]}, which it has not" if lacking else f"{twice} twice",
            fix="correct the column episode: it counts the dataset's episodes from 0",
        )
    source.load(episodes)
    return Recording(source, name, episodes)


def labels_of(recording: Recording, *, rule: SuccessRule) -> list[Labelled]:
    """The episodes of a recording with what its own ``next.success`` says.

    Raises:
        DatasetError: it has none.
    """
    tasks = recording.source.facts.episode_tasks
    episodes = []
    for index in recording.episodes:
        said = recording.said(index)
        if said is None:
            raise DatasetError(
                f"dataset {recording.name}",
                expected=f"a feature {SUCCESS}, which says how each episode went",
                found="none",
                fix="write the labels into a CSV file (episode,success,notes): policyscope import "
                "labels.csv --dataset.root DIR",
            )
        label = Labelled(judge(said, rule).success, task=tasks.get(index, ""), recorded=index)
        episodes.append(label)
    return episodes
