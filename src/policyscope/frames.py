"""Demonstrations: a LeRobot dataset as facts, episodes and batches of observations.

`FrameSource` is the only place that touches lerobot's dataset classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from policyscope.config import DatasetConfig
from policyscope.errors import DatasetError, NonFiniteError
from policyscope.facts import (
    ACTION,
    STATE,
    DatasetFacts,
    read_facts,
    require_local,
    unreadable,
)
from policyscope.hub import first_line
from policyscope.spaces import FloatArray, NativeActions

if TYPE_CHECKING:
    import torch

_TOLERANCE_S = 1e-4  # lerobot's default


@final
@dataclass(frozen=True, eq=False)
class Episode:
    """One demonstration, without its pictures.

    Attributes:
        index: episode index in the dataset.
        actions: [T, A] demonstrated actions.
        columns: observation key → [T, …] float32 arrays.
        timestamps: [T] seconds.
        tasks: one text a frame.
    """

    index: int
    actions: NativeActions
    columns: Mapping[str, NDArray[np.float32]]
    timestamps: FloatArray
    tasks: tuple[str, ...]

    @property
    def length(self) -> int:
        """Number of frames (T)."""
        return len(self.tasks)

    @property
    def state(self) -> NDArray[np.float32] | None:
        """[T, S] robot state, or None."""
        return self.columns.get(STATE)

    def chunks(self, horizon: int) -> tuple[NativeActions, NDArray[np.bool_]]:
        """The demonstrated chunk of every frame.

        Returns:
            [T, H, A] actions, the last one repeated past the episode's end, and [T, H]
            ``action_is_pad``, true past the end (as `LeRobotDataset` pads).
        """
        steps = np.arange(self.length)[:, None] + np.arange(horizon)[None, :]
        values = self.actions.values[np.minimum(steps, self.length - 1)]
        return NativeActions(values, self.actions.units), steps >= self.length


@final
@dataclass(frozen=True, eq=False)
class FrameBatch:
    """Observations of B predictions, which may come from several episodes.

    Attributes:
        episode_index: [B].
        frame_index: [B].
        sample: [B] which of the K predictions of the frame.
        task: B texts.
        observations: one dict an observation step, oldest first; dataset key → [B, …] float32
            tensor; pictures [B, C, H, W] in [0, 1].
    """

    episode_index: NDArray[np.int64]
    frame_index: NDArray[np.int64]
    sample: NDArray[np.int64]
    task: tuple[str, ...]
    observations: tuple[Mapping[str, torch.Tensor], ...]

    def __len__(self) -> int:
        return len(self.task)

    def row(self, i: int) -> FrameBatch:
        """The i-th prediction alone, as a batch of one."""
        return FrameBatch(
            self.episode_index[i : i + 1],
            self.frame_index[i : i + 1],
            self.sample[i : i + 1],
            self.task[i : i + 1],
            tuple({k: v[i : i + 1] for k, v in step.items()} for step in self.observations),
        )


Row = tuple[int, int, int]
"""episode_index, frame_index, sample"""


@final
class FrameSource:
    """A LeRobot dataset, opened for reading.

    Attributes:
        facts: what it says about itself.

    Raises:
        DatasetError: not a v3.0 LeRobot dataset, or one of its files is missing or broken.
    """

    facts: DatasetFacts

    def __init__(self, config: DatasetConfig, *, repo_id: str) -> None:
        if config.root is not None:
            require_local(Path(config.root), repo_id)
        from lerobot.datasets import LeRobotDatasetMetadata

        root = Path(config.root).expanduser() if config.root else None
        try:
            self._meta = LeRobotDatasetMetadata(repo_id, root=root, revision=config.revision)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise unreadable(f"metadata of {repo_id}", error) from error
        except Exception as error:  # the hub client raises a family of its own
            raise DatasetError(
                f"--dataset.repo_id {repo_id}",
                expected="a local dataset, a cached one, or one on a reachable hub",
                found=f"none of them ({first_line(error)})",
                fix="give --dataset.root DIR, or check the spelling and the network",
            ) from error
        if self._meta.total_episodes == 0 or self._meta.total_frames == 0:
            raise DatasetError(
                f"dataset {repo_id}",
                expected="at least one episode",
                found="none",
                fix="record or download demonstrations first",
            )
        self._revision = config.revision
        self._episodes: dict[int, Episode] = {}
        self._dataset: Any = None
        self._row_of: dict[int, int] = {}
        self.facts = read_facts(self._meta, repo_id, config.action_units)

    def load(self, episodes: Sequence[int]) -> None:
        """Read the tabular data of the chosen episodes and check it.

        Raises:
            DatasetError: a file is missing or broken.
            NonFiniteError: NaN or inf in actions or states.
        """
        for episode in episodes:
            self._require_files(episode)
        from lerobot.datasets import LeRobotDataset

        try:
            self._dataset = LeRobotDataset(
                self.facts.repo_id,
                root=self._meta.root,
                episodes=list(episodes),
                revision=self._revision,
                video_backend=_video_backend(),
            )
        except Exception as error:
            raise unreadable(f"data of {self.facts.repo_id}", error) from error
        table = self._dataset.hf_dataset.with_format("arrow")[:]
        index = table.column("episode_index").to_numpy()
        for episode in episodes:
            rows = np.flatnonzero(index == episode)
            if len(rows) != self.facts.lengths[episode]:
                raise DatasetError(
                    f"episode {episode} of {self.facts.repo_id}",
                    expected=f"{self.facts.lengths[episode]} frames, as its metadata says",
                    found=f"{len(rows)}",
                    fix="download or record the dataset again",
                )
            self._row_of[episode] = int(rows[0])
            self._episodes[episode] = self._read(table.slice(int(rows[0]), len(rows)), episode)

    def episode(self, index: int) -> Episode:
        """A loaded episode."""
        return self._episodes[index]

    def batches(
        self,
        rows: Sequence[Row],
        *,
        batch_size: int,
        keys: frozenset[str],
        steps: tuple[int, ...] = (0,),
    ) -> Iterator[FrameBatch]:
        """Observations of the given rows, in their order.

        Args:
            rows: which predictions to make.
            batch_size: rows a batch.
            keys: dataset keys that the policy reads; others are not decoded.
            steps: observation steps relative to the frame, oldest first, for example (-1, 0);
                steps before the episode repeat its first frame.

        Raises:
            DatasetError: a picture can't be decoded.
        """
        for start in range(0, len(rows), batch_size):
            yield self.batch(rows[start : start + batch_size], keys=keys, steps=steps)

    def batch(
        self, rows: Sequence[Row], *, keys: frozenset[str], steps: tuple[int, ...] = (0,)
    ) -> FrameBatch:
        """Observations of the given rows as one batch (arguments as in `batches`)."""
        import torch

        episode_index, frame_index, sample = np.asarray(rows, dtype=np.int64).T
        observations: list[dict[str, torch.Tensor]] = [{} for _ in steps]
        for key in sorted(keys):
            parts: list[list[torch.Tensor]] = [[] for _ in steps]
            for episode in dict.fromkeys(episode_index.tolist()):  # first seen, first read
                frames = frame_index[episode_index == episode]
                wanted = np.maximum(frames[None, :] + np.asarray(steps)[:, None], 0)
                unique, place = np.unique(wanted, return_inverse=True)
                values = self._values(key, int(episode), unique)
                for part, at in zip(parts, place.reshape(wanted.shape), strict=True):
                    part.append(values[torch.from_numpy(at)])
            for observation, part in zip(observations, parts, strict=True):
                observation[key] = torch.cat(part)
        return FrameBatch(
            episode_index,
            frame_index,
            sample,
            tuple(self._episodes[int(e)].tasks[int(f)] for e, f, _ in rows),
            tuple(observations),
        )

    def _values(self, key: str, episode: int, frames: NDArray[np.int64]) -> torch.Tensor:
        import torch

        if key not in self.facts.cameras:
            return torch.from_numpy(self._episodes[episode].columns[key][frames])
        try:
            if key in self._meta.video_keys:
                return self._decode(key, episode, frames)
            rows = (frames + self._row_of[episode]).tolist()
            return torch.stack(list(self._dataset.hf_dataset[rows][key]))
        except Exception as error:
            raise unreadable(
                f"frames {frames[0]}-{frames[-1]} of {key}, episode {episode}", error
            ) from error

    def _decode(self, key: str, episode: int, frames: NDArray[np.int64]) -> torch.Tensor:
        from lerobot.datasets.video_utils import decode_video_frames

        start = float(self._meta.episodes[episode][f"videos/{key}/from_timestamp"])
        seconds = [start + float(t) for t in self._episodes[episode].timestamps[frames]]
        path = self._meta.root / self._meta.get_video_file_path(episode, key)
        decoded: torch.Tensor = decode_video_frames(path, seconds, _TOLERANCE_S, _video_backend())
        return decoded

    def _require_files(self, episode: int) -> None:
        files = [self._meta.get_data_file_path(episode)]
        files += [self._meta.get_video_file_path(episode, key) for key in self._meta.video_keys]
        for file in files:
            if not (self._meta.root / file).is_file():
                raise DatasetError(
                    f"episode {episode} of {self.facts.repo_id}",
                    expected=f"the file {file} in {self._meta.root}",
                    found="no such file",
                    fix="download the dataset again, or choose other --dataset.episodes",
                )

    def _read(self, table: pa.Table, episode: int) -> Episode:
        columns = {
            key: _matrix(table.column(key), shape, key, episode)
            for key, shape in self.facts.features.items()
            if key not in self.facts.cameras
        }
        actions = columns.pop(ACTION)
        _require_finite(actions, ACTION, episode, self.facts.actions.names)
        if STATE in columns:
            _require_finite(columns[STATE], STATE, episode, self.facts.state_names)
        texts = dict(zip(self._meta.tasks["task_index"], self._meta.tasks.index, strict=True))
        task_index = table.column("task_index").to_numpy()
        return Episode(
            episode,
            NativeActions(actions.astype(np.float64), self.facts.actions.units),
            columns,
            table.column("timestamp").to_numpy().astype(np.float64).reshape(-1),
            tuple(str(texts[int(i)]) for i in task_index.reshape(-1)),
        )


def _video_backend() -> str:
    """torchcodec where it loads, else PyAV: lerobot's own choice, without its long warning."""
    import logging

    from lerobot.datasets.video_utils import get_safe_default_video_backend

    logging.disable(logging.WARNING)
    try:
        return str(get_safe_default_video_backend())
    finally:
        logging.disable(logging.NOTSET)


def _matrix(
    column: pa.ChunkedArray, shape: tuple[int, ...], key: str, episode: int
) -> NDArray[np.float32]:
    flat: pa.Array = column.combine_chunks()
    while pa.types.is_list(flat.type) or pa.types.is_fixed_size_list(flat.type):
        flat = flat.flatten()
    values = np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float32)
    if values.size != len(column) * int(np.prod(shape)):
        raise DatasetError(
            f"{key} in episode {episode}",
            expected=f"{shape} values a frame, as the metadata says",
            found=f"{values.size} values in {len(column)} frames",
            fix="record or convert the dataset again",
        )
    return values.reshape(len(column), *shape)


def _require_finite(
    values: NDArray[np.float32], key: str, episode: int, names: tuple[str, ...]
) -> None:
    bad = np.argwhere(~np.isfinite(values.reshape(len(values), -1)))
    if len(bad):
        frame, dim = (int(i) for i in bad[0])
        raise NonFiniteError(
            f"{key} in the dataset",
            expected="finite numbers",
            found=f"{values.reshape(len(values), -1)[frame, dim]} in episode {episode}, frame "
            f"{frame}, dim {dim} ({names[dim]}), and {len(bad) - 1} more in this episode",
            fix=f"repair the recording, or leave episode {episode} out with --dataset.episodes",
        )
