"""Simulators in processes: started, told, watched; started again when they die or hang."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import types
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, final

from policyscope.config import EnvConfig
from policyscope.errors import InputError, UsageError
from policyscope.sim.worker import Failure, serve

PRELOAD = ["lerobot.envs.factory", "policyscope.sim.trial", "policyscope.sim.worker"]
MOST_ATTEMPTS = 4
"""So often is tried what fails because its simulator did."""
_GRACE_S = 5.0
_MOST_GROWTH = 2 << 30  # bytes that a simulator may take beyond those of its first episode


@final
@dataclass(frozen=True)
class Fault:
    """A simulator that failed to answer.

    Attributes:
        kind: ``died``, ``hung``, or ``raised``.
        detail: exit code, time limit, or the exception, in words.
    """

    kind: Literal["died", "hung", "raised"]
    detail: str


class GoneError(Exception):
    """A worker that will not answer any more; says why."""


class Worker(ABC):
    """A simulator's place, and what it is busy with: where a process dies, another begins.

    Attributes:
        busy: whether an answer is due.
        begun: episodes that the process has begun.
        held: bytes of its memory after the first of them.
    """

    def __init__(self) -> None:
        self.busy, self._deadline = False, float("inf")
        self.begun, self.held = 0, 0
        self.begin()

    @abstractmethod
    def begin(self) -> None:
        """Start a process."""

    @abstractmethod
    def send(self, command: Any) -> None:
        """Send a command; whether it arrives shows in `receive`."""

    @abstractmethod
    def receive(self) -> Any:
        """The answer, which is there.

        Raises:
            GoneError: there will be none.
        """

    @abstractmethod
    def resident(self) -> int:
        """Bytes of memory that the process holds; 0 where nobody says."""

    @abstractmethod
    def leave(self) -> None:
        """Ask an idle process to end by itself."""

    @abstractmethod
    def end(self, patience_s: float = 0.0) -> None:
        """End the process, and wait so long before it is killed."""

    def tell(self, command: Any, timeout_s: float) -> None:
        """Send a command; its answer or a fault comes out of `Pool.answers`."""
        self.busy, self._deadline = True, time.monotonic() + timeout_s
        self.send(command)

    @property
    def overdue_in(self) -> float:
        """Seconds until it counts as hung."""
        return self._deadline - time.monotonic() if self.busy else float("inf")


class Pool(ABC):
    """Simulators in processes of their own.

    Use it as a context manager: leaving it ends every process, however it is left.

    Args:
        config: the environment.
        n: processes.

    Attributes:
        cores: CPUs of the machines that they run on.
    """

    cores: int

    def __init__(self, config: EnvConfig, n: int) -> None:
        self._config = config
        self.workers: list[Worker] = []
        try:
            self.grow(n)
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def _made(self) -> Worker:
        """A worker, begun."""

    @abstractmethod
    def _ready(self, busy: Sequence[Any], patience: float) -> list[Worker]:
        """Those whose answer is there, or will not come; waits for one, or so many seconds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def grow(self, n: int) -> None:
        """Start processes until there are `n`."""
        while len(self.workers) < n:
            self.workers.append(self._made())

    def ask(self, worker: Worker, command: Any, timeout_s: float) -> Any:
        """Send a command and wait for its answer.

        Raises:
            InputError: the user has to mend something.
        """
        worker.tell(command, timeout_s)
        while True:
            for answered, answer in self.answers(timeout_s):
                if answered is worker:
                    return answer

    def require(self, command: Any, timeout_s: float) -> Any:
        """Ask the first worker for something without which there is no going on.

        Where it dies it is asked again: somebody else may have ended it, or its machine left.

        Raises:
            InputError: it does not answer, or the user has to mend something.
        """
        for _ in range(MOST_ATTEMPTS):
            answer = self.ask(self.workers[0], command, timeout_s)
            if not (isinstance(answer, Fault) and answer.kind == "died"):
                break
        if isinstance(answer, Fault):
            raise UsageError(
                f"--env.type {self._config.type}",
                expected="a simulator that opens and resets",
                found=f"one that {answer.kind} ({answer.detail})",
                fix="a longer --env.timeout_s if it is slow; else check its installation",
            )
        return answer

    def answers(self, timeout_s: float) -> list[tuple[Worker, Any]]:
        """What busy workers have answered; waits until one has, or for so many seconds.

        A worker that died or is overdue gives a `Fault` and is replaced by a fresh process.

        Raises:
            InputError: a simulator can't be opened as the user asked for it.
        """
        busy = [w for w in self.workers if w.busy]
        if not busy:
            return []
        patience = max(0.0, min(timeout_s, *(w.overdue_in for w in busy)))
        ready = self._ready(busy, patience)
        answered: list[tuple[Worker, Any]] = [(w, _answer(w)) for w in ready]
        for worker in busy:
            if worker.busy and worker.overdue_in <= 0 and worker not in ready:
                worker.busy = False
                _replace(worker)
                answered.append((worker, Fault("hung", "no answer within its time limit")))
        return answered

    def freshen(self, worker: Worker) -> None:
        """Before an episode: a fresh process where the simulator keeps taking memory.

        Some leak a little at each step, and a run of many episodes would end in the middle.
        """
        held = worker.resident()
        if worker.begun == 1:
            worker.held = held
        if worker.begun > 1 and held > worker.held + _MOST_GROWTH:
            _replace(worker)
        worker.begun += 1

    def close(self) -> None:
        """End every process; none is left, and no zombie."""
        for worker in self.workers:
            worker.leave()
        for worker in self.workers:
            worker.end(0.0 if worker.busy else _GRACE_S)
        self.workers = []


def _answer(worker: Worker) -> Any:
    """What a worker answered, or its fault."""
    worker.busy = False
    try:
        answer = worker.receive()
    except GoneError as error:
        _replace(worker)
        return Fault("died", str(error))
    if isinstance(answer, Failure):
        if isinstance(answer.usage, InputError):
            raise answer.usage
        return Fault("raised", answer.text)
    return answer


def _replace(worker: Worker) -> None:
    """Give a worker a fresh process."""
    worker.end()
    worker.begin()
    worker.busy, worker.begun = False, 0


@final
class _Process(Worker):
    """A process of this machine.

    Args:
        context: that starts it.
        config: the environment.
    """

    def __init__(self, context: Any, config: EnvConfig) -> None:
        self._context, self._config = context, config
        super().__init__()

    def begin(self) -> None:
        self.connection, theirs = self._context.Pipe()
        self.process = self._context.Process(target=serve, args=(theirs, self._config), daemon=True)
        with _no_main():
            self.process.start()
        theirs.close()

    def send(self, command: Any) -> None:
        with contextlib.suppress(OSError):
            self.connection.send(command)

    def receive(self) -> Any:
        try:
            if not self.connection.poll():
                raise EOFError
            return self.connection.recv()
        except (EOFError, OSError) as error:
            self.process.join(_GRACE_S)
            raise GoneError(f"exit code {self.process.exitcode}") from error

    def resident(self) -> int:
        return resident(self.process.pid)

    def leave(self) -> None:
        self.connection.close()

    def end(self, patience_s: float = 0.0) -> None:
        self.connection.close()
        if patience_s:
            self.process.join(patience_s)
        _kill_group(self.process)
        self.process.join()
        self.process.close()


@final
class ProcessPool(Pool):
    """Simulators in worker processes of this machine (arguments as in `Pool`)."""

    def __init__(self, config: EnvConfig, n: int) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOAD)
        self.cores = cores()
        super().__init__(config, n)

    def _made(self) -> _Process:
        return _Process(self._context, self._config)

    def _ready(self, busy: Sequence[Any], patience: float) -> list[Worker]:
        watched: dict[Any, Worker] = {w.connection: w for w in busy}
        watched |= {w.process.sentinel: w for w in busy}
        return list(dict.fromkeys(watched[key] for key in wait(list(watched), patience)))


def cores() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resident(pid: int) -> int:
    """Bytes of memory that a process holds; 0 where the system does not say."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _kill_group(process: Any) -> None:
    """Kill a process and those that it has started; it leads their group unless it has just begun.

    One that is dead may have left others: while these live, the number of their group is nobody
    else's; when there are none, there is no such group.
    """
    with contextlib.suppress(OSError):
        if not process.is_alive() or os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
    if process.is_alive():
        process.kill()


@contextlib.contextmanager
def _no_main() -> Iterator[None]:
    """Keep worker processes from running the user's main script again.

    They need nothing of it, and a script without ``if __name__ == "__main__"`` stays usable.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
