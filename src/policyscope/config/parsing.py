"""Values of flags that are lists, slices or JSON."""

from __future__ import annotations

import json

from policyscope.errors import UsageError


def is_positive_int(text: str) -> bool:
    """Whether a text is a number of at least 1."""
    return text.isascii() and text.isdigit() and int(text) >= 1


def parse_episodes(text: str, total: int, flag: str = "--dataset.episodes") -> tuple[int, ...]:
    """Episode indices named by slices and lists, sorted, each once.

    Args:
        text: for example ``185:206``, ``0,3,7`` or ``:10:2,50``.
        total: number of episodes in the dataset.
        flag: whose value it is, for the error.

    Raises:
        UsageError: not a list of slices and numbers, empty, or out of range.
    """
    chosen: set[int] = set()
    for part in text.strip("[] ").split(","):
        bounds = [b.strip() for b in part.split(":")]
        try:
            numbers = [int(b) if b else None for b in bounds]
            if len(numbers) == 1 and numbers[0] is not None:
                picked = range(numbers[0], numbers[0] + 1)
            elif len(numbers) in (2, 3):
                start, stop = numbers[0] or 0, total if numbers[1] is None else numbers[1]
                picked = range(start, stop, (numbers[2:] or [1])[0] or 1)
            else:
                raise ValueError(part)
        except ValueError:
            raise UsageError(
                flag,
                expected="slices and lists of episode indices",
                found=repr(text),
                fix=f"{flag} 185:206 or 0,3,10:20",
            ) from None
        outside = [e for e in picked if not 0 <= e < total]
        if outside:
            raise UsageError(
                flag,
                expected=f"indices from 0 to {total - 1}",
                found=f"{outside[0]} in {text!r}",
                fix=f"choose among 0:{total}",
            )
        chosen.update(picked)
    if not chosen:
        raise UsageError(
            flag,
            expected="at least one episode",
            found=f"{text!r}, which names none",
            fix=f"choose among 0:{total}",
        )
    return tuple(sorted(chosen))


def parse_rename_map(text: str | None) -> dict[str, tuple[str, ...]]:
    """Dataset key → the policy keys that it feeds.

    Raises:
        UsageError: not a JSON object of strings or lists of strings.
    """
    if text is None:
        return {}
    try:
        raw = json.loads(text)
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
        parsed = json.loads(text)
        if not isinstance(parsed, dict):
            raise TypeError
    except (ValueError, TypeError):
        raise UsageError(
            "--env.settings",
            expected="a JSON object, field to value",
            found=repr(text),
            fix="""--env.settings '{"observation_height": 256}'""",
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
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(
            "--env.task_ids",
            expected="a list of task numbers",
            found=repr(text),
            fix="--env.task_ids 0,3,7",
        )
    return tuple(sorted({int(part) for part in parts}))
