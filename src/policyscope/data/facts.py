"""What a LeRobot dataset says about itself, read from its metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np

from policyscope.actions.robots import Robot, action_schema
from policyscope.actions.spaces import FloatArray
from policyscope.config import DatasetConfig
from policyscope.config.parsing import parse_episodes
from policyscope.data.files import Folder
from policyscope.data.index import EpisodeIndex, read_tasks
from policyscope.data.info import (
    ACTION,
    INFO,
    STATE,
    STATS,
    Feature,
    Info,
    Stats,
    flat_names,
    left_out,
    read_features,
    read_info,
    read_stats,
)
from policyscope.errors import DatasetError

__all__ = ["ACTION", "STATE", "Counts", "DatasetFacts", "dataset_revision", "read_facts"]


@final
@dataclass(frozen=True)
class Counts:
    """What ``meta/info.json`` counts; None where it does not say.

    Attributes:
        episodes: how many there should be.
        frames: of all of them.
        tasks: how many texts.
    """

    episodes: int | None = None
    frames: int | None = None
    tasks: int | None = None


@final
@dataclass(frozen=True)
class DatasetFacts:
    """What a dataset says about itself.

    Attributes:
        robot: what was recorded: rate, cameras, state, actions, statistics and tasks.
        root: where its metadata lie on disk.
        place: where it lies, as it can be typed: the same, or an address.
        features: LeRobot feature key → what it declares; the action and the observations.
        broken_stats: dotted names of statistics that are no finite numbers; nobody gets these.
        task_texts: ``task_index`` → text.
        lengths: episode index → its frames; only the episodes that the index describes.
        episode_tasks: episode index → its first task text; without those that nobody tells.
        declared: what it counts.
        spans: episode index → frames by the index of all frames.
        spare_rows: rows of the data files that are no episode's.
        left_out: observations that nobody here reads, with what they are: depth maps, texts.
    """

    robot: Robot
    root: Path
    place: str
    features: Mapping[str, Feature]
    broken_stats: tuple[str, ...]
    task_texts: Mapping[int, str]
    lengths: Mapping[int, int]
    episode_tasks: Mapping[int, str]
    declared: Counts
    spans: Mapping[int, int]
    spare_rows: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether the index describes every episode that there should be."""
        n = len(self.lengths) if self.declared.episodes is None else self.declared.episodes
        return list(self.lengths) == list(range(n))

    def choose(self, text: str | None) -> tuple[int, ...]:
        """The episodes that ``--dataset.episodes`` names; all of them where it names none.

        Raises:
            UsageError: not a list of slices and numbers, or one of them is not there.
        """
        if text is None:
            return tuple(self.lengths)
        return parse_episodes(text, max(self.lengths) + 1, known=self.lengths)


def read_facts(folder: Folder, config: DatasetConfig) -> tuple[DatasetFacts, Info, EpisodeIndex]:
    """Read a dataset's metadata.

    Args:
        folder: where it lies.
        config: ``--dataset.actions`` and ``--dataset.action_units``.

    Raises:
        DatasetError: of another format, incomplete, or a file says what can't be.
        UsageError: an action schema or units that are not this action's.
    """
    info = read_info(folder)
    features = read_features(info, folder.name)
    task_texts = read_tasks(folder, info)
    index = EpisodeIndex(folder, info)
    if not any(index.lengths.values()):
        raise DatasetError(
            f"dataset {folder.name}",
            expected="at least one episode",
            found="none",
            fix="record or download demonstrations first",
        )
    stats, broken = read_stats(folder)
    action, state = features[ACTION], features.get(STATE)
    actions = action_schema(
        names=flat_names(action.names, action.dims, ACTION),
        repo_id=folder.name,
        robot_type=info.robot_type,
        bounds=_bounds(stats, action.dims),
        units=config.action_units,
        meanings=config.actions,
    )
    robot = Robot(
        kind="dataset",
        name=folder.name,
        fps=info.fps,
        robot_type=info.robot_type,
        actions=actions,
        state_names=flat_names(state.names, state.dims, "state") if state else (),
        features={key: feature.shape for key, feature in features.items()},
        cameras={key: feature.picture for key, feature in features.items() if feature.is_camera},
        stats=stats,
        tasks=tuple(task_texts[i] for i in sorted(task_texts)),
    )
    facts = DatasetFacts(
        robot=robot,
        root=folder.root,
        place=folder.place,
        features=features,
        broken_stats=broken,
        task_texts=task_texts,
        lengths=index.lengths,
        episode_tasks=index.tasks or {},
        declared=Counts(info.total_episodes, info.total_frames, info.total_tasks),
        spans=index.spans,
        left_out=left_out(info, features),
    )
    return facts, info, index


def _bounds(stats: Stats, n_dims: int) -> tuple[FloatArray, FloatArray] | None:
    """The smallest and the largest action, as the statistics have them."""
    table = stats.get(ACTION, {})
    ends = [np.asarray(table.get(name, ()), dtype=np.float64).reshape(-1) for name in _ENDS]
    return (ends[0], ends[1]) if all(end.size == n_dims for end in ends) else None


_ENDS = ("min", "max")


def dataset_revision(root: Path) -> str:
    """A short hash of the dataset's metadata, so that a run can say which data it saw."""
    digest = hashlib.sha256()
    for name in (INFO, STATS):
        file = root / name
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()[:12]
