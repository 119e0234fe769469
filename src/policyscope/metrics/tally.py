"""From finished episodes to the numbers of ``run.json``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.errors import OutputError
from policyscope.files import Door
from policyscope.metrics.closed_loop import (
    mean_over_episodes,
    motion,
    motion_summary,
    time_to_success,
)
from policyscope.metrics.power import detectable
from policyscope.metrics.proportions import proportion
from policyscope.metrics.verdict import settled
from policyscope.runs.rollouts import StoredRollout

_LEROBOTS = Door(OutputError, "give the file, or the --output_dir of lerobot-eval")
_SCORED = ("success", "max_reward", "sum_reward", "steps")


def tally(
    episodes: Sequence[StoredRollout],
    *,
    fps: float | None,
    method: str,
    action_kind: str,
    reward_range: tuple[float, float] | None,
) -> dict[str, Any]:
    """Success, rewards, time to success, motion: overall and by task.

    Args:
        episodes: finished.
        fps: control steps a second; None where nobody knows, and then nothing is in seconds.
        method: of the success rate's interval.
        action_kind: what an action means; only absolute ones have seams.
        reward_range: what a step's reward can't leave; None where nobody knows.
    """
    rows = settled([e.row for e in episodes])
    ran = [row for row in rows if row["ended"] != "fault"]
    known = [row for row in ran if row["success"] is not None]
    k = sum(row["success"] for row in known)
    success = proportion(k, len(known), method=method).to_json()
    by_task = _by_task(ran, method)
    moved = [
        motion(
            e.states[np.isfinite(e.states).all(axis=1)],
            e.actions,
            e.chunks,
            e.called_at,
            fps=fps or 1.0,
            seams=action_kind == "absolute",
        )
        for e in episodes
        if len(e.actions) > 1
    ]
    coverage = [row["max_coverage"] for row in ran if row["max_coverage"] is not None]
    return {
        "success": {**success, "method": method},
        "closed_loop": {
            "max_reward": mean_over_episodes(
                [row["max_reward"] for row in ran], within=reward_range
            ).to_json(),
            "sum_reward": mean_over_episodes([row["sum_reward"] for row in ran]).to_json(),
            "max_coverage": mean_over_episodes(coverage, within=(0.0, 1.0)).to_json(),
            "time_to_success": time_to_success(
                [row["success_step"] for row in known], fps=fps
            ).to_json(),
            "detectable": detectable(k / len(known), len(known)).to_json() if known else None,
            "macro": _macro(by_task),
            "ended": _counted(row["ended"] for row in rows),
            "faults": _counted(f["kind"] for row in rows for f in row["faults"]),
        },
        "by_task": by_task,
        "smoothness": motion_summary(moved, in_seconds=fps is not None),
        "episodes": rows,
    }


def _counted(words: Any) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for word in words:
        counts[word] += 1
    return dict(counts)


def _by_task(rows: Sequence[Mapping[str, Any]], method: str) -> list[dict[str, Any]]:
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["task_group"], row["task_id"]].append(row)
    listed = []
    for (group, task_id), ran in groups.items():
        texts = dict.fromkeys(row["task"] for row in ran)
        known = [row["success"] for row in ran if row["success"] is not None]
        listed.append(
            {
                "task_group": group,
                "task_id": task_id,
                "task": next(iter(texts))
                if len(texts) == 1
                else f"{len(texts)} instructions, “{next(iter(texts))}” for example",
                **proportion(sum(known), len(known), method=method).to_json(),
                "max_reward": _mean([row["max_reward"] for row in ran]),
            }
        )
    return listed


def _macro(by_task: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Mean over tasks of their success rates; the tasks are fixed, episodes are drawn."""
    if len(by_task) < 2 or any(row["rate"] is None for row in by_task):
        return None
    rates = np.array([row["rate"] for row in by_task])
    # Agresti-Coull's centre keeps the variance of a task at 0 or 1 above zero
    spread = 0.0
    for row in by_task:
        p = (row["k"] + 2) / (row["n"] + 4)
        spread += p * (1 - p) / (row["n"] + 4)
    half = 1.96 * spread**0.5 / len(by_task)
    mean = float(rates.mean())
    return {
        "rate": mean,
        "ci_low": max(0.0, mean - half),
        "ci_high": min(1.0, mean + half),
        "n_tasks": len(by_task),
    }


def action_statistics(
    episodes: Sequence[StoredRollout],
    names: Sequence[str],
    trained: Mapping[str, Any],
    bounds: tuple[FloatArray, FloatArray],
) -> list[dict[str, Any]]:
    """Executed actions by dim, beside those that the policy was trained on.

    Args:
        episodes: finished.
        names: of the action dims.
        trained: the checkpoint's statistics of actions, possibly empty.
        bounds: lower and upper ends of the simulator's action space.
    """
    parts = [e.actions for e in episodes if len(e.actions)]
    if not parts:
        return []
    actions = np.concatenate(parts)
    known = {key: np.asarray(value, dtype=np.float64).reshape(-1) for key, value in trained.items()}
    rows = list[dict[str, Any]]()
    for d, name in enumerate(names):
        values = actions[:, d]
        row: dict[str, Any] = {
            "dim": d,
            "name": name,
            "mean": float(values.mean()),
            "std": float(values.std()),
            "min": float(values.min()),
            "max": float(values.max()),
            "out_of_bounds_share": float(
                ((values < bounds[0][d]) | (values > bounds[1][d])).mean()
            ),
        }
        for key in ("mean", "std", "min", "max"):
            held = known.get(key)
            row[f"trained_{key}"] = float(held[d]) if held is not None and d < len(held) else None
        low, high = row["trained_min"], row["trained_max"]
        row["out_of_range_share"] = (
            None if low is None or high is None else _share_outside(values, low, high)
        )
        rows.append(row)
    return rows


def _share_outside(values: FloatArray, low: float, high: float) -> float:
    return float(((values < low) | (values > high)).mean())


# ── lerobot's eval_info.json ──────────────────────────────────────────


def eval_info(record: Mapping[str, Any], *, wall_s: float) -> dict[str, Any]:
    """The results as ``lerobot-eval`` writes them."""
    tasks: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in record["episodes"]:
        if row["ended"] != "fault":
            tasks[row["task_group"], row["task_id"]].append(row)
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    per_task = []
    for (group, task_id), rows in tasks.items():
        groups[group] += rows
        metrics = {
            "sum_rewards": [r["sum_reward"] for r in rows],
            "max_rewards": [r["max_reward"] for r in rows],
            "successes": [r["success"] for r in rows],
            "video_paths": [r["video"] for r in rows if r["video"]],
            "predicted_video_paths": [],
        }
        per_task.append({"task_group": group, "task_id": task_id, "metrics": metrics})
    every = [row for rows in tasks.values() for row in rows]
    return {
        "per_task": per_task,
        "per_group": {group: _aggregate(rows) for group, rows in groups.items()},
        "overall": {
            **_aggregate(every),
            "eval_s": wall_s,
            "eval_ep_s": wall_s / max(1, len(every)),
        },
    }


def _aggregate(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    share = _mean([r["success"] for r in rows])
    return {
        "avg_sum_reward": _mean([r["sum_reward"] for r in rows]),
        "avg_max_reward": _mean([r["max_reward"] for r in rows]),
        "pc_success": None if share is None else 100 * share,
        "n_episodes": len(rows),
        "video_paths": [r["video"] for r in rows if r["video"]],
        "predicted_video_paths": [],
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """None without values, or where one of them is not known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def read_eval_info(path: Path, *, start_seed: int = 1000, method: str = "wilson") -> dict[str, Any]:
    """What ``lerobot-eval`` wrote, with the interval that it leaves out.

    Args:
        path: ``eval_info.json``, or the directory that holds it.
        start_seed: ``--seed`` of that run (its file does not hold it; lerobot's default is 1000).
        method: of the interval.

    Returns:
        ``success``, ``by_task`` and ``episodes`` as in ``run.json``.

    Raises:
        OutputError: no such file, or not one of lerobot's.
    """
    file = path / "eval_info.json" if path.is_dir() else path
    rows = list[dict[str, Any]]()
    try:
        content = _LEROBOTS.object(file)
        for task in content["per_task"]:
            known = task["metrics"]
            columns = (known["successes"], known["max_rewards"], known["sum_rewards"])
            for i, (success, best, total) in enumerate(zip(*columns, strict=True)):
                rows.append(
                    {
                        "episode": len(rows),
                        "seed": start_seed + i,
                        "task_group": str(task["task_group"]),
                        "task_id": int(task["task_id"]),
                        "task": "",
                        "success": None if success is None else bool(success),
                        "max_reward": None if best is None else float(best),
                        "sum_reward": None if total is None else float(total),
                    }
                )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(
            str(file),
            expected="the eval_info.json of lerobot-eval 0.4 or newer",
            found=f"{type(error).__name__}: {error}",
            fix="give the file, or the --output_dir of lerobot-eval",
        ) from error
    known = [row["success"] for row in rows if row["success"] is not None]
    success = proportion(sum(known), len(known), method=method).to_json()
    return {
        "success": {**success, "method": method},
        "by_task": _by_task(rows, method),
        "episodes": rows,
    }


def episodes_per_minute(n: int, wall_s: float) -> float | None:
    """The rate of a run; None where nothing was left to run."""
    return 60 * n / wall_s if n and wall_s > 0 else None
