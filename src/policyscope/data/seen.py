"""What the demonstrations themselves say: moments of their numbers, their rate, their gaps.

Statistics and rates that metadata declares are compared with these (`checks/dataset.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray


@final
@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean, spread and range of [N, D] numbers; adding two is exact up to rounding.

    Attributes:
        n: how many rows.
        mean: [D].
        square: [D] sum of squared distances from the mean.
        low: [D] least.
        high: [D] largest.
    """

    n: int
    mean: FloatArray
    square: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, values: FloatArray) -> Moments:
        """The moments of an array of at least one row."""
        mean = values.mean(axis=0)
        square = ((values - mean) ** 2).sum(axis=0)
        return cls(len(values), mean, square, values.min(axis=0), values.max(axis=0))

    def __add__(self, other: Moments) -> Moments:
        """The moments of both together (Chan, Golub, LeVeque 1979)."""
        n = self.n + other.n
        step = other.mean - self.mean
        return Moments(
            n,
            self.mean + step * other.n / n,
            self.square + other.square + step**2 * self.n * other.n / n,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @property
    def std(self) -> FloatArray:
        """[D] standard deviation of all rows (divided by N, as lerobot's)."""
        return np.sqrt(self.square / self.n)


@final
@dataclass(frozen=True, eq=False)
class Seen:
    """What one episode says.

    Attributes:
        actions: their moments.
        state: those of the state, or None.
        step_s: median seconds from one frame to the next, or None for a single frame.
        gaps: how many ``frame_index`` steps are longer than one.
        task: text of its first frame.
    """

    actions: Moments
    state: Moments | None
    step_s: float | None
    gaps: int
    task: str


def see(
    actions: FloatArray,
    state: FloatArray | None,
    timestamps: NDArray[Any],
    frame_index: NDArray[np.int64],
    task: str,
) -> Seen:
    """Look at one episode of T frames.

    Args:
        actions: [T, A].
        state: [T, S] or None.
        timestamps: [T] seconds.
        frame_index: [T] as recorded, rising.
        task: text of its first frame.
    """
    steps = np.diff(timestamps.astype(np.float64))
    return Seen(
        Moments.of(actions),
        None if state is None else Moments.of(state),
        float(np.median(steps)) if len(steps) else None,
        int((np.diff(frame_index) > 1).sum()),
        task,
    )


def together(moments: Iterable[Moments]) -> Moments:
    """The moments of at least one array, of all together."""
    first, *others = moments
    for other in others:
        first = first + other
    return first
