"""Finished episodes once more, with every picture: their actions again, from the same start.

Runs are fast because nobody draws what the policy does not look at; videos and recordings are
made afterwards, from the stored actions. That states and rewards come out the same is checked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from policyscope.engine.episodes import Planned
from policyscope.runs.rollouts import StoredRollout
from policyscope.sim.adapter import Observation
from policyscope.sim.pool import Fault, Pool
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
        picture: [H, W, 3].
        observation: raw.
    """

    step: int
    picture: NDArray[np.uint8]
    observation: Observation


Sink = Callable[[Moment], None]


@final
@dataclass
class _Job:
    episode: Planned
    stored: StoredRollout
    sink: Sink
    close: Callable[[], None]
    done: int = 0
    same: bool = True


def replay(
    pool: Pool,
    episodes: Sequence[tuple[Planned, StoredRollout]],
    open_sink: Callable[[Planned, StoredRollout], tuple[Sink, Callable[[], None]]],
    *,
    timeout_s: float,
) -> Iterator[tuple[Planned, str]]:
    """Run stored actions again and show every instant to a sink.

    Args:
        pool: simulators, all idle.
        episodes: which, with what was stored of them.
        open_sink: gives what takes an episode's moments, and what to call at its end.
        timeout_s: patience with a simulator.

    Yields:
        Each episode, with what was wrong: "" if it came out as stored.
    """
    queue = deque(episodes)
    jobs: dict[int, _Job] = {}
    while queue or jobs:
        for worker in pool.workers:
            if queue and id(worker) not in jobs:
                episode, stored = queue.popleft()
                jobs[id(worker)] = _Job(episode, stored, *open_sink(episode, stored))
                start = None if episode.start is None else np.asarray(episode.start)
                again = Reset(episode.group, episode.task_id, episode.seed, start, render=True)
                worker.tell(again, timeout_s)
        for worker, answer in pool.answers(timeout_s):
            job = jobs[id(worker)]
            problem = _take(job, answer)
            left = job.stored.actions[job.done : job.done + _AT_ONCE]
            if problem or not len(left):
                del jobs[id(worker)]
                job.close()
                yield job.episode, problem or ("" if job.same else "states or rewards differ")
            else:
                worker.tell(Act(left, watched=True), timeout_s)


def _take(job: _Job, answer: Steps | Fault) -> str:
    if isinstance(answer, Fault):
        return f"simulator {answer.kind}: {answer.detail}"
    if not len(answer.rewards):
        assert answer.picture is not None
        job.sink(Moment(0, answer.picture, answer.observations[0]))
        return ""
    n = len(answer.rewards)
    rewards = job.stored.rewards[job.done : job.done + n]
    states = job.stored.states[job.done + 1 : job.done + n + 1]
    job.same &= np.allclose(rewards, answer.rewards, rtol=_SAME, atol=_SAME)
    job.same &= np.allclose(states, answer.states, rtol=_SAME, atol=_SAME)
    for i, (picture, seen) in enumerate(
        zip(answer.pictures, answer.all_observations, strict=True), start=1
    ):
        job.sink(Moment(job.done + i, picture, seen))
    job.done += n
    ended_early = bool(answer.ended) and job.done < len(job.stored.actions)
    return "it ended earlier than before" if ended_early else ""
