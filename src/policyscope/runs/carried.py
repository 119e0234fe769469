"""A run directory in an object store: written here, and each whole file carried there.

The run lives in a working copy, one for each address, in the cache. Each file that appears under
its name, changes or goes is carried at once, in the order in which it happened here: what lies in
the store is at every moment what a run that was killed leaves, and ``--resume`` goes on from it, on
any machine. When a run begins, its working copy becomes what the store holds.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import final

from policyscope.config.addresses import is_url, parse_store
from policyscope.data.buckets import Bucket, Stored, cache, short_hash
from policyscope.errors import InputError, OutputError
from policyscope.files import heard_by, parse_json, write_text
from policyscope.runs.lease import CLAIM, Lease
from policyscope.runs.names import LOCK, MARKER, is_whole

_AT_ONCE = 8  # files
_FLAG = "--output_dir"
_URLS: dict[Path, str] = {}
"""Working copies that were asked for in this process, and where they belong."""


def place(text: str) -> Path:
    """A directory as it was typed; the working copy of one in an object store.

    Raises:
        UsageError: an address, and of no store.
    """
    if not is_url(text):
        return Path(text).expanduser()
    url = parse_store(text, _FLAG)
    name = re.sub(r"[^\w.-]+", "-", url.rpartition("/")[2])[:80].lstrip(".")
    path = cache() / "runs" / short_hash(url) / (name or "run")
    _URLS[path] = url
    return path


def brought(text: str) -> Path:
    """The directory of a stored run: as typed, or its working copy, with what the store holds.

    Raises:
        UsageError: an address, and of no store.
        OutputError: no run there, the store does not answer, or a run here is writing to it.
    """
    path = place(text)
    if path in _URLS:
        copy = _Copy(path, _URLS[path])
        path.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            copy.bring()
    return path


def shown(path: Path) -> str:
    """A path as people may type it: that of a working copy's file is its address."""
    for root, url in _URLS.items():
        if path.is_relative_to(root):
            return f"{url}/{path.relative_to(root).as_posix()}".removesuffix("/.")
    return str(path)


def shown_in(text: str) -> str:
    """A text that names paths, with addresses in their place."""
    for root, url in _URLS.items():
        text = text.replace(str(root), url)
    return text


@contextlib.contextmanager
def carried(path: Path) -> Iterator[None]:
    """Within it, what is written to a working copy is carried to its place.

    Nothing happens to a directory of this machine. The lock of the directory is held.

    Raises:
        OutputError: the store does not answer, another run is writing there, or what lies there is
            not ours.
    """
    if path not in _URLS:
        yield
        return
    copy = _Copy(path, _URLS[path])
    copy.require_ours()
    lease = Lease(copy.bucket, copy.beside(".claim"))
    lease.take()
    try:
        copy.bring()
        copy.lease = lease
        with heard_by(copy.carry):
            yield
        copy.settle()
    except BaseException:
        if not copy.failed:
            with contextlib.suppress(InputError):
                copy.settle()
        raise
    finally:
        lease.release()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock of a working copy, to bring it up to date."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(path / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise OutputError(
            shown(path),
            expected="a run that is not being written",
            found="one that is",
            fix="wait until that is done",
        ) from error


@final
class _Copy:
    """A working copy, and what is known of its place.

    Args:
        path: where it lies.
        url: where it belongs.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.bucket = Bucket(url, _FLAG, OutputError)
        self.lease: Lease | None = None
        self.failed = False
        self._path = path
        self._there: set[str] = set()  # names of ours that the store holds
        self._sent: dict[str, list[int]] = {}  # and the look of the file here that it holds
        self._lock = threading.RLock()

    def beside(self, ending: str) -> Path:
        """A file of this machine that belongs to the copy, and is no part of it."""
        return self._path.with_name(self._path.name + ending)

    def require_ours(self) -> None:
        """Raise unless the folder is new, or was written by us.

        Raises:
            OutputError: something else lies there.
        """
        names = set(self.bucket.listing())
        strange = sorted(name for name in names if not is_whole(name) and name != CLAIM)
        foreign = {"meta/info.json": "a dataset", "model.safetensors": "a checkpoint"}
        found = next((kind for name, kind in foreign.items() if name in names), "")
        if strange and MARKER not in names:
            found = found or f"files that are not policyscope's ({', '.join(strange[:3])})"
        if found:
            raise self.bucket.refused(
                "a new or empty folder, or one that policyscope made",
                found,
                "another --output_dir: nothing here was touched",
            )

    # ── from there ────────────────────────────────────────────────────

    def bring(self) -> None:
        """Have the working copy be what the store holds."""
        listed = {k: v for k, v in self.bucket.listing().items() if is_whole(k)}
        held = self._remembered()
        lacking = []
        for name, stored in listed.items():
            version, *look = held.get(name, [""])
            if version != stored.version or look != _look(self._path / name):
                lacking.append((name, stored))
        self._clear(listed)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda one: self._fetch(*one), lacking))
        self._there = set(listed)
        self._sent = {name: _look(self._path / name) for name in listed}
        self._remember(listed)

    def _fetch(self, name: str, stored: Stored) -> None:
        self.bucket.fetch(name, stored, self._path / name)

    def _clear(self, listed: Collection[str]) -> None:
        """Remove what the store does not hold: here is nothing but its copy."""
        for name in self._names():
            if name not in listed:
                (self._path / name).unlink(missing_ok=True)
        for folder, _, _ in os.walk(self._path, topdown=False):
            with contextlib.suppress(OSError):  # whoever is not empty stays
                if Path(folder) != self._path:
                    Path(folder).rmdir()

    def _names(self) -> list[str]:
        files = (file for file in self._path.rglob("*") if not file.is_dir())
        names = (file.relative_to(self._path).as_posix() for file in files)
        return sorted(name for name in names if name != LOCK)

    def _remembered(self) -> dict[str, list[object]]:
        """Name → version there, and the look of the file here, as it was last time."""
        with contextlib.suppress(OSError, ValueError):
            known = parse_json(self.beside(".json").read_text(encoding="utf-8"))
            if isinstance(known, dict):
                return {k: v for k, v in known.items() if isinstance(v, list) and v}
        return {}

    def _remember(self, listed: dict[str, Stored]) -> None:
        known = {n: [listed[n].version, *look] for n, look in self._sent.items() if n in listed}
        write_text(self.beside(".json"), json.dumps(known))

    # ── to there ──────────────────────────────────────────────────────

    def carry(self, file: Path) -> None:
        """Have the store hold a file as it is here, or lack it as it lacks here.

        Raises:
            OutputError: the store does not answer, or another run has taken it over.
        """
        if not file.is_relative_to(self._path):
            return
        name = file.relative_to(self._path).as_posix()
        if not is_whole(name):
            return
        with self._lock:
            assert self.lease is not None
            try:
                self.lease.require_held()
                if not file.exists():
                    if name in self._there:
                        self.bucket.remove(name)
                        self._there.discard(name)
                        self._sent.pop(name, None)
                    return
                look = _look(file)
                if name not in self._there or self._sent.get(name) != look:
                    self.bucket.put(file, name)
                    self._there.add(name)
                    self._sent[name] = look
            except InputError as error:
                self.failed = True
                raise self._lost(error) from error

    def settle(self) -> None:
        """Carry what nobody told of: logs and recordings; and remember what the store holds."""
        for name in sorted({*self._there, *self._names()}):
            self.carry(self._path / name)
        self._remember(self.bucket.listing())

    def _lost(self, error: InputError) -> OutputError:
        return OutputError(
            error.what,
            expected=error.expected,
            found=error.found,
            fix=f"{error.fix}; then the same command with --resume. What is here stays in "
            f"{self._path}",
        )


def _look(file: Path) -> list[int]:
    """What changes when a file does."""
    with contextlib.suppress(OSError):
        about = file.stat()
        return [about.st_size, about.st_mtime_ns, about.st_ino]
    return []
