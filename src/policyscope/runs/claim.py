"""Whose a directory is: we write where our marker lies, one run at a time, and nowhere else.

A folder that a user names as output may be anything: a dataset, a checkpoint, a home. Only a new
or empty folder becomes ours; only what carries our marker, or is by its whole content a run of
version 0.1, which had none, is written into again. While a run goes on it holds a lock that dies
with its process.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from policyscope.errors import InputError, OutputError
from policyscope.files import Door, remove, write_text
from policyscope.runs.carried import carried
from policyscope.runs.names import HALF, INSIDE, KNOWN, LOCK, MARKER, RUNS

_MARK = {"policyscope": "this folder holds what policyscope wrote; it may replace its own files"}
_DOOR = Door(OutputError, "another --output_dir")
_DATASET = ("meta/info.json",)
_CHECKPOINT = ("model.safetensors", "config.json")
_MOST_SHOWN = 3


@contextlib.contextmanager
def claimed(path: Path, *, flag: str = "--output_dir") -> Iterator[Path]:
    """Hold a directory for one run; it is made where it is not there.

    Where nothing was written when it is let go, it is as it was before.

    Args:
        path: the directory, which is yielded.
        flag: that named it, for the error.

    Raises:
        OutputError: it holds what is not ours, can't be written, or another run holds it.
    """
    require_ours(path, flag=flag)
    made = _make(path, flag)
    with _locked(path, flag):
        require_ours(path, flag=flag)  # what lay there may have changed meanwhile
        fresh = not (path / MARKER).exists()
        if fresh:
            write_text(path / MARKER, json.dumps(_MARK) + "\n")
        try:
            yield path
        finally:
            if fresh:
                _leave(path, made)


@contextlib.contextmanager
def _locked(path: Path, flag: str) -> Iterator[None]:
    """Hold the directory's lock, which the system lets go when this process dies.

    A working copy of what lies in an object store is brought up to date, and carried there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputError(
            f"{flag} {path}",
            expected="a directory that no other run is writing",
            found="one that is being written",
            fix=f"wait until that is done, or another {flag}",
        ) from error
    except (OSError, NotImplementedError) as error:
        raise _unwritable(path, flag, error) from error
    try:
        with carried(path):
            yield
    finally:
        lock.release()


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the directory of a run whose record has been read, to draw it again.

    The record shows that it is a run's; what else lies there is not looked at, nor touched.

    Raises:
        OutputError: it can't be written, or another run holds it.
    """
    with _locked(path, "run"):
        yield


def require_ours(path: Path, *, flag: str = "--output_dir") -> None:
    """Raise unless a directory is new, empty, or ours.

    Raises:
        OutputError: it holds a dataset, a checkpoint, or other files that are not ours.
    """
    try:
        if not path.is_dir():
            if path.exists() or path.is_symlink():
                raise _foreign(path, "a file" if path.is_file() else "no directory", flag)
            return
        found = _elsewhere(path) if (path / MARKER).is_file() else _strange(path)
    except (OSError, ValueError) as error:
        raise _unwritable(path, flag, error) from error
    if found:
        raise _foreign(path, found, flag)


def remove_own(path: Path) -> None:
    """Remove a run's own files from a directory that is ours; others stay, links unfollowed."""
    for folder, known in KNOWN.items():
        _remove(path / folder, known)


def remove_halves(path: Path) -> None:
    """Remove what a killed run left of files that it was writing."""
    for folder, known in HALF.items():
        _remove(path / folder, known)


def remove_parts(path: Path) -> None:
    """Remove what only an unfinished run needs."""
    _remove(path / "parts", KNOWN["parts"])


def _remove(folder: Path, known: re.Pattern[str]) -> None:
    if folder.name in INSIDE and (folder.is_symlink() or not folder.is_dir()):
        return
    for file in folder.iterdir():
        directory = file.is_dir() and not file.is_symlink()
        if file.name != MARKER and known.fullmatch(file.name) and not directory:
            remove(file)
    if folder.name in INSIDE:
        with contextlib.suppress(OSError):  # what is not ours keeps it
            folder.rmdir()


def _elsewhere(path: Path) -> str:
    """What speaks against a directory that carries our marker; "" if nothing."""
    links = [
        entry.name
        for entry in path.iterdir()
        if entry.is_symlink()
        and (entry.name in (*INSIDE, *RUNS) or KNOWN[""].fullmatch(entry.name))
    ]
    return f"{links[0]}, a link to elsewhere" if links else _kind(path)


def _strange(path: Path) -> str:
    """What in a directory without our marker is not ours; "" if all is."""
    names = sorted(entry.name for entry in path.iterdir())
    strange = [
        name
        for name in names
        if not (
            name == LOCK
            or KNOWN[""].fullmatch(name)
            or (name in INSIDE and _ours_inside(path / name))
        )
    ]
    if strange:
        shown = ", ".join(strange[:_MOST_SHOWN]) + (", ..." if len(strange) > _MOST_SHOWN else "")
        return _kind(path) or f"files that are not policyscope's ({shown})"
    begun = re.compile(rf"{re.escape(LOCK)}|\.{re.escape(MARKER)}\.[0-9a-f]{{12}}\.tmp")
    if all(begun.fullmatch(name) for name in names) or _proven(path):
        return ""
    return f"files that only look like policyscope's ({', '.join(names[:_MOST_SHOWN])})"


def _ours_inside(inner: Path) -> bool:
    if inner.is_symlink() or not inner.is_dir():
        return False
    return all(KNOWN[inner.name].fullmatch(file.name) for file in inner.iterdir())


def _kind(path: Path) -> str:
    if any((path / name).exists() for name in _DATASET):
        return "a dataset"
    return "a checkpoint" if any((path / name).exists() for name in _CHECKPOINT) else ""


def _proven(path: Path) -> bool:
    """Whether one of the files could only have been written by us."""
    keys = {
        "run.json": {"schema_version", "kind", "status", "findings"},
        "parts/plan.json": {"episodes", "n_action_steps", "feeds"},
        "bench.json": {"policy", "dataset", "roads", "environment"},
    }
    for name, known in keys.items():
        with contextlib.suppress(InputError):
            if known <= _DOOR.object(path / name).keys():
                return True
    with contextlib.suppress(InputError), _DOOR.parquet(path / "predictions.parquet") as table:
        return b"policyscope" in (table.schema_arrow.metadata or {})
    return False


def _make(path: Path, flag: str) -> list[Path]:
    """Make a directory and those above it; returns the ones that were not there, deepest first."""
    made: list[Path] = []
    try:
        missing = [path, *path.parents]
        missing = missing[: next((i for i, p in enumerate(missing) if p.exists()), len(missing))]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            made.insert(0, folder)
    except (OSError, ValueError) as error:
        raise _unwritable(path, flag, error) from error
    return made


def _leave(path: Path, made: list[Path]) -> None:
    """Take back what was made for a run that wrote nothing."""
    with contextlib.suppress(OSError):
        if {entry.name for entry in path.iterdir()} <= {MARKER, LOCK}:
            remove(path / MARKER)
            (path / LOCK).unlink(missing_ok=True)
            for folder in made:
                folder.rmdir()


def _foreign(path: Path, found: str, flag: str) -> OutputError:
    return OutputError(
        f"{flag} {path}",
        expected="a new or empty directory, or one that policyscope made",
        found=found,
        fix=f"another {flag}: nothing here was touched",
    )


def _unwritable(path: Path, flag: str, error: Exception) -> OutputError:
    return OutputError(
        f"{flag} {path}",
        expected="a directory that can be written",
        found=str(error),
        fix=f"choose another {flag}, or make room",
    )
