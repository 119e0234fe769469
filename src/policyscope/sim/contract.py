"""What an environment gives, taken as it should be or refused: one contract, one code.

`check_env` and `rollout` both read environments through these functions, so that what one lets
pass the other does. Values are copied: many environments write into the same arrays at each step.
Nothing is guessed: a text is not a success, a picture of floats may end at 1 or at 255.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.errors import UsageError

Observation = dict[str, Any]
"""Nested dicts of arrays that nobody else writes into."""

Layout = Mapping[str, tuple[tuple[int, ...], str]]
"""Key of an observation, nested ones joined by dots → shape and type of its array."""

SOLVED, UNSOLVED, UNSAID = 1, 0, -1
"""What an environment says of its task at one step."""

SUCCESS_KEYS = ("is_success", "success")
_MOST_NUMBERS = 100_000
_STATES = ("agent_pos", "environment_state", "robot_state")


@final
class ContractError(UsageError):
    """An environment breaks the contract.

    Attributes:
        code: which part of it: a stable word, ``picture`` for example.
    """

    def __init__(self, code: str, *, expected: str, found: str, fix: str, what: str = "") -> None:
        self.code = code
        super().__init__(what or "the environment", expected=expected, found=found, fix=fix)

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross process borders whole."""
        return _again, (self.code, self.expected, self.found, self.fix, self.what)

    def of(self, name: str) -> ContractError:
        """The same, of an environment with a name."""
        return ContractError(
            self.code, expected=self.expected, found=self.found, fix=self.fix, what=name
        )


def _again(code: str, expected: str, found: str, fix: str, what: str) -> ContractError:
    return ContractError(code, expected=expected, found=found, fix=fix, what=what)


def reset_result(answer: Any) -> tuple[Any, Mapping[str, Any]]:
    """Observation and info, of what ``reset`` returned."""
    if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], Mapping)):
        raise ContractError(
            "reset",
            expected="reset(seed=…, options=…) to return (observation, info)",
            found=described(answer),
            fix="gymnasium's interface, version 0.26 or newer",
        )
    return answer


def step_result(answer: Any) -> tuple[Any, float, bool, bool, Mapping[str, Any]]:
    """Observation, reward, terminated, truncated and info, of what ``step`` returned."""
    if not (isinstance(answer, tuple) and len(answer) == 5 and isinstance(answer[4], Mapping)):
        raise ContractError(
            "step",
            expected="step(action) to return (observation, reward, terminated, truncated, info)",
            found=described(answer),
            fix="gymnasium's interface, version 0.26 or newer",
        )
    raw, reward, terminated, truncated, info = answer
    return (
        raw,
        _reward(reward),
        _ending("terminated", terminated),
        _ending("truncated", truncated),
        info,
    )


def said(info: Mapping[str, Any]) -> int:
    """Whether an info says that the task is solved: `SOLVED`, `UNSOLVED` or `UNSAID`.

    ``is_success`` (lerobot's word) is read before ``success`` (Meta-World's, ManiSkill's), the
    info itself before the ``final_info`` of environments that reset themselves.

    Raises:
        ContractError: it says something that is neither true nor false.
    """
    final_info = info.get("final_info")
    for place in (info, final_info if isinstance(final_info, Mapping) else {}):
        for key in SUCCESS_KEYS:
            if key in place and place[key] is not None:
                answer = flag(place[key])
                if answer is None:
                    raise ContractError(
                        "success",
                        expected=f'info["{key}"] to be true or false (or 1 or 0)',
                        found=described(place[key]),
                        fix=f'info["{key}"] = bool(solved)',
                    )
                return SOLVED if answer else UNSOLVED
    return UNSAID


def flag(value: Any) -> bool | None:
    """A truth value, of bools and of the numbers 0 and 1, alone or in an array; else None."""
    number = _number(value)
    return bool(number) if number in (0.0, 1.0) else None


def observation(raw: Any, *, pictures: bool = True) -> Observation:
    """An observation as a dict of arrays, copied; texts and None are left out.

    Args:
        raw: as the environment gave it.
        pictures: whether anybody will look at the pictures; else they are left out, too.

    Raises:
        ContractError: it is neither a dict, a picture nor a vector, or breaks the contract.
    """
    if not isinstance(raw, Mapping):
        array = as_array(raw)
        if array is None:
            raise ContractError(
                "observation",
                expected="a dict with agent_pos and/or pixels, or an array",
                found=described(raw),
                fix="name the robot's state agent_pos and its picture pixels",
            )
        raw = {"pixels" if array.dtype == np.uint8 else "agent_pos": array}
    if not pictures:
        raw = {key: value for key, value in raw.items() if key != "pixels"}
    read = _copied(raw)
    _pictures(read)
    if pictures and not read.keys() & {"pixels", *_STATES, "policy", "camera_obs"}:
        raise ContractError(
            "observation",
            expected="agent_pos or pixels",
            found=", ".join(map(str, raw)) or "nothing",
            fix="name the robot's state agent_pos and its picture pixels",
        )
    for key in ("agent_pos", "environment_state"):
        _vector(key, read.get(key))
    return read


def same(a: Observation, b: Any) -> bool:
    """Whether two observations hold the same numbers."""
    if not isinstance(b, dict) or a.keys() != b.keys():
        return False
    return all(
        same(value, b[key]) if isinstance(value, dict) else np.array_equal(value, b[key])
        for key, value in a.items()
    )


def layout(read: Observation, prefix: str = "") -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and types of an observation."""
    rows: dict[str, tuple[tuple[int, ...], str]] = {}
    for key, value in read.items():
        if isinstance(value, dict):
            rows |= layout(value, f"{prefix}{key}.")
        else:
            rows[f"{prefix}{key}"] = (value.shape, str(value.dtype))
    return rows


def require_layout(read: Observation, expected: Layout) -> None:
    """Raise where an observation has other keys or shapes than the first one had.

    Raises:
        ContractError: it has.
    """
    found = layout(read)
    for key in [*expected, *(key for key in found if key not in expected)]:
        if found.get(key) != expected.get(key):
            before, now = (
                f"{rows[key][1]} {rows[key][0]}" if key in rows else "nothing"
                for rows in (expected, found)
            )
            raise ContractError(
                "shapes",
                expected=f"{key} as in the first observation, {before}",
                found=now,
                fix="observations of one shape, whatever seed and step",
            )


def picture(value: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """[H, W, 3] what ``render`` returned, copied.

    Raises:
        ContractError: it is no such picture.
    """
    array = as_array(value)
    if array is None or not _is_picture(array):
        raise ContractError(
            "render",
            expected="render() to return [H, W, 3] uint8",
            found=described(value),
            fix="render_mode rgb_array",
        )
    return np.array(array, order="C")


def rate(metadata: Any) -> float | None:
    """Control steps a second, as an environment's metadata say; None where they don't.

    Raises:
        ContractError: they say something that is no rate.
    """
    value = metadata.get("render_fps") if isinstance(metadata, Mapping) else None
    if value is None:
        return None
    hertz = _number(value)
    if hertz is None or not 0 < hertz < math.inf:
        raise ContractError(
            "rate",
            expected='metadata["render_fps"] to be a number above 0, the control rate',
            found=described(value),
            fix='metadata = {"render_modes": ["rgb_array"], "render_fps": 20}',
        )
    return hertz


def bounds(space: Any) -> tuple[FloatArray, FloatArray]:
    """Lower and upper ends [A] of a space of actions.

    Raises:
        ContractError: an action is no vector of floats there.
    """
    shape, dtype = getattr(space, "shape", None), getattr(space, "dtype", None)
    low, high = (getattr(space, name, None) for name in ("low", "high"))
    if (
        low is None
        or high is None
        or len(shape or ()) != 1
        or not shape
        or not shape[0]
        or not np.issubdtype(np.dtype(dtype), np.floating)
    ):
        raise ContractError(
            "action",
            expected="a one-dimensional Box of float actions",
            found=str(space),
            fix="wrap it so that an action is a vector of floats",
        )
    return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)


def words(value: Any, n: int) -> tuple[str, ...] | None:
    """Names or units of n dims, as an attribute of an environment holds them; else None."""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return None
    listed = tuple(value)
    return listed if len(listed) == n and all(isinstance(w, str) for w in listed) else None


def numbers(info: Mapping[str, Any]) -> dict[str, FloatArray]:
    """The numbers of an info as flat arrays of their own; all else is left out."""
    kept: dict[str, FloatArray] = {}
    for name, value in info.items():
        array = as_array(value)
        if isinstance(name, str) and array is not None and array.size <= _MOST_NUMBERS:
            kept[name] = np.array(array, dtype=np.float64).reshape(-1)
    return kept


def as_array(value: Any) -> np.ndarray[Any, Any] | None:
    """Numbers as an array, be they a tensor, a list or a scalar; None for all else."""
    if hasattr(value, "detach"):  # a tensor, perhaps on a GPU
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # ragged lists, tensors without numpy
        return None
    return array if array.dtype.kind in "fiub" else None


def described(value: Any) -> str:
    """A value in a few words, for a message."""
    if isinstance(value, tuple):
        return f"{len(value)} values"
    array = None if isinstance(value, bool | int | float) else as_array(value)
    if array is not None and array.ndim:
        return f"{array.dtype} of shape {array.shape}"
    if isinstance(value, str | bool | int | float) or value is None:
        return repr(value)[:60]
    return type(value).__name__


def _number(value: Any) -> float | None:
    """A float, of a number alone or in an array or tensor; None for all else."""
    array = None if isinstance(value, str | bytes) else as_array(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _reward(value: Any) -> float:
    number = _number(value)
    if number is None:
        raise ContractError(
            "reward", expected="a number as reward", found=described(value), fix="return a float"
        )
    return number


def _ending(name: str, value: Any) -> bool:
    answer = flag(value)
    if answer is None:
        raise ContractError(
            "step",
            expected=f"{name} to be true or false",
            found=described(value),
            fix="gymnasium's interface, version 0.26 or newer",
        )
    return answer


def _copied(raw: Mapping[Any, Any], prefix: str = "") -> Observation:
    read: Observation = {}
    for key, value in raw.items():
        if isinstance(value, Mapping):
            read[str(key)] = _copied(value, f"{prefix}{key}.")
        elif value is None or _is_text(value):
            continue  # nothing that a policy reads; the instruction is an attribute
        else:
            array = as_array(value)
            if array is None:
                raise ContractError(
                    "observation",
                    expected=f"{prefix}{key} to hold numbers",
                    found=described(value),
                    fix="arrays of numbers, in dicts",
                )
            read[str(key)] = np.array(array)
    return read


def _is_text(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return True
    kind = getattr(value, "dtype", None)
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(item, str | bytes) for item in value)
    return isinstance(kind, np.dtype) and kind.kind in "US"


def _is_picture(array: np.ndarray[Any, Any]) -> bool:
    """RGB, channels last; lerobot tells the channels' axis by its being the shortest."""
    rgb = array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3
    return rgb and min(array.shape[:2]) > 3


def _pictures(read: Observation) -> None:
    pixels = read.get("pixels", {})
    for name, array in (pixels if isinstance(pixels, dict) else {"pixels": pixels}).items():
        nested = isinstance(array, dict)
        if nested or not _is_picture(array):
            raise ContractError(
                "picture",
                expected=f"{name} of shape [H, W, 3], H and W above 3, and type uint8",
                found="a dict" if nested else described(array),
                fix="RGB, channels last, 0 to 255",
            )
    for name, array in read.items():
        if name != "pixels" and not isinstance(array, dict):
            _no_picture(name, array)


def _no_picture(name: str, array: np.ndarray[Any, Any]) -> None:
    if array.dtype == np.uint8 and array.ndim >= 3:
        camera = name.removeprefix("observation.").removeprefix("images.")
        raise ContractError(
            "picture",
            expected="pictures under the key pixels",
            found=f"one under {name}",
            fix=f'{{"pixels": {{"{camera}": picture}}}}, which policies see as '
            f"observation.images.{camera}",
        )


def _vector(key: str, array: Any) -> None:
    if array is None:
        return
    if isinstance(array, dict) or array.ndim != 1:
        raise ContractError(
            "state",
            expected=f"{key} to be a vector",
            found="a dict" if isinstance(array, dict) else described(array),
            fix=f"a one-dimensional array as {key}",
        )
    if not np.isfinite(array.astype(np.float64)).all():
        raise ContractError(
            "state",
            expected=f"finite numbers in {key}",
            found="NaN or inf",
            fix="look for what diverges in the simulator",
        )
