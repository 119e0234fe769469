"""What a LeRobot dataset says about itself, read from its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from policyscope.actions.robots import Robot, action_units
from policyscope.actions.spaces import ActionSchema
from policyscope.errors import DatasetError, first_line

ACTION = "action"
STATE = "observation.state"


@final
@dataclass(frozen=True)
class DatasetFacts:
    """What a dataset says about itself.

    Attributes:
        robot: what was recorded: rate, cameras, state, actions, statistics and tasks.
        root: where it lies on disk.
        lengths: frames of each episode.
        episode_tasks: first task text of each episode.
    """

    robot: Robot
    root: Path
    lengths: tuple[int, ...]
    episode_tasks: tuple[str, ...]


def require_local(root: Path, repo_id: str) -> None:
    """Raise unless a v3.0 dataset lies there.

    Raises:
        DatasetError: no dataset, or one of an older format (with the command that converts it).
    """
    info = root.expanduser() / "meta" / "info.json"
    if not root.expanduser().is_dir():
        found = "no such directory"
    elif not info.is_file():
        found = "a directory without meta/info.json"
    else:
        try:
            version = str(json.loads(info.read_text(encoding="utf-8")).get("codebase_version"))
        except ValueError as error:
            raise unreadable(str(info), error) from error
        if version.startswith("v3"):
            return
        raise DatasetError(
            f"--dataset.root {root}",
            expected="a LeRobot v3.0 dataset",
            found=f"version {version}",
            fix="convert a copy: python -m lerobot.scripts.convert_dataset_v21_to_v30 "
            f"--repo-id={repo_id} --root={root} --push-to-hub=false",
        )
    raise DatasetError(
        f"--dataset.root {root}",
        expected="the directory of a LeRobot v3.0 dataset (it holds meta/info.json)",
        found=found,
        fix="give the dataset's own directory, or leave --dataset.root out to use cache and hub",
    )


def unreadable(what: str, error: Exception) -> DatasetError:
    """The error for a file of the dataset that can't be read."""
    return DatasetError(
        what,
        expected="files that can be read",
        found=first_line(error),
        fix="download or record the dataset again",
    )


def read_facts(meta: Any, repo_id: str, declared_units: str | None) -> DatasetFacts:
    """Collect the facts from lerobot\'s metadata object."""
    features = {
        key: tuple(int(n) for n in feature["shape"])
        for key, feature in meta.features.items()
        if (key == ACTION or key.startswith("observation.")) and key not in meta.depth_keys
    }
    if ACTION not in features:
        raise DatasetError(
            f"dataset {repo_id}",
            expected="a feature named action",
            found=", ".join(meta.features),
            fix="rename the action column with lerobot's dataset tools",
        )
    names = _names(meta.features[ACTION].get("names"), features[ACTION], ACTION)
    state = features.get(STATE)
    robot = Robot(
        kind="dataset",
        name=repo_id,
        fps=float(meta.fps),
        robot_type=meta.robot_type,
        actions=ActionSchema(
            names,
            action_units(declared_units, names=names, repo_id=repo_id, robot_type=meta.robot_type),
        ),
        state_names=_names(meta.features[STATE].get("names"), state, "state") if state else (),
        features=features,
        cameras={
            key: _channels_first(features[key]) for key in meta.camera_keys if key in features
        },
        stats=meta.stats or {},
        tasks=tuple(str(task) for task in meta.tasks.index) if meta.tasks is not None else (),
    )
    return DatasetFacts(
        robot=robot,
        root=Path(meta.root),
        lengths=tuple(int(n) for n in meta.episodes["length"]),
        episode_tasks=tuple(str((tasks or [""])[0]) for tasks in meta.episodes["tasks"]),
    )


def _channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[2], shape[0], shape[1]) if shape[-1] in (1, 3, 4) else shape


def _names(names: Any, shape: tuple[int, ...], key: str) -> tuple[str, ...]:
    """Flat names from LeRobot's metadata, where they are lists, nested lists, dicts or null."""
    flat: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, Mapping):
            for inner in value.values():
                collect(inner)
        elif isinstance(value, str):
            flat.append(value)
        elif isinstance(value, Sequence):
            for inner in value:
                collect(inner)

    collect(names)
    dims = int(np.prod(shape))
    return tuple(flat) if len(flat) == dims else tuple(f"{key}[{i}]" for i in range(dims))


def dataset_revision(root: Path) -> str:
    """A short hash of the dataset's metadata, so that a run can say which data it saw."""
    digest = hashlib.sha256()
    for name in ("info.json", "stats.json"):
        file = root / "meta" / name
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()[:12]
