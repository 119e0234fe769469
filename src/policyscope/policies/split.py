"""Which episodes a checkpoint was trained on, as far as it says so itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from policyscope.data.facts import DatasetFacts
from policyscope.errors import Finding
from policyscope.policies.checkpoint import Checkpoint

Split = Literal["held_out", "in_sample", "unknown"]


def trained_on(checkpoint: Checkpoint | None, facts: DatasetFacts) -> frozenset[int] | None:
    """Episodes of this dataset that training saw; None where the checkpoint does not say.

    lerobot's ``eval_split`` holds out the last ceil(n * fraction) episodes of each task
    (lerobot/datasets/factory.py). Which these are can't be told from an index of episodes that
    lacks some of them, or their tasks.
    """
    used = checkpoint.training.datasets.get(facts.robot.name) if checkpoint else None
    if used is None:
        return None
    episodes = list(facts.lengths) if used.episodes is None else list(used.episodes)
    if not used.eval_split:
        return frozenset(episodes)
    if not facts.complete or any(e not in facts.episode_tasks for e in facts.lengths):
        return None
    by_task: dict[str, list[int]] = {}
    for episode in episodes:
        if episode in facts.lengths:
            by_task.setdefault(facts.episode_tasks[episode], []).append(episode)
    seen: set[int] = set()
    for group in by_task.values():
        seen.update(group[: len(group) - math.ceil(len(group) * used.eval_split)])
    return frozenset(seen)


def held_out(trained: frozenset[int] | None, episodes: Iterable[int]) -> tuple[int, ...]:
    """Episodes to evaluate by default: the unseen ones if known and any, else all."""
    every = tuple(episodes)
    unseen = tuple(e for e in every if trained is not None and e not in trained)
    return unseen or every


def label(trained: frozenset[int] | None, episodes: Iterable[int]) -> Split:
    """What to call a result on these episodes."""
    if trained is None:
        return "unknown"
    return "in_sample" if any(e in trained for e in episodes) else "held_out"


def leakage(trained: frozenset[int] | None, episodes: tuple[int, ...]) -> Finding | None:
    """A hint where episodes of the evaluation were in the training."""
    seen = [e for e in episodes if trained is not None and e in trained]
    if not seen:
        return None
    return Finding(
        "in_sample",
        "info",
        f"expected episodes that the training did not see; found {len(seen)} of {len(episodes)} "
        "that it saw, as the checkpoint's train_config.json says. The numbers are in-sample.",
        "choose held-out --dataset.episodes, or train with lerobot's --dataset.eval_split",
    )
