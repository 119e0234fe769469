"""Episodes and batches of their frames, as values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray, NativeActions
from policyscope.data.pictures import Loan

Observation = Mapping[str, NDArray[Any]]
"""What is seen at one step: dataset key → [B, …] float32; pictures [B, C, H, W], uint8 as they are
stored or float32 in [0, 1]."""


@final
@dataclass(frozen=True, eq=False)
class Episode:
    """One demonstration, without its pictures.

    Attributes:
        index: episode index in the dataset.
        actions: [T, A] demonstrated actions.
        state: [T, S] robot state in the precision in which it is stored, or None.
        timestamps: [T] seconds.
        tasks: one text a frame.
        files: [T] names of the data files that hold the frames.
        rows: [T] rows in these files.
    """

    index: int
    actions: NativeActions
    state: FloatArray | None
    timestamps: FloatArray
    tasks: tuple[str, ...]
    files: tuple[str, ...] = ()
    rows: NDArray[np.int64] | None = None

    @property
    def length(self) -> int:
        """Number of frames (T)."""
        return len(self.tasks)

    def chunks(self, horizon: int) -> tuple[NativeActions, NDArray[np.bool_]]:
        """The demonstrated chunk of every frame.

        Returns:
            [T, H, A] actions, the last one repeated past the episode's end, and [T, H]
            ``action_is_pad``, true past the end (as `LeRobotDataset` pads).
        """
        steps = np.arange(self.length)[:, None] + np.arange(horizon)[None, :]
        values = self.actions.values[np.minimum(steps, self.length - 1)]
        return NativeActions(values, self.actions.units), steps >= self.length


@final
@dataclass(frozen=True, eq=False)
class FrameBatch:
    """Observations of B predictions, which may come from several episodes.

    Attributes:
        episode_index: [B].
        frame_index: [B].
        sample: [B] which of the K predictions of the frame.
        task: B texts.
        observations: one an observation step, oldest first.
        staged: what a policy made of the observations ahead of time, of a form of its own; each
            value's first axis is the batch.
        loan: the memory in which pictures lie, or None where it is nobody else's.
    """

    episode_index: NDArray[np.int64]
    frame_index: NDArray[np.int64]
    sample: NDArray[np.int64]
    task: tuple[str, ...]
    observations: tuple[Observation, ...]
    loan: Loan | None = None
    staged: tuple[Mapping[str, Any], ...] | None = None

    def __len__(self) -> int:
        return len(self.task)

    def __getitem__(self, rows: slice) -> FrameBatch:
        """Some of the predictions, as a batch that borrows from this one."""
        return FrameBatch(
            self.episode_index[rows],
            self.frame_index[rows],
            self.sample[rows],
            self.task[rows],
            tuple({k: v[rows] for k, v in step.items()} for step in self.observations),
            staged=None
            if self.staged is None
            else tuple({k: v[rows] for k, v in step.items()} for step in self.staged),
        )

    @property
    def frames(self) -> NDArray[np.int64]:
        """[B] which frame of the batch each row is of, counted from 0 in the order of the rows.

        Several predictions of one frame stand next to each other.
        """
        frame = np.stack([self.episode_index, self.frame_index])
        return np.cumsum(np.any(np.diff(frame, axis=1, prepend=frame[:, :1]) != 0, axis=0))

    def once(self) -> FrameBatch:
        """Each frame with its first row alone."""
        first = np.flatnonzero(np.diff(self.frames, prepend=-1))

        def those(step: Mapping[str, Any]) -> dict[str, Any]:
            return {key: values[first] for key, values in step.items()}

        return FrameBatch(
            self.episode_index[first],
            self.frame_index[first],
            self.sample[first],
            tuple(self.task[i] for i in first),
            tuple(those(step) for step in self.observations),
            staged=None if self.staged is None else tuple(those(step) for step in self.staged),
        )

    def release(self) -> None:
        """Give the pictures' memory back: from now on others write into it.

        Whoever reads many batches calls this after each; who does not, only pays for new memory.
        """
        if self.loan is not None:
            self.loan.give_back()


Row = tuple[int, int, int]
"""episode_index, frame_index, sample"""

Rows = Sequence[Row] | NDArray[np.int64]
"""Some of them; [N, 3] where there are many."""


def by_episode(episodes: NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
    """Rows of one episode that follow one another, as its index and their slice."""
    ends = [*(np.flatnonzero(np.diff(episodes)) + 1).tolist(), len(episodes)]
    for begin, end in pairwise([0, *ends]):
        yield int(episodes[begin]), slice(begin, end)
