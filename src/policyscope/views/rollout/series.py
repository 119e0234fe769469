"""What the page of a closed-loop run draws beside its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.runs.content import RolloutRecord
from policyscope.runs.rollouts import StoredRollout
from policyscope.views.language import Say
from policyscope.views.player import packed
from policyscope.views.rollout.words import called, ended_by
from policyscope.views.words import unit_name

_POINTS = 160  # of a path or a curve: more would not be seen
_MOST_DRAWN = 400
"""Episodes whose paths a page draws: the first of more."""


def page_data(record: RolloutRecord, episodes: Sequence[StoredRollout], say: Say) -> dict[str, Any]:
    """Numbers for the page's charts: an episode is known by its place in the run."""
    loop, success = record.closed_loop, record.success
    board = record.env.board
    return {
        "policy": record.policy.type,
        "success": success.model_dump(mode="json"),
        "detectable": None if loop.detectable is None else loop.detectable.model_dump(mode="json"),
        "max_reward": loop.max_reward.model_dump(mode="json"),
        "curve": loop.time_to_success.curve.model_dump(mode="json") | {"end": _end(record)},
        "ended": [
            {"kind": kind, "name": ended_by(kind, say), "n": n} for kind, n in loop.ended.items()
        ],
        "executed_actions": [
            row.model_dump(mode="json") | {"unit": unit_name(unit, say)}
            for row, unit in zip(record.executed_actions, record.actions.units, strict=False)
        ],
        "latency": None if record.latency is None else record.latency.model_dump(mode="json"),
        "by_episode": [_outcome(known, say) for known in episodes],
        "paths": [_path(known, on_board=board is not None) for known in episodes[:_MOST_DRAWN]],
        "goal": _GOAL if board and any("block_pose" in e.extras for e in episodes) else None,
    }


def tee(pose: FloatArray) -> FloatArray:
    """[8, 2] outline of PushT's block at a pose (x, y, angle in rad), in pixels of its board."""
    outline = np.array(
        [(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)],
        dtype=float,
    )
    c, s = np.cos(pose[2]), np.sin(pose[2])
    turned: FloatArray = outline @ np.array([[c, s], [-s, c]]) + pose[:2]
    return turned


GOAL = tee(np.array([256.0, 256.0, np.pi / 4]))
"""Where PushT's block belongs."""
_GOAL = GOAL.tolist()


def _end(record: RolloutRecord) -> float:
    """Seconds at which the curve of successes ends."""
    limit = max((task.max_steps or 0 for task in record.env.tasks), default=0) / record.env.fps
    return max([limit, *record.closed_loop.time_to_success.curve.time_s]) or 1.0


def _outcome(known: StoredRollout, say: Say) -> dict[str, Any]:
    row = known.row
    return {
        "index": row.episode,
        "name": called(row, say),
        "short": str(row.episode if row.seed is None else row.seed),
        "success": row.success,
        "max_reward": row.max_reward,
        "steps": row.steps,
        "ended": row.ended,
        "task": f"{row.task_group} {row.task_id} {row.task}",
    }


def _path(known: StoredRollout, *, on_board: bool) -> dict[str, Any]:
    """Over the board where there is one, else the reward over time."""
    drawn: dict[str, Any] = {"index": known.row.episode, "xy": None, "reward": None, "block": None}
    if on_board and known.states.ndim == 2 and known.states.shape[1] >= 2 and len(known.states):
        drawn["xy"] = packed(_thinned(known.states[:, :2]))
        if "block_pose" in known.extras:
            drawn["block"] = [float(v) for v in known.extras["block_pose"][-1][:2]]
    elif np.isfinite(known.rewards).any():
        drawn["reward"] = packed(_thinned(known.rewards[:, None]))
        drawn["steps"] = len(known.rewards)
    return drawn


def _thinned(values: FloatArray) -> FloatArray:
    at = np.linspace(0, len(values) - 1, min(_POINTS, len(values))).round().astype(int)
    thinned: FloatArray = values[at]
    return thinned
