"""A policy that answers over a network, as any other policy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from policyscope.actions.robots import Robot
from policyscope.actions.spaces import NativeActions
from policyscope.config import PolicyOptions
from policyscope.data.frames import FrameBatch
from policyscope.errors import Finding, UsageError
from policyscope.policies.alignment import Alignment
from policyscope.policies.base import ControlStep, Normalization, Policy, PolicySpec, Prediction
from policyscope.policies.remote.feeds import sources
from policyscope.policies.remote.link import Line
from policyscope.policies.remote.servers import SERVERS, Server

Example = Callable[[frozenset[str], tuple[int, ...]], FrameBatch]
"""One observation, of these keys and steps."""


@final
@dataclass(frozen=True, eq=False)
class Met:
    """A server that has answered once.

    Attributes:
        server: to ask.
        chunk_size: steps of its chunks.
        action_dim: dims of its actions.
        findings: what is to be said of it.
        feeds: server's name → key of the robot's.
    """

    server: Server
    chunk_size: int
    action_dim: int
    findings: tuple[Finding, ...]

    @property
    def feeds(self) -> dict[str, str]:
        """For the record: server's name → key of the robot's."""
        return dict(sources(self.server.feeds))


def meet(config: PolicyOptions, robot: Robot, example: Example) -> Met:
    """Reach the server that a config names, and ask it once or twice about one observation.

    Args:
        config: ``--policy.url``, ``--rename_map``.
        robot: what it is to be shown.
        example: an observation of the robot's.

    Raises:
        RemoteError: nobody is there, or the answer is none.
        UsageError: what it reads, its seed or its chunks are not what the flags say.
    """
    line = Line.of(config.policy)
    server = SERVERS[line.address.scheme](line, robot, config)
    keys = frozenset(feed.source for feed in server.feeds)
    batch = example(keys, server.steps)
    first = server.answer(batch).actions
    served = server.served
    findings: tuple[Finding, ...] = ()
    if served is None:
        findings = (_not_reproducible(server.answer(batch).actions, first),)
    elif first.shape[1] != served.chunk_size:
        raise line.fault(
            expected=f"chunks of {served.chunk_size} steps, as the server says",
            found=f"{first.shape[1]}",
            fix="serve the policy again",
        )
    elif served.draws in ("noise", "seeded") and served.seed != config.noise_seed:
        raise UsageError(
            "--seed",
            expected=f"{served.seed}, under which the policy is served",
            found=str(config.noise_seed),
            fix=f"policyscope serve … --seed {config.noise_seed}",
        )
    return Met(server, first.shape[1], first.shape[2], findings)


def _not_reproducible(again: np.ndarray, first: np.ndarray) -> Finding:  # type: ignore[type-arg]
    """A server that takes no noise: whether two answers to one question differ."""
    expected = "expected a policy that is given its noise, so that anybody gets the same numbers"
    fix = "policyscope serve gives a checkpoint its noise; else run several times and compare"
    if again.shape == first.shape and np.array_equal(again, first, equal_nan=True):
        return Finding(
            "policy_not_reproducible",
            "info",
            f"{expected}; found a server that can't be given any. Two answers to one question were "
            "equal, as those of a policy without noise are: nothing here can promise more.",
            fix,
        )
    apart = np.abs(again - first).max() if again.shape == first.shape else float("inf")
    return Finding(
        "policy_not_reproducible",
        "warning",
        f"{expected}; found a server that can't be given any, and whose two answers to one "
        f"question are up to {apart:.3g} apart. Not reproducible: another run gives other numbers.",
        fix,
    )


@final
class RemotePolicy(Policy):
    """Asks a server; what it answers counts as native, as the dataset's actions are.

    Args:
        met: the server, which has answered once.
        alignment: which of its dims are compared.
        n_action_steps: steps run of each chunk; None for what the server says, or all.

    Raises:
        UsageError: more than a chunk has.
    """

    def __init__(self, met: Met, alignment: Alignment, n_action_steps: int | None) -> None:
        server, served = met.server, met.server.served
        self._server, self._dims = server, list(alignment.policy_dims)
        self._units = alignment.schema.units
        url = server.url
        steps = n_action_steps or (served.n_action_steps if served else met.chunk_size)
        self.spec = PolicySpec(
            path=url,
            type=server.type,
            sha256=served.sha256 if served else None,
            n_parameters=served.n_parameters if served else 0,
            chunk_size=met.chunk_size,
            n_action_steps=steps,
            normalization=Normalization("IDENTITY", f"remote:{server.identity[-12:]}", "none"),
            keys=frozenset(feed.source for feed in server.feeds),
            steps=server.steps,
            draws=served.draws if served else "unseeded",
            dtype="unknown",
            device="remote",
            identity=server.identity,
        )

    def predict(self, batch: FrameBatch) -> Prediction:
        """See `Policy.predict`. Where the server says how long it took, the network is left out."""
        start = time.perf_counter()
        answered = self._server.answer(batch)
        took = time.perf_counter() - start
        known = answered.inference_s
        actions = NativeActions(answered.actions[..., self._dims], self._units)
        return Prediction(actions, took if known is None else known)

    def control_step(self, batch: FrameBatch) -> ControlStep:
        """See `Policy.control_step`. Who runs a chunk has it at hand: there is no queue."""
        start = time.perf_counter()
        answered = self._server.answer(batch)
        took = time.perf_counter() - start
        known = answered.inference_s
        if known is None:
            return ControlStep(took, took, ())
        return ControlStep(known, took, (), network_s=took - known)

    @property
    def borrows(self) -> bool:
        """See `Policy.borrows`: what it is shown has been sent."""
        return True
