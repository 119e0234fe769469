"""A worker process: holds one simulator, does what it is told, dies with its parent."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import warnings
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, final

from policyscope.actions.spaces import FloatArray
from policyscope.config import EnvConfig
from policyscope.errors import Finding, InputError, first_line
from policyscope.sim.contract import ContractError, Layout

TRIAL_PATIENCE_S = 4.0
"""Of a run: how long to try out a simulator that nobody here has tried."""


@final
@dataclass(frozen=True)
class Describe:
    """Say what the environment is; answered with a `SimulatorSpec`, or `Unusable`."""


@final
@dataclass(frozen=True)
class TryOut:
    """Try out the environment; answered with the findings. Fields as in `trial.try_out`."""

    seed: int
    n_steps: int


@final
@dataclass(frozen=True)
class Close:
    """Close the environment; answered with None."""


@final
@dataclass(frozen=True)
class Unusable:
    """An environment that breaks the contract so that no number can come of it.

    Attributes:
        findings: why.
    """

    findings: tuple[Finding, ...]


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
        layout: that observations must have, or None.
    """

    group: str | None
    task_id: int
    seed: int
    start: FloatArray | None = None
    render: bool = False
    layout: Layout | None = None


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
        usage: whether the user has to mend it, so that trying again is no use.
    """

    text: str
    usage: InputError | None = None


def serve(connection: Connection, config: EnvConfig) -> None:
    """Answer commands until the other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    _lead_a_group()
    _die_with_parent()
    answering = Answering(config)
    try:
        with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
            while True:
                connection.send(answering.answer(connection.recv()))
        answering.drop()
    finally:
        _end_others()


@final
class Answering:
    """Answers commands with one simulator, in a process that does nothing else.

    Args:
        config: the environment.
    """

    def __init__(self, config: EnvConfig) -> None:
        _be_quiet()
        _one_thread()
        self._worker = _Worker(config)

    def answer(self, command: Any) -> Any:
        """What comes of a command, fit to be sent."""
        try:
            return self._worker.answer(command)
        except ContractError as error:
            # an environment that kept the contract so far: this episode can't be run, others may
            failure = Failure(str(error), None if isinstance(command, Reset | Act) else error)
        except InputError as error:
            failure = Failure(str(error), error)
        except Exception as error:  # simulators raise whatever they like
            failure = Failure(f"{type(error).__name__}: {first_line(error)}")
        self.drop()
        return failure

    def drop(self) -> None:
        """Let go of the simulator."""
        self._worker.drop()


class _Worker:
    def __init__(self, config: EnvConfig) -> None:
        self._config = config
        self._simulator: Any = None
        self._task: tuple[str | None, int] | None = None

    def answer(self, command: Any) -> Any:
        if isinstance(command, Describe):
            return self._describe()
        if isinstance(command, TryOut):
            return self._try_out(command)
        if isinstance(command, Close):
            simulator, self._simulator, self._task = self._simulator, None, None
            return simulator.close() if simulator is not None else None
        if isinstance(command, Reset):
            simulator = self._open(command.group, command.task_id)
            return simulator.reset(
                command.seed, command.start, render=command.render, layout=command.layout
            )
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
        from policyscope.errors import errors_in
        from policyscope.sim.opening import ASSUMED_HZ
        from policyscope.sim.simulator import SimulatorSpec, TaskSpec
        from policyscope.sim.trial import try_out

        tasks = []
        simulator: Any = None
        for suite, task_id in reversed(self._listed()):  # the first one stays open
            simulator = self._open(suite, task_id)
            group, steps = str(simulator.group), simulator.max_steps
            tasks.append(TaskSpec(group, task_id, simulator.text(), steps, suite))
        findings = tuple[Finding, ...]()
        if simulator.adapter.trusted:
            first = simulator.reset(0)
        else:
            trial = try_out(simulator, patience_s=TRIAL_PATIENCE_S)
            first, findings = trial.first, tuple(trial.findings)
            unusable = tuple(f for f in errors_in(findings) if not f.forceable)
            if unusable:
                return Unusable(unusable)
        tasks[-1] = replace(tasks[-1], text=first.text)  # an instruction may be drawn at reset
        return SimulatorSpec(
            name=simulator.name,
            tasks=tuple(reversed(tasks)),
            fps=simulator.fps or ASSUMED_HZ,
            fps_known=simulator.fps is not None,
            action_low=simulator.low,
            action_high=simulator.high,
            action_names=simulator.words("action_names"),
            action_units=simulator.words("action_units"),
            first=first,
            findings=findings,
        )

    def _try_out(self, command: TryOut) -> tuple[Finding, ...]:
        from policyscope.sim.trial import try_out

        suite, task_id = self._listed()[0]
        simulator = self._open(suite, task_id)
        _ = simulator.max_steps
        trial = try_out(simulator, seed=command.seed, n_steps=command.n_steps)
        return tuple(trial.findings)

    def _listed(self) -> tuple[tuple[str | None, int], ...]:
        from policyscope.sim.opening import adapter_for, list_tasks

        return list_tasks(self._config, adapter_for(self._config.type, self._config.task))

    def _open(self, group: str | None, task_id: int) -> Any:
        from policyscope.sim.simulator import Simulator

        if self._task != (group, task_id):
            self.drop()
            self._simulator = Simulator(self._config, group, task_id)
            self._task = (group, task_id)
        return self._simulator


def _lead_a_group() -> None:
    """Lead a group of processes, so that what a simulator starts can be ended with it.

    `multiprocessing` forbids daemons to have children: the parent ends this one by itself, and
    its group with it.
    """
    with contextlib.suppress(OSError):
        os.setsid()
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]


def _end_others() -> None:
    """End whatever the simulator has started and left running."""
    if os.getpgrp() == os.getpid():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(os.getpid(), signal.SIGTERM)


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, even in the middle of a step."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            pr_set_pdeathsig = 1
            ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _be_quiet() -> None:
    """Keep what simulators print, in Python or below, away from the user's terminal."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if os.environ.get("POLICYSCOPE_DEBUG"):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123


def _one_thread() -> None:
    """Simulators run side by side: threads within one would only wait for each other."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
    cv2 = sys.modules.get("cv2")
    if cv2 is not None:
        cv2.setNumThreads(1)
