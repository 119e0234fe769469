"""Which frames matter: the values of ``--critical``."""

from __future__ import annotations

from typing import Literal

from policyscope.errors import UsageError

FLAG = "--critical"
Window = tuple[Literal["gripper", "slow", "column", "file"], str]
"""Of which kind, and the name of the column or the file."""


def parse_windows(text: str) -> tuple[Window, ...] | None:
    """The windows that a flag names; None for ``auto``.

    Args:
        text: ``auto``, ``none``, or a list: ``gripper``, ``slow``, ``column:NAME``, JSON files.

    Raises:
        UsageError: something else.
    """
    if text in ("auto", "none"):
        return None if text == "auto" else ()
    found: list[Window] = []
    for part in (p.strip() for p in text.split(",")):
        if part == "gripper":
            found.append(("gripper", ""))
        elif part == "slow":
            found.append(("slow", ""))
        elif part.startswith("column:") and len(part) > 7:
            found.append(("column", part.removeprefix("column:")))
        elif part.endswith(".json"):
            found.append(("file", part))
        else:
            raise UsageError(
                FLAG,
                expected="auto, none, or a list of gripper, slow, column:NAME and JSON files",
                found=repr(part)[:80],
                fix=f"{FLAG} gripper,slow or {FLAG} windows.json",
            )
    return tuple(dict.fromkeys(found))
