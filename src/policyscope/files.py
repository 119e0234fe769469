"""Files at the door: what a stranger names is asked what it is before it is read.

A FIFO would be waited for, a device read without end, a text nested without bound or a table of
a billion equal rows would take all memory. Here each of them is one line of error instead. What
is written appears under its name only when it is whole and on disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, final

from policyscope.errors import InputError, OutputError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_JSON_BYTES = 256 << 20
_JSON_DEPTH = 64
_TABLE_BYTES = 2 << 30
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}


@final
@dataclass(frozen=True)
class Door:
    """Where the files of one kind of input come in.

    Attributes:
        kind: the error that a bad one raises.
        fix: what the user can do about it.
    """

    kind: type[InputError]
    fix: str

    def refuse(self, what: Path | str, *, expected: str, found: str) -> InputError:
        """The error for a file."""
        return self.kind(str(what), expected=expected, found=found, fix=self.fix)

    @contextlib.contextmanager
    def open(self, file: Path, *, most: int | None = None) -> Iterator[IO[bytes]]:
        """A regular file, opened for reading.

        Args:
            file: where it lies; links are followed.
            most: bytes that it may have.

        Raises:
            InputError: it is not there, can't be read, is no regular file or too large.
        """
        try:
            # without O_NONBLOCK a FIFO would be waited for
            number = os.open(file, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        except (OSError, ValueError) as error:  # ValueError: a null byte in the name
            found = error.strerror if isinstance(error, OSError) else str(error)
            raise self.refuse(file, expected="a file that can be read", found=str(found)) from error
        try:
            about = os.fstat(number)
            if not stat.S_ISREG(about.st_mode):
                kind = _KINDS.get(stat.S_IFMT(about.st_mode), "something else")
                raise self.refuse(file, expected="a regular file", found=kind)
            if most is not None and about.st_size > most:
                raise self.refuse(
                    file, expected=f"at most {most:,} bytes", found=f"{about.st_size:,}"
                )
            with os.fdopen(number, "rb", closefd=False) as stream:
                yield stream
        finally:
            os.close(number)

    def read(self, file: Path, *, most: int = _JSON_BYTES) -> bytes:
        """All bytes of a regular file (errors as in `open`)."""
        with self.open(file, most=most) as stream:
            return stream.read(most + 1)  # it may grow while it is read

    def json(
        self, file: Path, *, most: int = _JSON_BYTES, finite: bool = True, narrow: bool = True
    ) -> Any:
        """The content of a JSON file.

        Args:
            file: where it lies.
            most: bytes that it may have.
            finite: refuse NaN and infinity, which JSON has not.
            narrow: refuse whole numbers beyond 64 bits.

        Raises:
            InputError: as in `open`; or not JSON, nested too deep, a key twice, or a number
                that no machine type holds.
        """
        try:
            text = self.read(file, most=most).decode("utf-8")
            return parse_json(text, finite=finite, narrow=narrow)
        except ValueError as error:
            raise self.refuse(file, expected="JSON", found=str(error)[:200]) from error

    def object(self, file: Path, *, most: int = _JSON_BYTES, finite: bool = True) -> dict[str, Any]:
        """The content of a JSON file that holds an object (arguments and errors as in `json`)."""
        content = self.json(file, most=most, finite=finite)
        if not isinstance(content, dict):
            raise self.refuse(file, expected="a JSON object", found=type(content).__name__)
        return content

    def yaml(self, file: Path, *, most: int) -> Any:
        """The content of a YAML file that a person writes; JSON is such, too.

        Raises:
            InputError: as in `open`; or not YAML, nested too deep, or with aliases, which make
                much of little.
        """
        import yaml

        try:
            text = self.read(file, most=most).decode("utf-8")
            if any(
                isinstance(token, yaml.AliasToken) for token in yaml.scan(text, yaml.SafeLoader)
            ):
                raise ValueError("an alias (*), which has no use here")
            content = yaml.safe_load(text)
            _require_shallow(content)
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            deep = isinstance(error, RecursionError)
            found = "lists nested too deep" if deep else " ".join(str(error).split())[:200]
            raise self.refuse(file, expected="YAML or JSON", found=found) from error
        return content

    @contextlib.contextmanager
    def parquet(
        self, file: Path, *, most: int = _TABLE_BYTES, whole: bool = False
    ) -> Iterator[pq.ParquetFile]:
        """A Parquet file none of whose row groups needs more than `most` bytes of memory.

        Args:
            file: where it lies.
            most: bytes of memory.
            whole: hold all row groups together to it.

        Raises:
            InputError: as in `open`; or not Parquet, broken, or a row group is too large.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with self.open(file), pq.ParquetFile(file) as table:
                for needs in (_declared, _memory):
                    sizes = [needs(table, i) for i in range(table.metadata.num_row_groups)]
                    needed = sum(sizes) if whole else max(sizes, default=0)
                    if needed > most:
                        raise self.refuse(
                            file,
                            expected=f"tables of at most {most:,} bytes in memory",
                            found=f"one of {needed:,}",
                        )
                yield table
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # names of columns, too
            found = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise self.refuse(file, expected="a whole Parquet file", found=found) from error


_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def parse_json(text: str, *, finite: bool = True, narrow: bool = True) -> Any:
    """JSON of bounded depth, whose keys stand once and whose numbers a machine holds.

    Args:
        text: the document.
        finite: refuse NaN and infinity.
        narrow: refuse whole numbers beyond 64 bits.

    Raises:
        ValueError: it is something else.
    """

    def constant(name: str) -> float:
        if finite:
            raise ValueError(f"{name}, which is no number")
        return float(name)

    try:
        content = json.loads(
            text,
            object_pairs_hook=_once,
            parse_constant=constant,
            parse_float=_float if finite else float,
            parse_int=_int if narrow else int,  # Python's own ends at some thousand digits
        )
    except RecursionError:
        raise ValueError(f"lists or objects nested deeper than {_JSON_DEPTH}") from None
    _require_shallow(content)
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} twice in one object")
    return content


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]}, which is beyond any float")
    return value


def _int(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"a whole number of {len(text)} digits, which is beyond 64 bits")
    return int(text)


def _require_shallow(content: Any) -> None:
    level = [content]
    for _ in range(_JSON_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise ValueError(f"lists or objects nested deeper than {_JSON_DEPTH}")


def _declared(table: pq.ParquetFile, group: int) -> int:
    """What a row group says of itself."""
    return max(0, int(table.metadata.row_group(group).total_byte_size))


def column_chunks(table: pq.ParquetFile, group: int, column: str | None = None) -> list[Any]:
    """What a row group says of its columns, or of those below one of them.

    Arrow ends the whole process where such metadata is broken, unless a reader meets it first: that
    one raises.

    Raises:
        ArrowException, OSError: it is broken.
    """
    chosen = None if column is None else [column]
    next(table.iter_batches(1, row_groups=[group], columns=chosen, use_threads=False), None)
    paths = [table.schema.column(i).path for i in range(len(table.schema.names))]
    known = table.metadata.row_group(group)
    return [
        known.column(i)
        for i, path in enumerate(paths)
        if column is None or f"{path}.".startswith(f"{column}.")
    ]


def _memory(table: pq.ParquetFile, group: int) -> int:
    """About what a row group takes once it is read; what its bytes on disk are is no bound."""
    needed = 0
    for column in column_chunks(table, group):
        size = max(0, column.total_uncompressed_size)
        width = _WIDTHS.get(column.physical_type)
        if width is not None:  # runs of equal values take no room on disk
            size = max(size, column.num_values * width)
        elif column.has_dictionary_page:  # texts that stand once on disk and often in memory
            page = size
            if column.compression == "UNCOMPRESSED":
                page = max(0, column.data_page_offset - column.dictionary_page_offset)
            size += column.num_values * page
        needed += size
    return needed


# ── writing ───────────────────────────────────────────────────────────


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, then move it there: it is whole, or it is not.

    The name beside its place is nobody else's, and what is moved is on disk first: neither a
    second writer nor a power cut leaves half a file.

    Raises:
        OutputError: it can't be written.
    """
    tmp = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(tmp)
        sync(tmp)
        tmp.replace(path)
        sync(path.parent)
        changed(path)
    except OSError as error:
        raise OutputError(
            str(path),
            expected="a place that can be written",
            found=str(error),
            fix="make room, then the same command with --resume; or another --output_dir",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            tmp.unlink(missing_ok=True)


_HEARERS: list[Callable[[Path], None]] = []


@contextlib.contextmanager
def heard_by(hearer: Callable[[Path], None]) -> Iterator[None]:
    """Within it, somebody is told of each whole file that appeared under its name, or went."""
    _HEARERS.append(hearer)
    try:
        yield
    finally:
        _HEARERS.remove(hearer)


def changed(path: Path) -> None:
    """Tell whoever listens that a whole file appeared, is another one, or went."""
    for hear in tuple(_HEARERS):
        hear(path)


def remove(path: Path) -> None:
    """Remove a file, if it is there, and tell whoever listens."""
    path.unlink(missing_ok=True)
    changed(path)


def temporary_name(path: Path) -> Path:
    """A name in the same folder that no other process has."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp{path.suffix}")


def sync(path: Path) -> None:
    """Have a file, or a folder's list of names, on disk before going on."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError:
        if path.is_file():  # some file systems can't sync folders; all sync files
            raise
    finally:
        os.close(number)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole (errors as in `write_whole`)."""
    write_whole(path, lambda tmp: tmp.write_text(text, encoding="utf-8"))


def give_back_memory() -> None:
    """Let the system have what was freed: allocators keep much of it for themselves.

    Between the stages of a long run, so that one does not pay for what another needed.
    """
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):  # glibc's alone can be asked
        ctypes.CDLL(None).malloc_trim(0)
