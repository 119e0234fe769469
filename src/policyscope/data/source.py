"""Demonstrations: a LeRobot dataset as facts, episodes and batches of observations.

`FrameSource` is the only place that touches lerobot's dataset classes. Episodes are read in order:
columns from Parquet a file at a time, videos forwards, in a thread ahead of whoever asks.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from policyscope.actions.spaces import NativeActions
from policyscope.config import DatasetConfig
from policyscope.data.ahead import ahead, in_turn
from policyscope.data.decoders import (
    Decoder,
    Picture,
    PyavDecoder,
    StoredPictures,
    TorchcodecDecoder,
    short_groups,
)
from policyscope.data.facts import (
    ACTION,
    STATE,
    DatasetFacts,
    read_facts,
    require_local,
    unreadable,
)
from policyscope.data.frames import Episode, FrameBatch, Row
from policyscope.data.pictures import Buffers
from policyscope.errors import DatasetError, NonFiniteError, first_line

if TYPE_CHECKING:
    pass

_EPISODES = 64  # kept at hand
_SMALL = 256 * 256  # pixels: below, one thread decodes faster than a model asks
_MOST_LANES = 4


@final
@dataclass(frozen=True)
class _Lane:
    """One of the threads that read batches in turn; -1 is whoever asks for a single batch."""

    index: int
    count: int


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
        self._config = config
        self._texts: dict[int, str] = {
            int(i): str(text)
            for i, text in zip(self._meta.tasks["task_index"], self._meta.tasks.index, strict=True)
        }
        self._file: tuple[Path | None, pa.Table | None] = (None, None)
        self._episodes: OrderedDict[int, Episode] = OrderedDict()
        self._one_at_a_time = threading.RLock()
        self._decoders: dict[tuple[str, int], tuple[Path, Decoder]] = {}
        self._clips: dict[tuple[str, int], tuple[Path, float]] = {}
        self._stored: dict[tuple[str, int], tuple[Path, StoredPictures]] = {}
        self._buffers: dict[tuple[bool, int], Buffers] = {}
        self.facts = read_facts(self._meta, repo_id, config.action_units)

    def load(self, episodes: Sequence[int]) -> None:
        """Check the files and the columns of the chosen episodes.

        Raises:
            DatasetError: a file is missing or broken.
            NonFiniteError: NaN or inf in actions or states.
        """
        missing = [file for file in self._files(episodes) if not (self._meta.root / file).is_file()]
        if missing and self._config.root is None:
            self._download(episodes)
        elif missing:
            raise DatasetError(
                f"dataset {self.facts.robot.name}",
                expected=f"the file {missing[0]} in {self._meta.root}",
                found="no such file",
                fix="download the dataset again, or choose other --dataset.episodes",
            )
        for episode in episodes:
            self.episode(episode)

    @property
    def loaded(self) -> tuple[int, ...]:
        """Indices of the loaded episodes."""
        return tuple(self._episodes)

    def episode(self, index: int) -> Episode:
        """One demonstration (the latest ones stay at hand).

        Raises:
            DatasetError: its file is broken.
            NonFiniteError: NaN or inf in its actions or states.
        """
        with self._one_at_a_time:
            if index not in self._episodes:
                self._episodes[index] = self._read(index)
                if len(self._episodes) > _EPISODES:
                    self._episodes.popitem(last=False)
            self._episodes.move_to_end(index)
            return self._episodes[index]

    def batches(
        self,
        rows: Sequence[Row],
        *,
        batch_size: int,
        keys: frozenset[str],
        steps: tuple[int, ...] = (0,),
        pinned: bool = False,
        stage: Callable[[FrameBatch], FrameBatch] | None = None,
    ) -> Iterator[FrameBatch]:
        """Observations of the given rows, in their order, read in a thread ahead of the caller.

        Args:
            rows: which predictions to make; fast where each episode's frames rise.
            batch_size: rows a batch.
            keys: dataset keys that the policy reads; others are not decoded.
            steps: observation steps relative to the frame, oldest first, for example (-1, 0);
                steps before the episode repeat its first frame.
            pinned: put pictures into page-locked memory.
            stage: what to do with each batch in the reading thread.

        Raises:
            DatasetError: a picture can't be decoded.
        """

        starts = range(0, len(rows), batch_size)
        lanes = min(self._lanes(rows, keys), len(starts))

        def read(lane: int) -> Iterator[FrameBatch]:
            for start in starts[lane::lanes]:
                some = rows[start : start + batch_size]
                batch = self._batch(some, keys, steps, pinned, _Lane(lane, lanes))
                yield batch if stage is None else stage(batch)

        return in_turn([ahead(read(lane), 1) for lane in range(lanes)])

    def batch(
        self,
        rows: Sequence[Row],
        *,
        keys: frozenset[str],
        steps: tuple[int, ...] = (0,),
    ) -> FrameBatch:
        """Observations of the given rows as one batch (arguments as in `batches`)."""
        return self._batch(rows, keys, steps, False, _Lane(-1, 1))

    def _batch(
        self,
        rows: Sequence[Row],
        keys: frozenset[str],
        steps: tuple[int, ...],
        pinned: bool,
        lane: _Lane,
    ) -> FrameBatch:
        import torch

        episode_index, frame_index, sample = np.asarray(rows, dtype=np.int64).T
        wanted = np.maximum(frame_index + np.asarray(steps)[:, None], 0)  # [steps, rows]
        values = {
            key: self._look(key, episode_index, wanted, pinned, lane)
            if key in self.facts.robot.cameras
            else self._recall(key, episode_index, wanted)
            for key in sorted(keys)
        }
        return FrameBatch(
            episode_index,
            frame_index,
            sample,
            tuple(self.episode(e).tasks[f] for e, f, _ in rows),
            tuple(
                {key: torch.from_numpy(value[step]) for key, value in values.items()}
                for step in range(len(steps))
            ),
        )

    # ── columns ───────────────────────────────────────────────────────

    def _recall(
        self, key: str, episodes: NDArray[np.int64], frames: NDArray[np.int64]
    ) -> NDArray[Any]:
        """[steps, rows, …]"""
        values = [
            self.episode(int(e)).columns[key][at] for e, at in zip(episodes, frames.T, strict=True)
        ]
        return np.stack(values, axis=1)

    def _columns(self, episode: int) -> tuple[pa.Table, int]:
        path = self._meta.root / self._meta.get_data_file_path(episode)
        if self._file[0] != path:
            names = [k for k in self.facts.robot.features if k not in self.facts.robot.cameras]
            try:
                table = pq.read_table(
                    path, columns=[*names, "episode_index", "timestamp", "task_index"]
                )
            except (pa.ArrowException, OSError) as error:
                raise unreadable(f"data of {self.facts.robot.name}", error) from error
            self._file = (path, table)
        known = self._file[1]
        assert known is not None
        rows = np.flatnonzero(known.column("episode_index").to_numpy() == episode)
        if len(rows) != self.facts.lengths[episode]:
            raise DatasetError(
                f"episode {episode} of {self.facts.robot.name}",
                expected=f"{self.facts.lengths[episode]} frames, as its metadata says",
                found=f"{len(rows)}",
                fix="download or record the dataset again",
            )
        return known.slice(int(rows[0]), len(rows)), int(rows[0])

    def _read(self, episode: int) -> Episode:
        table, first_row = self._columns(episode)
        columns = {
            key: _matrix(table.column(key), shape, key, episode)
            for key, shape in self.facts.robot.features.items()
            if key not in self.facts.robot.cameras
        }
        actions = columns.pop(ACTION)
        _require_finite(actions, ACTION, episode, self.facts.robot.actions.names)
        if STATE in columns:
            _require_finite(columns[STATE], STATE, episode, self.facts.robot.state_names)
        task_index = table.column("task_index").to_numpy()
        return Episode(
            episode,
            NativeActions(actions.astype(np.float64), self.facts.robot.actions.units),
            columns,
            table.column("timestamp").to_numpy().astype(np.float64).reshape(-1),
            tuple(self._texts[int(i)] for i in task_index.reshape(-1)),
            first_row,
        )

    # ── pictures ──────────────────────────────────────────────────────

    def _look(
        self,
        key: str,
        episodes: NDArray[np.int64],
        frames: NDArray[np.int64],
        pinned: bool,
        lane: _Lane,
    ) -> NDArray[np.uint8]:
        """[steps, rows, C, H, W], channels last in memory; each picture is decoded once."""
        channels, *size = self.facts.robot.cameras[key]
        buffers = self._buffers.setdefault((pinned, lane.index), Buffers(pinned=pinned))
        values = buffers.take((*frames.shape, *size, channels), np.uint8)
        places = values.reshape(-1, *size, channels)
        asked = np.stack([np.broadcast_to(episodes, frames.shape), frames], axis=-1).reshape(-1, 2)
        unique, which = np.unique(asked, axis=0, return_inverse=True)
        at: list[list[int]] = [[] for _ in unique]
        for place, one in enumerate(which.reshape(-1).tolist()):
            at[one].append(place)
        left = iter(at)
        for episode in np.unique(unique[:, 0]).tolist():
            wanted = unique[unique[:, 0] == episode, 1]
            try:
                for picture in self._pictures(key, episode, wanted, lane):
                    first, *others = next(left)
                    places[first] = picture
                    for other in others:
                        places[other] = places[first]
            except Exception as error:  # whatever a decoder raises on a broken file
                raise unreadable(
                    f"frames {wanted[0]}-{wanted[-1]} of {key}, episode {episode}", error
                ) from error
        return np.moveaxis(values, -1, 2)

    def _pictures(
        self, key: str, episode: int, frames: NDArray[np.int64], lane: _Lane
    ) -> Iterator[Picture]:
        at = (key, lane.index)
        if key in self._meta.video_keys:
            path, start = self._clip(key, episode)
            if at not in self._decoders or self._decoders[at][0] != path:
                if at in self._decoders:
                    self._decoders.pop(at)[1].close()
                self._decoders[at] = (path, self._decoder(key, path, lane))
            times = self.episode(episode).timestamps[frames]
            return self._decoders[at][1].read([start + float(t) for t in times])
        path = self._meta.root / self._meta.get_data_file_path(episode)
        if at not in self._stored or self._stored[at][0] != path:
            if at in self._stored:
                self._stored.pop(at)[1].close()
            self._stored[at] = (path, StoredPictures(path, key, self._meta.root))
        first = self.episode(episode).first_row
        return self._stored[at][1].read([first + int(f) for f in frames])

    def _decoder(self, key: str, path: Path, lane: _Lane) -> Decoder:
        if self._config.video_backend == "torchcodec":
            return TorchcodecDecoder(path)
        _, height, width = self.facts.robot.cameras[key]
        alone = lane.count == 1 and height * width > _SMALL
        return PyavDecoder(path, threads=0 if alone else 1)

    def _lanes(self, rows: Sequence[Row], keys: frozenset[str]) -> int:
        """How many threads read: several decoders do more than the threads of one.

        Small pictures are not worth it; nor are videos that a decoder can't enter in the middle.
        """
        cameras = [k for k in sorted(keys) if k in self._meta.video_keys]
        large = any(np.prod(self.facts.robot.cameras[k][1:]) > _SMALL for k in cameras)
        if not rows or not large or self._config.video_backend == "torchcodec":
            return 1
        paths = [self._clip(k, rows[0][0])[0] for k in cameras]
        try:
            short = all(short_groups(path) for path in paths)
        except Exception as error:  # whatever a decoder raises on a broken file
            raise unreadable(f"video of {', '.join(cameras)}", error) from error
        return min(_MOST_LANES, os.cpu_count() or 1) if short else 1

    def _clip(self, key: str, episode: int) -> tuple[Path, float]:
        """The file that holds an episode's video, and when in it the episode begins."""
        if (key, episode) not in self._clips:
            path = self._meta.root / self._meta.get_video_file_path(episode, key)
            start = float(self._meta.episodes[episode][f"videos/{key}/from_timestamp"])
            self._clips[key, episode] = (path, start)
        return self._clips[key, episode]

    # ── files ─────────────────────────────────────────────────────────

    def _files(self, episodes: Sequence[int]) -> list[Path]:
        files = {self._meta.get_data_file_path(episode) for episode in episodes}
        for key in self._meta.video_keys:
            files |= {self._meta.get_video_file_path(episode, key) for episode in episodes}
        return sorted(files)

    def _download(self, episodes: Sequence[int]) -> None:
        from lerobot.datasets import LeRobotDataset

        try:
            self._meta = LeRobotDataset(
                self.facts.robot.name, episodes=list(episodes), revision=self._config.revision
            ).meta
        except Exception as error:
            raise unreadable(f"data of {self.facts.robot.name}", error) from error


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
