"""Object stores: the folder at an address such as ``s3://bucket/path``, by way of fsspec.

Credentials and endpoints are the environment's. Whatever a store raises becomes one line, without
the queries of signed addresses; nothing waits for ever.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from policyscope.config.addresses import parse_store
from policyscope.errors import InputError, first_line
from policyscope.files import sync, temporary_name

LOGGER = logging.getLogger("policyscope")
"""What takes long is said here; the command line shows it."""

_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "s3": {
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": 10,
            "retries": {"total_max_attempts": 2, "mode": "standard"},  # s3fs tries five times
        }
    }
}
_SPARE = 64 << 20  # bytes of disk that are left to others
_LONG = 32 << 20  # bytes that take a while
_CHECK = "check the address, the network, and AWS_ENDPOINT_URL where one is set"


def cache() -> Path:
    """Where copies of what lies in stores are kept; whoever deletes it loses time alone."""
    given = os.environ.get("POLICYSCOPE_CACHE")
    if given:
        return Path(given).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser().absolute() / "policyscope"


def short_hash(*texts: str) -> str:
    """A name for what these texts say together."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24]


@final
@dataclass(frozen=True)
class Stored:
    """An object in a store.

    Attributes:
        size: bytes.
        version: a text that changes when the object does.
    """

    size: int
    version: str

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Stored:
        """What fsspec says about it, which each store does in its own words."""
        known = next((about[k] for k in ("ETag", "etag", "generation") if about.get(k)), None)
        times = [str(about.get(k)) for k in ("LastModified", "last_modified", "mtime", "created")]
        return cls(int(about["size"]), " ".join(times) if known is None else str(known))


@final
class Bucket:
    """A folder in an object store.

    Args:
        url: its address, as `parse_store` takes it.
        flag: that named it, for errors.
        kind: of the errors.

    Attributes:
        url: the same, as it can be typed again.

    Raises:
        UsageError: no address of a store.
        InputError: the package that speaks with it is not installed.
    """

    def __init__(self, url: str, flag: str, kind: type[InputError]) -> None:
        self.url = parse_store(url, flag)
        self._flag, self._kind = flag, kind
        protocol, _, self._root = self.url.partition("://")
        with self._asked("is opened"):
            self._store = self._opened(protocol)

    def listing(self, below: str = "") -> dict[str, Stored]:
        """Name → object, of all that lie below a folder; names that lead elsewhere are left out.

        Raises:
            InputError: the store does not answer, or not us.
        """
        with self._asked("is listed"):
            found = self._store.find(self._path(below), detail=True)
        start = self._store._strip_protocol(f"{self.url}/").strip("/") + "/"
        names = {path.lstrip("/").removeprefix(start): path for path in found}
        return {
            name: Stored.of(found[path])
            for name, path in sorted(names.items())
            if is_plain(name) and path.lstrip("/").startswith(start)
        }

    def about(self, name: str) -> Stored | None:
        """An object; None where there is none of that name (errors as in `listing`)."""
        with self._asked("is looked at"):
            try:
                about = self._store.info(self._path(name))
            except FileNotFoundError:
                return None
        return Stored.of(about) if about.get("type") == "file" else None

    def fetch(self, name: str, stored: Stored, to: Path) -> None:
        """Bring an object to a place on this machine, whole or not at all.

        Raises:
            InputError: there is no room, it went away, it has another size than it had, or as in
                `listing`.
        """
        require_room(to.parent, stored.size, self._kind, f"{self.url}/{name}")
        if stored.size > _LONG:
            LOGGER.info("fetching %s/%s (%d MB)", self.url, name, stored.size // 10**6)
        tmp = temporary_name(to)
        try:
            with self._asked("is fetched"):
                self._store.get_file(self._path(name), str(tmp))
                if tmp.stat().st_size != stored.size:
                    raise OSError(f"{tmp.stat().st_size} bytes of {stored.size}")
                sync(tmp)
                tmp.replace(to)
        finally:
            tmp.unlink(missing_ok=True)

    def put(self, file: Path, name: str) -> None:
        """Carry a whole file there (errors as in `listing`)."""
        if (size := file.stat().st_size) > _LONG:
            LOGGER.info("carrying %s/%s (%d MB)", self.url, name, size // 10**6)
        with self._asked("is written"):
            self._store.put_file(str(file), self._path(name))

    def write(self, name: str, content: bytes) -> None:
        """Write a small object (errors as in `listing`)."""
        with self._asked("is written"):
            self._store.pipe_file(self._path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Write a small object unless one is there; whether it was written."""
        with self._asked("is written"):
            try:
                self._store.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                return False
        return True

    def read(self, name: str, most: int) -> bytes | None:
        """The first bytes of a small object; None where there is none."""
        with self._asked("is read"):
            try:
                content: bytes = self._store.cat_file(self._path(name), start=0, end=most)
            except FileNotFoundError:
                return None
        return content

    def remove(self, name: str) -> None:
        """Remove an object, if it is there (errors as in `listing`)."""
        with self._asked("is written"), contextlib.suppress(FileNotFoundError):
            self._store.rm_file(self._path(name))

    def refused(self, expected: str, found: str, fix: str) -> InputError:
        """The error for what lies there."""
        return self._kind(f"{self._flag} {self.url}", expected=expected, found=found, fix=fix)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    def _opened(self, protocol: str) -> Any:
        import fsspec
        from fsspec.registry import known_implementations

        try:
            store = fsspec.get_filesystem_class(protocol)
        except ImportError as error:
            own = protocol in ("s3", "s3a")
            said = str(known_implementations[protocol].get("err", protocol))
            raise self.refused(
                expected="the package that speaks with such a store",
                found="s3fs is not installed" if own else "it is not installed",
                fix="pip install 'policyscope[s3]'" if own else said,
            ) from error
        options = dict(_OPTIONS.get(protocol.removesuffix("a"), {}))
        return store(skip_instance_cache=True, use_listings_cache=False, **options)

    @contextlib.contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Say in one line what went wrong, whichever of many errors a store raised."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # each store has a family of its own
            found = re.sub(r"\?[^\s'\"]*", "?…", first_line(error))
            denied = isinstance(error, PermissionError) or "credential" in found.lower()
            raise self.refused(
                expected=f"a store that answers while it {what}",
                found=f"{type(error).__name__}: {found}",
                fix="credentials in the environment that may do this (AWS_PROFILE, or "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
                if denied
                else _CHECK,
            ) from error


def is_plain(name: str) -> bool:
    """Whether a name of an object is a path that stays below its folder, here as there."""
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and not {"", ".", ".."} & set(parts)


def require_room(folder: Path, size: int, kind: type[InputError], what: str) -> None:
    """Raise unless a disk has room for so many bytes.

    Raises:
        InputError: it has not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size + _SPARE > free:
        raise kind(
            what,
            expected=f"room for {size:,} bytes in {folder}",
            found=f"{free:,} free",
            fix="make room, or have POLICYSCOPE_CACHE name a folder on a larger disk",
        )
