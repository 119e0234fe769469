"""run.json: what a run was, what it found, what it measured. Versioned, with a JSON Schema."""

from __future__ import annotations

import json
import os
import platform
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from policyscope.errors import OutputError
from policyscope.runs.directory import RECORD
from policyscope.runs.tables import OURS

SCHEMA_VERSION = 1
_PACKAGES = ("policyscope", "lerobot", "torch", "transformers", "numpy", "av", "datasets")


@lru_cache
def schema() -> dict[str, Any]:
    """The JSON Schema of ``run.json``, as it ships."""
    text = files("policyscope.runs").joinpath("run.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def validate_record(record: dict[str, Any]) -> None:
    """Check a record against the schema.

    Raises:
        OutputError: it does not conform; the message names the place.
    """
    import jsonschema

    try:
        jsonschema.validate(record, schema())
    except jsonschema.ValidationError as error:
        raise OutputError(
            RECORD,
            expected=f"a run record of schema version {SCHEMA_VERSION}",
            found=f"{error.json_path}: {error.message[:200]}",
            fix="evaluate again with this version of policyscope",
        ) from error


def read_record(directory: Path) -> dict[str, Any]:
    """Read and check ``run.json``.

    Raises:
        OutputError: no run there, or not one of this version.
    """
    path = directory / RECORD
    if not os.path.lexists(path):
        raise OutputError(
            str(directory),
            expected=f"a run directory with {RECORD}",
            found=f"no {RECORD}" if directory.is_dir() else "no such directory",
            fix="give the --output_dir of a run",
        )
    record = OURS.object(path)
    validate_record(record)
    return record


def dump_record(record: dict[str, Any]) -> str:
    """The record as text; NaN and inf become null, since JSON has neither."""
    plain = _plain(record)
    validate_record(plain)
    return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def plain_json(content: dict[str, Any]) -> str:
    """Any other content as text, with null for NaN and inf."""
    return json.dumps(_plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def environment(*, device: str, dtype: str, seed: int) -> dict[str, Any]:
    """Versions, machine and command line."""
    return {
        "versions": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "device": device,
        "device_name": _device_name(device),
        "n_threads": _threads(),
        "dtype": dtype,
        "seed": seed,
        "command_line": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _device_name(device: str) -> str:
    torch = sys.modules.get("torch")
    if device == "cuda" and torch is not None:
        return str(torch.cuda.get_device_name())
    return device


def _threads() -> int | None:
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch is not None else None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value
