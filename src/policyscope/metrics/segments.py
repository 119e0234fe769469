"""Sums of errors by episode and task, one after another or stacked.

Stacked, many episodes take the room of their numbers alone, and what is asked of all of them is one
pass over an array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.metrics.errors import ErrorSums

Space = Literal["native", "normalized"]
_SPACES: tuple[Space, ...] = ("native", "normalized")


@final
@dataclass(frozen=True, eq=False)
class Segment:
    """Sums over the frames of one episode and task.

    Attributes:
        episode: its index.
        task: the instruction.
        n_frames: frames.
        native: `POLICY` and each baseline → its errors in native units.
        normalized: the same in units of the dataset's standard deviation.
        target_sum: [S, A] summed demonstrated actions about the dataset's mean, without padding:
            far from 0 a variance would be the small difference of two large sums.
        target_squared: [S, A] their summed squares.
        weight: of each frame in all sums, counts among them.
    """

    episode: int
    task: str
    n_frames: int
    native: Mapping[str, ErrorSums]
    normalized: Mapping[str, ErrorSums]
    target_sum: FloatArray
    target_squared: FloatArray
    weight: float = 1.0


@final
@dataclass(frozen=True, eq=False)
class Segments:
    """P of them, as arrays; what each is stands at `Segment`.

    Attributes:
        who: the N whose errors were summed.
        task: P instructions.
        episode: [P].
        n_frames: [P].
        weight: [P].
        errors: [P, 2, 2, N, S, A] absolute and squared, native and normalized.
        count: [P, S] what `errors` are sums over.
        target: [P, 2, S, A] sums and summed squares.
    """

    who: tuple[str, ...]
    task: tuple[str, ...]
    episode: NDArray[np.int64]
    n_frames: NDArray[np.int64]
    weight: FloatArray
    errors: FloatArray
    count: FloatArray
    target: FloatArray

    @staticmethod
    def of(segments: Sequence[Segment], n_steps: int, dim: int) -> Segments:
        """Stack some, of so many steps (S) and dims (A); all with the same `who`."""
        who = tuple(segments[0].native) if segments else ()
        layout = (n_steps, dim)
        stacked = Segments(
            who,
            tuple(s.task for s in segments),
            np.array([s.episode for s in segments], np.int64),
            np.array([s.n_frames for s in segments], np.int64),
            np.array([s.weight for s in segments], np.float64),
            np.empty((len(segments), 2, 2, len(who), *layout)),
            np.empty((len(segments), n_steps)),
            np.empty((len(segments), 2, *layout)),
        )
        for i, segment in enumerate(segments):
            for j, known in enumerate((segment.native, segment.normalized)):
                for w, name in enumerate(who):
                    stacked.errors[i, 0, j, w] = known[name].absolute
                    stacked.errors[i, 1, j, w] = known[name].squared
            stacked.count[i] = segment.native[who[0]].count
            stacked.target[i] = segment.target_sum, segment.target_squared
        return stacked

    def __len__(self) -> int:
        return len(self.task)

    def errors_of(self, who: str, space: Space) -> ErrorSums:
        """Those of one: sums [P, S, A] and counts [P, S], none of them a copy."""
        own = self.errors[:, :, _SPACES.index(space), self.who.index(who)]
        return ErrorSums(own[:, 0], own[:, 1], self.count)


@final
class Stack:
    """Rows as they come, in one array with room for more.

    Args:
        room: rows that are expected; more make it move.
        axis: of the array in memory along which they come; those before it lie outside.
    """

    def __init__(self, room: int, axis: int = 0) -> None:
        self._room, self._n, self._axis = room, 0, axis
        self._array: NDArray[Any] | None = None

    def add(self, rows: NDArray[Any]) -> None:
        """Add [P, ...] rows; what `rows` gave before stays as it is."""
        end = self._n + len(rows)
        if self._array is None or end > len(self._array):
            room = max(self._room, end if self._array is None else 2 * end)
            outer, inner = rows.shape[1 : self._axis + 1], rows.shape[self._axis + 1 :]
            whole = np.empty((*outer, room, *inner), rows.dtype)  # untouched, it takes no memory
            grown = np.moveaxis(whole, self._axis, 0)
            if self._array is not None:
                grown[: self._n] = self._array[: self._n]
            self._array = grown
        self._array[self._n : end] = rows
        self._n = end

    @property
    def rows(self) -> NDArray[Any]:
        """All that were added."""
        assert self._array is not None, "some rows, or none, were added"
        return self._array[: self._n]
