"""From raw observations of simulators to chunks: lerobot's processors and a policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.data.frames import FrameBatch
from policyscope.engine.episodes import Planned
from policyscope.engine.scheduler import Answer, Wanted
from policyscope.errors import NonFiniteError
from policyscope.metrics.ensembling import Ensemble
from policyscope.policies.base import Policy
from policyscope.sim.processors import Eyes
from policyscope.sim.simulator import SimulatorSpec

INFO = "info."
"""Prefix of the keys under which scripted policies read the simulator's own numbers."""


def example(simulator: SimulatorSpec) -> Wanted:
    """The first observation of seed 0, as the policy will be asked."""
    task, first = simulator.tasks[0], simulator.first
    episode = Planned(0, None, task.task_id, task.text, 0, task.max_steps)
    return Wanted(episode, 0, first.observations, dict(first.info))


@final
class PolicyBrain:
    """A policy that answers simulators.

    Args:
        policy: whose chunks to execute.
        eyes: processors of the environment.
        dims: where each of the policy's compared dims goes in the environment's action.
        width: most rows of a call.

    Attributes:
        spec: of the policy.
        width: most rows of a call.
        fills: whether calls are filled up to `width`; known after `settle`.
    """

    def __init__(self, policy: Policy, eyes: Eyes, *, dims: tuple[int, ...], width: int) -> None:
        self.spec, self.width, self.fills = policy.spec, width, True
        self._policy, self._eyes, self._dims = policy, eyes, dims
        self._ensembles: dict[int, Ensemble] = {}

    def settle(self, wanted: Wanted) -> None:
        """Find out how answers depend on the batch, so that they never do.

        Matrix kernels may add up in another order for another number of rows. One observation is
        asked about alone, and in every row of a full batch: if all answers are equal bit for bit,
        a call may have any number of rows up to `width`; if only the rows of the full batch
        agree, every call is filled up to it; if not even they do, rows are asked one by one.
        """
        if self.width == 1 or self.spec.one_by_one:
            self.fills = False
            return
        alone = self._predict([wanted])
        full = self._predict([wanted] * self.width)
        if not (full == full[:1]).all():
            self.width, self.fills = 1, False
        else:
            sizes = (self._predict([wanted] * n) for n in range(2, self.width))
            self.fills = not ((full[:1] == alone).all() and all((s == alone).all() for s in sizes))

    def think(self, wanted: Sequence[Wanted]) -> list[Answer | NonFiniteError]:
        """See `policyscope.engine.scheduler.Brain`."""
        rows = list(wanted)
        if self.fills:
            rows += [rows[-1]] * (self.width - len(rows))
        try:
            prediction = self._policy.predict(self.batch(rows))
        except NonFiniteError as error:
            if len(wanted) == 1:
                return [error]
            return [self.think([one])[0] for one in wanted]
        chunks = self._placed(prediction.actions.values[: len(wanted)])
        answers: list[Answer | NonFiniteError] = []
        for one, chunk in zip(wanted, chunks, strict=True):
            if self._eyes.translates:  # other dims: what is stored is what the environment takes
                taken = self._eyes.act(chunk)
                answers.append(Answer(taken, self._run(one, taken), prediction.model_s))
            else:
                taken = self._eyes.act(self._run(one, chunk))
                answers.append(Answer(chunk, taken, prediction.model_s))
        return answers

    def _run(self, wanted: Wanted, chunk: FloatArray) -> FloatArray:
        """The [m, A] actions of a chunk that are run: its first ones, or an ensemble's."""
        if self.spec.ensembling is None:
            return chunk[: self.spec.n_action_steps]
        episode = wanted.episode.index
        if wanted.step == 0:  # begun, or begun again
            self._ensembles[episode] = Ensemble(self.spec.ensembling, len(chunk))
        return self._ensembles[episode].act(chunk)[None]

    def batch(self, wanted: Sequence[Wanted]) -> FrameBatch:
        """What the policy reads; the episode index is the seed, the frame index the step."""
        tasks = tuple(w.episode.task for w in wanted)
        observations = []
        for lag in self.spec.steps:
            rows = [w.history[max(0, len(w.history) - 1 + lag)] for w in wanted]
            observations.append(self._eyes.see(rows, tasks))
        told = [key for key in self.spec.keys if key.startswith(INFO)]
        for key in told:
            observations[-1][key] = np.stack([w.info[key.removeprefix(INFO)] for w in wanted])
        return FrameBatch(
            np.array([w.episode.seed for w in wanted], dtype=np.int64),
            np.array([w.step for w in wanted], dtype=np.int64),
            np.zeros(len(wanted), dtype=np.int64),
            tasks,
            tuple(observations),
        )

    def _predict(self, wanted: Sequence[Wanted]) -> FloatArray:
        return self._policy.predict(self.batch(wanted)).actions.values

    def _placed(self, chunks: FloatArray) -> FloatArray:
        placed = np.empty_like(chunks)
        placed[..., list(self._dims)] = chunks
        return placed
