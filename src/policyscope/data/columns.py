"""The Parquet files of a dataset: which rows are an episode's, and their values.

Rows are found by `episode_index` and put in order by `frame_index`. The index of episodes says in
which file to look first; where it is stale, the other files are searched before giving up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from policyscope.data.files import Folder, numbers, unreadable, whole_numbers
from policyscope.data.index import EpisodeIndex
from policyscope.data.info import Info
from policyscope.errors import DatasetError

_KEPT = 256 << 20  # bytes of episode numbers at hand
_MOST_EPISODE = 256 << 20  # bytes of one episode's columns: a day of a humanoid takes half of it
_COUNTED = 64  # files whose rows are counted when a dataset is opened
_AGAIN = "download or record the dataset again"


@final
@dataclass(frozen=True, eq=False)
class Rows:
    """Where the T frames of an episode lie, in the order of their ``frame_index``.

    Attributes:
        files: [T] names of the files.
        rows: [T] rows in these files.
        table: the columns that were asked for, in the same order.
        frame_index: [T] as recorded.
    """

    files: tuple[str, ...]
    rows: NDArray[np.int64]
    table: pa.Table
    frame_index: NDArray[np.int64]


@final
class DataFiles:
    """The Parquet files below a dataset's data directory."""

    def __init__(self, folder: Folder, info: Info, index: EpisodeIndex) -> None:
        self._folder, self._index = folder, index
        self._directory = info.data_path.split("{", 1)[0].rpartition("/")[0] or "."
        self._known: OrderedDict[str, NDArray[np.int64]] = OrderedDict()
        self._file: tuple[str, pq.ParquetFile] | None = None
        self._held: tuple[Any, pa.Table] | None = None

    def spare_rows(self) -> int:
        """How many rows there are beyond those of the index; 0 where there are too many files.

        Files of episodes that nobody chose may be missing: they are fetched when they are needed.
        """
        names = self.names
        if len(names) > _COUNTED:
            return 0
        rows = 0
        for name in names:
            with self._folder.parquet(name) as file:
                rows += file.metadata.num_rows
        return max(0, rows - sum(self._index.lengths.values()))

    @property
    def names(self) -> list[str]:
        """All Parquet files that are there."""
        names = self._folder.below(self._directory, ".parquet")
        return [name for name in names if not name.startswith("meta/")]

    def named(self, episode: int) -> str | None:
        """The file that the index names for an episode, if it does."""
        return self._index.data_file(episode)

    def read(self, episode: int, columns: Sequence[str]) -> Rows:
        """The frames of one episode.

        Args:
            episode: its index.
            columns: what to read besides ``frame_index``.

        Raises:
            DatasetError: not as many frames as the index says, frames that are there twice, or a
                file that is broken.
        """
        pieces, names, rows = [], [], []
        try:
            for name, found in self._places(episode):
                pieces.append(self._take(name, found, [*columns, "frame_index"]))
                names += [name] * len(found)
                rows.append(found)
            table = pa.concat_tables(pieces, promote_options="permissive")
        except pa.ArrowException as error:  # types that don't go together
            raise unreadable(f"episode {episode} of {self._folder.name}", error) from error
        if table.nbytes > _MOST_EPISODE:
            size = f"{table.nbytes >> 20} MiB"
            raise self._refused(episode, f"at most {_MOST_EPISODE >> 20} MiB of numbers", size)
        frame_index = whole_numbers(table.column("frame_index"))
        if frame_index is None:
            raise self._refused(episode, "whole numbers in frame_index", "others")
        order = np.argsort(frame_index, kind="stable")
        twice = np.flatnonzero(np.diff(frame_index[order]) == 0)
        if len(twice):
            frame = int(frame_index[order][twice[0]])
            raise self._refused(episode, "each frame once", f"frame_index {frame} twice")
        if (np.diff(order) == 1).all():  # as it should be: nothing to move
            return Rows(tuple(names), np.concatenate(rows), table, frame_index)
        return Rows(
            tuple(names[i] for i in order),
            np.concatenate(rows)[order],
            table.take(pa.array(order)),
            frame_index[order],
        )

    def first_tasks(self) -> dict[int, int]:
        """Episode index → ``task_index`` of its first frame, of all files that are here."""
        first: dict[int, tuple[int, int]] = {}
        columns = ["episode_index", "frame_index", "task_index"]
        for name in self.names:
            table = self._folder.columns(name, self._open(name), columns)
            values = [whole_numbers(table.column(column)) for column in columns]
            if any(v is None for v in values):
                raise self._folder.refused(name, f"whole numbers in {columns}", "others", _AGAIN)
            episodes, frames, tasks = (np.asarray(v) for v in values)
            order = np.lexsort((frames, episodes))
            begins = order[np.flatnonzero(np.diff(episodes[order], prepend=-1))]
            for row in begins:
                known = (int(frames[row]), int(tasks[row]))
                first[int(episodes[row])] = min(first.get(int(episodes[row]), known), known)
        return {episode: task for episode, (_, task) in first.items()}

    def _places(self, episode: int) -> list[tuple[str, NDArray[np.int64]]]:
        """The files that hold an episode, and its rows in each."""
        expected = self._index.lengths[episode]
        named = self._index.data_file(episode)
        if named is not None and self._folder.has(named):
            rows = np.flatnonzero(self._numbers(named) == episode)
            if len(rows) == expected > 0:
                return [(named, rows)]
        everywhere = [(name, np.flatnonzero(self._numbers(name) == episode)) for name in self.names]
        found = [(name, rows) for name, rows in everywhere if len(rows)]
        total = sum(len(rows) for _, rows in found)
        if total == expected > 0:
            return found
        if named is not None and not self._folder.has(named) and not found:
            self._folder.file(named)  # says that it is missing
        raise self._refused(
            episode, f"{expected or 'some'} frames, as its metadata says", str(total)
        )

    def _numbers(self, name: str) -> NDArray[np.int64]:
        """The ``episode_index`` of a file's rows; those of the latest files stay at hand."""
        if name not in self._known:
            self._known[name] = self._read_numbers(name)
            while len(self._known) > 1 and sum(n.nbytes for n in self._known.values()) > _KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(name)
        return self._known[name]

    def _read_numbers(self, name: str) -> NDArray[np.int64]:
        file = self._open(name)
        table = self._folder.columns(name, file, ["episode_index"])
        numbers = whole_numbers(table.column("episode_index"))
        if numbers is None:
            raise self._folder.refused(name, "whole numbers in episode_index", "others", _AGAIN)
        return numbers

    def _take(self, name: str, rows: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """Some rows of a file, of which only the row groups that hold them are read."""
        file = self._open(name)
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        of_row = np.searchsorted(starts, rows, side="right") - 1
        groups = np.unique(of_row)
        asked = (name, groups.tolist(), list(columns))
        if self._held is None or self._held[0] != asked:  # many episodes may share a group
            self._held = (asked, self._folder.columns(name, file, columns, groups=groups.tolist()))
        table = self._held[1]
        # where each group begins among those that were read
        begins = np.cumsum([0, *(sizes[g] for g in groups[:-1])])
        at = rows - starts[of_row] + begins[np.searchsorted(groups, of_row)]
        if len(at) and at[-1] - at[0] == len(at) - 1:
            return table.slice(int(at[0]), len(at))
        return table.take(pa.array(at))

    def _open(self, name: str) -> pq.ParquetFile:
        if self._file is None or self._file[0] != name:
            if self._file is not None:
                self._file[1].close()
            self._file = (name, self._folder.parquet(name))
        return self._file[1]

    def _refused(self, episode: int, expected: str, found: str) -> DatasetError:
        return DatasetError(
            f"episode {episode} of {self._folder.name}", expected=expected, found=found, fix=_AGAIN
        )


def matrix(column: pa.ChunkedArray, shape: tuple[int, ...], key: str, episode: int) -> NDArray[Any]:
    """A column of lists as one array, in the type in which it is stored.

    Args:
        column: T rows of numbers, lists, or lists of lists.
        shape: of one row, as the metadata says.
        key: its name, for errors.
        episode: whose it is.

    Returns:
        [T, *shape].

    Raises:
        DatasetError: values are missing, no numbers, or not as many as the metadata says.
    """
    n, each = len(column), int(np.prod(shape))
    flat = column.combine_chunks()
    flat = flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat
    if isinstance(flat.type, pa.ExtensionType):  # arrays of several dims, as `datasets` writes them
        flat = flat.storage
    missing = flat.null_count
    while _is_list(flat.type):
        lengths = flat.value_lengths() if hasattr(flat, "value_lengths") else None
        if lengths is not None and len(lengths) and len(lengths.unique()) > 1:
            raise _ragged(key, episode, shape, f"rows of {len(lengths.unique())} lengths")
        flat = flat.flatten()
        missing += flat.null_count
    kind = flat.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise _ragged(key, episode, shape, f"values of type {kind}")
    if len(flat) != n * each:
        raise _ragged(key, episode, shape, f"{len(flat)} values in {n} frames")
    if missing:
        raise _ragged(key, episode, shape, f"{missing} missing ones")
    return numbers(flat).reshape(n, *shape)


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _ragged(key: str, episode: int, shape: tuple[int, ...], found: str) -> DatasetError:
    return DatasetError(
        f"{key} in episode {episode}",
        expected=f"{shape} numbers a frame, as the metadata says",
        found=found,
        fix="record or convert the dataset again",
    )
