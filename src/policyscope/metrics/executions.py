"""One set of predictions, run in many ways: few steps of a chunk or all of it, or an ensemble.

The stored chunks are stitched as a robot would run them, without asking the policy again. What is
said of the demonstrator's course stays open loop: each chunk saw the demonstrator's states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray, NativeActions
from policyscope.config.executions import Execution
from policyscope.metrics import ensembling
from policyscope.metrics.geometry import integrated, near, unrolled
from policyscope.metrics.intervals import Estimate, cluster_mean
from policyscope.metrics.segments import Stack
from policyscope.metrics.stitched import Stitches, stitches
from policyscope.metrics.sums import POLICY, Measure
from policyscope.runs.rows import ExecutionRow


@final
@dataclass(frozen=True, eq=False)
class Course:
    """What a robot runs in one episode.

    Attributes:
        values: [N, A] native, frame by frame.
        row: [N] which of the episode's chunks stands at that frame in the demonstration.
        step: [N] which of its steps.
        seam: [N] whether a chunk begins there, and another ended before.
    """

    values: FloatArray
    row: NDArray[np.int64]
    step: NDArray[np.int64]
    seam: NDArray[np.bool_]


def course(chunks: FloatArray, at: Stitches, way: Execution) -> Course:
    """Stitch the chunks of one episode.

    Args:
        chunks: [T, H, A].
        at: where the executed steps stand in them.
        way: how a robot runs them; an ensemble needs the chunks of consecutive frames.
    """
    seam = at.step == 0
    seam[:1] = False
    if way.coefficient is None:
        return Course(chunks[at.row, at.step], at.row, at.step, seam)
    native = NativeActions(chunks, ("",) * chunks.shape[-1])
    run = ensembling.executed(native, way.coefficient).values[:, 0]
    return Course(run[at.row], at.row, at.step, np.zeros_like(seam))


@final
@dataclass(frozen=True, eq=False)
class ExecutionSums:
    """Sums of one episode for each of V ways.

    Attributes:
        n_frames: [V] frames that were run.
        error: [2, W, V] summed absolute errors, means over dims: native (0 where units differ) and
            in standard deviations; of each baseline and the policy (W).
        jumps: [2, V] summed steps into a new chunk: of the policy, and the demonstration's there.
        n_seams: [V] how many.
        jerk: [2, V] summed squares of third differences: of the policy and the demonstration.
        path: [2, V] summed steps: of the policy and the demonstration.
    """

    n_frames: FloatArray
    error: FloatArray
    jumps: FloatArray
    n_seams: FloatArray
    jerk: FloatArray
    path: FloatArray

    @staticmethod
    def nothing(n_who: int, n_ways: int) -> ExecutionSums:
        """Sums of no frame."""
        two = (2, n_ways)
        return ExecutionSums(
            np.zeros(n_ways),
            np.zeros((2, n_who, n_ways)),
            np.zeros(two),
            np.zeros(n_ways),
            np.zeros(two),
            np.zeros(two),
        )


@final
class Executions:
    """Collects episodes, then answers with a table.

    Args:
        measure: units, statistics and rate.
        ways: to run the chunks.

    Attributes:
        measure: see above.
    """

    def __init__(self, measure: Measure, ways: Sequence[Execution]) -> None:
        self.measure, self._ways = measure, tuple(ways)
        self._who: tuple[str, ...] = ()
        self._stacks = {field.name: Stack(0) for field in fields(ExecutionSums)}

    def add(
        self,
        predicted: Sequence[FloatArray],
        target: FloatArray,
        is_pad: NDArray[np.bool_],
        frame_index: NDArray[np.int64],
        baselines: Mapping[str, FloatArray] | None = None,
    ) -> None:
        """Run one episode in all ways.

        Args:
            predicted: K arrays of [T, H, A], native.
            target: [T, H, A].
            is_pad: [T, H].
            frame_index: [T], rising.
            baselines: name → [T, H, A]; the same for all episodes.
        """
        who: dict[str, Sequence[FloatArray]] = {k: [b] for k, b in (baselines or {}).items()}
        who[POLICY] = predicted
        self._who = tuple(who)
        sums = ExecutionSums.nothing(len(who), len(self._ways))
        for v, way in enumerate(self._ways):
            at = stitches(frame_index, is_pad, way.steps)
            demo = unrolled(target[at.row, at.step], self.measure.schema)
            for w, samples in enumerate(who.values()):
                for chunks in samples:
                    run = course(chunks, at, way)
                    own = w == len(who) - 1
                    self._one(sums, v, w, run, demo, share=1 / len(samples), own=own)
        for name, stack in self._stacks.items():
            stack.add(getattr(sums, name)[None])

    @property
    def sums(self) -> ExecutionSums:
        """Those of all G episodes, stacked: each array has a first axis of episodes."""
        return ExecutionSums(**{name: stack.rows for name, stack in self._stacks.items()})

    def _one(
        self,
        sums: ExecutionSums,
        v: int,
        w: int,
        run: Course,
        demo: FloatArray,
        *,
        share: float,
        own: bool,
    ) -> None:
        measure = self.measure
        ours = near(run.values, demo, measure.schema)
        std = measure.normalizer().divisor
        off, use = np.abs(ours - demo), measure.included
        if measure.basis == "native":
            sums.error[0, w, v] += share * off.mean(axis=1).sum()
        if use.any():
            sums.error[1, w, v] += share * (off / std)[:, use].mean(axis=1).sum()
        if not own:
            return
        sums.n_frames[v] += share * len(demo)
        sums.n_seams[v] += share * run.seam.sum()
        for i, values in enumerate((ours, demo)):
            walked = integrated(values, measure.schema, measure.action_kind)
            walked = walked if measure.basis == "native" else (walked / std)[:, use]
            steps = np.linalg.norm(np.diff(walked, axis=0), axis=1)
            sums.path[i, v] += share * steps.sum()
            sums.jerk[i, v] += share * (np.diff(walked, n=3, axis=0) ** 2).sum()
            sums.jumps[i, v] += share * steps[run.seam[1:]].sum()

    def rows(self) -> list[ExecutionRow]:
        """A row for each way."""
        if not self._who:
            return []
        sums = self.sums
        return [self._row(v, way, sums) for v, way in enumerate(self._ways)]

    def _row(self, v: int, way: Execution, sums: ExecutionSums) -> ExecutionRow:
        frames = sums.n_frames[:, v]
        total = ExecutionSums(*(known.sum(axis=0) for known in vars(sums).values()))
        native = self.measure.basis == "native"

        def error(space: int, w: int) -> Estimate:
            values = sums.error[:, space, w, v]
            return cluster_mean(values, frames, n_frames=round(frames.sum()))

        mae, nmae = error(0, len(self._who) - 1), error(1, len(self._who) - 1)
        undefined = Estimate(None, n_episodes=mae.n_episodes, n_frames=mae.n_frames)
        seams = total.n_seams[v] > 0 and not self.measure.moves
        return ExecutionRow(
            n_action_steps=way.steps,
            ensembling=way.coefficient,
            mae=(mae if native else undefined).measured(),
            nmae=(nmae if self.measure.included.any() else undefined).measured(),
            baselines={
                name: error(0 if native else 1, w).value for w, name in enumerate(self._who[:-1])
            },
            seam=_over(total.jumps[0, v], total.jumps[1, v]) if seams else None,
            jerk=_over(total.jerk[0, v] ** 0.5, total.jerk[1, v] ** 0.5),
            path=_over(total.path[0, v], total.path[1, v]),
            n_seams=round(float(total.n_seams[v])),
            calls_per_s=self.measure.fps / way.steps,
        )


def _over(over: float, under: float) -> float | None:
    return float(over / under) if under > 0 else None
