"""Runs against a base, and how many episodes a difference needs."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

from policyscope.checks.comparison import Comparison, Limit, StoredRun
from policyscope.checks.comparison import compare as compare_runs
from policyscope.config.comparing import CompareConfig
from policyscope.errors import UsageError
from policyscope.files import Door
from policyscope.metrics.gates import parse_condition
from policyscope.runs.carried import brought
from policyscope.runs.directory import RECORD
from policyscope.runs.record import read_complete

PROJECT = "policyscope.toml"
_DOOR = Door(UsageError, f"mend {PROJECT}")
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*(%?)")
_PROJECT_KEYS = {"metric", "margin", "fail_if", "undecided"}


def compare(config: CompareConfig) -> Comparison:
    """Compare finished runs with a base.

    What ``policyscope.toml`` of this folder, or of one above it, says under ``[compare]`` holds
    where the flags say nothing; its ``[baselines]`` name run directories.

    Raises:
        InputError: no finished run, a run against itself, a number that does not exist, or seeds
            that one side lacks.
    """
    project, folder = _project()
    paths = [brought(run) for run in config.runs]
    if config.baseline is not None:
        paths.insert(0, _baseline(config.baseline, project, folder))
    settings = project.get("compare", {})
    if unknown := set(settings) - _PROJECT_KEYS:
        raise _misread(f"[compare] of {', '.join(sorted(_PROJECT_KEYS))}", sorted(unknown)[0])
    base, *runs = [stored_run(path) for path in paths]
    margin = config.margin or settings.get("margin")
    return compare_runs(
        base,
        runs,
        metric=config.metric or _text(settings, "metric"),
        margin=None if margin is None else parse_margin(str(margin), base.record.kind),
        conditions=[parse_condition(t) for t in config.fail_if or _texts(settings, "fail_if")],
        undecided=_undecided(settings),
    )


def parse_margin(text: str, kind: Literal["offline", "rollout"]) -> Limit:
    """A margin: ``5%`` of the base's error, or ``0.5`` in its unit; of success, points.

    Raises:
        UsageError: neither a number nor a percentage.
    """
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            "--margin",
            expected="a percentage or a number, not negative",
            found=repr(text),
            fix="--margin 5%",
        )
    value, percent = float(found[1]), bool(found[2])
    return Limit(value / 100 if percent else value, relative=percent and kind == "offline")


def stored_run(path: Path) -> StoredRun:
    """A finished run on disk.

    Raises:
        OutputError: there is none.
    """
    record = read_complete(path)
    digest = hashlib.sha256((path / RECORD).read_bytes()).hexdigest()
    return StoredRun(path, record, digest)


def _project() -> tuple[dict[str, Any], Path]:
    """``policyscope.toml`` of this folder or the nearest one above it, and its folder."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / PROJECT).is_file():
            try:
                return tomllib.loads(_DOOR.read(folder / PROJECT, most=1 << 20).decode()), folder
            except ValueError as error:  # not TOML, or not UTF-8
                raise _misread("TOML", str(error)) from error
    return {}, here


def _baseline(name: str, project: dict[str, Any], folder: Path) -> Path:
    if not name.startswith("@"):
        return brought(name)
    known = project.get("baselines", {})
    if not isinstance(known, dict) or not isinstance(known.get(name[1:]), str):
        names = ", ".join(f"@{n}" for n in known) if isinstance(known, dict) else ""
        raise UsageError(
            f"--baseline {name}",
            expected=f"a name under [baselines] in {PROJECT}",
            found=names or "none there",
            fix=f'[baselines] {name[1:]} = "runs/{name[1:]}" in {PROJECT}',
        )
    return folder / str(known[name[1:]])


def _text(settings: dict[str, Any], key: str) -> str | None:
    value = settings.get(key)
    if value is not None and not isinstance(value, str):
        raise _misread(f"{key} as text", repr(value))
    return value


def _texts(settings: dict[str, Any], key: str) -> list[str]:
    value = settings.get(key, [])
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise _misread(f"{key} as a list of texts", repr(value))
    return value


def _undecided(settings: dict[str, Any]) -> Literal["block", "pass"]:
    value = settings.get("undecided", "block")
    if value == "pass":
        return "pass"
    if value != "block":
        raise _misread('undecided = "block" or "pass"', repr(value))
    return "block"


def _misread(expected: str, found: str) -> UsageError:
    return UsageError(PROJECT, expected=expected, found=found, fix=f"mend {PROJECT}")
