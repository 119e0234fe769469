"""The tables of ``meta/``: which episodes there are, where each lies, and what the tasks say.

Everything is looked up by its own number (`episode_index`, `task_index`): rows may stand in any
order, and an index may be shorter than ``meta/info.json`` says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from policyscope.data.files import Folder, whole_numbers
from policyscope.data.info import Info, fill_path
from policyscope.errors import DatasetError

TASKS = "meta/tasks.parquet"
EPISODES = "meta/episodes"
_TEXT_COLUMNS = ("task", "__index_level_0__")
_READ = ("episode_index", "length", "tasks", "dataset_from_index", "dataset_to_index")
_PLACES = ("data/", "videos/")
_MOST_EPISODES = 4_000_000  # of one file
_MOST = 256 << 20  # bytes of an index's columns
_NOTHING = pa.NA
_AGAIN = "record or convert the dataset again"


@final
class EpisodeIndex:
    """What ``meta/episodes`` says about each episode.

    Attributes:
        lengths: episode index → its frames, in rising order.
        tasks: episode index → its first text; None where the index has no texts.
        spans: episode index → frames by ``dataset_from_index`` and ``dataset_to_index``, where
            these are there.

    Raises:
        DatasetError: no index, a column is missing or not of whole numbers, or one episode is
            described in two ways.
    """

    lengths: Mapping[int, int]
    tasks: Mapping[int, str] | None
    spans: Mapping[int, int]

    def __init__(self, folder: Folder, info: Info) -> None:
        self._folder, self._info = folder, info
        table = _read_index(folder)
        self._columns = set(table.column_names)
        episodes = self._whole(table, "episode_index")
        self._table, order = _each_once(table, episodes, folder.name)
        self._row = {int(episodes[row]): at for at, row in enumerate(order)}
        length = self._whole(self._table, "length")
        if (length < 0).any() or min(self._row, default=0) < 0:
            raise self._refused("numbers from 0 on", "negative ones")
        self.lengths = {episode: int(length[at]) for episode, at in self._row.items()}
        self.tasks = self._texts()
        self.spans = self._spans()

    def data_file(self, episode: int) -> str | None:
        """The file in which an episode should lie; None where the index does not say."""
        place = self._place("data", episode)
        if place is None:
            return None
        chunk, file = place
        return fill_path(
            self._info.data_path,
            "data_path",
            self._folder.name,
            chunk_index=chunk,
            file_index=file,
        )

    def clip(self, episode: int, camera: str) -> tuple[str, float]:
        """The file that holds an episode's video, and the second at which the episode begins.

        Raises:
            DatasetError: the index does not say.
        """
        place = self._place(f"videos/{camera}", episode)
        start = self._value(f"videos/{camera}/from_timestamp", episode)
        if place is None or not isinstance(start, int | float) or not 0 <= start < 1e9:
            raise self._refused(
                f"file and start of the video {camera} of episode {episode}", repr(start)
            )
        chunk, file = place
        name = fill_path(
            self._info.video_path,
            "video_path",
            self._folder.name,
            video_key=camera,
            chunk_index=chunk,
            file_index=file,
        )
        return name, float(start)

    def clip_end(self, episode: int, camera: str) -> float | None:
        """The second of its video at which an episode ends; None where the index has none."""
        end = self._value(f"videos/{camera}/to_timestamp", episode)
        return float(end) if isinstance(end, int | float) else None

    def _place(self, what: str, episode: int) -> tuple[int, int] | None:
        chunk = self._value(f"{what}/chunk_index", episode)
        file = self._value(f"{what}/file_index", episode)
        if not all(isinstance(n, int | float) and n == int(n) >= 0 for n in (chunk, file)):
            return None
        return int(chunk), int(file)

    def _value(self, column: str, episode: int) -> Any:
        if column not in self._columns:
            return None
        value = self._table.column(column)[self._row[episode]].as_py()
        return None if isinstance(value, float) and not np.isfinite(value) else value

    def _whole(self, table: pa.Table, column: str) -> NDArray[np.int64]:
        if column not in self._columns:
            raise self._refused(f"a column {column}", "none")
        values = whole_numbers(table.column(column))
        if values is None:
            raise self._refused(f"whole numbers in {column}", "others")
        return values

    def _texts(self) -> dict[int, str] | None:
        """First texts; equal ones are one object, however many episodes there are."""
        if "tasks" not in self._columns:
            return None
        column = self._table.column("tasks").combine_chunks()
        listed = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
        kind = column.type.value_type if listed else column.type
        if not is_text(kind) and not pa.types.is_null(kind):
            raise self._refused("texts in tasks", f"values of type {kind}")
        first = (v[0] if v.is_valid and len(v) else _NOTHING for v in column) if listed else column
        known: dict[str, str] = {}
        return {
            episode: known.setdefault(text, text)
            for episode, text in zip(self._row, (v.as_py() or "" for v in first), strict=True)
        }

    def _spans(self) -> dict[int, int]:
        ends = ("dataset_from_index", "dataset_to_index")
        if not self._columns.issuperset(ends):
            return {}
        begin, end = (whole_numbers(self._table.column(column)) for column in ends)
        if begin is None or end is None:
            return {}
        return {episode: int(end[at] - begin[at]) for episode, at in self._row.items()}

    def _refused(self, expected: str, found: str) -> DatasetError:
        return DatasetError(
            f"{EPISODES} of {self._folder.name}", expected=expected, found=found, fix=_AGAIN
        )


def _read_index(folder: Folder) -> pa.Table:
    """What is needed of all files of the index, as one table."""
    names = folder.below(EPISODES, ".parquet")
    if not names:
        raise DatasetError(
            f"dataset {folder.name}",
            expected=f"Parquet files below {EPISODES} in {folder.place}",
            found="none",
            fix="download the dataset again, with its meta directory",
        )
    tables = []
    for name in names:
        file = folder.parquet(name)
        wanted = [c for c in file.schema_arrow.names if c in _READ or c.startswith(_PLACES)]
        if file.metadata.num_rows > _MOST_EPISODES:
            found = str(file.metadata.num_rows)
            raise folder.refused(name, f"at most {_MOST_EPISODES} episodes", found, _AGAIN)
        tables.append(folder.columns(name, file, wanted, most=_MOST))
        file.close()
    if len(tables) == 1:
        return tables[0]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException:
        raise DatasetError(
            f"{EPISODES} of {folder.name}",
            expected="the same columns in all files",
            found="others of other types",
            fix=_AGAIN,
        ) from None


def _each_once(
    table: pa.Table, episodes: NDArray[np.int64], name: str
) -> tuple[pa.Table, NDArray[np.intp]]:
    """The rows in the order of their episodes; rows that are there twice, once.

    Raises:
        DatasetError: two rows describe one episode in two ways.
    """
    order = np.argsort(episodes, kind="stable")
    twice = np.flatnonzero(np.diff(episodes[order]) == 0)
    for at in twice:
        one, other = int(order[at]), int(order[at + 1])
        if table.slice(one, 1).to_pylist() != table.slice(other, 1).to_pylist():
            raise DatasetError(
                f"{EPISODES} of {name}",
                expected=f"one description of episode {episodes[one]}",
                found="two that differ",
                fix="merge datasets with lerobot (lerobot-edit-dataset), which renumbers them",
            )
    kept = np.delete(order, twice + 1) if len(twice) else order
    if len(kept) == len(table) and (np.diff(kept) == 1).all():
        return table, kept  # as they are: to make an Arrow array costs the import of pandas
    return table.take(pa.array(kept)), kept


def read_tasks(folder: Folder, info: Info) -> dict[int, str]:
    """The text of each ``task_index``.

    lerobot keeps the texts in the table's pandas index; converters write them as a column.

    Raises:
        DatasetError: no such table, no texts in it, or one number with two texts.
    """
    if info.total_tasks == 0 and not folder.has(TASKS):
        return {}
    file = folder.parquet(TASKS)
    column = _text_column(file, folder)
    table = folder.columns(TASKS, file, ["task_index", column], most=_MOST)
    file.close()
    numbers = whole_numbers(table.column("task_index"))
    texts = table.column(column).to_pylist()
    tasks: dict[int, str] = {}
    if numbers is None or not all(isinstance(text, str) for text in texts):
        raise _bad_tasks(folder, "a whole number and a text in each row", "others")
    for number, text in zip(numbers.tolist(), texts, strict=True):
        if tasks.setdefault(number, text) != text:
            raise _bad_tasks(folder, f"one text of task {number}", "two")
    return tasks


def _text_column(file: Any, folder: Folder) -> str:
    schema = file.schema_arrow
    texts = [field.name for field in schema if is_text(field.type)]
    for name in (*_index_columns(schema), *_TEXT_COLUMNS):
        if name in texts:
            return str(name)
    if len(texts) != 1:
        found = f"{', '.join(texts) or 'none'} among {', '.join(schema.names)}"
        raise _bad_tasks(folder, "one column of texts", found)
    return str(texts[0])


def is_text(kind: pa.DataType) -> bool:
    """Whether values are texts, as such or by a dictionary."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _index_columns(schema: pa.Schema) -> list[Any]:
    """Columns that pandas would take as the table's index."""
    try:
        known = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return []
    return [c for c in known if isinstance(c, str)] if isinstance(known, list) else []


def _bad_tasks(folder: Folder, expected: str, found: str) -> DatasetError:
    return DatasetError(f"{TASKS} of {folder.name}", expected=expected, found=found, fix=_AGAIN)
