"""A policy behind openpi's websocket protocol, from the answering side.

Who asks is a stranger, too: an observation is measured, and must have the inputs that the policy
reads; only its shape decides what it is taken for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from policyscope.data.frames import FrameBatch
from policyscope.errors import InputError
from policyscope.policies.base import Policy
from policyscope.policies.remote.served import NAME, Served, ServedInput
from policyscope.policies.remote.wire import pack, unpack

MOST_QUESTION = 64 * 2**20
"""Bytes of an observation: a dozen pictures of 1280 × 1280, with room."""
_MOST_LETTERS = 10_000
_FIX = "see the server's first message: policyscope.inputs"


class BadQuestionError(InputError):
    """An observation that the policy can't be shown."""


@final
class Answering:
    """Answers observations, one at a time.

    Args:
        policy: what to ask.
        served: what is said of it.

    Attributes:
        served: what is said of it.
    """

    def __init__(self, policy: Policy, served: Served) -> None:
        self.served, self._policy, self._turn = served, policy, threading.Lock()

    def hello(self) -> bytes:
        """The first message of a connection."""
        return pack({NAME: self.served.model_dump()}, "openpi")

    def answer(self, message: bytes | str, count: int) -> bytes:
        """A chunk for an observation.

        Args:
            message: the observation.
            count: of those before it on this connection: its frame, where it does not say.

        Raises:
            BadQuestionError: it lacks an input, or has one of another shape.
        """
        if isinstance(message, str):
            raise _bad("bytes", "a text")
        said = unpack(message, "observation", most=MOST_QUESTION, kind=BadQuestionError)
        if not isinstance(said, dict):
            raise _bad("a table of inputs", type(said).__name__)
        batch = self._batch(said, count)
        with self._turn:
            start = time.perf_counter()
            chunk = self._policy.predict(batch).actions.values[0]
            took = time.perf_counter() - start
        answer = {"actions": np.ascontiguousarray(chunk), "server_timing": {"infer_ms": took * 1e3}}
        return pack(answer, "openpi")

    def _batch(self, said: Mapping[Any, Any], count: int) -> FrameBatch:
        n = len(self.served.lags)
        seen = {
            key: _input(key, said.get(key), declared, n)
            for key, declared in self.served.inputs.items()
        }
        text = said.get("prompt", "")
        if not isinstance(text, str) or len(text) > _MOST_LETTERS:
            raise _bad(f"prompt as a text of at most {_MOST_LETTERS} letters", _kind(text))
        episode, frame, sample = _row(said.get(NAME), count)
        return FrameBatch(
            np.array([episode]),
            np.array([frame]),
            np.array([sample]),
            (text,),
            tuple({key: steps[i][None] for key, steps in seen.items()} for i in range(n)),
        )


def _row(said: Any, count: int) -> tuple[int, int, int]:
    """Which prediction it is, by which its noise is drawn."""
    if said is None:
        return 0, count, 0
    table = said if isinstance(said, dict) else {}
    known = [n for n in map(table.get, ("episode", "frame", "sample")) if type(n) is int]
    if len(known) != 3 or not all(0 <= n < 2**62 for n in known):
        raise _bad(f"{NAME} with episode, frame and sample as whole numbers", str(said)[:100])
    return known[0], known[1], known[2]


def _input(key: str, value: Any, declared: ServedInput, n: int) -> NDArray[Any]:
    """An input as [n, …]: as many observation steps as the policy reads."""
    axes = len(declared.shape) + (n > 1)
    steps = f"{n} steps of " if n > 1 else ""
    wanted = f"{key} as {steps}{'a picture (bytes)' if declared.kind == 'picture' else 'numbers'}"
    wanted += f" of shape {declared.shape}"
    if not isinstance(value, np.ndarray) or value.ndim != axes or (n > 1 and len(value) != n):
        raise _bad(wanted, _kind(value))
    value = value if n > 1 else value[None]
    if declared.kind == "numbers":
        if list(value.shape[1:]) != declared.shape or value.dtype.kind not in "fiu":
            raise _bad(wanted, _kind(value))
        return np.array(value, dtype=np.float32)  # a copy: torch wants to be able to write
    channels = declared.shape[0]
    whole, bare = value.dtype == np.uint8, value.dtype.kind == "f" and bool(_unit(value))
    if not (whole or bare) or channels not in (value.shape[1], value.shape[-1]):
        raise _bad(f"{wanted}, or with its channels last", _kind(value))
    first = value.shape[1] == channels and list(value.shape[1:]) != [*declared.shape[1:], channels]
    value = value if first else np.moveaxis(value, -1, 1)
    return np.array(value, dtype=np.uint8 if whole else np.float32, order="C")


def _unit(value: NDArray[Any]) -> bool:
    return bool(value.size and value.min() >= 0.0 and value.max() <= 1.0)


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"shape {list(value.shape)}, dtype {value.dtype}"
    return "none" if value is None else type(value).__name__


def _bad(expected: str, found: str) -> BadQuestionError:
    return BadQuestionError("observation", expected=expected, found=found, fix=_FIX)
