"""Preflight: what would make the numbers meaningless, found before the run.

Deterministic checks on the checkpoint's files and the dataset's metadata; no weights are loaded.
"""

from __future__ import annotations

import numpy as np

from policyscope.alignment import Alignment
from policyscope.checkpoint import POSTPROCESSOR, PREPROCESSOR, Checkpoint
from policyscope.config import EvalConfig
from policyscope.facts import ACTION, DatasetFacts
from policyscope.findings import Finding
from policyscope.spaces import UNDECLARED_UNIT, missing_stats

_RECOMPUTE = "recompute the statistics with lerobot (lerobot.datasets.compute_stats)"
_MEAN_SHIFT = 0.5  # of the dataset's standard deviation
_STD_RATIO = (0.5, 2.0)


def preflight(
    checkpoint: Checkpoint | None,
    facts: DatasetFacts,
    alignment: Alignment,
    config: EvalConfig,
) -> tuple[Finding, ...]:
    """All deterministic findings, errors first."""
    findings = [*alignment.findings, *_check_dataset(facts, config)]
    if checkpoint is not None:
        findings += _check_processors(checkpoint, facts, config)
        findings += _check_stats(checkpoint, facts, alignment, config)
        findings += _check_inputs(checkpoint, facts, alignment, config)
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(findings, key=lambda f: order[f.severity]))


def preflight_policy(
    checkpoint: Checkpoint, facts: DatasetFacts, alignment: Alignment, config: EvalConfig
) -> tuple[Finding, ...]:
    """The findings that concern a checkpoint and what it is fed with, without demonstrations."""
    return (
        *alignment.findings,
        *_check_processors(checkpoint, facts, config),
        *_check_inputs(checkpoint, facts, alignment, config),
    )


def _check_dataset(facts: DatasetFacts, config: EvalConfig) -> list[Finding]:
    findings = []
    lacking = missing_stats(facts.stats, "MEAN_STD", ACTION)
    if lacking:
        findings.append(
            Finding(
                "dataset_stats_missing",
                "error",
                f"expected {' and '.join(lacking)} in the dataset's meta/stats.json; found none.",
                _RECOMPUTE,
                forceable=False,
            )
        )
    else:
        sizes = {name: int(np.size(facts.stats[ACTION][name])) for name in ("mean", "std")}
        if any(size != facts.actions.dim for size in sizes.values()):
            findings.append(
                Finding(
                    "dataset_stats_shape",
                    "error",
                    f"expected {facts.actions.dim} values of action.mean and action.std in the "
                    f"dataset's meta/stats.json; found {sizes['mean']} and {sizes['std']}.",
                    _RECOMPUTE,
                    forceable=False,
                )
            )
    if UNDECLARED_UNIT in facts.actions.units and facts.actions.dim > 1:
        findings.append(
            Finding(
                "units_undeclared",
                "info",
                "expected a unit for each action dim; the dataset declares none. Native averages "
                "over dims assume that all dims share one; normalized errors do not.",
                "--dataset.action_units rad, or a list with one unit a dim",
            )
        )
    if config.action_kind == "absolute" and len(facts.state_names) != facts.actions.dim:
        findings.append(
            Finding(
                "hold_state_unavailable",
                "info",
                f"expected as many state dims as action dims ({facts.actions.dim}) for the "
                f"hold-state baseline; found {len(facts.state_names)}. The baseline is left out.",
                "--action_kind delta if actions are displacements",
            )
        )
    return findings


def _check_processors(
    checkpoint: Checkpoint, facts: DatasetFacts, config: EvalConfig
) -> list[Finding]:
    findings = []
    for steps, file in (
        (checkpoint.preprocessor, PREPROCESSOR),
        (checkpoint.postprocessor, POSTPROCESSOR),
    ):
        if steps is None:
            findings.append(
                Finding(
                    "processor_missing",
                    "error",
                    f"expected {file} in the checkpoint; found none (saved before lerobot 0.4?).",
                    "python -m lerobot.processor.migrate_policy_normalization "
                    f"--pretrained-path {checkpoint.path}",
                    forceable=False,
                )
            )
    if checkpoint.postprocessor is None or checkpoint.action_mode == "IDENTITY":
        return findings
    step = checkpoint.unnormalizer
    if step is None:
        findings.append(
            Finding(
                "unnormalizer_missing",
                "error",
                f"expected an unnormalizer_processor in {POSTPROCESSOR}, since actions are "
                f"normalized with {checkpoint.action_mode}; found "
                f"{', '.join(s.name for s in checkpoint.postprocessor) or 'no step'}. "
                "Outputs would stay in normalized units.",
                "save the processors again with lerobot's make_pre_post_processors",
            )
        )
        return findings
    mode = str(step.config.get("norm_map", {}).get("ACTION", "IDENTITY"))
    if mode != checkpoint.action_mode:
        findings.append(
            Finding(
                "normalization_mode_mismatch",
                "error",
                f"expected mode {checkpoint.action_mode} for actions, as config.json says; found "
                f"{mode} in {POSTPROCESSOR}.",
                "save the processors again from the config the policy was trained with",
            )
        )
    if config.stats == "dataset":
        lacking = missing_stats(facts.stats, checkpoint.action_mode, ACTION)
        if lacking:
            findings.append(
                Finding(
                    "dataset_stats_missing",
                    "error",
                    f"expected {' and '.join(lacking)} in the dataset's meta/stats.json, for mode "
                    f"{checkpoint.action_mode} and --stats dataset; found none.",
                    _RECOMPUTE,
                    forceable=False,
                )
            )
        return findings
    lacking = missing_stats(step.stats, checkpoint.action_mode, ACTION)
    if lacking:
        held = ", ".join(sorted(step.stats)) or "none"
        findings.append(
            Finding(
                "action_stats_missing",
                "error",
                f"expected {' and '.join(lacking)} in the unnormalizer, for mode "
                f"{checkpoint.action_mode}; found statistics for: {held}. lerobot would pass "
                "normalized outputs through unchanged.",
                "--stats dataset takes the dataset's own statistics, if the policy was trained "
                "on it",
            )
        )
    return findings


def _check_stats(
    checkpoint: Checkpoint, facts: DatasetFacts, alignment: Alignment, config: EvalConfig
) -> list[Finding]:
    step = checkpoint.unnormalizer
    ours = facts.stats.get(ACTION, {})
    theirs = step.stats.get(ACTION, {}) if step else {}
    if config.stats == "dataset":
        return [
            Finding(
                "stats_from_dataset",
                "warning",
                "the policy's processors use the dataset's statistics instead of the checkpoint's, "
                "as --stats dataset asks; the numbers hold only if it was trained with these.",
                "leave --stats out once the checkpoint has its own",
            )
        ]
    if not all(name in stats for name in ("mean", "std") for stats in (ours, theirs)):
        return []
    if config.action_dims is None and checkpoint.action_dim != facts.actions.dim:
        return []  # nobody knows yet which dims would correspond
    mean_p, std_p = (np.asarray(theirs[n]).reshape(-1) for n in ("mean", "std"))
    mean_d, std_d = (np.asarray(ours[n]).reshape(-1) for n in ("mean", "std"))
    if len(mean_p) != checkpoint.action_dim or len(mean_d) != facts.actions.dim:
        return []
    off = []
    for p, d, name in zip(
        alignment.policy_dims, alignment.dataset_dims, alignment.schema.names, strict=True
    ):
        spread = max(float(std_d[d]), 1e-8)
        shift, ratio = abs(float(mean_p[p] - mean_d[d])) / spread, float(std_p[p]) / spread
        if shift > _MEAN_SHIFT or not _STD_RATIO[0] <= ratio <= _STD_RATIO[1]:
            off.append(f"{name}: mean off by {shift:.2g} std, std ratio {ratio:.2g}")
    if not off:
        return []
    return [
        Finding(
            "stats_mismatch",
            "warning",
            "expected checkpoint statistics near the dataset's; found "
            f"{len(off)} of {alignment.schema.dim} action dims apart ({'; '.join(off[:4])}"
            f"{'; ...' if len(off) > 4 else ''}). Suspect: trained on another dataset.",
            "check that this checkpoint belongs to this dataset; --stats dataset if only its "
            "statistics are wrong",
        )
    ]


def _check_inputs(
    checkpoint: Checkpoint, facts: DatasetFacts, alignment: Alignment, config: EvalConfig
) -> list[Finding]:
    findings = []
    if checkpoint.needs_language and not any(task.strip() for task in facts.tasks):
        findings.append(
            Finding(
                "task_text_missing",
                "warning",
                "expected a task text, which the policy reads; found none in the dataset.",
                "add the text the policy was trained with to meta/tasks.parquet",
            )
        )
    for key, source in alignment.feeds.items():
        want, have = checkpoint.cameras.get(key), facts.cameras.get(source)
        if want and have and want != have:
            findings.append(
                Finding(
                    "image_shape_mismatch",
                    "info" if checkpoint.config.get("resize_imgs_with_padding") else "warning",
                    f"expected {key} of shape {want}, as in training; found {have} in {source}.",
                    "a dataset with the camera's training resolution",
                )
            )
    trained = checkpoint.training.get("dataset") or {}
    fps = checkpoint.config.get("fps") or trained.get("fps")
    if isinstance(fps, int | float) and abs(float(fps) - facts.fps) > 1e-6:
        findings.append(
            Finding(
                "fps_mismatch",
                "warning",
                f"expected {fps} frames per second, as in training; found {facts.fps:g}.",
                "a dataset at the training rate: chunks span another time otherwise",
            )
        )
    chunk = checkpoint.config.get("chunk_size")
    steps = config.n_action_steps or checkpoint.n_action_steps
    if isinstance(chunk, int) and steps is not None and steps > chunk:
        findings.append(
            Finding(
                "n_action_steps_too_long",
                "error",
                f"expected n_action_steps of at most {chunk}, the chunk size; found {steps}.",
                f"--n_action_steps {chunk}",
                forceable=False,
            )
        )
    return findings
