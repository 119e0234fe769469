"""What travels: msgpack with numpy's arrays in it, in the forms of openpi and of GR00T.

openpi sends an array as its bytes, dtype and shape, GR00T as the content of a ``.npy`` file. Both
are read here with the same care: plain numbers alone, and exactly as many bytes as the shape says.
"""

from __future__ import annotations

import io
import math
import re
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from policyscope.errors import InputError, RemoteError, UsageError, first_line

MOST_BYTES = 16 * 2**20
"""Of a message to us: a chunk of 1 000 steps of 100 dims has 800 kB."""
_MOST_TABLES = 10_000
_MOST_AXES = 8
_NUMBERS = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248])")
_HEADER = 4096  # bytes of a .npy file's beginning
_NPY: Any = np.lib.format

Form = Literal["openpi", "groot"]


def require_extra(name: str) -> Any:
    """A module of the extra ``remote``.

    Raises:
        UsageError: it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            "policy servers",
            expected=f"the package {name.partition('.')[0]}",
            found=first_line(error),
            fix="pip install 'policyscope[remote]'",
        ) from error


def pack(value: Any, form: Form) -> bytes:
    """A message of dicts, lists, texts, numbers and arrays."""
    msgpack = require_extra("msgpack")
    packed: bytes = msgpack.packb(value, default=_TABLES[form])
    return packed


def _as_bytes(value: Any) -> Any:
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    if not isinstance(value, np.ndarray) or not _NUMBERS.fullmatch(value.dtype.str):
        raise TypeError(f"no numbers: {type(value).__name__}")
    data, shape = value.tobytes(), value.shape
    return {b"__ndarray__": True, b"data": data, b"dtype": value.dtype.str, b"shape": shape}


def _as_file(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"no array: {type(value).__name__}")
    file = io.BytesIO()
    np.save(file, value, allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": file.getvalue()}


_TABLES = {"openpi": _as_bytes, "groot": _as_file}


def unpack(
    data: bytes, what: str, *, most: int = MOST_BYTES, kind: type[InputError] = RemoteError
) -> Any:
    """A message from a stranger.

    Args:
        data: its bytes.
        what: whose message it is, for the error.
        most: bytes that it may have.
        kind: the error that a bad one raises.

    Raises:
        InputError: not msgpack; an array of something else than numbers, or of another size than
            it says; or more tables than an answer has.
    """
    msgpack = require_extra("msgpack")
    n = 0

    def counted(value: Any) -> Any:
        nonlocal n
        n += 1
        if n > _MOST_TABLES:
            raise ValueError(f"more than {_MOST_TABLES} tables and lists")
        return _array(value) if isinstance(value, dict) else value

    try:
        if len(data) > most:
            raise ValueError(f"{len(data):,} bytes, more than {most:,}")
        return msgpack.unpackb(
            data, object_hook=counted, list_hook=counted, max_ext_len=0, timestamp=0
        )
    except Exception as error:  # whatever msgpack and numpy raise on nonsense
        raise kind(
            what,
            expected="msgpack of numbers, texts and numpy arrays",
            found=first_line(error),
            fix="ask a server that speaks openpi's or GR00T's protocol",
        ) from error


def _array(table: dict[Any, Any]) -> Any:
    if b"__ndarray__" in table:
        return _numbers(table[b"data"], table[b"dtype"], table[b"shape"])
    if b"__npgeneric__" in table:
        value = table[b"data"]
        if not isinstance(value, bool | int | float | str):
            raise ValueError(f"a {type(value).__name__} as a number")
        return value
    if "__ndarray_class__" in table:
        return _of_file(table["as_npy"])
    return table


def _numbers(data: Any, dtype: Any, shape: Any, *, columns: bool = False) -> NDArray[Any]:
    if not (isinstance(dtype, str) and _NUMBERS.fullmatch(dtype)):
        raise ValueError(f"an array of dtype {str(dtype)[:40]!r}")
    whole = isinstance(shape, list | tuple) and len(shape) <= _MOST_AXES
    if not (whole and all(type(n) is int and 0 <= n < 2**31 for n in shape)):
        raise ValueError(f"an array of shape {str(shape)[:80]}")
    known = np.dtype(dtype)
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * known.itemsize:
        found = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise ValueError(f"an array of shape {list(shape)} and {dtype} in {found}")
    return np.frombuffer(data, known).reshape(shape, order="F" if columns else "C")


def _of_file(content: Any) -> NDArray[Any]:
    """The array of a ``.npy`` file; numpy's own reader takes the memory before it has the bytes."""
    if not isinstance(content, bytes):
        raise ValueError(f"a {type(content).__name__} as a .npy file")
    file = io.BytesIO(content)
    version = _NPY.read_magic(file)
    readers = {(1, 0): _NPY.read_array_header_1_0, (2, 0): _NPY.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"a .npy file of version {version}")
    shape, columns, dtype = readers[version](file, max_header_size=_HEADER)
    return _numbers(content[file.tell() :], dtype.str, shape, columns=columns)
