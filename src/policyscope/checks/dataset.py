"""Preflight of a dataset: its metadata against itself, and against its own frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from policyscope.actions.meanings import UNDECLARED_UNIT
from policyscope.actions.spaces import ActionSchema, FloatArray, missing_stats
from policyscope.data.facts import ACTION, STATE, DatasetFacts
from policyscope.data.info import INFO, STATS
from policyscope.data.seen import Moments, Seen, together
from policyscope.errors import Finding

RECOMPUTE = "recompute them: lerobot-edit-dataset --operation.type recompute_stats writes a copy"
_SHIFT = (0.02, 1.0)  # of the larger standard deviation: a warning, an error
_RATIO = (1.05, 10.0)  # of standard deviations
_RATE_OFF = 0.1  # of the declared step
_STILL = 1e-10  # of the numbers' size: below, a dim does not move
_ROUNDING = 3e-5  # of the numbers' size: statistics that were computed in float32
_NOTHING = 1e-30  # numbers so small have no squares
_SLACK = 1e-3  # of the spread
_NAMED = 4


def check_dataset(facts: DatasetFacts, action_kind: str) -> list[Finding]:
    """What the metadata alone gives away."""
    return [
        *_counts(facts),
        *_action_stats(facts),
        *_units(facts),
        *_hold_state(facts, action_kind),
        *_left_out(facts),
    ]


def check_demonstrations(facts: DatasetFacts, seen: Mapping[int, Seen]) -> list[Finding]:
    """What the chosen frames say against the metadata.

    Args:
        facts: of the dataset.
        seen: the chosen episodes.
    """
    if not seen:
        return []
    findings = []
    every = len(seen) == len(facts.lengths) and facts.complete
    for key, moments in (
        (ACTION, [s.actions for s in seen.values()]),
        (STATE, [s.state for s in seen.values() if s.state is not None]),
    ):
        if moments:
            findings += _statistics(facts, key, together(moments), every=every)
    return [*findings, *_rate(facts, seen), *_gaps(seen), *_texts(facts, seen)]


def _counts(facts: DatasetFacts) -> list[Finding]:
    """Counts of ``meta/info.json`` against the index of episodes and the table of tasks."""
    declared, lengths = facts.declared, facts.lengths
    wrong = []
    n, frames = len(lengths), sum(lengths.values())
    if declared.episodes is not None and declared.episodes != n:
        wrong.append(f"{declared.episodes} episodes as {INFO} says; found {n} in meta/episodes")
    elif not facts.complete:
        wrong.append(
            f"episodes 0 to {n - 1}; found {_some(set(lengths) - set(range(n)))} in meta/episodes"
        )
    if declared.frames is not None and declared.frames != frames:
        wrong.append(f"{declared.frames} frames as {INFO} says; found {frames} in meta/episodes")
    if facts.spare_rows:
        wrong.append(
            f"{frames} rows in the files below data/, one for each frame of the index; found "
            f"{facts.spare_rows} more"
        )
    off = [e for e, span in facts.spans.items() if span != lengths[e]]
    if off:
        e = off[0]
        wrong.append(
            f"{lengths[e]} frames in episode {e} as its length says; found {facts.spans[e]} "
            "between dataset_from_index and dataset_to_index"
        )
    findings = (
        [
            Finding(
                "dataset_counts_contradict",
                "error",
                "expected " + "; expected ".join(wrong) + ". Which episodes are held out, and what "
                "the statistics are of, can't be known.",
                "download or record the dataset again; lerobot-edit-dataset deletes episodes and "
                "keeps the counts right",
            )
        ]
        if wrong
        else []
    )
    if declared.tasks is not None and declared.tasks != len(facts.task_texts):
        findings.append(
            Finding(
                "dataset_tasks_contradict",
                "warning",
                f"expected {declared.tasks} tasks as {INFO} says; found {len(facts.task_texts)} "
                "in meta/tasks.parquet. Each frame's text is looked up by its task_index.",
                f"correct total_tasks in {INFO}",
            )
        )
    return findings


def _action_stats(facts: DatasetFacts) -> list[Finding]:
    lacking = missing_stats(facts.robot.stats, "MEAN_STD", ACTION)
    if lacking:
        broken = [name for name in lacking if name in facts.broken_stats]
        return [
            Finding(
                "dataset_stats_missing",
                "error",
                f"expected {' and '.join(lacking)} in the dataset's {STATS}; found "
                + (f"{' and '.join(broken)} without finite numbers." if broken else "none."),
                RECOMPUTE,
                forceable=False,
            )
        ]
    dim = facts.robot.actions.dim
    sizes = {name: int(np.size(facts.robot.stats[ACTION][name])) for name in ("mean", "std")}
    if all(size == dim for size in sizes.values()):
        return []
    return [
        Finding(
            "dataset_stats_shape",
            "error",
            f"expected {dim} values of action.mean and action.std in the "
            f"dataset's {STATS}; found {sizes['mean']} and {sizes['std']}.",
            RECOMPUTE,
            forceable=False,
        )
    ]


def _units(facts: DatasetFacts) -> list[Finding]:
    """What nobody said of the actions, and what could be measured if somebody did."""
    actions = facts.robot.actions
    if UNDECLARED_UNIT not in actions.units or actions.dim == 1:
        return []
    message = f"expected a unit for each action dim; nobody declares one for {_unnamed(actions)}. "
    message += "Native averages over dims assume that all dims share one; normalized errors do not."
    fix = "--dataset.action_units rad, or a list with one unit a dim"
    if not actions.meanings:
        message += (
            " With an action schema, which says what dims are, there are distances in mm, "
            "rotations and joints in degrees, grippers (F1, how late they close), limb by limb."
        )
        fix += (
            f"; or policyscope schema --dataset.repo_id {facts.robot.name} --dataset.root "
            f"{facts.place} > actions.yaml, mended by you, and --dataset.actions actions.yaml"
        )
    return [Finding("units_undeclared", "info", message, fix)]


def _unnamed(actions: ActionSchema) -> str:
    pairs = zip(actions.labels, actions.units, strict=True)
    names = [name for name, unit in pairs if unit == UNDECLARED_UNIT]
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _hold_state(facts: DatasetFacts, action_kind: str) -> list[Finding]:
    robot = facts.robot
    if action_kind != "absolute" or len(robot.state_names) == robot.actions.dim:
        return []
    return [
        Finding(
            "hold_state_unavailable",
            "info",
            f"expected as many state dims as action dims ({robot.actions.dim}) for the "
            f"hold-state baseline; found {len(robot.state_names)}. The baseline is left out.",
            "--action_kind delta if actions are displacements",
        )
    ]


def _left_out(facts: DatasetFacts) -> list[Finding]:
    if not facts.left_out:
        return []
    words = [f"{key} ({what})" for key, what in facts.left_out.items()]
    return [
        Finding(
            "observations_left_out",
            "info",
            "expected observations that are numbers or coloured pictures; found "
            f"{', '.join(words[:_NAMED])}{', ...' if len(words) > _NAMED else ''}, which no policy "
            "here is given.",
            "nothing, unless the policy was trained with them",
        )
    ]


# ── the frames ────────────────────────────────────────────────────────


@final
@dataclass(frozen=True, eq=False)
class _Declared:
    """[D] statistics of one feature as the dataset declares them; range None where it has none."""

    mean: FloatArray
    std: FloatArray
    low: FloatArray | None
    high: FloatArray | None


def _statistics(facts: DatasetFacts, key: str, seen: Moments, *, every: bool) -> list[Finding]:
    """``meta/stats.json`` against the frames that it should be of."""
    declared = _declared(facts.robot.stats.get(key, {}), len(seen.mean))
    if declared is None:
        return []
    robot = facts.robot
    names = robot.actions.names if key == ACTION else robot.state_names
    total = facts.declared.frames or sum(facts.lengths.values())
    off, worst = [], 0.0
    for dim, name in enumerate(names):
        word, size = _contradiction(declared, seen, dim, rest=0 if every else total - seen.n)
        if word:
            off.append(f"{name}: {word}")
            worst = max(worst, size)
    if not off:
        return []
    what = "action" if key == ACTION else "state"
    return [
        Finding(
            "dataset_stats_contradict" if what == "action" else "dataset_state_stats_contradict",
            "error" if worst >= 1 and what == "action" else "warning",
            f"expected statistics of {key} in the dataset's {STATS} that its own frames can have; "
            f"found {len(off)} of {len(names)} dims that contradict {seen.n} frames "
            f"({'; '.join(off[:_NAMED])}{'; ...' if len(off) > _NAMED else ''}).",
            RECOMPUTE,
        )
    ]


def _declared(table: Mapping[str, Any], dims: int) -> _Declared | None:
    flat = {name: np.asarray(v, dtype=np.float64).reshape(-1) for name, v in table.items()}
    known = {name: v for name, v in flat.items() if v.size == dims}
    if not {"mean", "std"} <= known.keys():
        return None
    return _Declared(known["mean"], known["std"], known.get("min"), known.get("max"))


def _contradiction(declared: _Declared, seen: Moments, dim: int, *, rest: int) -> tuple[str, float]:
    """What the frames of one dim say against its statistics, and how much that matters.

    The frames that were not chosen could make up for a lot, but not for everything: together with
    the chosen ones they must have the declared mean and spread, and a spread of their own that
    is not negative.

    Returns:
        A few words, or none; at least 1 where the numbers are of something else.
    """
    mean, std = float(declared.mean[dim]), float(declared.std[dim])
    own_mean, own_std = float(seen.mean[dim]), float(seen.std[dim])
    size = max(abs(mean), abs(own_mean))
    spread = max(std, own_std, _ROUNDING * size)
    words = f"mean {mean:.3g}, std {std:.3g}; the frames have {own_mean:.3g}, {own_std:.3g}"
    if spread < _NOTHING:
        return "", 0.0
    if own_std > _STILL * size and std <= 1e-6 * own_std:
        return f"std {std:.3g} where the frames move by {own_std:.3g}", 1.0
    if declared.low is not None and declared.high is not None:
        low, high = float(declared.low[dim]), float(declared.high[dim])
        beyond = max(low - float(seen.low[dim]), float(seen.high[dim]) - high)
        if beyond > _SLACK * spread:
            found = f"frames from {seen.low[dim]:.3g} to {seen.high[dim]:.3g}, declared from "
            return found + f"{low:.3g} to {high:.3g}", beyond / spread
        off = _ROUNDING * size  # of the mean, where it was computed in float32
        widest = max((high - mean + off) * (mean - low + off), 0.0)  # Bhatia and Davis 2000
        if std**2 > widest + _SLACK * spread**2:
            return f"mean {mean:.3g} and std {std:.3g}, impossible in its own range", 1.0
    if (mean, std) == (0.0, 1.0) and (abs(own_mean) > 0.1 or not 0.5 < own_std < 2.0):
        return words, 1.0 if own_std > _STILL * size or own_mean else 0.5
    if rest <= 0:
        size_of = _apart(abs(mean - own_mean) / spread, std, own_std, _ROUNDING * size)
        return (words, size_of) if size_of else ("", 0.0)
    n, total = seen.n, seen.n + rest
    rest_mean = (total * mean - n * own_mean) / rest
    rest_square = (total * (std**2 + mean**2) - n * (own_std**2 + own_mean**2)) / rest
    slack = (_SLACK * spread**2 + _ROUNDING * size**2) * total / rest
    return (words, 1.0) if rest_square - rest_mean**2 < -slack else ("", 0.0)


def _apart(shift: float, std: float, own_std: float, rounding: float) -> float:
    """All frames were looked at: their moments are the statistics, or these are of others."""
    ratio = (max(std, own_std) + rounding) / max(min(std, own_std) + rounding, 1e-300)
    if shift <= _SHIFT[0] and ratio <= _RATIO[0]:
        return 0.0
    return 1.0 if shift > _SHIFT[1] or ratio > _RATIO[1] else 0.5


def _rate(facts: DatasetFacts, seen: Mapping[int, Seen]) -> list[Finding]:
    declared = 1 / facts.robot.fps
    steps = {e: s.step_s for e, s in seen.items() if s.step_s is not None}
    off = [e for e, step in steps.items() if abs(step - declared) > _RATE_OFF * declared]
    if not off:
        return []
    step = steps[off[0]]
    return [
        Finding(
            "dataset_rate_contradicts",
            "warning",
            f"expected {declared:.4g} s from frame to frame, as {facts.robot.fps:g} fps in {INFO} "
            f"say; found {step:.4g} s by the timestamps of {len(off)} of {len(seen)} episodes. "
            "Speeds, jerks and latency budgets are computed with the declared rate.",
            f"correct fps in {INFO}, or the timestamps",
        )
    ]


def _gaps(seen: Mapping[int, Seen]) -> list[Finding]:
    gaps = [e for e, s in seen.items() if s.gaps]
    if not gaps:
        return []
    return [
        Finding(
            "dataset_frames_missing",
            "warning",
            f"expected consecutive frame_index; found gaps in {len(gaps)} of {len(seen)} episodes "
            f"({_some(gaps)}). Chunks run over them as lerobot's do.",
            "record the dataset again, or leave these episodes out with --dataset.episodes",
        )
    ]


def _texts(facts: DatasetFacts, seen: Mapping[int, Seen]) -> list[Finding]:
    off = [e for e, s in seen.items() if facts.episode_tasks.get(e, s.task) != s.task]
    if not off:
        return []
    return [
        Finding(
            "dataset_tasks_contradict",
            "warning",
            f"expected {facts.episode_tasks[off[0]]!r} as the task of episode {off[0]}, as "
            f"meta/episodes says; found {seen[off[0]].task!r} by the task_index of its first frame"
            f"{f', and {len(off) - 1} more such episodes' if len(off) > 1 else ''}. Policies are "
            "given the latter.",
            "correct meta/tasks.parquet or the tasks in meta/episodes",
        )
    ]


def _some(numbers: Iterable[int]) -> str:
    known = sorted(numbers)
    return ", ".join(map(str, known[:_NAMED])) + (", ..." if len(known) > _NAMED else "")
