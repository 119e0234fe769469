"""Postflight: what only the finished scores show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from policyscope.checks.inputs import ClosedLoopInputs
from policyscope.config import OfflineOptions
from policyscope.data.facts import STATE
from policyscope.errors import Finding
from policyscope.metrics.intervals import MIN_EPISODES
from policyscope.metrics.scorecard import Scorecard
from policyscope.policies.base import PolicySpec
from policyscope.policies.checkpoint import find_step
from policyscope.runs.rollouts import StoredRollout
from policyscope.runs.rows import ActionRow, RolloutRow


def postflight(config: OfflineOptions, scores: Scorecard, spec: PolicySpec) -> list[Finding]:
    """Findings that only the finished predictions show."""
    findings = []
    if scores.n_episodes < MIN_EPISODES:
        findings.append(
            Finding(
                "few_episodes",
                "info",
                f"expected at least {MIN_EPISODES} episodes for an interval; found "
                f"{scores.n_episodes}. Frames of one episode are not independent: none is given.",
                "more --dataset.episodes",
            )
        )
    if spec.draws == "seeded":
        findings.append(
            Finding(
                "seeded_one_by_one",
                "info",
                f"{spec.type} can't be given its noise; it ran one frame at a time under a "
                "seed for each, which is slower.",
                "nothing to do: the numbers are reproducible",
            )
        )
    if spec.widened:
        findings.append(
            Finding(
                "ran_in_float32",
                "info",
                "expected a CPU with units for bfloat16, in which the checkpoint's weights are; "
                "found none. They ran in float32, which holds the same weights and is faster here.",
                "nothing to do; a GPU runs them as they are",
            )
        )
    excluded = [n for n, used in zip(scores.schema.names, scores.included, strict=True) if not used]
    if excluded:
        findings.append(
            Finding(
                "constant_dims",
                "info",
                f"expected dims that vary; found a standard deviation below 1e-6 in "
                f"{', '.join(excluded)}. They have no normalized error.",
                "nothing to do",
            )
        )
    if config.action_kind == "absolute" and "hold_state" in scores.baselines:
        hold = scores.summary("hold_state").step1.nmse.value
        mean = scores.summary("dataset_mean").step1.nmse.value
        if hold is not None and mean is not None and hold > mean:
            findings.append(
                Finding(
                    "hold_state_implausible",
                    "warning",
                    "expected the current state to be nearer to the next action than the dataset's "
                    f"mean is; found a squared error of {hold:.3g} against {mean:.3g} (std²). "
                    "Suspect: actions are displacements, or state and action differ in meaning.",
                    "--action_kind delta if actions are displacements",
                )
            )
    return findings


_NORMALIZER = "normalizer_processor"


_MOST_SHIFT = 3.0  # of the training's standard deviation


def findings_after(
    rows: Sequence[RolloutRow],
    actions: Sequence[ActionRow],
    inputs: ClosedLoopInputs,
    stored: Sequence[StoredRollout],
) -> list[Finding]:
    """Findings that only the finished episodes show.

    Args:
        rows: of the episodes, settled.
        actions: as they were executed, by dim.
        inputs: policy and simulator.
        stored: the episodes.
    """
    findings = [*_ended_badly(rows), *_said(rows, inputs.findings)]
    outside = [row for row in actions if (row.out_of_bounds_share or 0) > 0.05]
    if outside and inputs.adapter.bounded:
        told = ", ".join(f"{row.name} {row.out_of_bounds_share:.0%}" for row in outside[:4])
        findings.append(
            Finding(
                "actions_out_of_bounds",
                "warning",
                f"expected actions within the simulator's bounds; found outside: {told}.",
                "check the normalization statistics, and that this is the robot it was trained on",
            )
        )
    findings += _shifted(actions)
    return findings + _states_shifted(inputs, stored)


def _ended_badly(rows: Sequence[RolloutRow]) -> list[Finding]:
    """Episodes that never ran, simulators that failed on the way, actions that are no numbers."""
    findings = []
    lost = [row for row in rows if row.ended == "fault"]
    if lost:
        findings.append(
            Finding(
                "episodes_lost",
                "error",
                f"expected every episode to run; found {len(lost)} whose simulator failed each "
                f"time (seed {lost[0].seed}: {lost[0].detail}). They count neither as "
                "success nor as failure.",
                "mend the simulator, then --overwrite",
            )
        )
    faults = Counter(fault.kind for row in rows for fault in row.faults)
    if faults and not lost:
        told = ", ".join(f"{n} {kind}" for kind, n in faults.items())
        findings.append(
            Finding(
                "simulator_faults",
                "warning",
                f"expected simulators that neither die nor hang; found {told}. Each was started "
                "again and its episode run again from its seed.",
                "nothing to do for these numbers; look at memory and GL if it happens often",
            )
        )
    broken = [row for row in rows if row.ended == "non_finite_action"]
    if broken:
        findings.append(
            Finding(
                "non_finite_action",
                "warning",
                f"expected finite actions; found NaN or inf in {len(broken)} episodes (seed "
                f"{broken[0].seed} first). Each ended there, as a failure.",
                "the training diverged, or statistics hold zeros: take another checkpoint",
            )
        )
    return findings


def _said(rows: Sequence[RolloutRow], known: Sequence[Finding]) -> list[Finding]:
    """What the environment left open about success, rewards and pictures.

    Args:
        rows: of the episodes.
        known: findings before the first of them.
    """
    findings = []
    ran = [row for row in rows if row.ended != "fault"]
    if ran and all(row.success is None for row in ran):
        findings.append(
            Finding(
                "success_unknown",
                "warning",
                'expected info["is_success"] or info["success"]; found neither in any of '
                f"{len(ran)} episodes. Rewards are reported; success is unknown.",
                'put info["is_success"] = solved into what the environment\'s step returns',
            )
        )
    odd = [row for row in ran if row.sum_reward is None]
    if odd:
        findings.append(
            Finding(
                "reward_not_finite",
                "warning",
                f"expected finite rewards; found NaN or inf in {len(odd)} episodes (seed "
                f"{odd[0].seed} first). Their rewards, and means over episodes, are unknown.",
                "mend the environment's reward",
            )
        )
    undrawn = [row for row in ran if row.undrawn]
    if undrawn and "env_render" not in {finding.code for finding in known}:
        findings.append(
            Finding(
                "pictures_missing",
                "warning",
                f"expected render() to draw; found that it did not in {len(undrawn)} episodes "
                f"(seed {undrawn[0].seed}: {undrawn[0].undrawn}). No number depends on it.",
                "render_mode rgb_array, and an off-screen GL where it needs one",
            )
        )
    return findings


def _shifted(rows: Sequence[ActionRow]) -> list[Finding]:
    off = []
    for row in rows:
        mean, std = row.trained_mean, row.trained_std
        if mean is None or not std or std < 1e-6:
            continue
        shift, ratio = abs(row.mean - mean) / std, row.std / std
        if shift > 1.5 or not 0.2 <= ratio <= 3:
            off.append(f"{row.name}: mean off by {shift:.2g} std, std ratio {ratio:.2g}")
    if not off:
        return []
    return [
        Finding(
            "executed_actions_shifted",
            "warning",
            "expected executed actions distributed as in training; found "
            f"{'; '.join(off[:4])}. The policy is far from where it was trained.",
            "look at the videos; check cameras, state and normalization",
        )
    ]


def _states_shifted(inputs: ClosedLoopInputs, stored: Sequence[StoredRollout]) -> list[Finding]:
    """States that the policy met against those that it was trained on."""
    step = find_step(inputs.checkpoint.preprocessor, _NORMALIZER) if inputs.checkpoint else None
    known = step.stats.get(STATE, {}) if step else {}
    if "mean" not in known or "std" not in known:
        return []
    mean, std = (np.asarray(known[key], dtype=np.float64).reshape(-1) for key in ("mean", "std"))
    parts = [
        e.states[np.isfinite(e.states).all(axis=1)]
        for e in stored
        if e.states.shape[1:] == mean.shape and len(e.states)
    ]
    if not parts:
        return []
    met = np.concatenate(parts)
    shift = np.abs(met.mean(axis=0) - mean) / np.maximum(std, 1e-6)
    worst = int(shift.argmax())
    if shift[worst] <= _MOST_SHIFT:
        return []
    return [
        Finding(
            "states_shifted",
            "warning",
            f"expected states as in training; found state dim {worst} on average "
            f"{shift[worst]:.2g} of its training std away.",
            "check that the simulator's state means what the training's did: order, units, frame",
        )
    ]
