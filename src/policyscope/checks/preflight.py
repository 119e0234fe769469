"""Preflight: what would make the numbers meaningless, found before the run.

Deterministic checks on the checkpoint's files and the dataset's metadata; no weights are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policyscope.actions.robots import Robot
from policyscope.actions.spaces import ActionSchema, missing_stats
from policyscope.checks.dataset import RECOMPUTE, check_dataset
from policyscope.config import PolicyOptions
from policyscope.data.facts import ACTION, STATE, DatasetFacts
from policyscope.errors import Finding
from policyscope.policies.alignment import Alignment
from policyscope.policies.checkpoint import POSTPROCESSOR, PREPROCESSOR, Checkpoint, find_step

_IF_TRAINED = "if the policy was trained on it"
_MEAN_SHIFT = 0.5  # of the dataset's standard deviation
_STD_RATIO = (0.5, 2.0)
_VOUCHED = (
    "act",
    "diffusion",
    "multi_task_dit",
    "pi0",
    "pi05",
    "smolvla",
    "tdmpc",
    "vqbet",
    "xvla",
)  # opened with and without statistics in the tests
_RESOLUTION = {
    "dataset": "a dataset with the camera's training resolution",
    "simulator": "--env.settings with the height and width of the training camera",
}
_BRIGHTEST = 1.5  # a mean of pictures in 0-1 never gets there
_COLOUR_OFF = 0.03  # of the range of pictures


def preflight(
    checkpoint: Checkpoint | None,
    facts: DatasetFacts,
    alignment: Alignment,
    config: PolicyOptions,
) -> tuple[Finding, ...]:
    """All deterministic findings, errors first."""
    findings = [*alignment.findings, *check_dataset(facts, config.action_kind)]
    if checkpoint is not None:
        robot = facts.robot
        findings += _check_type(checkpoint, config)
        findings += _check_processors(checkpoint, robot, config)
        findings += _check_input_stats(checkpoint, robot, alignment, config)
        findings += _check_stats(checkpoint, robot, alignment, config)
        findings += _check_texts(checkpoint, tuple(facts.episode_tasks.values()), robot)
        findings += _check_inputs(checkpoint, robot, alignment, config)
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(findings, key=lambda f: order[f.severity]))


def preflight_policy(
    checkpoint: Checkpoint, robot: Robot, alignment: Alignment, config: PolicyOptions
) -> tuple[Finding, ...]:
    """The findings that concern a checkpoint and what it is fed with, without demonstrations."""
    return (
        *alignment.findings,
        *_check_type(checkpoint, config),
        *_check_processors(checkpoint, robot, config),
        *_check_texts(checkpoint, robot.tasks, robot),
        *_check_inputs(checkpoint, robot, alignment, config),
    )


def _check_type(checkpoint: Checkpoint, config: PolicyOptions) -> list[Finding]:
    """Policies whose outputs may not come back in native units by the processors checked here."""
    findings = []
    if checkpoint.type not in _VOUCHED:
        findings.append(
            Finding(
                "policy_type_untested",
                "error",
                f"expected a policy type whose native units are tested ({', '.join(_VOUCHED)}); "
                f"found {checkpoint.type}.",
                "--force computes numbers all the same: compare them with lerobot's own",
            )
        )
    absolute = find_step(checkpoint.postprocessor, "absolute_actions_processor")
    kept = absolute is not None and absolute.config.get("enabled")
    if checkpoint.relative and (config.stats == "dataset" or not kept):
        findings.append(
            Finding(
                "relative_actions",
                "error",
                "expected statistics of displacements and a step that adds the state, since the "
                "policy predicts displacements; found "
                + ("the dataset's of whole actions." if kept else "no such step."),
                "copy the checkpoint again with its own processors, without --stats dataset",
                forceable=False,
            )
        )
    return findings


def _check_processors(checkpoint: Checkpoint, robot: Robot, config: PolicyOptions) -> list[Finding]:
    if config.stats == "dataset":  # missing processors are made anew
        return _check_mode(checkpoint) + _check_dataset_stats(checkpoint, robot)
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
                    f"expected {file} in the checkpoint; found none, and no statistics in the "
                    "weights, where lerobot before 0.4 kept them.",
                    f"--stats dataset makes it anew, {_IF_TRAINED}, or copy the file",
                    forceable=False,
                )
            )
    if checkpoint.recovered:
        findings.append(
            Finding(
                "stats_recovered",
                "info",
                f"expected {PREPROCESSOR} and {POSTPROCESSOR}; found neither, but statistics for "
                f"{_held(checkpoint.recovered_stats)} in the weights, where lerobot before 0.4 "
                "kept them: the processors are made anew with these.",
                "python -m lerobot.processor.migrate_policy_normalization "
                f"--pretrained-path {checkpoint.path} writes them once and for all",
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
                f"--stats dataset makes it anew, {_IF_TRAINED}, or save the processors again with "
                "lerobot's make_pre_post_processors",
            )
        )
        return findings
    findings += _check_mode(checkpoint)
    lacking = missing_stats(step.stats, checkpoint.action_mode, ACTION)
    if lacking:
        findings.append(
            Finding(
                "action_stats_missing",
                "error",
                f"expected {' and '.join(lacking)} in the unnormalizer, for mode "
                f"{checkpoint.action_mode}; found statistics for {_held(step.stats)}. lerobot "
                "would pass normalized outputs through unchanged.",
                f"--stats dataset takes the dataset's own statistics, {_IF_TRAINED}",
            )
        )
    return findings


def _held(stats: Mapping[str, object]) -> str:
    """The features that statistics are for; a multi-dataset checkpoint names its choices."""
    choices = sorted({key.split(".buffer", 1)[0] for key in stats if ".buffer" in key})
    plain = [key for key in sorted(stats) if ".buffer" not in key]
    if choices:
        plain.append(f"the {len(choices)} datasets it was trained on ({', '.join(choices)})")
    return ", ".join(plain) or "nothing"


def _check_mode(checkpoint: Checkpoint) -> list[Finding]:
    step = checkpoint.unnormalizer
    mode = checkpoint.action_mode
    found = str(step.config.get("norm_map", {}).get("ACTION", "IDENTITY")) if step else mode
    if found == mode:
        return []
    return [
        Finding(
            "normalization_mode_mismatch",
            "error",
            f"expected mode {mode} for actions, as config.json says; found {found} in "
            f"{POSTPROCESSOR}.",
            "save the processors again from the config the policy was trained with",
        )
    ]


def _check_dataset_stats(checkpoint: Checkpoint, robot: Robot) -> list[Finding]:
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


def _check_input_stats(
    checkpoint: Checkpoint, robot: Robot, alignment: Alignment, config: PolicyOptions
) -> list[Finding]:
    """Inputs that would reach the network without the normalization it was trained with."""
    if checkpoint.preprocessor is None and config.stats != "dataset":
        return []  # reported already
    step = checkpoint.normalizer
    modes = checkpoint.config.get("normalization_mapping", {})
    renamed = {policy: source for source, policy in checkpoint.renames.items()}
    lacking = []
    for key, feature in checkpoint.config["input_features"].items():
        mode = str(modes.get(feature["type"], "IDENTITY"))
        source = alignment.feeds.get(key) or alignment.feeds.get(renamed.get(key, ""))
        if mode == "IDENTITY" or source is None:
            continue
        if config.stats == "dataset":
            lacking += missing_stats({key: robot.stats.get(source, {})}, mode, key)
        else:
            lacking += missing_stats(step.stats if step else {}, mode, key)
    if not lacking:
        return []
    where = "dataset's meta/stats.json" if config.stats == "dataset" else "preprocessor"
    return [
        Finding(
            "input_stats_missing",
            "error",
            f"expected {', '.join(lacking[:4])}{', ...' if len(lacking) > 4 else ''} in the "
            f"{where}; found statistics for {_held(step.stats) if step else 'no normalizer'}. "
            "lerobot would feed the network inputs of another scale than in training.",
            RECOMPUTE
            if config.stats == "dataset"
            else f"--stats dataset takes the dataset's own statistics, {_IF_TRAINED}",
        )
    ]


def _check_stats(
    checkpoint: Checkpoint, robot: Robot, alignment: Alignment, config: PolicyOptions
) -> list[Finding]:
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
        spread = max(float(std_d[d]), 1e-8)
        shift, ratio = abs(float(mean_p[p] - mean_d[d])) / spread, float(std_p[p]) / spread
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


def _check_texts(checkpoint: Checkpoint, texts: Sequence[str], robot: Robot) -> list[Finding]:
    empty = sum(not text.strip() for text in texts)
    if not checkpoint.needs_language or not empty:
        return []
    of, fix = {
        "dataset": ("episodes", "add the text the policy was trained with to meta/tasks.parquet"),
        "simulator": ("tasks", "--env.task_text with the text the policy was trained with"),
    }[robot.kind]
    return [
        Finding(
            "task_text_missing",
            "warning",
            f"expected a task text, which the policy reads; found none in {empty} of "
            f"{len(texts)} {of}.",
            fix,
        )
    ]


def _check_inputs(
    checkpoint: Checkpoint, robot: Robot, alignment: Alignment, config: PolicyOptions
) -> list[Finding]:
    findings = []
    renames = checkpoint.renames
    for key, source in alignment.feeds.items():
        findings += _check_camera(checkpoint, robot, renames.get(key, key), source)
    trained = checkpoint.training.get("dataset") or {}
    environment = checkpoint.training.get("env") or {}
    fps = checkpoint.config.get("fps") or trained.get("fps") or environment.get("fps")
    if isinstance(fps, int | float) and abs(float(fps) - robot.fps) > 1e-6:
        findings.append(
            Finding(
                "fps_mismatch",
                "warning",
                f"expected {fps} frames per second, as in training; found {robot.fps:g}.",
                f"a {robot.kind} at the training rate: chunks span another time otherwise",
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


def _check_camera(checkpoint: Checkpoint, robot: Robot, key: str, source: str) -> list[Finding]:
    """Shape, range and channel order of a camera against those of the training."""
    want, have = checkpoint.cameras.get(key), robot.cameras.get(source)
    if not want or not have:
        return []
    findings = []
    if want != have:
        last = want[-1] in (1, 3, 4) and want[0] not in (1, 3, 4)
        resized = checkpoint.config.get("resize_imgs_with_padding") and not last
        findings.append(
            Finding(
                "image_shape_mismatch",
                "info" if resized else "warning",
                f"expected {key} of shape {want}, as in training; found {have} in {source}."
                + (
                    " The checkpoint declares channels last; lerobot feeds them first."
                    if last
                    else ""
                ),
                "declare shapes as (channels, height, width) in config.json"
                if last
                else _RESOLUTION[robot.kind],
            )
        )
    step = checkpoint.normalizer
    theirs = np.asarray((step.stats if step else {}).get(key, {}).get("mean", ())).reshape(-1)
    ours = np.asarray(robot.stats.get(source, {}).get("mean", ())).reshape(-1)
    for mean, who, fix in (
        (ours, f"the {robot.kind}'s statistics of {source}", RECOMPUTE),
        (theirs, f"the checkpoint's statistics of {key}", "train again with pictures in 0-1"),
    ):
        if mean.size and mean.max() > _BRIGHTEST:
            findings.append(
                Finding(
                    "image_range",
                    "warning",
                    f"expected pictures between 0 and 1; found a mean of {mean.max():.3g} in "
                    f"{who}. Suspect: 0-255.",
                    fix,
                )
            )
    if ours.size == theirs.size == 3 and max(ours.max(), theirs.max()) <= _BRIGHTEST:
        straight, reversed_ = np.abs(ours - theirs).max(), np.abs(ours[::-1] - theirs).max()
        if straight > _COLOUR_OFF and reversed_ < straight / 4:
            findings.append(
                Finding(
                    "image_channels_reversed",
                    "warning",
                    f"expected the colours of the training in {source}; found channel means "
                    f"{np.round(ours, 3).tolist()} where the checkpoint has "
                    f"{np.round(theirs, 3).tolist()}. Suspect: RGB against BGR.",
                    "record and train with the same channel order (lerobot: RGB)",
                )
            )
    return findings
