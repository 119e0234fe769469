"""Named arrays of a run in one safetensors file, with a JSON header: no code, no surprises."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policyscope.files import parse_json, write_whole
from policyscope.runs.tables import OURS

_HEADER = "policyscope"
_MOST = 2 << 30
_BLOCK_BYTES = 1 << 20


def write_arrays(file: Path, arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> None:
    """Write a file whole.

    Args:
        file: where.
        arrays: by name, of float64 or int64.
        header: what JSON has to say of them.
    """
    write_whole(file, lambda tmp: _save(tmp, arrays, {_HEADER: json.dumps(header)}))


def _save(file: Path, arrays: Mapping[str, NDArray[Any]], said: Mapping[str, str]) -> None:
    """The very bytes of safetensors' `save_file`, which would hold two more copies of all arrays.

    Arrays may lie in memory in any order.
    """
    names = sorted(arrays, key=lambda name: (arrays[name].dtype != np.int64, name))
    about: dict[str, Any] = {"__metadata__": dict(said)}
    end = 0
    for name in names:
        array, begin = arrays[name], end
        end += array.nbytes
        kind = _KINDS[array.dtype]
        about[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [begin, end]}
    head = json.dumps(about, separators=(",", ":"), ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    with file.open("wb") as stream:
        stream.write(len(head).to_bytes(8, "little") + head)
        for name in names:
            for block in _blocks(arrays[name]):
                stream.write(block.astype(block.dtype.newbyteorder("<"), copy=False).tobytes())


def _blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """An array in its order, in pieces that are small, so that a copy of one is."""
    if array.nbytes <= _BLOCK_BYTES or array.ndim < 2:
        yield array
    else:
        for part in array:
            yield from _blocks(part)


_KINDS = {np.dtype(np.float64): "F64", np.dtype(np.int64): "I64"}


def read_arrays(file: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read a file that `write_arrays` wrote.

    Returns:
        The arrays by name, and the header. Neither has been compared with the other.

    Raises:
        OutputError: there is none, it is too large, or not whole.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    content = OURS.read(file, most=_MOST)
    try:
        arrays = load(content)
        about = parse_json(content[8 : 8 + int.from_bytes(content[:8], "little")].decode("utf-8"))
        header = parse_json(about["__metadata__"][_HEADER])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        found = f"{type(error).__name__}: {error}"[:200]
        raise OURS.refuse(file, expected="a whole file of arrays", found=found) from error
    if not isinstance(header, dict):
        raise OURS.refuse(file, expected="a header", found=type(header).__name__)
    return arrays, header
