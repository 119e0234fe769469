"""A dataset in an object store: its files are brought here when somebody first asks for them.

They lie as the hub's cache lays them out: objects under a name made of their version, and folders
of links to these. An object that changed is another one, one that did not is never fetched twice.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import final

from filelock import FileLock

from policyscope.data.buckets import Bucket, Stored, cache, is_plain, short_hash
from policyscope.data.info import INFO
from policyscope.errors import DatasetError
from policyscope.files import temporary_name

_AT_ONCE = 16  # questions
_TRIES = 3


@final
class Mirror:
    """What is here of a dataset in a store.

    Metadata is brought when it is opened, any other file when it is first asked for; within a
    process a file that was brought stays what it was.

    Args:
        url: the dataset's folder.

    Attributes:
        root: where the files lie that were brought.
        url: as it can be typed again.

    Raises:
        UsageError: no address of a store.
        DatasetError: no dataset there, or the store does not answer.
    """

    def __init__(self, url: str) -> None:
        self._bucket = Bucket(url, "--dataset.root", DatasetError)
        self.url = self._bucket.url
        meta = self._bucket.listing("meta")
        if INFO not in meta:
            raise self._bucket.refused(
                f"the address of a LeRobot v3.0 dataset (it holds {INFO})",
                f"none below it among {len(meta)} objects of meta/",
                "give the address of the dataset's own folder",
            )
        place = cache() / "datasets" / short_hash(self.url)
        version = short_hash(*(f"{name} {known.version}" for name, known in meta.items()))
        self._blobs = place / "blobs"
        self.root = place.resolve() / "snapshots" / version
        self._known: dict[str, Stored | None] = dict(meta)
        self._here: set[str] = set()
        self._lock = threading.Lock()
        for name in meta:
            self.bring(name)

    def has(self, names: Iterable[str]) -> list[bool]:
        """Whether the store holds files of these names."""
        asked = [name for name in names if is_plain(name)]
        unknown = [name for name in asked if name not in self._known]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            self._known |= zip(unknown, pool.map(self._bucket.about, unknown), strict=True)
        return [self._known.get(name) is not None for name in names]

    def below(self, folder: str, suffix: str) -> list[str]:
        """Names of the files below a folder that were brought, sorted."""
        inside = "" if folder == "." else f"{folder}/"
        return sorted(n for n in self._here if n.startswith(inside) and n.endswith(suffix))

    def bring(self, name: str) -> None:
        """Have a file here, where the store holds one of that name.

        Raises:
            DatasetError: the store does not answer, or there is no room for it.
        """
        if name in self._here or not is_plain(name):
            return
        with self._lock:
            for _ in range(_TRIES):
                if name in self._here or not self.has([name])[0]:
                    return
                stored = self._known[name]
                assert stored is not None
                blob = self._blobs / short_hash(name, stored.version, str(stored.size))
                fresh = self._fetched(name, stored, blob)
                if not fresh or self._bucket.about(name) == stored:
                    _link(self.root / name, blob)
                    self._here.add(name)
                    return
                blob.unlink()  # another version came while it was fetched
                del self._known[name]
        raise self._bucket.refused(
            "a dataset that stays as it is while it is read", f"{name} changed", "try again"
        )

    def _fetched(self, name: str, stored: Stored, blob: Path) -> bool:
        """Fetch an object unless it is here; other processes wait for the one that does."""
        if blob.exists():
            return False
        blob.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(blob.with_suffix(".lock")):
            if blob.exists():
                return False
            self._bucket.fetch(name, stored, blob)
        return True


def _link(place: Path, blob: Path) -> None:
    """Have a link lead to an object, in one step."""
    place.parent.mkdir(parents=True, exist_ok=True)
    tmp = temporary_name(place)
    tmp.symlink_to(os.path.relpath(blob.resolve(), place.parent.resolve()))
    tmp.replace(place)
