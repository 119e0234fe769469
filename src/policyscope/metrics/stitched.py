"""What a robot would have run: the first steps of one chunk, then those of the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray


@final
@dataclass(frozen=True, eq=False)
class Stitches:
    """Where the executed steps of one episode stand in its chunks.

    Attributes:
        row: [N] which of the episode's chunks, for each executed step.
        step: [N] which step of that chunk.
        frame: [N] at which frame, rising.
        whole: whether no frame between the first and the last is left out.
    """

    row: NDArray[np.int64]
    step: NDArray[np.int64]
    frame: NDArray[np.int64]
    whole: bool


def stitches(frame_index: NDArray[np.int64], is_pad: NDArray[np.bool_], m: int) -> Stitches:
    """A robot that asks at the first frame, and again after every m steps.

    Args:
        frame_index: [T], rising: the frames at which there are chunks.
        is_pad: [T, H].
        m: steps that are run of each chunk.
    """
    asked = np.flatnonzero((frame_index - frame_index[0]) % m == 0)
    row, step = np.repeat(asked, m), np.tile(np.arange(m), len(asked))
    frame = frame_index[row] + step
    kept = ~is_pad[row, step] & (frame <= frame_index[-1])
    row, step, frame = row[kept], step[kept], frame[kept]
    return Stitches(row, step, frame, bool((np.diff(frame) == 1).all()))
