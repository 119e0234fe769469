"""Preflight of statistics: whether those that normalize are there, and are those of this data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from policyscope.actions.robots import Robot
from policyscope.actions.spaces import ActionSchema, missing_stats
from policyscope.checks.dataset import RECOMPUTE
from policyscope.config import PolicyOptions
from policyscope.data.facts import ACTION, STATE
from policyscope.errors import Finding
from policyscope.metrics.sums import MIN_STD
from policyscope.policies.alignment import Alignment
from policyscope.policies.checkpoint import Checkpoint

IF_TRAINED = "if the policy was trained on it"
_MEAN_SHIFT = 0.5  # of the dataset's standard deviation
_STD_RATIO = (0.5, 2.0)


def check_input_stats(
    checkpoint: Checkpoint, robot: Robot, alignment: Alignment, config: PolicyOptions
) -> list[Finding]:
    """Inputs that would reach the network without the normalization it was trained with."""
    if checkpoint.preprocessor is None and config.stats != "dataset":
        return []  # reported already
    step = checkpoint.normalizer
    renamed = {policy: source for source, policy in checkpoint.renames.items()}
    lacking, passed_over = [], []
    for key, kind in checkpoint.inputs.items():
        mode = checkpoint.mode_of(kind)
        source = alignment.feeds.get(key) or alignment.feeds.get(renamed.get(key, ""))
        if mode == "IDENTITY" or source is None:
            continue
        if config.stats == "dataset":
            lacking += missing_stats({key: robot.stats.get(source, {})}, mode, key)
        else:
            lacking += missing_stats(step.stats if step else {}, mode, key)
        if step is not None and not checkpoint.incomplete and not step.reaches(key):
            passed_over.append(key)
    found = [] if not passed_over else [_passed_over(passed_over)]
    if not lacking:
        return found
    where = "dataset's meta/stats.json" if config.stats == "dataset" else "preprocessor"
    return [
        *found,
        Finding(
            "input_stats_missing",
            "error",
            f"expected {', '.join(lacking[:4])}{', ...' if len(lacking) > 4 else ''} in the "
            f"{where}; found statistics for {held(step.stats) if step else 'no normalizer'}. "
            "lerobot would feed the network inputs of another scale than in training.",
            RECOMPUTE
            if config.stats == "dataset"
            else f"--stats dataset takes the dataset's own statistics, {IF_TRAINED}",
        ),
    ]


def _passed_over(keys: list[str]) -> Finding:
    return Finding(
        "input_not_normalized",
        "error",
        f"expected {', '.join(keys[:4])}{', ...' if len(keys) > 4 else ''} among the features of "
        "the checkpoint's normalizer; found a list without, so that lerobot would feed the network "
        "inputs of another scale than in training.",
        "save the processors again with lerobot's make_pre_post_processors",
    )


def check_dataset_stats(checkpoint: Checkpoint, robot: Robot) -> list[Finding]:
    """The statistics of actions that `--stats dataset` takes."""
    lacking = missing_stats(robot.stats, checkpoint.action_mode, ACTION)
    if not lacking:
        return []
    return [
        Finding(
            "dataset_stats_missing",
            "error",
            f"expected {' and '.join(lacking)} in the dataset's meta/stats.json, for mode "
            f"{checkpoint.action_mode} and --stats dataset; found none.",
            RECOMPUTE,
            forceable=False,
        )
    ]


def check_stats(
    checkpoint: Checkpoint, robot: Robot, alignment: Alignment, config: PolicyOptions
) -> list[Finding]:
    """Whether the checkpoint's statistics are those of this dataset."""
    step = checkpoint.unnormalizer
    ours = robot.stats.get(ACTION, {})
    theirs = step.stats.get(ACTION, {}) if step else {}
    if config.stats == "dataset":
        return [
            Finding(
                "stats_from_dataset",
                "warning",
                "the policy's processors use the dataset's statistics instead of the checkpoint's, "
                "as --stats dataset asks"
                + (" (missing processors were made anew)" if checkpoint.incomplete else "")
                + "; the numbers hold only if it was trained with these.",
                "leave --stats out once the checkpoint has its own",
            )
        ]
    findings = []
    comparable = config.action_dims is not None or checkpoint.action_dim == robot.actions.dim
    if comparable and not checkpoint.relative:
        off = _apart(theirs, ours, alignment.policy_dims, alignment.dataset_dims, alignment.schema)
        if off:
            findings.append(_stats_mismatch("action", off, alignment.schema.dim))
    fed = alignment.feeds.get(STATE)
    if fed is not None and checkpoint.state_dim == len(robot.state_names):
        stats = checkpoint.normalizer.stats if checkpoint.normalizer else {}
        every = tuple(range(len(robot.state_names)))
        schema = ActionSchema(robot.state_names, ("",) * len(every))
        off = _apart(stats.get(STATE, {}), robot.stats.get(fed, {}), every, every, schema)
        if off:
            findings.append(_stats_mismatch("state", off, len(every)))
    return findings


def _apart(
    theirs: Mapping[str, Any],
    ours: Mapping[str, Any],
    their_dims: tuple[int, ...],
    our_dims: tuple[int, ...],
    schema: ActionSchema,
) -> list[str]:
    """The dims whose statistics differ too much to be those of one dataset, in words."""
    tables = [
        [np.asarray(stats.get(name, ())).reshape(-1) for name in ("mean", "std")]
        for stats in (theirs, ours)
    ]
    for (mean, std), dims in zip(tables, (their_dims, our_dims), strict=True):
        if min(mean.size, std.size) <= max(dims, default=0):
            return []
    (mean_p, std_p), (mean_d, std_d) = tables
    off = []
    for p, d, name in zip(their_dims, our_dims, schema.names, strict=True):
        least = MIN_STD * max(1.0, abs(float(mean_d[d])))  # a dim that rests, but for rounding
        spread = max(float(std_d[d]), least)
        shift = abs(float(mean_p[p] - mean_d[d])) / spread
        ratio = max(float(std_p[p]), least) / spread
        if shift > _MEAN_SHIFT or not _STD_RATIO[0] <= ratio <= _STD_RATIO[1]:
            off.append(f"{name}: mean off by {shift:.2g} std, std ratio {ratio:.2g}")
    return off


def _stats_mismatch(what: str, off: list[str], n_dims: int) -> Finding:
    return Finding(
        "stats_mismatch" if what == "action" else f"{what}_stats_mismatch",
        "warning",
        f"expected checkpoint statistics near the dataset's; found {len(off)} of {n_dims} {what} "
        f"dims apart ({'; '.join(off[:4])}{'; ...' if len(off) > 4 else ''}). Suspect: trained on "
        "another dataset.",
        "check that this checkpoint belongs to this dataset; --stats dataset if only its "
        "statistics are wrong",
    )


def held(stats: Mapping[str, object]) -> str:
    """The features that statistics are for; a multi-dataset checkpoint names its choices."""
    choices = sorted({key.split(".buffer", 1)[0] for key in stats if ".buffer" in key})
    plain = [key for key in sorted(stats) if ".buffer" not in key]
    if choices:
        plain.append(f"the {len(choices)} datasets it was trained on ({', '.join(choices)})")
    return ", ".join(plain) or "nothing"
