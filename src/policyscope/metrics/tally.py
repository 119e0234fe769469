"""From finished episodes to the numbers of their record."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, final

import numpy as np

from policyscope.actions.meanings import one_unit
from policyscope.actions.spaces import FloatArray
from policyscope.metrics.closed_loop import (
    mean_over_episodes,
    motion,
    motion_summary,
    time_to_success,
)
from policyscope.metrics.intervals import Estimate
from policyscope.metrics.power import detectable
from policyscope.metrics.proportions import Proportion, macro_interval, proportion
from policyscope.metrics.sequential import Stopped, anytime_mean, anytime_rate
from policyscope.metrics.sums import MIN_STD
from policyscope.metrics.verdict import settled
from policyscope.runs.content import RolloutScores
from policyscope.runs.eval_info import read_episodes
from policyscope.runs.parts import Part
from policyscope.runs.rollouts import StoredRollout
from policyscope.runs.rows import ActionRow, OutcomeRow, RolloutRow, RolloutTaskRow
from policyscope.runs.values import (
    ClosedLoop,
    Detectable,
    MacroRate,
    MotionSummary,
    Success,
    TimeToSuccess,
    Value,
)

Method = Literal["wilson", "exact", "anytime"]


def tally(
    episodes: Sequence[StoredRollout],
    *,
    fps: float | None,
    method: Method,
    action_kind: str,
    reward_range: tuple[float, float] | None,
    units: Sequence[str],
    stopped: Stopped | None = None,
) -> RolloutScores:
    """Success, rewards, time to success, motion: overall and by task.

    Args:
        episodes: finished.
        fps: control steps a second; None where nobody knows, and then nothing is in seconds.
        method: of the success rate's interval.
        action_kind: what an action means; only absolute ones have seams.
        reward_range: what a step's reward can't leave; None where nobody knows.
        units: of the action dims; norms over dims that share none are in std.
        stopped: why the run stopped before its last episode; None if it did not.
    """
    rows = settled([e.row for e in episodes])
    ran = [row for row in rows if row.ended != "fault"]
    known = [row for row in ran if row.success is not None]
    by_task = _by_task(ran, method)
    k = sum(bool(row.success) for row in known)
    timed = all(row.success_step is not None for row in known if row.success)
    times = time_to_success([row.success_step for row in known], fps=fps if timed else None)
    fixed = method != "anytime"  # what a fixed number could show says nothing of one that stops
    found = detectable(k / len(known), len(known)).to_json() if known and fixed else None
    return RolloutScores(
        success=_success(ran, method, stopped),
        closed_loop=ClosedLoop(
            max_reward=_averaged([row.max_reward for row in ran], reward_range, method),
            sum_reward=_averaged([row.sum_reward for row in ran], None, method),
            max_coverage=_averaged(
                [row.max_coverage for row in ran if row.max_coverage is not None],
                (0.0, 1.0),
                method,
            ),
            time_to_success=TimeToSuccess.model_validate({**times.to_json(), "n_success": k}),
            detectable=None if found is None else Detectable.model_validate(found),
            macro=_macro(by_task),
            ended=Counter(row.ended for row in rows),
            faults=Counter(fault.kind for row in rows for fault in row.faults),
        ),
        by_task=by_task,
        smoothness=_motion(episodes, fps, seams=action_kind == "absolute", units=units),
    )


def _averaged(
    values: Sequence[float | None], within: tuple[float, float] | None, method: Method
) -> Value:
    """A mean over episodes; where the run may have stopped early, with an interval that allows it.

    That needs a range which the quantity can't leave; without one there is no interval then.
    """
    if method != "anytime":
        return mean_over_episodes(values, within=within).measured()
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return Estimate(None).measured()
    mean = float(np.mean(known))
    if within is None or not within[0] <= min(known) <= max(known) <= within[1]:
        return Estimate(mean, n_episodes=len(known)).measured()
    low, span = within[0], within[1] - within[0]
    ends = anytime_mean([(value - low) / span for value in known])
    return Estimate(mean, low + span * ends.low, low + span * ends.high, len(known)).measured()


def _motion(
    episodes: Sequence[StoredRollout], fps: float | None, *, seams: bool, units: Sequence[str]
) -> MotionSummary:
    """How the robot moved; in std where the action dims share no unit."""
    mixed = one_unit(units) is None
    of_states, of_actions = _scales(episodes) if mixed else (np.ones(1), np.ones(1))
    moved = [
        motion(
            e.states[np.isfinite(e.states).all(axis=1)] * of_states,
            e.actions * of_actions,
            e.chunks * of_actions if e.chunks.size else e.chunks,
            e.called_at,
            fps=fps or 1.0,
            seams=seams,
        )
        for e in episodes
        if len(e.actions) > 1
    ]
    return motion_summary(moved, in_seconds=fps is not None, unit="std" if mixed else None)


def _scales(episodes: Sequence[StoredRollout]) -> tuple[FloatArray, FloatArray]:
    """What makes states and actions of mixed units norms of one dim: 1 / (std · √dims).

    The standard deviation is that of the run; dims that rest in it are left out.
    """
    scales = []
    for every in ([e.states for e in episodes], [e.actions for e in episodes]):
        parts = [rows[np.isfinite(rows).all(axis=1)] for rows in every]
        parts = [rows for rows in parts if len(rows)]
        if not parts:
            scales.append(np.ones(1))
            continue
        std = np.concatenate(parts).std(axis=0)
        moves = std >= MIN_STD
        scales.append(np.where(moves, 1 / np.maximum(std, MIN_STD), 0) / max(moves.sum(), 1) ** 0.5)
    return scales[0], scales[1]


def _rate(ran: Sequence[OutcomeRow], method: Method) -> Proportion:
    known = [row.success for row in ran if row.success is not None]
    if method == "anytime" and known:
        ends = anytime_rate(sum(known), len(known))
        return Proportion(sum(known), len(known), ends.low, ends.high)
    return proportion(sum(known), len(known), method=method)


def _success(ran: Sequence[OutcomeRow], method: Method, stopped: Stopped | None = None) -> Success:
    return Success(**_rate(ran, method).to_json(), method=method, stopped=stopped)


def _by_task(listed: Sequence[OutcomeRow], method: Method) -> list[RolloutTaskRow]:
    groups: dict[tuple[str, int], list[OutcomeRow]] = defaultdict(list)
    for row in listed:
        groups[row.task_group, row.task_id].append(row)
    rows = []
    for (group, task_id), ran in groups.items():
        first, *others = dict.fromkeys(row.task for row in ran)
        several = f"{len(others) + 1} instructions, “{first}” for example"
        rows.append(
            RolloutTaskRow(
                task_group=group,
                task_id=task_id,
                task=several if others else first,
                **_rate(ran, method).to_json(),
                max_reward=_mean([row.max_reward for row in ran]),
            )
        )
    return rows


def _macro(by_task: Sequence[RolloutTaskRow]) -> MacroRate | None:
    """Mean over tasks of their success rates; the tasks are fixed, episodes are drawn."""
    if len(by_task) < 2 or any(row.rate is None for row in by_task):
        return None
    low, high = macro_interval([row.k for row in by_task], [row.n for row in by_task])
    mean = float(np.mean([row.rate for row in by_task]))
    return MacroRate(rate=mean, ci_low=low, ci_high=high, n_tasks=len(by_task))


def action_statistics(
    episodes: Sequence[StoredRollout],
    names: Sequence[str],
    trained: Mapping[str, Any],
    bounds: tuple[FloatArray, FloatArray],
) -> list[ActionRow]:
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

    def held(statistic: str, d: int) -> float | None:
        values = known.get(statistic)
        return float(values[d]) if values is not None and d < len(values) else None

    rows = []
    for d, name in enumerate(names):
        values, low, high = actions[:, d], held("min", d), held("max", d)
        rows.append(
            ActionRow(
                dim=d,
                name=name,
                mean=float(values.mean()),
                std=float(values.std()),
                min=float(values.min()),
                max=float(values.max()),
                out_of_bounds_share=_share_outside(values, bounds[0][d], bounds[1][d]),
                trained_mean=held("mean", d),
                trained_std=held("std", d),
                trained_min=low,
                trained_max=high,
                out_of_range_share=None
                if low is None or high is None
                else _share_outside(values, low, high),
            )
        )
    return rows


def _share_outside(values: FloatArray, low: float, high: float) -> float:
    return float(((values < low) | (values > high)).mean())


# ── lerobot's eval_info.json ──────────────────────────────────────────


def eval_info(listed: Sequence[RolloutRow], *, wall_s: float | None) -> dict[str, Any]:
    """The results of a run's episodes as ``lerobot-eval`` writes them."""
    tasks: dict[tuple[str, int], list[RolloutRow]] = defaultdict(list)
    for row in listed:
        if row.ended != "fault":
            tasks[row.task_group, row.task_id].append(row)
    groups: dict[str, list[RolloutRow]] = defaultdict(list)
    per_task = []
    for (group, task_id), rows in tasks.items():
        groups[group] += rows
        metrics = {
            "sum_rewards": [row.sum_reward for row in rows],
            "max_rewards": [row.max_reward for row in rows],
            "successes": [row.success for row in rows],
            "video_paths": [row.video for row in rows if row.video],
            "predicted_video_paths": [],
        }
        entry = {"task_group": group, "task_id": task_id, "metrics": metrics}
        per_task.append(entry | {"n_episodes": len(rows)} | _counts(rows))
    every = [row for rows in tasks.values() for row in rows]
    return {
        "per_task": per_task,
        "per_group": {group: _aggregate(rows) for group, rows in groups.items()},
        "overall": {
            **_aggregate(every),
            "eval_s": wall_s,
            "eval_ep_s": None if wall_s is None else wall_s / max(1, len(every)),
        },
    }


def _aggregate(rows: Sequence[RolloutRow]) -> dict[str, Any]:
    return {
        "avg_sum_reward": _mean([row.sum_reward for row in rows]),
        "avg_max_reward": _mean([row.max_reward for row in rows]),
        "n_episodes": len(rows),
        **_counts(rows),
        "video_paths": [row.video for row in rows if row.video],
        "predicted_video_paths": [],
    }


def _counts(rows: Sequence[RolloutRow]) -> dict[str, Any]:
    """Successes with lerobot's interval, Wilson's at 95 %, whatever the run's own is."""
    known = [row.success for row in rows if row.success is not None]
    if not known or len(known) < len(rows):
        return {"n_success": None, "pc_success": None, "pc_success_ci95": [None, None]}
    rate = proportion(sum(known), len(known), method="wilson")
    ends = [None if end is None else 100 * end for end in (rate.low, rate.high)]
    share = 100 * sum(known) / len(known)
    return {"n_success": sum(known), "pc_success": share, "pc_success_ci95": ends}


def _mean(values: Sequence[float | None]) -> float | None:
    """None without values, or where one of them is not known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


@final
class EvalInfo(Part):
    """What ``lerobot-eval`` wrote, with intervals."""

    success: Success
    by_task: Sequence[RolloutTaskRow]
    episodes: Sequence[OutcomeRow]


def read_eval_info(path: Path, *, start_seed: int = 1000, method: Method = "wilson") -> EvalInfo:
    """Read what ``lerobot-eval`` wrote.

    Args:
        path: ``eval_info.json``, or the directory that holds it.
        start_seed: ``--seed`` of that run, where its file holds no seeds (lerobot's default).
        method: of the interval.

    Raises:
        OutputError: no such file, or not one of lerobot's.
    """
    rows = [e.row(i) for i, e in enumerate(read_episodes(path, start_seed=start_seed))]
    return EvalInfo(success=_success(rows, method), by_task=_by_task(rows, method), episodes=rows)


def episodes_per_minute(n: int, wall_s: float) -> float | None:
    """The rate of a run; None where nothing was left to run."""
    return 60 * n / wall_s if n and wall_s > 0 else None
