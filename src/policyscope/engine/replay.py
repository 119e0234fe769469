"""Finished episodes once more, with every picture: their actions again, from the same start.

Runs are fast because nobody draws what the policy does not look at; videos and recordings are
made afterwards, from the stored actions. That states and rewards come out the same is checked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, final

import numpy as np
from numpy.typing import NDArray

from policyscope.engine.episodes import Planned
from policyscope.runs.rollouts import StoredRollout
from policyscope.sim.contract import Observation
from policyscope.sim.pool import MOST_ATTEMPTS, Fault, Pool
from policyscope.sim.simulator import Steps
from policyscope.sim.worker import Act, Reset

_AT_ONCE = 24  # steps a message: pictures of a whole episode would fill the memory

_SAME = 1e-9  # gym-pusht adds up areas in the order of a set: the last digit of a reward varies


@final
@dataclass(frozen=True)
class Moment:
    """One instant of a replayed episode.

    Attributes:
        step: 0 is the start.
        picture: [H, W, 3]; None where the simulator could not be drawn.
        observation: raw.
    """

    step: int
    picture: NDArray[np.uint8] | None
    observation: Observation


class Sink(Protocol):
    """What takes the moments of one episode: a video, a clip, a recording."""

    def add(self, moment: Moment) -> None:
        """The next moment."""

    def close(self, *, whole: bool) -> None:
        """No more moments; unless they are `whole`, throw away what came."""


OpenSink = Callable[[Planned, StoredRollout], Sink]


@final
@dataclass(frozen=True)
class Replayed:
    """How the second time of an episode went.

    Attributes:
        episode: which.
        outcome: as stored; otherwise than stored; or the simulator failed each time.
        detail: what was wrong, or "".
    """

    episode: Planned
    outcome: Literal["same", "differs", "lost"]
    detail: str = ""


@final
@dataclass
class _Job:
    episode: Planned
    stored: StoredRollout
    attempt: int = 1
    sink: Sink | None = None
    done: int = 0
    same: bool = True


def replay(
    pool: Pool,
    episodes: Sequence[tuple[Planned, StoredRollout]],
    open_sink: OpenSink,
    *,
    timeout_s: float,
) -> Iterator[Replayed]:
    """Run stored actions again and show every instant to a sink.

    A simulator that dies, hangs or raises meanwhile is no sign of another outcome: the episode is
    shown again from its start, to a new sink.

    Args:
        pool: simulators, all idle.
        episodes: which, with what was stored of them.
        open_sink: gives what takes an episode's moments.
        timeout_s: patience with a simulator.

    Yields:
        Each episode, with what came of it.
    """
    queue = deque(_Job(episode, stored) for episode, stored in episodes)
    jobs: dict[int, _Job] = {}
    while queue or jobs:
        for worker in pool.workers:
            if queue and id(worker) not in jobs:
                job = jobs[id(worker)] = queue.popleft()
                job.sink = open_sink(job.episode, job.stored)
                episode = job.episode
                start = None if episode.start is None else np.asarray(episode.start)
                again = Reset(episode.group, episode.task_id, episode.seed, start, render=True)
                worker.tell(again, timeout_s)
        for worker, answer in pool.answers(timeout_s):
            job = jobs[id(worker)]
            if isinstance(answer, Fault):
                del jobs[id(worker)]
                lost = _failed(job, answer, queue)
                if lost is not None:
                    yield lost
                continue
            problem = _take(job, answer)
            left = job.stored.actions[job.done : job.done + _AT_ONCE]
            if not problem and len(left):
                worker.tell(Act(left, watched=True), timeout_s)
                continue
            del jobs[id(worker)]
            _sink_of(job).close(whole=True)
            problem = problem or ("" if job.same else "states or rewards differ")
            yield Replayed(job.episode, "differs" if problem else "same", problem)


def _failed(job: _Job, fault: Fault, queue: deque[_Job]) -> Replayed | None:
    """Show the episode again, or give up."""
    _sink_of(job).close(whole=False)
    if job.attempt < MOST_ATTEMPTS:
        queue.appendleft(_Job(job.episode, job.stored, job.attempt + 1))
        return None
    return Replayed(job.episode, "lost", f"{fault.kind}: {fault.detail}")


def _take(job: _Job, answer: Steps) -> str:
    """Show what came; what is wrong with it."""
    sink = _sink_of(job)
    if not len(answer.rewards):
        sink.add(Moment(0, answer.picture, answer.observations[0]))
        return ""
    n = len(answer.rewards)
    rewards = job.stored.rewards[job.done : job.done + n]
    states = job.stored.states[job.done + 1 : job.done + n + 1]
    for stored, now in ((rewards, answer.rewards), (states, answer.states)):
        job.same &= stored.shape == now.shape and bool(
            np.allclose(stored, now, rtol=_SAME, atol=_SAME, equal_nan=True)
        )
    for i, (picture, seen) in enumerate(
        zip(answer.pictures, answer.all_observations, strict=True), start=1
    ):
        sink.add(Moment(job.done + i, picture, seen))
    job.done += n
    ended_early = bool(answer.ended) and job.done < len(job.stored.actions)
    return "it ended earlier than before" if ended_early else ""


def _sink_of(job: _Job) -> Sink:
    assert job.sink is not None  # opened when the job was given to a worker
    return job.sink
