"""Demonstrations: a LeRobot dataset as facts, episodes and batches of observations.

Episodes are read in order: columns from Parquet a row group at a time, videos forwards, in a
thread ahead of whoever asks. Nothing but what somebody asks for is read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray, NativeActions
from policyscope.config import DatasetConfig
from policyscope.data.ahead import ahead
from policyscope.data.cameras import ALONE, Cameras, Lane
from policyscope.data.columns import DataFiles, matrix
from policyscope.data.columns import Rows as StoredRows
from policyscope.data.facts import ACTION, STATE, DatasetFacts, read_facts
from policyscope.data.files import Folder, as_whole
from policyscope.data.frames import Episode, FrameBatch, Rows, by_episode
from policyscope.data.hub import fetch, open_folder
from policyscope.data.index import TASKS
from policyscope.data.kept import KeptPictures
from policyscope.data.pictures import Buffers
from policyscope.data.seen import Seen, see
from policyscope.errors import DatasetError, NonFiniteError

_EPISODES = 64  # kept at hand, and more while they are short:
_FRAMES = 1 << 16


@final
class FrameSource:
    """A LeRobot dataset, opened for reading.

    Args:
        config: which dataset.
        repo_id: what it is called.
        kept: where decoded pictures stay at hand for whoever asks for them again.
        threads: that decode pictures; None for as many as there are cores.

    Attributes:
        facts: what it says about itself.
        seen: episode index → what the loaded episodes themselves say about it.

    Raises:
        DatasetError: not a v3.0 LeRobot dataset, or one of its files is missing or broken.
    """

    facts: DatasetFacts
    seen: dict[int, Seen]

    def __init__(
        self,
        config: DatasetConfig,
        *,
        repo_id: str,
        kept: KeptPictures | None = None,
        threads: int | None = None,
    ) -> None:
        self._config, self._name, self._kept, self._threads = config, repo_id, kept, threads
        self._episodes: OrderedDict[int, Episode] = OrderedDict()
        self._n_frames = 0
        self._others: OrderedDict[tuple[int, str], NDArray[np.float32]] = OrderedDict()
        # Several lanes read episodes, and the loop asks for demonstrations meanwhile. Re-entrant,
        # because reading a column asks for its episode.
        self._one_at_a_time = threading.RLock()
        self._buffers: dict[bool, Buffers] = {}
        self._open(open_folder(config, repo_id))

    def _open(self, folder: Folder) -> None:
        self.seen = {}
        self.facts, info, self._index = read_facts(folder, self._config)
        self._files = DataFiles(folder, info, self._index)
        self._declared = frozenset(info.features)
        self.facts = replace(self.facts, spare_rows=self._files.spare_rows())
        if self._index.tasks is None:
            self.facts = replace(self.facts, episode_tasks=self._first_tasks())
        self._folder = folder
        self._cameras = Cameras(
            folder,
            self._index,
            self.facts.features,
            backend=self._config.video_backend,
            episode=self.episode,
            kept=self._kept,
            threads=self._threads,
        )

    def load(self, episodes: Sequence[int]) -> None:
        """Check the files and the columns of the chosen episodes.

        Raises:
            DatasetError: a file is missing or broken.
            NonFiniteError: NaN or inf in actions or states.
        """
        self.require(episodes)
        for episode in episodes:
            self.episode(episode)

    def require(self, episodes: Sequence[int]) -> None:
        """Fetch the files of the chosen episodes from the hub where they are not there.

        What lies in an object store is looked for, and fetched when it is read.

        Raises:
            DatasetError: one is missing, and is not to be had.
        """
        named = {self._files.named(episode) for episode in episodes} - {None}
        wanted = sorted({str(name) for name in named} | self._cameras.files(episodes))
        if self._config.root is None and not all(map(self._folder.has, wanted)):
            root = fetch(self._name, self._config.revision, ["meta/*", *wanted])
            self._open(Folder(root, self._name))
        # stale data files are looked for; videos can't be
        self._folder.require([name for name in wanted if name not in named])

    def picture_times(self, episode: int, camera: str) -> FloatArray | None:
        """[N] seconds, from the episode's start, at which its video has pictures; rising.

        None where pictures are not stored as videos. Where the index does not say at which second
        an episode ends, those of the episodes behind it in the file are among them.

        Raises:
            DatasetError: the index does not say where the video is, or it is broken.
        """
        return self._cameras.times(camera, episode)

    def video(self, episode: int, camera: str) -> tuple[str, int] | None:
        """Name and bytes of the video of an episode; None where there is none.

        Raises:
            DatasetError: the index does not say where it is, or it is missing.
        """
        return self._cameras.video(camera, episode)

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
                self._n_frames += self._episodes[index].length
                while len(self._episodes) > _EPISODES and self._n_frames > _FRAMES:
                    self._n_frames -= self._episodes.popitem(last=False)[1].length
            self._episodes.move_to_end(index)
            return self._episodes[index]

    def marks(self, episode: int, column: str) -> NDArray[np.bool_]:
        """[T] where a column of numbers or truth values is neither 0 nor false.

        Raises:
            DatasetError: there is no such column, or it holds something else.
        """
        with self._one_at_a_time:
            others = [column] if column != "frame_index" else []  # which is read with any
            values = self._files.read(episode, others).table.column(column)
        if pa.types.is_boolean(values.type):
            values = values.cast(pa.int8())
        marked: NDArray[np.bool_] = matrix(values, (1,), column, episode)[:, 0] != 0
        return marked

    def batches(
        self,
        rows: Rows,
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
        lanes = min(self._cameras.lanes(rows, keys), len(starts))

        # Lane i reads batches i, i + lanes, …, each lane with decoders of its own: a decoder goes
        # forwards and is no use to two threads. One batch waits while the next is read, so that
        # memory is bounded by the lanes, whatever the model does.
        def read(lane: int) -> Iterator[FrameBatch]:
            for start in starts[lane::lanes]:
                some = rows[start : start + batch_size]
                batch = self._batch(some, keys, steps, pinned, Lane(lane, lanes))
                yield batch if stage is None else stage(batch)

        return ahead([read(lane) for lane in range(lanes)], 1)

    def batch(
        self,
        rows: Rows,
        *,
        keys: frozenset[str],
        steps: tuple[int, ...] = (0,),
    ) -> FrameBatch:
        """Observations of the given rows as one batch (arguments as in `batches`)."""
        return self._batch(rows, keys, steps, False, ALONE)

    def _batch(
        self,
        rows: Rows,
        keys: frozenset[str],
        steps: tuple[int, ...],
        pinned: bool,
        lane: Lane,
    ) -> FrameBatch:
        episode_index, frame_index, sample = np.asarray(rows, dtype=np.int64).T
        wanted = np.maximum(frame_index + np.asarray(steps)[:, None], 0)  # [steps, rows]
        loan = self._buffers.setdefault(pinned, Buffers(pinned=pinned)).loan()
        values = {
            key: self._cameras.look(key, episode_index, wanted, loan, lane)
            if key in self.facts.robot.cameras
            else self._recall(key, episode_index, wanted)
            for key in sorted(keys)
        }
        return FrameBatch(
            episode_index,
            frame_index,
            sample,
            self._asked_tasks(episode_index, frame_index),
            tuple(
                {key: value[step] for key, value in values.items()} for step in range(len(steps))
            ),
            loan,
        )

    # ── columns ───────────────────────────────────────────────────────

    def said(self, episode: int, key: str) -> NDArray[Any] | None:
        """[T] what the recording says at each frame, for example ``next.success``.

        Returns:
            None where the dataset declares no such feature.

        Raises:
            DatasetError: it declares one, and its files have another number of values, or none.
        """
        if key not in self._declared:
            return None
        rows = self._files.read(episode, [key])
        return matrix(rows.table.column(key), (1,), key, episode)[:, 0]

    def _recall(
        self, key: str, episodes: NDArray[np.int64], frames: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """[steps, rows, …] in the precision in which lerobot feeds policies."""
        values = np.empty((*frames.shape, *self.facts.features[key].shape), np.float32)
        for episode, at in by_episode(episodes):
            values[:, at] = self._column(episode, key)[frames[:, at]]
        return values

    def _asked_tasks(
        self, episodes: NDArray[np.int64], frames: NDArray[np.int64]
    ) -> tuple[str, ...]:
        tasks: list[str] = []
        for episode, at in by_episode(episodes):
            known = self.episode(episode).tasks
            tasks += [known[f] for f in frames[at].tolist()]
        return tuple(tasks)

    def _column(self, episode: int, key: str) -> NDArray[np.float32]:
        """[T, …] one observation of an episode: read when somebody first asks for it."""
        with self._one_at_a_time:
            known = self._others.get((episode, key))
            if known is None:
                state = self.episode(episode).state if key == STATE else None
                if state is None:
                    rows = self._files.read(episode, [key])
                    state = self._numbers(rows, key, episode)
                shape = self.facts.features[key].shape
                known = state.astype(np.float32).reshape(len(state), *shape)
                self._others[episode, key] = known
                if len(self._others) > _EPISODES:
                    self._others.popitem(last=False)
            return known

    def _read(self, episode: int) -> Episode:
        has_state = STATE in self.facts.features and not self.facts.features[STATE].is_camera
        columns = [ACTION, *([STATE] if has_state else []), "timestamp", "task_index"]
        rows = self._files.read(episode, columns)
        actions = self._numbers(rows, ACTION, episode).astype(np.float64)
        actions = actions.reshape(len(actions), -1)
        state = None
        if has_state:
            state = self._numbers(rows, STATE, episode).astype(np.float64)
            state = state.reshape(len(state), -1)
        timestamps = matrix(rows.table.column("timestamp"), (1,), "timestamp", episode)
        tasks = self._texts(rows, episode)
        if episode not in self.seen:
            self.seen[episode] = see(
                actions, state, timestamps.reshape(-1), rows.frame_index, tasks[0]
            )
        return Episode(
            episode,
            NativeActions(actions, self.facts.robot.actions.units),
            state,
            timestamps.astype(np.float64).reshape(-1),
            tasks,
            rows.files,
            rows.rows,
        )

    def _numbers(self, rows: StoredRows, key: str, episode: int) -> NDArray[Any]:
        values = matrix(rows.table.column(key), self.facts.features[key].shape, key, episode)
        robot = self.facts.robot
        names = {ACTION: robot.actions.names, STATE: robot.state_names}.get(key, ())
        _require_finite(values, key, episode, names)
        return values

    def _texts(self, rows: StoredRows, episode: int) -> tuple[str, ...]:
        known = self.facts.task_texts
        if not known and not self._folder.has(TASKS):  # none are declared either
            return ("",) * len(rows.rows)
        stored = matrix(rows.table.column("task_index"), (1,), "task_index", episode)
        numbers = as_whole(stored[:, 0])
        unknown = None if numbers is None else set(numbers.tolist()) - known.keys()
        if numbers is None or unknown:
            raise DatasetError(
                f"task_index of episode {episode}",
                expected=f"numbers of {len(known)} tasks in meta/tasks.parquet",
                found=f"{min(unknown)}, which is not there" if unknown else "no whole numbers",
                fix="add the task's text to meta/tasks.parquet, or record the dataset again",
            )
        return tuple(known[int(n)] for n in numbers)

    def _first_tasks(self) -> dict[int, str]:
        """The first task of each episode, for an index that has none."""
        texts = self.facts.task_texts
        if len(texts) < 2:
            return dict.fromkeys(self.facts.lengths, next(iter(texts.values()), ""))
        first = self._files.first_tasks()
        return {e: texts[n] for e, n in first.items() if n in texts and e in self.facts.lengths}


def _require_finite(values: NDArray[Any], key: str, episode: int, names: tuple[str, ...]) -> None:
    flat = values.reshape(len(values), -1)
    bad = np.argwhere(~np.isfinite(flat))
    if len(bad):
        frame, dim = (int(i) for i in bad[0])
        name = f" ({names[dim]})" if names else ""
        raise NonFiniteError(
            f"{key} in the dataset",
            expected="finite numbers",
            found=f"{flat[frame, dim]} in episode {episode}, frame "
            f"{frame}, dim {dim}{name}, and {len(bad) - 1} more in this episode",
            fix=f"repair the recording, or leave episode {episode} out with --dataset.episodes",
        )
