"""Named arrays of a run in one safetensors file, with a JSON header: no code, no surprises."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policyscope.files import parse_json, write_whole
from policyscope.runs.tables import OURS

_HEADER = "policyscope"
_MOST = 2 << 30


def write_arrays(file: Path, arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> None:
    """Write a file whole.

    Args:
        file: where.
        arrays: by name.
        header: what JSON has to say of them.
    """
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    said = {_HEADER: json.dumps(header)}
    write_whole(file, lambda tmp: save_file(whole, tmp, metadata=said))


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
