"""Baselines that learn and see no picture: what a policy must beat to have earned its cameras.

Ridge regression and the nearest neighbour, on the state alone and on the state with the previous
action, predict whole chunks. They are fitted on demonstrations; a demonstration among these is
predicted as if it had not been there, so that none ever sees itself.

The previous action is the demonstrator's recorded one, which says where the demonstrator was going
and which no policy gets; state alone is what any policy has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policyscope.actions.spaces import FloatArray

BLIND = ("ridge_state", "ridge_state_action", "nearest_state", "nearest_state_action")
_RIDGE = 1.0  # penalty on coefficients of standardized features, as scikit-learn's default
_MIN_STD = 1e-6
_MOST_NEIGHBOURS = 50_000  # frames that are searched; of larger training sets every n-th


@final
@dataclass(frozen=True, eq=False)
class Demonstration:
    """One episode as the blind see it.

    Attributes:
        index: episode index.
        state: [T, S].
        actions: [T, A].
        previous: [T, A] the action before each frame, as the baseline ``repeat_last`` has it.
    """

    index: int
    state: FloatArray
    actions: FloatArray
    previous: FloatArray


@final
@dataclass(frozen=True, eq=False)
class Scale:
    """Mean and standard deviation of states and actions, as the dataset's statistics have them.

    Attributes:
        state: mean and std, [S] each.
        action: mean and std, [A] each.
    """

    state: tuple[FloatArray, FloatArray]
    action: tuple[FloatArray, FloatArray]

    @staticmethod
    def of(state: Mapping[str, ArrayLike], action: Mapping[str, ArrayLike]) -> Scale:
        """From two tables of statistics."""

        def pair(stats: Mapping[str, ArrayLike]) -> tuple[FloatArray, FloatArray]:
            mean, std = (np.asarray(stats[k], np.float64).reshape(-1) for k in ("mean", "std"))
            return mean, std

        return Scale(pair(state), pair(action))

    def features(self, episode: Demonstration, *, with_action: bool) -> FloatArray:
        """[T, F] standardized; dims that hardly vary are left out."""
        parts = [(episode.state, *self.state)]
        if with_action:
            parts.append((episode.previous, *self.action))
        return np.concatenate(
            [
                ((x - mean) / np.maximum(std, _MIN_STD))[:, std >= _MIN_STD]
                for x, mean, std in parts
            ],
            axis=1,
        )


@final
class Blind:
    """All four, fitted.

    Args:
        training: demonstrations to learn from, two at least if one of them is to be predicted.
        scale: of states and actions.
        horizon: steps of a chunk (H).
    """

    def __init__(self, training: Sequence[Demonstration], scale: Scale, *, horizon: int) -> None:
        self._known = {e.index for e in training}
        self._scale = scale
        self._learners: dict[str, _Ridge | _Nearest] = {}
        for name, with_action in (("state", False), ("state_action", True)):
            seen = [scale.features(e, with_action=with_action) for e in training]
            mean = scale.action[0]
            self._learners[f"ridge_{name}"] = _Ridge(seen, training, mean, horizon)
            self._learners[f"nearest_{name}"] = _Nearest(seen, training, horizon)

    def chunks(self, episode: Demonstration) -> dict[str, FloatArray]:
        """Name → [T, H, A] predicted chunks of every frame.

        Args:
            episode: one of the training demonstrations, which is left out then, or another.
        """
        inside = episode.index in self._known
        result = dict[str, FloatArray]()
        for name in BLIND:
            x = self._scale.features(episode, with_action=name.endswith("action"))
            result[name] = self._learners[name].predict(x, episode, left_out=inside)
        return result


@final
class _Ridge:
    """Linear regression of each step of the chunk, on the frames whose chunk reaches that far.

    The sums behind the normal equations add up over episodes, so leaving one out is taking its own
    away: nothing is fitted twice.
    """

    def __init__(
        self,
        seen: Sequence[FloatArray],
        training: Sequence[Demonstration],
        mean: FloatArray,
        horizon: int,
    ) -> None:
        self._mean, self._horizon = mean, horizon
        width = seen[0].shape[1] + 1
        self._square = np.zeros((horizon, width, width))
        self._cross = np.zeros((horizon, width, len(mean)))
        for x, episode in zip(seen, training, strict=True):
            square, cross = self._sums(x, episode.actions)
            self._square += square
            self._cross += cross

    def _sums(self, x: FloatArray, actions: FloatArray) -> tuple[FloatArray, FloatArray]:
        with_one = np.hstack([x, np.ones((len(x), 1))])
        off = actions - self._mean
        square, cross = np.zeros_like(self._square), np.zeros_like(self._cross)
        for h in range(min(self._horizon, len(x))):
            rows = with_one[: len(x) - h]
            square[h], cross[h] = rows.T @ rows, rows.T @ off[h:]
        return square, cross

    def predict(self, x: FloatArray, episode: Demonstration, *, left_out: bool) -> FloatArray:
        """[T, H, A]."""
        own = self._sums(x, episode.actions) if left_out else (0.0, 0.0)
        square, cross = self._square - own[0], self._cross - own[1]
        # the intercept is all but free; where no episode reaches so far the mean remains
        penalty = np.diag([_RIDGE] * x.shape[1] + [1e-9])
        weights = np.linalg.solve(square + penalty, cross)
        steps: FloatArray = np.einsum("tf,hfa->tha", x, weights[:, :-1])
        return steps + weights[:, -1] + self._mean


@final
class _Nearest:
    """The chunk that followed the most similar frame, its last action held past the end."""

    def __init__(
        self, seen: Sequence[FloatArray], training: Sequence[Demonstration], horizon: int
    ) -> None:
        from scipy.spatial import KDTree

        lengths = np.array([len(x) for x in seen])
        stride = int(np.ceil(lengths.sum() / _MOST_NEIGHBOURS))
        self._horizon = horizon
        self._actions = np.concatenate([e.actions for e in training])
        ends = lengths.cumsum()
        self._row = np.arange(ends[-1])[::stride]
        of = np.repeat(np.arange(len(seen)), lengths)
        self._last = (ends - 1)[of]
        self._owner = np.array([e.index for e in training])[of][self._row]
        self._tree = KDTree(np.concatenate(list(seen))[self._row])

    def predict(self, x: FloatArray, episode: Demonstration, *, left_out: bool) -> FloatArray:
        """[T, H, A]."""
        found = self._others(x, episode.index) if left_out else self._tree.query(x)[1]
        row = self._row[found]
        steps = np.minimum(row[:, None] + np.arange(self._horizon), self._last[row][:, None])
        result: FloatArray = self._actions[steps]
        return result

    def _others(self, x: FloatArray, own: int) -> NDArray[np.int64]:
        """The nearest frame of another episode: ask for more neighbours until there is one."""
        found = np.full(len(x), -1, dtype=np.int64)
        todo, k = np.arange(len(x)), 16
        while len(todo):
            k = min(k, self._tree.n)
            _, near = self._tree.query(x[todo], k=k)
            near = near.reshape(len(todo), -1)
            other = self._owner[near] != own
            has = other.any(axis=1)
            found[todo[has]] = near[has, other[has].argmax(axis=1)]
            if k == self._tree.n and not has.all():
                raise ValueError("no other episode to be near to")
            todo, k = todo[~has], 4 * k
        return found
