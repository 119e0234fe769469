"""Our own Parquet tables: stamped when they are written, looked at when they are read.

Whoever reads a run back meets arrays of the shape and kind that the stamp promises, or an error
that names the file: what lies in a run directory may have been edited, cut or exchanged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.errors import OutputError
from policyscope.files import Door, parse_json, write_whole

OURS = Door(OutputError, "run it again with --overwrite")

_META = b"policyscope"
_GROUP_BYTES = 4 << 20  # of small tables that share a row group


@final
@dataclass(frozen=True)
class Stamped:
    """A table with its stamp, and the file that it came from.

    Attributes:
        file: for errors.
        table: its columns.
        stamp: what the table says about itself.
    """

    file: Path
    table: pa.Table
    stamp: Mapping[str, Any]

    def number(self, key: str) -> int:
        """A positive whole number of the stamp.

        Raises:
            OutputError: it is none.
        """
        value = self.stamp.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            raise self._refuse(f"a positive number as {key}", repr(value)[:80])
        return value

    def texts(self, key: str, n: int) -> tuple[str, ...]:
        """`n` texts of the stamp.

        Raises:
            OutputError: others, or none.
        """
        value = self.stamp.get(key)
        if not isinstance(value, list) or len(value) != n:
            raise self._refuse(f"{n} {key}", repr(value)[:80])
        if not all(isinstance(text, str) for text in value):
            raise self._refuse(f"{key} that are texts", repr(value)[:80])
        return tuple(value)

    def runs(self, name: str) -> Iterator[Stamped]:
        """The rows that follow one another with the same number in a column; no row is one, too.

        Raises:
            OutputError: the column is not there, has gaps, or holds something else.
        """
        values = self.column(name)
        ends = [*(np.flatnonzero(values[1:] != values[:-1]) + 1).tolist(), len(values)]
        for begin, end in pairwise([0, *ends]):
            yield replace(self, table=self.table.slice(begin, end - begin))

    def where(self, name: str, value: int) -> Stamped:
        """The rows whose column has that value."""
        return replace(self, table=self.table.filter(pa.array(self.column(name) == value)))

    def column(self, name: str) -> NDArray[Any]:
        """A column of numbers.

        Raises:
            OutputError: it is not there, has gaps, or holds something else.
        """
        values = self._column(name)
        if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
            raise self._refuse(f"numbers in {name}", str(values.type))
        array: NDArray[Any] = values.to_numpy()
        return array

    def matrix(self, name: str, width: int | None = None) -> NDArray[Any]:
        """A column of lists, [N, width].

        Args:
            name: of the column.
            width: of each list; None takes any that all share.

        Raises:
            OutputError: it is not there, has gaps, or its lists differ in length.
        """
        values = self._column(name).combine_chunks()
        if not pa.types.is_list(values.type):
            raise self._refuse(f"lists in {name}", str(values.type))
        flat = values.flatten()
        lengths = np.diff(values.offsets.to_numpy())
        width = width if width is not None else int(lengths[0]) if len(lengths) else 0
        if (lengths != width).any() or flat.null_count:
            strange = sorted({int(n) for n in lengths if n != width})
            found = f"others of {strange[0]}" if strange else "gaps"
            raise self._refuse(f"lists of {width} numbers in {name}", found)
        kind = flat.type
        if not (pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise self._refuse(f"lists of numbers in {name}", str(kind))
        array: NDArray[Any] = flat.to_numpy(zero_copy_only=False)
        return array.reshape(len(values), width)

    def finite(self, name: str, width: int | None = None) -> FloatArray:
        """A column of lists of finite numbers (arguments and errors as in `matrix`)."""
        array = self.matrix(name, width)
        if not np.isfinite(array).all():
            raise self._refuse(f"finite numbers in {name}", "NaN or inf")
        return array.astype(np.float64, copy=False)

    def _column(self, name: str) -> pa.ChunkedArray:
        if name not in self.table.column_names:
            raise self._refuse(f"a column {name}", ", ".join(self.table.column_names)[:120])
        values = self.table.column(name)
        if values.null_count:
            raise self._refuse(f"a value in each row of {name}", f"{values.null_count} gaps")
        return values

    def _refuse(self, expected: str, found: str) -> OutputError:
        return self.refuse(expected=expected, found=found)

    def refuse(self, *, expected: str, found: str) -> OutputError:
        """The error for this table."""
        error = OURS.refuse(self.file, expected=expected, found=found)
        assert isinstance(error, OutputError)
        return error


def write_table(file: Path, table: pa.Table, stamp: Mapping[str, Any]) -> None:
    """Write a stamped table whole.

    Raises:
        OutputError: it can't be written.
    """
    stamped = table.replace_schema_metadata({_META: json.dumps(dict(stamp)).encode()})
    write_whole(file, lambda tmp: pq.write_table(stamped, tmp, compression="zstd"))


def write_groups(file: Path, tables: Sequence[pa.Table], stamp: Mapping[str, Any]) -> None:
    """Write tables of one kind whole, few to a row group, under one stamp (errors as above)."""
    _write_groups(file, tables, tables[0].schema.remove_metadata(), stamp)


def _write_groups(
    file: Path, tables: Iterable[pa.Table], schema: pa.Schema, stamp: Mapping[str, Any]
) -> None:
    """Each table stays whole in a row group, and shares it with others while they are small.

    A group of its own for each would cost reading, and the memory of whoever opens the file, more
    than what is in it.
    """
    schema = schema.with_metadata({_META: json.dumps(dict(stamp)).encode()})

    def write(tmp: Path) -> None:
        waiting: list[pa.Table] = []
        with pq.ParquetWriter(tmp, schema, compression="zstd") as writer:
            for table in tables:
                if waiting and sum(t.nbytes for t in waiting) + table.nbytes > _GROUP_BYTES:
                    writer.write_table(pa.concat_tables(waiting))
                    waiting = []
                waiting.append(table.replace_schema_metadata(schema.metadata))
            writer.write_table(pa.concat_tables(waiting))

    write_whole(file, write)


def read_table(file: Path) -> Stamped:
    """A whole table.

    Raises:
        OutputError: it is not there, broken, too large, or not stamped.
    """
    with OURS.parquet(file, whole=True) as opened:
        return Stamped(file, opened.read(), _stamp(file, opened))


def read_groups(file: Path, columns: list[str] | None = None) -> Iterator[Stamped]:
    """A table, a row group at a time (errors as in `read_table`)."""
    with OURS.parquet(file) as opened:
        stamp = _stamp(file, opened)
        for group in range(opened.num_row_groups):
            # a few MiB are too little to share out among threads
            table = opened.read_row_group(group, columns=columns, use_threads=False)
            yield Stamped(file, table, stamp)


def read_stamp(file: Path) -> dict[str, Any]:
    """The stamp of a table alone (errors as in `read_table`)."""
    with OURS.parquet(file) as opened:
        return _stamp(file, opened)


def merge_tables(file: Path, parts: list[Path], *, drop: tuple[str, ...]) -> None:
    """Put tables together under the stamp of the first, few row groups of them to one.

    Columns that a part lacks are empty there.

    Args:
        file: where they go.
        parts: tables of one kind.
        drop: what the whole need not say of itself.

    Raises:
        OutputError: one can't be read, they don't fit together, or the place can't be written.
    """
    schemas = []
    for part in parts:
        with OURS.parquet(part) as opened:
            schemas.append(opened.schema_arrow.remove_metadata())
    stamp = {key: value for key, value in read_stamp(parts[0]).items() if key not in drop}
    try:
        schema = pa.unify_schemas(schemas)
    except pa.ArrowException as error:
        raise OURS.refuse(
            parts[0].parent, expected="parts of one kind", found=str(error).splitlines()[0]
        ) from error

    def complete(table: pa.Table) -> pa.Table:
        for name in schema.names:
            if name not in table.column_names:
                empty = pa.nulls(len(table), schema.field(name).type)
                table = table.append_column(name, empty)
        return table.select(schema.names)

    pieces = (complete(stored.table) for part in parts for stored in read_groups(part))
    _write_groups(file, pieces, schema, stamp)


def lists(values: NDArray[Any], kind: pa.DataType | None = None) -> pa.Array:
    """[N, …] as N lists."""
    width = int(np.prod(values.shape[1:]))
    flat = np.ascontiguousarray(values.reshape(-1), dtype=None if kind else np.float64)
    offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * width)
    return pa.ListArray.from_arrays(offsets, pa.array(flat, kind))


def _stamp(file: Path, opened: pq.ParquetFile) -> dict[str, Any]:
    text = (opened.schema_arrow.metadata or {}).get(_META)
    if text is None:
        raise OURS.refuse(file, expected="a table that policyscope wrote", found="another one")
    try:
        stamp = parse_json(text.decode("utf-8"), finite=False)
    except ValueError as error:
        raise OURS.refuse(file, expected="a stamp in JSON", found=str(error)[:120]) from error
    if not isinstance(stamp, dict):
        raise OURS.refuse(file, expected="a stamp", found=type(stamp).__name__)
    return stamp
