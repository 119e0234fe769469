"""Preflight of what a checkpoint is fed with: texts, rates and pictures as in its training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policyscope.actions.robots import Robot
from policyscope.checks.dataset import RECOMPUTE
from policyscope.config import PolicyOptions
from policyscope.errors import Finding
from policyscope.policies.alignment import Alignment
from policyscope.policies.checkpoint import Checkpoint

_RESOLUTION = {
    "dataset": "a dataset with the camera's training resolution",
    "simulator": "--env.settings with the height and width of the training camera",
}
_BRIGHTEST = 1.5  # a mean of pictures in 0-1 never gets there
_COLOUR_OFF = 0.03  # of the range of pictures


def check_texts(checkpoint: Checkpoint, texts: Sequence[str], robot: Robot) -> list[Finding]:
    """Whether there is a text where the policy reads one."""
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


def check_inputs(
    checkpoint: Checkpoint, robot: Robot, alignment: Alignment, config: PolicyOptions
) -> list[Finding]:
    """What the policy is fed with against what it was trained with."""
    findings = []
    renames = checkpoint.renames
    for key, source in alignment.feeds.items():
        findings += _check_camera(checkpoint, robot, renames.get(key, key), source)
    fps = checkpoint.settings.fps or checkpoint.training.fps
    if fps is not None and abs(fps - robot.fps) > 1e-6:
        findings.append(
            Finding(
                "fps_mismatch",
                "warning",
                f"expected {fps:g} frames per second, as in training; found {robot.fps:g}.",
                f"a {robot.kind} at the training rate: chunks span another time otherwise",
            )
        )
    return findings + _check_length(checkpoint, config.n_action_steps)


def _check_length(checkpoint: Checkpoint, wanted: int | None) -> list[Finding]:
    """The steps of a chunk that are to be run must be there."""
    if checkpoint.ensembling is not None and wanted not in (None, 1):
        return [
            Finding(
                "ensembling_runs_one_step",
                "error",
                "expected --n_action_steps 1: with temporal ensembling, which config.json asks "
                f"for, a robot asks for a chunk at every step; found {wanted}.",
                "leave --n_action_steps out",
                forceable=False,
            )
        ]
    chunk, steps = checkpoint.chunk_size, wanted or checkpoint.n_action_steps
    if chunk is None or steps is None or steps <= chunk:
        return []
    return [
        Finding(
            "n_action_steps_too_long",
            "error",
            f"expected n_action_steps of at most {chunk}, the chunk size; found {steps}.",
            f"--n_action_steps {chunk}",
            forceable=False,
        )
    ]


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
