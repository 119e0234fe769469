"""Policies without a network: the trivial baselines, and the demonstration itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from policyscope.actions.robots import Robot
from policyscope.actions.spaces import FloatArray, NativeActions
from policyscope.data.facts import ACTION, STATE
from policyscope.data.frames import Episode, FrameBatch, by_episode
from policyscope.data.source import FrameSource
from policyscope.errors import DatasetError, UsageError
from policyscope.policies.base import Normalization, Policy, PolicySpec, Prediction

_NATIVE = Normalization("IDENTITY", "identity", "none")


def _spec(
    name: str, horizon: int, n_action_steps: int | None, keys: frozenset[str] = frozenset()
) -> PolicySpec:
    if n_action_steps is not None and n_action_steps > horizon:
        raise UsageError(
            "--n_action_steps",
            expected=f"at most {horizon}, the steps of a chunk",
            found=str(n_action_steps),
            fix=f"--n_action_steps {horizon}, or a longer --policy.chunk_size",
        )
    return PolicySpec(
        path=name,
        type=name,
        sha256=None,
        n_parameters=0,
        chunk_size=horizon,
        n_action_steps=n_action_steps or horizon,
        normalization=_NATIVE,
        keys=keys,
    )


@final
class BaselinePolicy(Policy):
    """Predicts a trivial baseline: one action, held over the chunk.

    Raises:
        UsageError: the dataset does not support this baseline.
    """

    def __init__(
        self,
        name: str,
        source: FrameSource,
        *,
        dims: tuple[int, ...],
        horizon: int = 16,
        n_action_steps: int | None = None,
        action_kind: str = "absolute",
    ) -> None:
        self.spec = _spec(name, horizon, n_action_steps)
        self._source, self._dims, self._kind = source, dims, action_kind
        self._actions: dict[int, FloatArray] = {}

    def predict(self, batch: FrameBatch) -> Prediction:
        """See `Policy.predict`."""
        start = time.perf_counter()
        rows = [
            self._of(episode)[batch.frame_index[at]]
            for episode, at in by_episode(batch.episode_index)
        ]
        chunks = np.repeat(np.concatenate(rows)[:, None, :], self.spec.chunk_size, axis=1)
        units = self._source.facts.robot.actions.select(self._dims).units
        return Prediction(
            NativeActions(chunks[..., list(self._dims)], units), time.perf_counter() - start
        )

    def _of(self, episode: int) -> FloatArray:
        if episode not in self._actions:
            self._actions.clear()  # frames come in order
            known = baseline_actions(
                self._source.episode(episode),
                stats=self._source.facts.robot.stats,
                action_kind=self._kind,
            )
            if self.spec.type not in known:
                raise UsageError(
                    f"--policy.type {self.spec.type}",
                    expected="a state with the action's dims, and absolute actions",
                    found=f"{len(self._source.facts.robot.state_names)} state dims, "
                    f"{self._source.facts.robot.actions.dim} action dims, {self._kind} actions",
                    fix=f"--policy.type {sorted(known)[0]}",
                )
            self._actions[episode] = known[self.spec.type]
        return self._actions[episode]


@final
class ReplayPolicy(Policy):
    """Returns the demonstration itself, plus a constant: it scores exactly that constant."""

    def __init__(
        self,
        source: FrameSource,
        *,
        dims: tuple[int, ...],
        horizon: int = 16,
        n_action_steps: int | None = None,
        offset: float = 0.0,
    ) -> None:
        self.spec = _spec("replay", horizon, n_action_steps)
        self._source, self._dims, self._offset = source, dims, offset

    def predict(self, batch: FrameBatch) -> Prediction:
        """See `Policy.predict`."""
        start = time.perf_counter()
        rows = []
        for e, f in zip(batch.episode_index, batch.frame_index, strict=True):
            actions = self._source.episode(int(e)).actions.values
            steps = np.minimum(int(f) + np.arange(self.spec.chunk_size), len(actions) - 1)
            rows.append(actions[steps][:, list(self._dims)] + self._offset)
        units = self._source.facts.robot.actions.select(self._dims).units
        return Prediction(NativeActions(np.stack(rows), units), time.perf_counter() - start)


@final
class Still(Policy):
    """Does nothing: asks for the state that the robot is in, or for no displacement.

    Args:
        name: ``hold_state`` or ``zero``.
        robot: of the simulator.
        horizon: steps of a chunk.
        n_action_steps: steps run of it; None for all.

    Raises:
        UsageError: state and action differ in their number of dims.
    """

    def __init__(
        self, name: str, robot: Robot, *, horizon: int, n_action_steps: int | None
    ) -> None:
        if name == "hold_state" and len(robot.state_names) != robot.actions.dim:
            raise UsageError(
                "--policy.type hold_state",
                expected=f"a state of {robot.actions.dim} dims, as an action has",
                found=f"{len(robot.state_names)}",
                fix="--policy.type zero: holding the state is no action here",
            )
        self._units = robot.actions.units
        self._keys = [STATE] if name == "hold_state" else []
        self.spec = _spec(name, horizon, n_action_steps, keys=frozenset(self._keys))

    def predict(self, batch: FrameBatch) -> Prediction:
        """See `Policy.predict`."""
        start = time.perf_counter()
        state: FloatArray = np.zeros((len(batch), len(self._units)))
        for key in self._keys:
            state = np.asarray(batch.observations[-1][key], dtype=np.float64)
        chunks = np.repeat(state[:, None, :], self.spec.chunk_size, axis=1)
        return Prediction(NativeActions(chunks, self._units), time.perf_counter() - start)


Baselines = dict[str, NativeActions]


def baseline_chunks(
    episode: Episode,
    horizon: int,
    *,
    stats: Mapping[str, Mapping[str, ArrayLike]],
    action_kind: str = "absolute",
) -> Baselines:
    """Every baseline that this dataset supports.

    Args:
        episode: a demonstration of T frames.
        horizon: steps of a chunk (H).
        stats: the dataset's statistics.
        action_kind: ``absolute`` or ``delta``.

    Returns:
        Name → [T, H, A] chunks; every chunk repeats one action H times.
    """
    single = baseline_actions(episode, stats=stats, action_kind=action_kind)
    return {
        name: NativeActions(np.repeat(values[:, None, :], horizon, axis=1), episode.actions.units)
        for name, values in single.items()
    }


def baseline_actions(
    episode: Episode,
    *,
    stats: Mapping[str, Mapping[str, ArrayLike]],
    action_kind: str = "absolute",
) -> dict[str, FloatArray]:
    """As `baseline_chunks`, one [T, A] action a frame."""
    actions = episode.actions.values
    if "mean" not in stats.get(ACTION, {}):
        raise DatasetError(
            "dataset statistics",
            expected="action.mean in meta/stats.json",
            found="none",
            fix="lerobot-edit-dataset --operation.type recompute_stats, which writes a copy",
        )
    mean = np.broadcast_to(np.asarray(stats[ACTION]["mean"], np.float64).reshape(-1), actions.shape)
    state = episode.state
    holds = action_kind == "absolute" and state is not None and state.shape == actions.shape
    first = state[0] if holds and state is not None else mean[0]
    baselines = {"repeat_last": np.concatenate([first[None], actions[:-1]])}
    if holds and state is not None:
        baselines["hold_state"] = state.astype(np.float64)
    if action_kind == "delta":
        baselines["zero"] = np.zeros_like(actions)
    return {**baselines, "dataset_mean": np.array(mean)}
