"""Values of flags that are lists, slices or JSON."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import final

from policyscope.errors import UsageError
from policyscope.files import parse_json


def is_positive_int(text: str) -> bool:
    """Whether a text is a number of at least 1, and one that can be meant."""
    return is_count(text) and int(text) >= 1


def is_count(text: str) -> bool:
    """Whether a text is a number of at most nine digits."""
    return text.isascii() and text.isdigit() and len(text) < 10


_UNITS = {"s": 1, "m": 60, "h": 3600}


def parse_duration(text: str, flag: str) -> float:
    """Seconds of a text such as ``90s``, ``10m`` or ``1h30m``.

    Args:
        text: numbers, each with its unit.
        flag: whose value it is, for the error.

    Raises:
        UsageError: something else, or no time at all.
    """
    parts = re.findall(r"(\d{1,6}(?:\.\d{1,3})?)([smh])", text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(map("".join, parts)) != text or seconds <= 0:
        raise UsageError(
            flag,
            expected="a time with its unit: s, m or h",
            found=repr(text)[:40],
            fix=f"{flag} 10m, or 90s, or 1h30m",
        )
    return seconds


def parse_episodes(
    text: str,
    total: int,
    flag: str = "--dataset.episodes",
    *,
    known: Collection[int] | None = None,
) -> tuple[int, ...]:
    """Episode indices named by slices and lists, sorted, each once.

    Args:
        text: for example ``185:206``, ``0,3,7`` or ``:10:2,50``.
        total: number of episodes in the dataset.
        flag: whose value it is, for the error.
        known: those that are there, where some are missing; None for all.

    Raises:
        UsageError: not a list of slices and numbers, empty, or out of range.
    """
    chosen: set[int] = set()
    for part in text.strip("[] ").split(","):
        try:
            picked = _slice(part, total)
        except ValueError:
            raise UsageError(
                flag,
                expected="slices and lists of episode indices",
                found=repr(text),
                fix=f"{flag} 185:206 or 0,3,10:20",
            ) from None
        outside = _first_outside(picked, total)
        if outside is not None:
            raise UsageError(
                flag,
                expected=f"indices from 0 to {total - 1}",
                found=f"{outside} in {text!r}",
                fix=f"choose among 0:{total}",
            )
        there = picked if known is None else [e for e in known if e in picked]
        if len(there) < len(picked):
            lacking = next(e for e in picked if e not in there)
            raise UsageError(
                flag,
                expected=f"episodes that the dataset's index describes ({len(known or ())})",
                found=f"{lacking} in {text!r}, which is not among them",
                fix="choose among " + ",".join(str(e) for e in list(known or ())[:8]),
            )
        chosen.update(there)
    if not chosen:
        raise UsageError(
            flag,
            expected="at least one episode",
            found=f"{text!r}, which names none",
            fix=f"choose among 0:{total}",
        )
    return tuple(sorted(chosen))


def _slice(part: str, total: int) -> range:
    """The indices that one part of a list names; ValueError where it names none."""
    numbers = [int(bound) if bound else None for bound in (b.strip() for b in part.split(":"))]
    if len(numbers) == 1 and numbers[0] is not None:
        return range(numbers[0], numbers[0] + 1)
    if len(numbers) not in (2, 3):
        raise ValueError(part)
    start, stop = numbers[0] or 0, total if numbers[1] is None else numbers[1]
    return range(start, stop, (numbers[2:] or [1])[0] or 1)


def _index(text: str) -> int:
    """A number, possibly negative, that a machine can count to."""
    if len(text) > 18 or not text.isascii():
        raise ValueError(text)
    return int(text)


def _first_outside(picked: range, total: int) -> int | None:
    """The first number below 0 or from `total` on; a long range is not walked through."""
    if not picked or (0 <= picked[0] < total and 0 <= picked[-1] < total):
        return None
    if not 0 <= picked[0] < total:
        return picked[0]
    if picked.step < 0:
        return picked[picked[0] // -picked.step + 1]
    return picked[-(-(total - picked[0]) // picked.step)]


def parse_rename_map(text: str | None) -> dict[str, tuple[str, ...]]:
    """Dataset key → the policy keys that it feeds.

    Raises:
        UsageError: not a JSON object of strings or lists of strings.
    """
    if text is None:
        return {}
    try:
        raw = parse_json(text)
        if not isinstance(raw, dict):
            raise TypeError
        parsed = {k: (v,) if isinstance(v, str) else tuple(v) for k, v in raw.items()}
        if not all(isinstance(name, str) for names in parsed.values() for name in names):
            raise TypeError
    except (ValueError, TypeError):
        raise UsageError(
            "--rename_map",
            expected="a JSON object, dataset key to policy key or list of policy keys",
            found=repr(text),
            fix="""--rename_map '{"observation.image": "observation.images.camera1"}'""",
        ) from None
    return parsed


def parse_settings(text: str | None) -> dict[str, object]:
    """``--env.settings`` as a dict.

    Raises:
        UsageError: not a JSON object.
    """
    if text is None:
        return {}
    try:
        parsed = parse_json(text)
        if not isinstance(parsed, dict):
            raise TypeError
    except (ValueError, TypeError):
        raise UsageError(
            "--env.settings",
            expected="a JSON object, field to value",
            found=repr(text),
            fix="""--env.settings '{"control_mode": "absolute"}'""",
        ) from None
    return parsed


def parse_task_ids(text: str | None) -> tuple[int, ...] | None:
    """``--env.task_ids`` as numbers, sorted, each once; None for all.

    Raises:
        UsageError: not a list of numbers.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.strip("[] ").split(",")]
    if not all(is_count(part) for part in parts):
        raise UsageError(
            "--env.task_ids",
            expected="a list of task numbers",
            found=repr(text),
            fix="--env.task_ids 0,3,7",
        )
    return tuple(sorted({int(part) for part in parts}))


def require_between(flag: str, value: float, low: float, high: float, example: str) -> None:
    """Raise unless a number lies above one bound, and not above the other.

    Raises:
        UsageError: it does not, or is NaN.
    """
    if not low < value <= high:
        raise UsageError(
            flag,
            expected=f"a number above {low:g}, at most {high:g}",
            found=repr(value),
            fix=f"{flag} {example}",
        )


@final
@dataclass(frozen=True)
class Stop:
    """What ``--until`` asks for.

    Attributes:
        rate: stop when the success rate is shown to lie above or below this; None not to.
        width: stop when its interval is this wide at most; None not to.
    """

    rate: float | None = None
    width: float | None = None


_SHARE = re.compile(r"(width=)?(\d*\.?\d+)(%?)")


def parse_until(texts: Sequence[str]) -> Stop | None:
    """``0.5``, ``60%``, ``width=0.2``, or one of each; None for none.

    Raises:
        UsageError: anything else.
    """
    known: dict[str, float] = {}
    for text in texts:
        found = _SHARE.fullmatch(text.strip())
        share = float(found[2]) / (100 if found[3] else 1) if found else 0.0
        key = "width" if found and found[1] else "rate"
        if not 0 < share < 1 or key in known:
            raise UsageError(
                "--until",
                expected="a success rate between 0 and 1, width=… between 0 and 1, or one of each",
                found=repr(" ".join(texts)),
                fix="--until 0.5, or --until width=20%",
            )
        known[key] = share
    return Stop(**known) if known else None
