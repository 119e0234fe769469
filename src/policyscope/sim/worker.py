"""A worker process: holds one simulator, does what it is told, dies with its parent."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import traceback
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, final

from policyscope.actions.spaces import FloatArray
from policyscope.config import EnvConfig
from policyscope.errors import InputError, first_line


@final
@dataclass(frozen=True)
class Describe:
    """Say what the environment is; answered with a `SimulatorSpec`."""


@final
@dataclass(frozen=True)
class Reset:
    """Begin an episode; answered with `Steps`.

    Attributes:
        group: suite, or None.
        task_id: number in the suite.
        seed: of the episode.
        start: recorded state to begin in, or None.
        render: whether to send a picture of the start.
    """

    group: str | None
    task_id: int
    seed: int
    start: FloatArray | None = None
    render: bool = False


@final
@dataclass(frozen=True)
class Act:
    """Execute actions; answered with `Steps`. Fields as in `Simulator.act`."""

    actions: FloatArray
    tail: int = 1
    final: bool = False
    watched: bool = False


@final
@dataclass(frozen=True)
class Failure:
    """The simulator raised.

    Attributes:
        text: what, in one line.
        trace: where.
        usage: whether the user has to mend it, so that trying again is no use.
    """

    text: str
    trace: str
    usage: InputError | None = None


def serve(connection: Connection, config: EnvConfig) -> None:
    """Answer commands until the other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    _die_with_parent()
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  (simulators chat)
    _one_thread()
    worker = _Worker(config)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            command = connection.recv()
            try:
                answer = worker.answer(command)
            except InputError as error:
                worker.drop()
                answer = Failure(str(error), traceback.format_exc(), error)
            except Exception as error:  # simulators raise whatever they like
                worker.drop()
                text = f"{type(error).__name__}: {first_line(error)}"
                answer = Failure(text, traceback.format_exc())
            connection.send(answer)
    worker.drop()


class _Worker:
    def __init__(self, config: EnvConfig) -> None:
        self._config = config
        self._simulator: Any = None
        self._task: tuple[str | None, int] | None = None

    def answer(self, command: Any) -> Any:
        if isinstance(command, Describe):
            return self._describe()
        if isinstance(command, Reset):
            simulator = self._open(command.group, command.task_id)
            return simulator.reset(command.seed, command.start, render=command.render)
        return self._simulator.act(
            command.actions, tail=command.tail, final=command.final, watched=command.watched
        )

    def drop(self) -> None:
        """Let go of a simulator whose state nobody knows."""
        simulator, self._simulator, self._task = self._simulator, None, None
        if simulator is not None:
            with contextlib.suppress(Exception):
                simulator.close()

    def _describe(self) -> Any:
        from policyscope.sim.simulator import TaskSpec, list_tasks

        listed = list_tasks(self._config)
        tasks = []
        simulator = None
        for group, task_id in listed:
            simulator = self._open(group, task_id)
            text, steps = simulator.text, simulator.max_steps
            tasks.append(TaskSpec(str(simulator.group), task_id, text, steps))
        assert simulator is not None
        return simulator.spec(tuple(tasks))

    def _open(self, group: str | None, task_id: int) -> Any:
        from policyscope.sim.simulator import Simulator

        if self._task != (group, task_id):
            self.drop()
            self._simulator = Simulator(self._config, group, task_id)
            self._task = (group, task_id)
        return self._simulator


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, even in the middle of a step."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            pr_set_pdeathsig = 1
            ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _one_thread() -> None:
    """Simulators run side by side: threads within one would only wait for each other."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
    cv2 = sys.modules.get("cv2")
    if cv2 is not None:
        cv2.setNumThreads(1)
