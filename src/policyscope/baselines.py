"""Trivial predictions that any policy must beat to have learned something.

- ``hold_state``: the target is the current state (absolute actions only).
- ``repeat_last``: the demonstrator's previous action again (at an episode's first frame, the
  current state where it has the action's dims, else the first action's dataset mean).
- ``dataset_mean``: the mean action of the whole dataset.
- ``zero``: no displacement (delta actions only).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from policyscope.errors import DatasetError
from policyscope.facts import ACTION
from policyscope.frames import Episode
from policyscope.spaces import FloatArray, NativeActions

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
            fix="recompute the statistics with lerobot (lerobot.datasets.compute_stats)",
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
