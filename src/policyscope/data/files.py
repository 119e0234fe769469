"""The door to a dataset's folder, which may come from anybody.

Everything that is read is a regular file inside the folder; JSON and Parquet are measured before
they take memory. Whatever else lies there is refused in one line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from policyscope.errors import DatasetError, first_line
from policyscope.files import Door

if TYPE_CHECKING:
    from policyscope.data.mirror import Mirror

_MOST_JSON = 64 << 20  # bytes; lerobot's largest are a few hundred kilobytes
_MOST_ROWS = 20_000_000  # of one Parquet file; lerobot's files hold about 100 MB
_MOST_DECODED = 1 << 30  # bytes of one file's columns in memory
_ROWS = 1 << 16
_AGAIN = "download or record the dataset again"
_DOOR = Door(DatasetError, _AGAIN)


@final
@dataclass(frozen=True)
class Folder:
    """A dataset's folder.

    Attributes:
        root: where it lies, symbolic links resolved.
        name: what to call the dataset in errors.
        mirror: brings the files of a dataset that lies in an object store; None on this machine.
    """

    root: Path
    name: str
    mirror: Mirror | None = None

    @property
    def place(self) -> str:
        """Where the dataset lies, as it can be typed."""
        return str(self.root) if self.mirror is None else self.mirror.url

    def file(self, name: str) -> Path:
        """The regular file of this name, relative to the folder.

        Raises:
            DatasetError: there is none, it is no regular file, or it lies outside the folder.
        """
        if self.mirror is not None:
            self.mirror.bring(name)
        try:
            path = (self.root / name).resolve()
            inside = not PurePosixPath(name).is_absolute() and self._inside(path)
        except (OSError, RuntimeError, ValueError) as error:  # loops, denied, overlong, NUL
            raise unreadable(f"{name} of {self.name}", error) from error
        if not inside:
            raise self.refused(
                name, "a file inside the folder", f"one that leads to {path}", "copy it there"
            )
        if not path.exists():
            raise self.refused(
                name,
                f"the file {name} in {self.place}",
                "no such file",
                "download the dataset again, or choose other --dataset.episodes",
            )
        with _DOOR.open(path):  # a regular one that can be read
            return path

    def has(self, name: str) -> bool:
        """Whether there is anything of this name: a file that `file` may still refuse."""
        if self.mirror is not None:
            return self.mirror.has([name])[0]
        try:
            return (self.root / name).exists() or (self.root / name).is_symlink()
        except (OSError, ValueError):
            return False

    def require(self, names: Sequence[str]) -> None:
        """Raise unless there are files of these names (errors as in `file`); none is fetched."""
        if self.mirror is None:
            for name in names:
                self.file(name)
            return
        for name, there in zip(names, self.mirror.has(names), strict=True):
            if not there:
                self.file(name)  # says that it is missing

    def below(self, name: str, suffix: str) -> list[str]:
        """Names of all files with this suffix below a directory inside the folder, sorted.

        In an object store, those that were brought here.
        """
        if self.mirror is not None:
            return self.mirror.below(name, suffix)
        try:
            found = [p.relative_to(self.root) for p in (self.root / name).rglob(f"*{suffix}")]
        except (OSError, ValueError):  # ValueError: a directory that leads out
            return []
        return sorted(p.as_posix() for p in found)

    def json(self, name: str) -> dict[str, Any]:
        """The content of a JSON file that holds an object.

        Raises:
            DatasetError: no such file, too large, not JSON, or no object.
        """
        return _DOOR.object(self.file(name), most=_MOST_JSON, finite=False)

    def parquet(self, name: str) -> pq.ParquetFile:
        """A Parquet file of a size that can be believed.

        Raises:
            DatasetError: no such file, broken, or with more rows than any dataset has.
        """
        path = self.file(name)
        try:
            file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise unreadable(f"{name} of {self.name}", error) from error
        if file.metadata.num_rows > _MOST_ROWS:
            file.close()
            raise self.refused(
                name, f"at most {_MOST_ROWS} rows", str(file.metadata.num_rows), _AGAIN
            )
        return file

    def columns(
        self,
        name: str,
        file: pq.ParquetFile,
        columns: Sequence[str],
        *,
        groups: Sequence[int] | None = None,
        most: int = _MOST_DECODED,
        rows: int = _ROWS,
    ) -> pa.Table:
        """Some columns of a Parquet file, each of which it must have once.

        Args:
            name: of the file, for errors.
            file: as `parquet` opens it.
            columns: their names.
            groups: row groups; all of them where None.
            most: bytes that they may take.
            rows: how many are decoded at a time, so that a bomb is noticed early.

        Raises:
            DatasetError: a column is missing or there twice, the file is broken, or too large.
        """
        have = file.schema_arrow.names
        for column in columns:
            if have.count(column) != 1:
                raise self.refused(
                    name,
                    f"one column {column}",
                    f"{have.count(column) or 'none'} among {len(have)}",
                    "record or convert the dataset again",
                )
        batches, size = [], 0
        try:
            chosen = None if groups is None else list(groups)
            for batch in file.iter_batches(rows, row_groups=chosen, columns=list(columns)):
                size += batch.nbytes
                if size > most:
                    raise self.refused(
                        name,
                        f"columns of at most {most >> 20} MiB",
                        f"more in {', '.join(columns)}",
                        "record or convert the dataset again",
                    )
                batches.append(batch)
            schema = pa.schema([file.schema_arrow.field(column) for column in columns])
            read = [batch.select(list(columns)) for batch in batches]
            return pa.Table.from_batches(read, schema if not read else None)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise unreadable(f"{name} of {self.name}", error) from error

    def _inside(self, path: Path) -> bool:
        """In the folder, or among the blobs to which a snapshot of the hub's cache links."""
        root = self.root
        if path.is_relative_to(root):
            return True
        return root.parent.name == "snapshots" and path.parent == root.parent.parent / "blobs"

    def refused(self, name: str, expected: str, found: str, fix: str) -> DatasetError:
        """The error for one of its files."""
        return DatasetError(f"{name} of {self.name}", expected=expected, found=found, fix=fix)


def unreadable(what: str, error: BaseException) -> DatasetError:
    """The error for a file of the dataset that can't be read."""
    return DatasetError(
        what, expected="files that can be read", found=first_line(error), fix=_AGAIN
    )


def validated[M: BaseModel](model: type[M], content: Mapping[str, Any], what: str) -> M:
    """A JSON object as the typed object that it should be.

    Raises:
        DatasetError: a field is missing or of another type; the first one is named.
    """
    try:
        return model.model_validate(content)
    except (ValidationError, RecursionError) as error:
        if not isinstance(error, ValidationError):
            raise unreadable(what, error) from error
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "its content"
        found = "no such field" if first["type"] == "missing" else repr(first["input"])[:80]
        raise DatasetError(
            f"{field} in {what}", expected=_expected(first["msg"]), found=found, fix=_AGAIN
        ) from None


def _expected(message: str) -> str:
    """What pydantic asks for: its messages begin with "Input should be"."""
    text = message.removeprefix("Input should be ").removeprefix("Value error, ")
    return "a value" if text == "Field required" else text


def numbers(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """A column of numbers without gaps, in its own type.

    Arrow's own ``to_numpy`` imports pandas, which takes longer than reading a dataset's metadata.
    """
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(flat, pa.ChunkedArray) or pa.types.is_boolean(flat.type):
        return np.asarray(flat.to_numpy(zero_copy_only=False))
    return np.from_dlpack(flat)


def whole_numbers(column: pa.ChunkedArray) -> NDArray[np.int64] | None:
    """A column of whole numbers; None where it has a null, a fraction, or something else."""
    kind = column.type
    if column.null_count or not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return None
    return as_whole(numbers(column))


def as_whole(values: NDArray[Any]) -> NDArray[np.int64] | None:
    """Numbers as whole ones; None where one of them is not, or is too large to tell."""
    if values.dtype.kind == "f" and not (np.abs(values) < 2**53).all():  # NaN is not, either
        return None
    whole = values.astype(np.int64)
    return whole if np.array_equal(whole, values) else None
