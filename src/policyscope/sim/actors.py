"""Simulators as actors of Ray, in place of worker processes: the same commands and answers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, final

from policyscope.config import EnvConfig, RayConfig
from policyscope.errors import UsageError, first_line
from policyscope.sim.cluster import Place, nodes
from policyscope.sim.pool import GoneError, Pool, Worker, resident
from policyscope.sim.worker import Answering, Failure

_SHARE = 0.25  # of a CPU, where nobody says: simulators often wait
_OPENING_S = 600.0  # of an actor that has found its place


@final
class _Simulator:
    """In a process of Ray: what answers commands."""

    def __init__(self, config: EnvConfig, place: Place) -> None:
        self._config, self._place = config, place

    def open(self) -> None:
        """Import what simulators need, before anybody counts seconds."""
        self._place.enter()
        import lerobot.envs.factory  # noqa: F401

        import policyscope.sim.trial  # noqa: F401

        self._answering = Answering(self._config)

    def answer(self, command: Any) -> tuple[Any, int]:
        """What comes of a command, and bytes of memory that are held now."""
        return self._answering.answer(command), resident(os.getpid())

    def close(self) -> None:
        """Let go of the simulator."""
        self._answering.drop()


@final
class _Actor(Worker):
    """An actor.

    Args:
        ray: the module.
        start: starts one.
    """

    def __init__(self, ray: Any, start: Callable[[], Any]) -> None:
        self._ray, self._start = ray, start
        self._held, self.answer = 0, None
        super().__init__()

    def begin(self) -> None:
        self._actor = self._start()
        self._opened = self._actor.open.remote()
        self._left: list[Any] = [self._actor.__ray_ready__.remote(), self._opened]
        self._held, self._leaving = 0, None

    def send(self, command: Any) -> None:
        self._patience_s = self._deadline - time.monotonic()
        self.answer = self._actor.answer.remote(command)

    def receive(self) -> Any:
        wrong, self._left = self._ray.exceptions, []
        try:  # where it could not open, that is what to tell
            _, (answer, self._held) = self._ray.get([self._opened, self.answer])
        except wrong.RayTaskError as error:
            return Failure(f"{type(error.cause).__name__}: {first_line(error.cause)}")
        except wrong.RayError as error:
            raise GoneError(first_line(error)) from error
        return answer

    def resident(self) -> int:
        return self._held

    @property
    def overdue_in(self) -> float:
        """See `Worker.overdue_in`.

        An actor may wait long for room; from then on it has time to open, then for its answer.
        """
        if self.busy and self._left:
            _, left = self._ray.wait(self._left, num_returns=len(self._left), timeout=0)
            if len(left) < len(self._left):
                self._deadline = time.monotonic() + (_OPENING_S if left else self._patience_s)
            self._left = left
            if len(left) > 1:
                return float("inf")
        return super().overdue_in

    def leave(self) -> None:
        if not self.busy and not self._left:
            self._leaving = self._actor.close.remote()

    def end(self, patience_s: float = 0.0) -> None:
        if self._leaving is not None:
            self._ray.wait([self._leaving], timeout=patience_s)
        self._ray.kill(self._actor)


@final
class RayPool(Pool):
    """Simulators wherever Ray has room for them.

    Args:
        ray: the module, joined.
        config: the environment.
        where: the cluster, and CPUs of each simulator.
        n: simulators.
    """

    def __init__(self, ray: Any, config: EnvConfig, where: RayConfig, n: int) -> None:
        place, self._ray = Place.here(), ray
        self.cores = sum(cpus for cpus, _ in nodes(ray))
        # Here all of them run side by side, as worker processes do; a cluster may have others.
        self._share = where.cpus or (0 if where.address is None else _SHARE)
        kind = ray.remote(num_cpus=self._share, scheduling_strategy="SPREAD")(_Simulator)
        self._start = lambda: kind.remote(config, place)
        super().__init__(config, n)

    def grow(self, n: int) -> None:
        """See `Pool.grow`.

        Raises:
            UsageError: there is no room for so many.
        """
        if n * self._share > max(self.cores, 1):
            raise UsageError(
                "--n_envs",
                expected=f"room for {n} simulators of {self._share:g} CPUs each",
                found=f"{self.cores} CPUs",
                fix=f"--n_envs {max(1, int(self.cores / self._share))}",
            )
        super().grow(n)

    def _made(self) -> _Actor:
        return _Actor(self._ray, self._start)

    def _ready(self, busy: Sequence[Any], patience: float) -> list[Worker]:
        awaited = {worker.answer: worker for worker in busy}
        wait = self._ray.wait
        if wait(list(awaited), timeout=patience)[0]:
            ready, _ = wait(list(awaited), num_returns=len(awaited), timeout=0)
            return [awaited[one] for one in ready]
        return []
