"""The loop: simulators step side by side, the policy is called on all that wait, in one batch.

An episode that ends is replaced by the next one at once. Each episode has its own queue of
actions and its own noise, and calls are filled up where the policy's answers would otherwise
depend on the number of rows: what comes of a seed does not depend on who shares the batch.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.engine.episodes import Planned
from policyscope.errors import NonFiniteError
from policyscope.metrics.verdict import SuccessRule, judge
from policyscope.policies.base import PolicySpec
from policyscope.runs.rollouts import StoredRollout
from policyscope.runs.rows import FaultRow, RolloutRow
from policyscope.sim.contract import SOLVED, Layout, Observation
from policyscope.sim.pool import MOST_ATTEMPTS, Fault, Pool, Worker
from policyscope.sim.simulator import Steps
from policyscope.sim.worker import Act, Reset

_LINGER = 0.5  # of a model call: how long to wait for others before a call with empty rows


@final
@dataclass(frozen=True)
class Wanted:
    """An episode that waits for a chunk of actions.

    Attributes:
        episode: which.
        step: the environment's step.
        history: its last observations, oldest first; at least one.
        info: the simulator's own numbers, for scripted policies.
    """

    episode: Planned
    step: int
    history: tuple[Observation, ...]
    info: dict[str, FloatArray]


@final
@dataclass(frozen=True)
class Answer:
    """A chunk.

    Attributes:
        chunk: [H, A] as the policy predicted it, native units, dims of the environment.
        actions: [m, A] to execute, as the environment takes them.
        model_s: seconds of the call that made it.
    """

    chunk: FloatArray
    actions: FloatArray
    model_s: float


class Brain(Protocol):
    """Turns observations into chunks.

    Attributes:
        spec: of the policy.
        width: most rows of a call.
    """

    spec: PolicySpec
    width: int

    def think(self, wanted: Sequence[Wanted]) -> list[Answer | NonFiniteError]:
        """A chunk for each, or what was wrong with it."""


@final
@dataclass
class Trace:
    """What happened in one episode so far.

    Attributes:
        episode: which.
        states: [T + 1, S] parts.
        rewards: [T] parts.
        said: [1 + T] parts: what the environment says of the task, see `sim.contract.said`.
        actions: [T, A] parts.
        extras: name → parts of [T + 1, …].
        called_at: step of each model call.
        chunks: of each model call.
        model_s: of each model call.
        ended: ``success``, ``terminated``, ``time_limit``, ``truncated``, ``non_finite_action``
            or ``fault``.
        picture: at the end.
        sim_s: seconds in the simulator.
        undrawn: why there is no picture, or "".
        faults: of earlier attempts and this one.
    """

    episode: Planned
    states: list[FloatArray] = field(default_factory=list)
    rewards: list[FloatArray] = field(default_factory=list)
    said: list[NDArray[np.int8]] = field(default_factory=list)
    actions: list[FloatArray] = field(default_factory=list)
    extras: dict[str, list[FloatArray]] = field(default_factory=dict)
    called_at: list[int] = field(default_factory=list)
    chunks: list[FloatArray] = field(default_factory=list)
    model_s: list[float] = field(default_factory=list)
    ended: str = ""
    picture: NDArray[np.uint8] | None = None
    sim_s: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    detail: str = ""
    undrawn: str = ""

    @property
    def n_steps(self) -> int:
        """Executed steps."""
        return sum(len(part) for part in self.rewards)

    def add(self, steps: Steps, actions: FloatArray | None) -> None:
        """Append what came of a reset or of actions."""
        self.states.append(steps.states)
        self.rewards.append(steps.rewards)
        self.said.append(steps.said)
        self.undrawn = steps.undrawn or self.undrawn
        if actions is not None:
            self.actions.append(actions[: len(steps.rewards)])
        for name, values in steps.extras.items():
            self.extras.setdefault(name, []).append(values)
        self.sim_s += steps.seconds
        if steps.picture is not None:
            self.picture = steps.picture


@final
@dataclass
class _Slot:
    worker: Worker
    trace: Trace
    history: deque[Observation]
    info: dict[str, FloatArray] = field(default_factory=dict)
    doing: FloatArray | None = None
    since: float = 0.0


@final
@dataclass
class Clock:
    """Where the time went, in seconds; `n_calls` model calls on `n_rows` observations."""

    wall_s: float = 0.0
    model_s: float = 0.0
    wait_s: float = 0.0
    n_calls: int = 0
    n_rows: int = 0
    n_steps: int = 0


Look = Callable[[Planned, int, Observation, FloatArray], None]
"""Told of each model call: episode, step, what the policy looked at, the chunk [H, A]."""


class Scheduler:
    """Runs episodes to their end.

    Args:
        pool: simulators.
        brain: the policy.
        timeout_s: patience with a simulator.
        clock: filled while it runs.
        layout: that observations must have, or None.
        look: told of each model call, or None.
    """

    def __init__(
        self,
        pool: Pool,
        brain: Brain,
        *,
        timeout_s: float,
        clock: Clock,
        layout: Layout | None = None,
        look: Look | None = None,
    ) -> None:
        self._pool, self._brain, self._clock, self._look = pool, brain, clock, look
        self._timeout_s, self._layout = timeout_s, layout
        spec = brain.spec
        self._tail = 1 - min(spec.steps)
        self._slots: dict[int, _Slot] = {}  # id of worker → slot
        self._waiting: deque[_Slot] = deque()
        self._patience_s = 0.0

    def run(
        self, episodes: Sequence[Planned], *, limit: Callable[[], float] = lambda: math.inf
    ) -> Iterator[Trace]:
        """Every episode, as soon as it is over.

        Args:
            episodes: in order.
            limit: asked again and again: no episode of this number or a later one begins.
        """
        queue = deque(Trace(episode) for episode in episodes)
        begin = time.perf_counter()
        while True:
            while queue and queue[-1].episode.index >= limit():
                queue.pop()
            if not queue and not self._slots:
                return
            for worker in self._pool.workers:
                if queue and id(worker) not in self._slots:
                    self._begin(worker, queue.popleft())
            over = self._listen(queue)
            over += self._think()
            now = time.perf_counter()
            self._clock.wall_s += now - begin
            yield from over
            begin = time.perf_counter()

    def _begin(self, worker: Worker, trace: Trace) -> None:
        episode = trace.episode
        self._pool.freshen(worker)
        self._slots[id(worker)] = _Slot(worker, trace, deque(maxlen=self._tail))
        start = None if episode.start is None else np.asarray(episode.start)
        command = Reset(episode.group, episode.task_id, episode.seed, start, layout=self._layout)
        worker.tell(command, self._timeout_s)

    def _listen(self, queue: deque[Trace]) -> list[Trace]:
        """Take in what simulators answer; block only while the policy has nothing to do.

        Whoever waits for a chunk could be answered now, in a call with empty rows, or a little
        later together with simulators that are about to finish their steps. A call costs about
        the same with any number of rows up to `Brain.width`, so that a short wait pays: half of
        what the last call took. Without anybody waiting there is nothing to lose by blocking.
        """
        stepping = len(self._slots) - len(self._waiting)
        full = len(self._waiting) >= self._brain.width
        patience = self._timeout_s
        if self._waiting:
            # the oldest waits longest: its time counts, so that a stream of newcomers can't keep
            # a call from being made; nobody steps: nobody else will come
            waited = time.monotonic() - self._waiting[0].since
            patience = 0.0 if full or not stepping else max(0.0, self._patience_s - waited)
        start = time.perf_counter()
        answers = self._pool.answers(patience)  # faults among them: died, overdue, raised
        self._clock.wait_s += time.perf_counter() - start
        over = []
        for worker, answer in answers:
            slot = self._slots[id(worker)]
            if isinstance(answer, Fault):
                over += self._failed(slot, answer, queue)
            elif self._took(slot, answer):
                over.append(self._end(slot))
        return over

    def _failed(self, slot: _Slot, fault: Fault, queue: deque[Trace]) -> list[Trace]:
        """Run the episode again from its seed, or give up.

        Nothing of the attempt is kept: its seed and the policy's noise, which follows seed and
        step, give the same episode again on another worker.
        """
        del self._slots[id(slot.worker)]
        trace = slot.trace
        fresh = Trace(trace.episode, faults=[*trace.faults, fault])
        if len(fresh.faults) < MOST_ATTEMPTS:
            queue.appendleft(fresh)  # first: a run should not end by waiting for its repetitions
            return []
        fresh.ended, fresh.detail = "fault", f"{fault.kind}: {fault.detail}"
        return [fresh]

    def _took(self, slot: _Slot, steps: Steps) -> bool:
        """Note what happened; whether the episode is over."""
        slot.trace.add(steps, slot.doing)
        slot.history.extend(steps.observations)
        slot.info = dict(steps.info)
        self._clock.n_steps += len(steps.rewards)
        done, limit = slot.trace.n_steps, slot.trace.episode.max_steps
        if steps.ended or done >= limit:
            ended = steps.ended if steps.ended == "terminated" else "time_limit"
            if steps.ended == "truncated" and done < limit:
                ended = "truncated"
            solved = slot.trace.said[-1][-1] == SOLVED
            slot.trace.ended = "success" if solved and steps.ended == "terminated" else ended
            return True
        if slot.doing is None and steps.text:  # an instruction may be drawn at reset
            slot.trace.episode = replace(slot.trace.episode, task=steps.text)
        slot.since = time.monotonic()
        self._waiting.append(slot)
        return False

    def _end(self, slot: _Slot) -> Trace:
        del self._slots[id(slot.worker)]
        return slot.trace

    def _think(self) -> list[Trace]:
        stepping = len(self._slots) - len(self._waiting)
        if not self._waiting:
            return []
        waited = time.monotonic() - self._waiting[0].since
        if len(self._waiting) < self._brain.width and stepping and waited < self._patience_s:
            return []
        chosen = [
            self._waiting.popleft() for _ in range(min(self._brain.width, len(self._waiting)))
        ]
        wanted = [
            Wanted(s.trace.episode, s.trace.n_steps, tuple(s.history), s.info) for s in chosen
        ]
        start = time.perf_counter()
        answers = self._brain.think(wanted)
        took = time.perf_counter() - start
        self._patience_s = _LINGER * took
        self._clock.model_s += took
        self._clock.n_calls += 1
        self._clock.n_rows += len(wanted)
        over = []
        for slot, answer in zip(chosen, answers, strict=True):
            if isinstance(answer, NonFiniteError):
                slot.trace.ended, slot.trace.detail = "non_finite_action", str(answer)
                over.append(self._end(slot))
                continue
            self._act(slot, answer)
        if self._look is not None:  # simulators step meanwhile
            for asked, answer in zip(wanted, answers, strict=True):
                if isinstance(answer, Answer):
                    self._look(asked.episode, asked.step, asked.history[-1], answer.chunk)
        return over

    def _act(self, slot: _Slot, answer: Answer) -> None:
        trace = slot.trace
        left = trace.episode.max_steps - trace.n_steps
        slot.doing = answer.actions[:left]
        trace.called_at.append(trace.n_steps)
        trace.chunks.append(answer.chunk)
        trace.model_s.append(answer.model_s)
        final = len(answer.actions) >= left
        slot.worker.tell(Act(slot.doing, tail=self._tail, final=final), self._timeout_s)


def finished(trace: Trace, *, group: str, dim: int, rule: SuccessRule) -> StoredRollout:
    """An episode that is over, as it is stored.

    Args:
        trace: what happened in it.
        group: its suite, or the environment's type.
        dim: of an action (A).
        rule: when it counts as solved.
    """
    states = concatenated(trace.states)
    extras = {name: concatenated(parts) for name, parts in trace.extras.items()}
    return StoredRollout(
        row=episode_row(trace, group=group, rule=rule),
        states=states,
        rewards=concatenated(trace.rewards),
        actions=np.concatenate([np.zeros((0, dim)), *trace.actions]),
        extras={name: values for name, values in extras.items() if len(values) == len(states)},
        called_at=np.asarray(trace.called_at, dtype=np.int64),
        chunks=np.stack(trace.chunks) if trace.chunks else np.zeros((0, 1, dim)),
        model_s=np.asarray(trace.model_s, dtype=np.float64),
    )


def episode_row(trace: Trace, *, group: str, rule: SuccessRule) -> RolloutRow:
    """What the record lists of one episode.

    ``success`` is None where the simulator never ran it, and where the environment did not speak
    of success; rewards are None where one of them is NaN or inf.
    """
    rewards = concatenated(trace.rewards)
    coverage = concatenated(trace.extras["coverage"]) if "coverage" in trace.extras else None
    ran = trace.ended != "fault"
    verdict = judge(np.concatenate(trace.said), rule) if ran and trace.said else None
    counts = ran and bool(np.isfinite(rewards).all())
    return RolloutRow(
        episode=trace.episode.index,
        seed=trace.episode.seed,
        task_group=group,
        task_id=trace.episode.task_id,
        task=trace.episode.task,
        demonstration=trace.episode.demonstration,
        success=verdict.success if verdict else None,
        success_step=verdict.step if verdict else None,
        max_reward=(float(rewards.max()) if len(rewards) else 0.0) if counts else None,
        sum_reward=float(rewards.sum()) if counts else None,
        max_coverage=float(np.nanmax(coverage)) if coverage is not None and len(rewards) else None,
        steps=len(rewards),
        ended=trace.ended,
        detail=trace.detail,
        n_calls=len(trace.called_at),
        attempts=len(trace.faults) + (trace.ended != "fault"),
        faults=[FaultRow(kind=f.kind, detail=f.detail) for f in trace.faults],
        sim_s=trace.sim_s,
        undrawn=trace.undrawn,
        video=None,
    )


def concatenated(parts: Sequence[Any], width: int = 0) -> FloatArray:
    """Parts of an episode as one array; [0, width] without any."""
    return np.concatenate(parts) if parts else np.zeros((0, width))
