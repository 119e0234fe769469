"""Worker processes: started, told, watched; killed and started again when they die or hang."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, final

from policyscope.config import EnvConfig
from policyscope.errors import InputError, UsageError
from policyscope.sim.worker import Failure, serve

PRELOAD = ["lerobot.envs.factory", "policyscope.sim.trial", "policyscope.sim.worker"]
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


@final
class Worker:
    """One process and what it is busy with.

    Attributes:
        process: the process.
        busy: whether an answer is due.
        begun: episodes that it has begun.
        held: bytes of memory after the first of them.
    """

    def __init__(self, process: Any, connection: Connection) -> None:
        self.process, self.connection = process, connection
        self.busy, self._deadline = False, float("inf")
        self.begun, self.held = 0, 0

    def tell(self, command: Any, timeout_s: float) -> None:
        """Send a command; its answer or a fault comes out of `Pool.answers`."""
        self.busy, self._deadline = True, time.monotonic() + timeout_s
        with contextlib.suppress(OSError):  # a dead one shows in `Pool.answers`
            self.connection.send(command)

    @property
    def overdue_in(self) -> float:
        """Seconds until it counts as hung."""
        return self._deadline - time.monotonic() if self.busy else float("inf")


class Pool:
    """Simulators in worker processes.

    Use it as a context manager: leaving it ends every process, however it is left.

    Args:
        config: the environment.
        n: processes.
    """

    def __init__(self, config: EnvConfig, n: int) -> None:
        self._config = config
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOAD)
        self.workers: list[Worker] = []
        try:
            for _ in range(n):
                self.workers.append(self._start())
        except BaseException:
            self.close()
            raise

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
            self.workers.append(self._start())

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

        Raises:
            InputError: it does not answer, or the user has to mend something.
        """
        answer = self.ask(self.workers[0], command, timeout_s)
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
        watched = {w.connection: w for w in busy} | {w.process.sentinel: w for w in busy}
        ready = {id(w): w for w in (watched[key] for key in wait(list(watched), patience))}
        answered = [(w, self._answer(w)) for w in ready.values()]
        for worker in busy:
            if worker.busy and worker.overdue_in <= 0 and id(worker) not in ready:
                worker.busy = False
                self._replace(worker)
                answered.append((worker, Fault("hung", "no answer within its time limit")))
        return answered

    def freshen(self, worker: Worker) -> None:
        """Before an episode: a fresh process where the simulator keeps taking memory.

        Some leak a little at each step, and a run of many episodes would end in the middle.
        """
        held = _resident(worker.process.pid)
        if worker.begun == 1:
            worker.held = held
        if worker.begun > 1 and held > worker.held + _MOST_GROWTH:
            self._replace(worker)
        worker.begun += 1

    def _answer(self, worker: Worker) -> Any:
        worker.busy = False
        try:
            if not worker.connection.poll():
                raise EOFError
            answer = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join(_GRACE_S)
            code = worker.process.exitcode
            self._replace(worker)
            return Fault("died", f"exit code {code}")
        if isinstance(answer, Failure):
            if isinstance(answer.usage, InputError):
                raise answer.usage
            return Fault("raised", answer.text)
        return answer

    def _start(self) -> Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=serve, args=(theirs, self._config), daemon=True)
        with _no_main():
            process.start()
        theirs.close()
        return Worker(process, ours)

    def _replace(self, worker: Worker) -> None:
        """Give a worker a fresh process."""
        _end(worker)
        fresh = self._start()
        worker.process, worker.connection, worker.busy = fresh.process, fresh.connection, False
        worker.begun = 0

    def close(self) -> None:
        """End every process; none is left, and no zombie."""
        for worker in self.workers:
            worker.connection.close()  # an idle one ends by itself
        for worker in self.workers:
            if not worker.busy:
                worker.process.join(_GRACE_S)
            _end(worker)
        self.workers = []


def _end(worker: Worker) -> None:
    worker.connection.close()
    _kill_group(worker.process)
    worker.process.join()
    worker.process.close()


def _resident(pid: int) -> int:
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
