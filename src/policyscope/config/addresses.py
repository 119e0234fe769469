"""Where a policy server is, under which names it reads what it is shown; and where a store is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast, final
from urllib.parse import urlsplit

from policyscope.errors import UsageError

Scheme = Literal["ws", "wss", "zmq"]
_PORTS = {"ws": 80, "wss": 443, "zmq": 5555}
_FIX = "--policy.url ws://127.0.0.1:8000 (openpi, policyscope serve), or zmq://127.0.0.1:5555"


@final
@dataclass(frozen=True)
class Address:
    """A policy server.

    Attributes:
        scheme: ``ws`` and ``wss`` are openpi's protocol, ``zmq`` is GR00T's.
        host: name or number.
        port: of TCP.
        path: of a websocket, with its query; may be empty.
    """

    scheme: Scheme
    host: str
    port: int
    path: str = ""

    @property
    def url(self) -> str:
        """As it can be typed again."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parse_url(text: str) -> Address:
    """``--policy.url`` in its parts.

    Raises:
        UsageError: no address of a protocol that is spoken here, or one with a password, which
            would stand in the record.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _no_address(repr(text)) from None
    if parts.scheme in ("grpc", "grpcs"):
        raise UsageError(
            f"--policy.url {parts.scheme}://",
            expected="a protocol that carries numbers: openpi's (ws://, wss://) or GR00T's (zmq://)",
            found="lerobot's, which carries pickles both ways: whoever answers could run code here",
            fix="serve the checkpoint with policyscope serve, and --policy.url ws://HOST:8000",
        )
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "--policy.url",
            expected="an address without a name or password, since the record holds it",
            found="one with",
            fix="put the server's key into the environment: POLICYSCOPE_API_KEY=…",
        )
    scheme = "zmq" if parts.scheme == "tcp" else parts.scheme
    if scheme not in _PORTS or not host or not host.isprintable() or parts.fragment:
        raise _no_address(repr(text))
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    if scheme == "zmq" and path.strip("/"):
        raise _no_address(repr(text))
    return Address(cast(Scheme, scheme), host, port or _PORTS[scheme], path.rstrip("/"))


def _no_address(found: str) -> UsageError:
    return UsageError(
        "--policy.url", expected="ws://, wss:// or zmq:// with a host", found=found, fix=_FIX
    )


STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "memory")
"""Protocols of fsspec that carry an object whole or not at all, and wrap no others."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::|://)")


def is_url(text: str) -> bool:
    """Whether a text is an address, not a path of this machine."""
    return _URL.match(text) is not None


def parse_store(text: str, flag: str) -> str:
    """The address of a folder in an object store, ``s3://bucket/path``, without a slash at its end.

    Args:
        text: as typed. Addresses come from the command line or a config, never from a file.
        flag: that named it, for the error.

    Raises:
        UsageError: no store, or what does not belong into the record of a run: a password, a query.
            What was found is not repeated.
    """
    scheme, _, rest = text.strip().partition("://")
    fix = f"{flag} s3://bucket/path"
    if scheme.lower() not in STORES or "::" in scheme:
        raise UsageError(
            flag,
            expected=f"a path, or an address that begins with {', '.join(STORES[:-1])}://",
            found=f"{scheme.partition(':')[0][:40]}://",
            fix=fix,
        )
    user = rest.partition("/")[0].rpartition("@")[0]
    if ":" in user or (user and not scheme.lower().startswith("abfs")) or set("?#") & set(rest):
        raise UsageError(
            flag,
            expected="an address without password, query or fragment, since the record holds it",
            found="one with",
            fix="put credentials into the environment: AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…",
        )
    parts = [part for part in rest.split("/") if part]
    if not parts or not rest.isprintable() or {".", ".."} & set(parts):
        raise UsageError(flag, expected="a bucket and a path", found=repr(rest)[:80], fix=fix)
    return f"{scheme.lower()}://{'/'.join(parts)}"


@final
@dataclass(frozen=True)
class Place:
    """Where a server reads one of its inputs: ``state.arm[0:6]``, ``images[cam_high]``.

    Attributes:
        key: of the observation.
        inner: keys within it, where it is a table of tables.
        dims: of the source that go there; all by default.
    """

    key: str
    inner: tuple[str, ...] = ()
    dims: slice = slice(None)


_PLACE = re.compile(r"([^\[\]]+)((?:\[[^\[\]:]+\])*)(?:\[(\d{0,6}):(\d{0,6})\])?")


def parse_place(text: str) -> Place:
    """The right side of ``--rename_map``, for a server.

    Raises:
        UsageError: brackets that mean nothing.
    """
    found = _PLACE.fullmatch(text)
    if found is None:
        raise UsageError(
            "--rename_map",
            expected="a key of the server's, as observation/state, images[cam_high] or "
            "state.arm[0:6]",
            found=repr(text),
            fix="""--rename_map '{"observation.images.top": "images[cam_high]"}'""",
        )
    key, inner, start, stop = found.groups()
    dims = slice(int(start) if start else None, int(stop) if stop else None)
    return Place(key, tuple(re.findall(r"\[([^\[\]]+)\]", inner)), dims)
