"""Faults that a file or a field of it can have, made one at a time in a copy of good files."""

from __future__ import annotations

import ctypes
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Damage = Callable[[Path], None]
"""Takes the folder whose file it spoils."""

_PLACE = "\ue000place\ue000"
_DEEP = 10_000


def _plain(value: Any) -> Callable[[Any], str]:
    return lambda _: json.dumps(value)


def _other_type(value: Any) -> str:
    return '"text"' if isinstance(value, dict | list | int | float) else '{"a": [1]}'


FIELD_FAULTS: dict[str, Callable[[Any], str]] = {
    "null": _plain(None),
    "wrong type": _other_type,
    "a list": _plain([[], [1]]),
    "empty": lambda value: json.dumps(type(value)()) if value is not None else '""',
    "NaN": lambda _: "NaN",
    "inf": lambda _: "-Infinity",
    "huge": lambda _: "1" + "0" * 30,
    "huger than any float": lambda _: "1" + "0" * 400,
    "negative": _plain(-1),
    "a path": _plain("../../../../etc/passwd"),
    "nested": lambda _: "[" * _DEEP + "]" * _DEEP,
    "escapes": _plain("\x1b]0;owned\x07\x1b[31m\u202egnp\u2028\x00"),
}
"""Name of a fault → the JSON text that stands in a field's place."""


def field_damages(file: str, *path: str | int) -> Iterator[tuple[str, Damage]]:
    """All faults of one field of a JSON file; an empty path is the whole document.

    Args:
        file: a name, or a pattern of which the first match is meant.
        path: keys and indices down to the field.
    """
    for name, text in FIELD_FAULTS.items():
        yield name, _replacing(file, path, text)
    if path:
        yield "missing", _dropping(file, path)
    if path and isinstance(path[-1], str):
        yield "duplicate", _replacing(file, path, _twice(path[-1]))


def _twice(key: str) -> Callable[[Any], str]:
    return lambda value: f'{{"not": "this"}}, {json.dumps(key)}: {json.dumps(value)}'


def _parent(content: Any, path: tuple[str | int, ...]) -> Any:
    for key in path[:-1]:
        content = content[key]
    return content


def _replacing(file: str, path: tuple[str | int, ...], text: Callable[[Any], str]) -> Damage:
    def damage(folder: Path) -> None:
        place = _found(folder, file)
        content = {"whole": json.loads(place.read_text(encoding="utf-8"))}
        keys = ("whole", *path)
        parent = _parent(content, keys)
        value = parent[keys[-1]]
        parent[keys[-1]] = _PLACE
        spoiled = json.dumps(content["whole"]).replace(json.dumps(_PLACE), text(value))
        rewrite(place, spoiled.encode())

    return damage


def _dropping(file: str, path: tuple[str | int, ...]) -> Damage:
    def damage(folder: Path) -> None:
        place = _found(folder, file)
        content = json.loads(place.read_text(encoding="utf-8"))
        del _parent(content, path)[path[-1]]
        rewrite(place, json.dumps(content).encode())

    return damage


def _found(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


def rewrite(file: Path, content: bytes) -> None:
    """Write a file anew: the old one may be a hard link to the good one."""
    file.unlink()
    file.write_bytes(content)


# ── whole files ───────────────────────────────────────────────────────


def file_damages(file: str, *, flips: int = 4) -> Iterator[tuple[str, Damage]]:
    """All faults of a whole file."""
    for name, change in _CHANGES.items():
        yield name, _changing(file, change)
    for seed in range(flips):
        yield f"bit-flipped {seed}", _changing(file, _flip(seed))
    for name, put in _PUTS.items():
        yield name, _putting(file, put)


def _changing(file: str, change: Callable[[bytes], bytes]) -> Damage:
    def damage(folder: Path) -> None:
        place = _found(folder, file)
        rewrite(place, change(place.read_bytes()))

    return damage


def _flip(seed: int) -> Callable[[bytes], bytes]:
    def flip(content: bytes) -> bytes:
        spoiled = bytearray(content)
        draw = random.Random(seed)
        for _ in range(1 if seed % 2 == 0 else 32):
            spoiled[draw.randrange(len(spoiled))] ^= 1 << draw.randrange(8)
        return bytes(spoiled)

    return flip


_CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated to half": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "its tail alone": lambda content: content[len(content) // 2 :],
    "zeros": lambda content: bytes(len(content)),
    "not UTF-8": lambda _: b'{"type": "\xff\xfe"}',
    "a page of HTML": lambda _: b"<!doctype html><title>404</title>",
    "a pointer of git-lfs": lambda _: b"version https://git-lfs.github.com/spec/v1\nsize 9\n",
    "twice": lambda content: content + content,
}


def _putting(file: str, put: Callable[[Path], None]) -> Damage:
    def damage(folder: Path) -> None:
        place = _found(folder, file)
        place.unlink()
        put(place)

    return damage


def _loop(place: Path) -> None:
    other = place.with_name(place.name + ".other")
    place.symlink_to(other)
    other.symlink_to(place)


def _denied(place: Path) -> None:
    place.write_bytes(b"{}")
    place.chmod(0)


_PUTS: dict[str, Callable[[Path], None]] = {
    "missing": lambda _: None,
    "a FIFO": os.mkfifo,
    "a directory": Path.mkdir,
    "denied": _denied,
    "a symlink loop": _loop,
    "a link into the void": lambda place: place.symlink_to("nowhere/at/all"),
    "a device without end": lambda place: place.symlink_to("/dev/zero"),
}


def obey_permissions() -> None:
    """Make file permissions count for root, too: it gives up the right to override them."""
    if os.geteuid() != 0 or sys.platform != "linux":
        return

    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    class Sets(ctypes.Structure):
        _fields_ = (
            ("effective", ctypes.c_uint32),
            ("permitted", ctypes.c_uint32),
            ("inheritable", ctypes.c_uint32),
        )

    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = Header(0x20080522, 0), (Sets * 2)()
    if libc.capget(ctypes.byref(header), sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    for name in ("effective", "permitted", "inheritable"):
        kept = getattr(sets[0], name) & ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        setattr(sets[0], name, kept)
    if libc.capset(ctypes.byref(header), sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")
