"""run.json: what a run was, what it found, what it measured. Versioned, with a JSON Schema.

Everything that reads a run comes through here: what is returned is whole, of a known kind, and
in the form of this version, whichever wrote it.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter

from policyscope.errors import OutputError
from policyscope.runs.content import (
    SCHEMA_VERSION,
    AnyRecord,
    Environment,
    Offline,
    OfflineRecord,
    Rollout,
    RolloutRecord,
)
from policyscope.runs.directory import RECORD
from policyscope.runs.parts import first_problem
from policyscope.runs.tables import OURS
from policyscope.runs.upgrade import upgraded

_PACKAGES = ("policyscope", "lerobot", "torch", "transformers", "numpy", "av", "datasets")


@lru_cache
def schema() -> dict[str, Any]:
    """The JSON Schema of ``run.json``, as it ships."""
    text = files("policyscope.runs").joinpath("run.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@lru_cache
def adapter() -> TypeAdapter[AnyRecord]:
    """What makes a record of any kind from JSON."""
    kinds: Any = Annotated[Offline | Rollout, Field(discriminator="kind")]
    return TypeAdapter(kinds)


def parse_record(content: dict[str, Any]) -> AnyRecord:
    """A record from what a file holds.

    Raises:
        OutputError: it is none of this version or an earlier one; the message names the place.
    """
    try:
        return adapter().validate_python(upgraded(content))
    except ValueError as error:
        raise OutputError(
            RECORD,
            expected=f"a run record of schema version {SCHEMA_VERSION} or earlier",
            found=first_problem(error),
            fix="evaluate again with this version of policyscope",
        ) from error


def read_record(directory: Path) -> AnyRecord:
    """Read and check ``run.json``.

    Raises:
        OutputError: no run there, or none of this version or an earlier one.
    """
    path = directory / RECORD
    if not os.path.lexists(path):
        raise OutputError(
            str(directory),
            expected=f"a run directory with {RECORD}",
            found=f"no {RECORD}" if directory.is_dir() else "no such directory",
            fix="give the --output_dir of a run",
        )
    return parse_record(OURS.object(path))


def read_complete(directory: Path) -> OfflineRecord | RolloutRecord:
    """Read the record of a finished run.

    Raises:
        OutputError: as `read_record`; or the run was refused or interrupted.
    """
    record = read_record(directory)
    if isinstance(record, OfflineRecord | RolloutRecord):
        return record
    raise OutputError(
        str(directory),
        expected="a complete run",
        found=f"a {record.status} one",
        fix="finish it with --resume"
        if record.status == "partial"
        else "mend what its findings name, then evaluate again",
    )


def dump_record(record: AnyRecord) -> str:
    """The record as text: a line for each row of a table."""
    lines = [f"{_text(key)}: {_folded(value)}" for key, value in record.to_json().items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _folded(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f" {_text(row)}" for row in value) + "\n]"
    if isinstance(value, dict) and value:
        return "{\n" + ",\n".join(f" {_text(k)}: {_text(v)}" for k, v in value.items()) + "\n}"
    return _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def plain_json(content: dict[str, Any]) -> str:
    """Any other content as text, with null for NaN and inf."""
    return json.dumps(_plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def environment(*, device: str, dtype: str, seed: int) -> Environment:
    """Versions, machine and command line."""
    return Environment(
        versions={name: _version(name) for name in _PACKAGES},
        python=platform.python_version(),
        platform=platform.platform(),
        processor=platform.processor() or platform.machine(),
        device=device,
        device_name=_device_name(device),
        n_threads=_threads(),
        dtype=dtype,
        seed=seed,
        command_line=[Path(sys.argv[0]).name, *sys.argv[1:]],
    )


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
