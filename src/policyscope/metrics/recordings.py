"""What recorded motion looks like: its steps, where it jumps or rests, how far the state lags.

Everything is measured against the motion itself, so that one rule holds for pixels, radians and
joints of any size. Episodes are [T, D] arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray

_SPIKE = (3.0, 0.05)  # of the 99th percentile of steps; of the range
_JUMP = (5.0, 0.3)
_FEW = 10  # values: a switch, not a motion
_TURNS = (2 * np.pi, 360.0)
_NEAR_TURN = 0.05
_AT_END = 1e-6  # of the range
_POINTS = 32  # of a path that is compared with others


@final
@dataclass(frozen=True, eq=False)
class Extent:
    """[D] of all frames together.

    Attributes:
        low: least.
        high: largest.
        mean: their mean.
        std: standard deviation.
        step: 99th percentile of the absolute steps from frame to frame.
        switches: whether a dim has only a few values.
        at_low: share of the frames at the least value.
        at_high: share at the largest.
    """

    low: FloatArray
    high: FloatArray
    mean: FloatArray
    std: FloatArray
    step: FloatArray
    switches: NDArray[np.bool_]
    at_low: FloatArray
    at_high: FloatArray

    @property
    def size(self) -> FloatArray:
        """Range."""
        return self.high - self.low

    @classmethod
    def of(cls, episodes: Sequence[FloatArray]) -> Extent:
        """Of at least one frame."""
        every = np.concatenate(episodes)
        low, high = every.min(axis=0), every.max(axis=0)
        steps = np.concatenate([np.abs(np.diff(one, axis=0)) for one in episodes])
        near = _AT_END * (high - low)
        return cls(
            low,
            high,
            every.mean(axis=0),
            every.std(axis=0),
            np.quantile(steps, 0.99, axis=0) if len(steps) else np.zeros(len(low)),
            np.array([len(np.unique(column)) <= _FEW for column in every.T], dtype=np.bool_),
            (every <= low + near).mean(axis=0),
            (every >= high - near).mean(axis=0),
        )


@final
@dataclass(frozen=True)
class Jump:
    """A frame at which one dim leaves its motion.

    Attributes:
        episode: place of the episode.
        frame: the one that is off, or the first after a jump.
        dim: which.
        size: of the step, in the dim's own unit.
        kind: ``spike`` there and back within a frame, ``jump`` to stay, ``turn`` by a full turn of
            an angle.
    """

    episode: int
    frame: int
    dim: int
    size: float
    kind: Literal["spike", "jump", "turn"]


def jumps(episodes: Sequence[FloatArray], extent: Extent) -> list[Jump]:
    """Frames that no motion of the other frames leads to.

    Switches have steps of their own, and are left out.
    """
    found = []
    moving = ~extent.switches & (extent.step > 0)
    spike = np.where(moving, _most(extent, _SPIKE), np.inf)
    jump = np.where(moving, _most(extent, _JUMP), np.inf)
    for place, values in enumerate(episodes):
        steps = np.diff(values, axis=0)
        back = np.where(
            steps[:-1] * steps[1:] < 0, np.minimum(np.abs(steps[:-1]), np.abs(steps[1:])), 0.0
        )
        spiked = back > spike
        for frame, dim in np.argwhere(spiked):
            found.append(Jump(place, int(frame) + 1, int(dim), float(back[frame, dim]), "spike"))
        jumped = np.abs(steps) > jump
        jumped[:-1] &= ~spiked
        jumped[1:] &= ~spiked
        for frame, dim in np.argwhere(jumped):
            size = float(abs(steps[frame, dim]))
            turn = any(abs(size / full - 1) < _NEAR_TURN for full in _TURNS)
            found.append(Jump(place, int(frame) + 1, int(dim), size, "turn" if turn else "jump"))
    return found


def _most(extent: Extent, rule: tuple[float, float]) -> FloatArray:
    return np.maximum(rule[0] * extent.step, rule[1] * extent.size)


def repeated(values: FloatArray, scale: FloatArray) -> NDArray[np.int64]:
    """Frames that equal the one before although the robot moves before and after.

    Args:
        values: [T, D] all that is known of a frame.
        scale: [D] standard deviations; dims of none are left out.

    Returns:
        Their places.
    """
    moving = scale > 0
    if len(values) < 4 or not moving.any():
        return np.zeros(0, np.int64)
    speed = (np.abs(np.diff(values[:, moving], axis=0)) / scale[moving]).max(axis=1)
    usual = np.median(speed)
    held = speed[1:-1] == 0
    return np.flatnonzero(held & (speed[:-2] > usual / 2) & (speed[2:] > usual / 2)) + 2


def rests(episodes: Sequence[FloatArray]) -> NDArray[np.bool_]:
    """[E, D] whether a dim keeps one value for a whole episode."""
    return np.stack([np.ptp(one, axis=0) == 0 for one in episodes])


def lag_curve(
    actions: Sequence[FloatArray], state: Sequence[FloatArray], lags: Sequence[int]
) -> FloatArray:
    """How well steps of the state some frames later follow those of the action.

    Args:
        actions: episodes of [T, D].
        state: the same.
        lags: frames by which the state may be late; negative where it is early.

    Returns:
        [L, D] correlation of the steps over all episodes; NaN for dims that rest.
    """
    rows = []
    for lag in lags:
        first, later = [], []
        for asked, reached in zip(actions, state, strict=True):
            a, s = np.diff(asked, axis=0), np.diff(reached, axis=0)
            n = len(a) - abs(lag)
            if n > 0:
                first.append(a[max(-lag, 0) :][:n])
                later.append(s[max(lag, 0) :][:n])
        rows.append(_correlation(first, later, actions[0].shape[1]))
    return np.stack(rows)


def _correlation(first: Sequence[FloatArray], later: Sequence[FloatArray], dims: int) -> FloatArray:
    if not first:
        return np.full(dims, np.nan)
    x, y = np.concatenate(first), np.concatenate(later)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    under = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    known: FloatArray = np.divide(
        (x * y).sum(axis=0), under, out=np.full(dims, np.nan), where=under > 1e-300
    )
    return known


def paths(episodes: Sequence[FloatArray], scale: FloatArray) -> FloatArray:
    """[E, P] episodes stretched to one length, so that distances are rms over it, in std of a dim.

    Args:
        episodes: [T, D] each.
        scale: [D] standard deviations; dims of none are left out.
    """
    moving = np.flatnonzero(scale > 0)
    rows = []
    for one in episodes:
        at = np.linspace(0, len(one) - 1, _POINTS)
        rows.append(
            [np.interp(at, np.arange(len(one)), one[:, dim]) / scale[dim] for dim in moving]
        )
    stretched: FloatArray = np.array(rows).reshape(len(episodes), -1)
    stretched /= np.sqrt(max(1, stretched.shape[1]))
    return stretched


def nearest(stretched: FloatArray) -> tuple[FloatArray, NDArray[np.intp]]:
    """[E] distance of each path to the one nearest to it, and whose that is; two paths at least."""
    square = (stretched**2).sum(axis=1)
    apart, whose = np.empty(len(stretched)), np.empty(len(stretched), np.intp)
    for start in range(0, len(stretched), 512):  # bounds memory
        some = slice(start, start + 512)
        block = square[some, None] + square - 2 * stretched[some] @ stretched.T
        block[np.arange(len(block)), np.arange(start, start + len(block))] = np.inf
        whose[some] = block.argmin(axis=1)
        apart[some] = np.sqrt(np.maximum(block.min(axis=1), 0.0))
    return apart, whose
