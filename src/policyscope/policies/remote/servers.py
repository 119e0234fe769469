"""The two kinds of servers: what they read, and what their answers must be."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.robots import Robot
from policyscope.actions.spaces import FloatArray
from policyscope.config import PolicyOptions
from policyscope.data.frames import FrameBatch
from policyscope.errors import RemoteError
from policyscope.policies.remote.feeds import (
    Feed,
    feeds_of,
    named,
    numbers,
    picture,
    put,
    require_all,
)
from policyscope.policies.remote.groot import GrootLink, Modality
from policyscope.policies.remote.link import Line
from policyscope.policies.remote.openpi import OpenpiLink
from policyscope.policies.remote.served import NAME, Served, read_served

_MOST_STEPS, _MOST_DIMS = 10_000, 4096


@final
@dataclass(frozen=True, eq=False)
class Answered:
    """What a server answered to a batch.

    Attributes:
        actions: [B, H, A'], in whatever units the server answers.
        inference_s: seconds that the server says it took, or None where it does not say.
    """

    actions: FloatArray
    inference_s: float | None


class Server(ABC):
    """A policy somewhere else.

    Attributes:
        url: where it is.
        type: of the policy, or the protocol's name.
        identity: what tells it from others, as far as it says.
        feeds: what it is shown.
        steps: observation steps that it is shown, oldest first.
        served: what a server of this package says of itself; None of another.
    """

    url: str
    type: str
    identity: str
    feeds: tuple[Feed, ...]
    steps: tuple[int, ...] = (0,)
    served: Served | None = None

    @abstractmethod
    def answer(self, batch: FrameBatch) -> Answered:
        """A chunk for each row.

        Raises:
            RemoteError: no answer, or one that is none.
        """


@final
class OpenpiServer(Server):
    """A server that speaks openpi's protocol: one observation at a time.

    Raises:
        RemoteError: nobody is there.
        UsageError: ``--rename_map`` does not give it what it reads, as far as it says.
    """

    def __init__(self, line: Line, robot: Robot, config: PolicyOptions) -> None:
        self._line, self._link = line, OpenpiLink(line)
        self._axes = config.policy.pictures
        self.served = read_served(self._link.metadata, line)
        self.feeds = feeds_of(config.rename_map, robot)
        self.url, self.type = line.address.url, "openpi"
        who = self.url
        if self.served is not None:
            fed = {feed.place.key for feed in self.feeds}
            own = [k for k in self.served.inputs if k not in fed and k in robot.observed]
            self.feeds += tuple(named(key, key, robot) for key in own)
            require_all(self.feeds, self.served.inputs, robot)
            self.steps = self.served.steps
            if self.served.sha256 is not None:
                who, self.type = self.served.sha256, self.served.type
        elif not self.feeds:
            self.feeds = tuple(named(key, key, robot) for key in robot.observed)
        self.identity = f"{who} {self._link.digest[:12]}"

    def answer(self, batch: FrameBatch) -> Answered:
        """See `Server.answer`."""
        chunks, seconds = [], []
        for row in range(len(batch)):
            start = time.perf_counter()
            said = self._link.ask(self._question(batch, row))
            chunks.append(self._chunk(said))
            seconds.append(_inference_s(said, time.perf_counter() - start))
        if len({chunk.shape for chunk in chunks}) > 1:
            raise _bad(self._line, "chunks of one shape", str(sorted({c.shape for c in chunks})))
        known = [s for s in seconds if s is not None]
        return Answered(np.stack(chunks), sum(known) if len(known) == len(seconds) else None)

    def _question(self, batch: FrameBatch, row: int) -> dict[str, Any]:
        observation: dict[str, Any] = {}
        for feed in self.feeds:
            seen = [step[feed.source][row] for step in batch.observations]
            value = np.stack(seen) if len(seen) > 1 else seen[0]
            if not feed.camera:
                value = numbers(value, feed.place.dims)
            elif self.served is None:
                value = picture(value, self._axes)
            put(observation, feed.place, value)
        observation["prompt"] = batch.task[row]
        if self.served is not None:
            observation[NAME] = {
                "episode": int(batch.episode_index[row]),
                "frame": int(batch.frame_index[row]),
                "sample": int(batch.sample[row]),
            }
        return observation

    def _chunk(self, said: Mapping[Any, Any]) -> FloatArray:
        return _actions(self._line, "actions", said.get("actions"), axes=2)


@final
class GrootServer(Server):
    """A server that speaks GR00T's protocol, which takes batches.

    Raises:
        RemoteError: nobody is there.
        UsageError: ``--rename_map`` does not give it what it reads.
    """

    def __init__(self, line: Line, robot: Robot, config: PolicyOptions) -> None:
        self._line, self._link = line, GrootLink(line)
        known = self._link.modalities
        self.url, self.type = line.address.url, "groot"
        self.identity = f"{self.url} {self._link.digest[:12]}"
        self.feeds = feeds_of(config.rename_map, robot)
        self._lags: dict[str, Sequence[int]] = {
            name: modality.delta_indices for name, modality in known.items()
        }
        seen = [self._lags[name] for name in ("video", "state") if known[name].modality_keys]
        self.steps = tuple(sorted({lag for lags in seen for lag in lags})) or (0,)
        if self.steps[-1] > 0 or len(self.steps) > 64:
            raise _bad(line, "at most 64 steps of the past and the present", str(self.steps)[:80])
        self._outputs = known["action"].modality_keys
        language = known.get("language", Modality(modality_keys=(), delta_indices=(0,)))
        self._language = language.modality_keys
        require_all(
            self.feeds,
            [self._full(m, key) for m in ("video", "state") for key in known[m].modality_keys],
            robot,
        )

    def answer(self, batch: FrameBatch) -> Answered:
        """See `Server.answer`."""
        observation = self._observation(batch)
        asked = observation if self._link.flat else {"observation": observation, "options": None}
        said = self._link.call("get_action", asked)
        if isinstance(said, list) and said:  # actions, and what else there is to say
            said = said[0]
        if not isinstance(said, dict):
            raise _bad(self._line, "a table of actions", type(said).__name__)
        parts: list[FloatArray] = []
        for key in self._outputs:
            values = said.get(key, said.get(self._full("action", key)))
            if isinstance(values, np.ndarray) and values.ndim == 2:  # one dim, squeezed
                values = values[..., None]
            part = _actions(self._line, key, values, axes=3)
            if len(part) != len(batch) or (parts and part.shape[1] != parts[0].shape[1]):
                found = f"shape {list(part.shape)} for {key}"
                raise _bad(self._line, f"{len(batch)} chunks of one length", found)
            parts.append(part)
        return Answered(np.concatenate(parts, axis=-1), None)

    def _observation(self, batch: FrameBatch) -> dict[str, Any]:
        observation: dict[str, Any] = {} if self._link.flat else {"video": {}, "state": {}}
        at = {lag: i for i, lag in enumerate(self.steps)}
        for feed in self.feeds:
            modality, _, key = feed.place.key.partition(".")
            seen = [batch.observations[at[lag]][feed.source] for lag in self._lags[modality]]
            value = np.stack(seen, axis=1)  # [B, T, …]
            value = picture(value, "hwc") if feed.camera else numbers(value, feed.place.dims)
            table = observation if self._link.flat else observation[modality]
            table[feed.place.key if self._link.flat else key] = value
        for key in self._language:
            if self._link.flat:
                observation[key] = list(batch.task)
            else:
                table = observation.setdefault("language", {})
                table[key] = [[text] for text in batch.task]
        return observation

    def _full(self, modality: str, key: str) -> str:
        return key if key.startswith(f"{modality}.") else f"{modality}.{key}"


def _actions(line: Line, name: str, values: Any, *, axes: int) -> FloatArray:
    """An array of actions, or the error that it is none."""
    wanted = f"{name} as numbers with {axes} axes, the last two steps and dims"
    if not isinstance(values, np.ndarray):
        raise _bad(line, wanted, "none" if values is None else type(values).__name__)
    steps, dims = values.shape[-2:] if values.ndim == axes else (0, 0)
    if not (1 <= steps <= _MOST_STEPS and 1 <= dims <= _MOST_DIMS) or values.dtype.kind == "b":
        raise _bad(line, wanted, f"shape {list(values.shape)}, dtype {values.dtype}")
    known: NDArray[Any] = values.astype(np.float64)
    return known


def _inference_s(said: Mapping[Any, Any], took_s: float) -> float | None:
    """What the server says its inference took, where that can be: not longer than we waited."""
    for name in ("server_timing", "policy_timing"):
        timing = said.get(name)
        ms = timing.get("infer_ms") if isinstance(timing, dict) else None
        if isinstance(ms, int | float) and not isinstance(ms, bool) and math.isfinite(ms):
            return ms / 1e3 if 0 <= ms / 1e3 <= took_s else None
    return None


def _bad(line: Line, expected: str, found: str) -> RemoteError:
    fix = "ask a server of this policy's kind, or mend what it answers"
    return line.fault(expected=expected, found=found, fix=fix)


SERVERS: Mapping[str, type[OpenpiServer] | type[GrootServer]] = {
    "ws": OpenpiServer,
    "wss": OpenpiServer,
    "zmq": GrootServer,
}
"""By the scheme of the address."""
