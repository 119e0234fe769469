"""The episodes of a closed-loop run: seeds of each task, or where demonstrations start.

PushT datasets record where the agent is, and the block only in the picture (or as keypoints, in
the keypoint variant). The pose is found by drawing candidates with the simulator's own renderer
until the picture agrees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from policyscope.config import RolloutConfig
from policyscope.data.facts import STATE
from policyscope.data.source import FrameSource
from policyscope.errors import DatasetError, UsageError
from policyscope.policies.checkpoint import Checkpoint
from policyscope.policies.split import held_out, trained_on
from policyscope.runs.plans import PlannedSeeds, planned_seeds
from policyscope.sim.pusht import PoseFinder
from policyscope.sim.simulator import SimulatorSpec

_KEYPOINTS = "observation.environment_state"
_MOST_RESIDUAL = 0.06  # root mean square of the picture's difference; video noise is about 0.02


@final
@dataclass(frozen=True)
class Planned:
    """An episode to run.

    Attributes:
        index: its number in the run, from 0.
        group: suite, or None.
        task_id: number in the suite.
        task: the instruction.
        seed: of the environment.
        max_steps: steps after which it ends.
        start: recorded state to begin in, or None.
        demonstration: the dataset episode that it comes from, or None.
    """

    index: int
    group: str | None
    task_id: int
    task: str
    seed: int
    max_steps: int
    start: tuple[float, ...] | None = None
    demonstration: int | None = None


def starts_from_dataset(
    config: RolloutConfig, template: Planned, checkpoint: Checkpoint | None
) -> tuple[FrameSource, list[Planned]]:
    """An episode for each demonstration, beginning where it begins.

    Args:
        config: ``--dataset``, and ``--n_episodes`` as the most of them.
        template: an episode of the simulator's task.
        checkpoint: which is not asked about episodes that it says it saw; or None.

    Returns:
        The demonstrations, loaded, and the episodes; the seed of each, which also seeds its
        noise, is the index of its demonstration.

    Raises:
        InputError: the dataset can't be read, or does not say where its episodes start.
    """
    if config.env.type != "pusht":
        raise UsageError(
            "--init_from dataset",
            expected="a simulator that can start from a recorded state (pusht)",
            found=config.env.type,
            fix="--init_from seed",
        )
    name = config.dataset.repo_id or str(config.dataset.root)
    source = FrameSource(config.dataset, repo_id=name)
    chosen = (
        source.facts.choose(config.dataset.episodes)
        if config.dataset.episodes is not None
        else held_out(trained_on(checkpoint, source.facts), source.facts.lengths)
    )[: config.n_episodes]
    source.load(chosen)
    robot = source.facts.robot
    camera = next(iter(robot.cameras), None)
    key = _KEYPOINTS if _KEYPOINTS in robot.features else camera
    if STATE not in robot.features or len(robot.state_names) != 2 or key is None:
        raise DatasetError(
            f"dataset {name}",
            expected=f"{STATE} of 2 dims and a picture or {_KEYPOINTS}, as PushT has",
            found=", ".join(robot.features),
            fix="--init_from seed, or a PushT dataset",
        )
    finder = PoseFinder()
    planned = [
        replace(
            template,
            index=i,
            seed=episode,
            start=_start(source, finder, episode, key),
            demonstration=episode,
        )
        for i, episode in enumerate(chosen)
    ]
    return source, planned


def _start(source: FrameSource, finder: PoseFinder, episode: int, key: str) -> tuple[float, ...]:
    """Agent's x, y, block's x, y, angle in the first frame of an episode.

    Args:
        source: the demonstrations.
        finder: of the block's pose.
        episode: which.
        key: of the keypoints, or of the picture.

    Raises:
        DatasetError: the picture is none of PushT's.
    """
    first = source.batch([(episode, 0, 0)], keys=frozenset({STATE, key})).observations[0]
    agent = first[STATE][0].astype(np.float64)
    if key == _KEYPOINTS:
        pose = finder.from_keypoints(first[key][0].reshape(-1, 2))
        return (*agent.tolist(), *pose.tolist())
    stored = first[key][0].transpose(1, 2, 0)
    picture = stored / 255 if stored.dtype == np.uint8 else stored
    pose, residual = finder.from_picture(picture, agent)
    if residual > _MOST_RESIDUAL:
        raise DatasetError(
            f"first frame of episode {episode}",
            expected="a picture of PushT's board, as gym-pusht draws it",
            found=f"one that differs from the nearest drawing by {residual:.3f}",
            fix=f"leave episode {episode} out with --dataset.episodes, or --init_from seed",
        )
    return (*agent.tolist(), *pose.tolist())


def plan_episodes(
    config: RolloutConfig, simulator: SimulatorSpec, checkpoint: Checkpoint | None
) -> tuple[tuple[Planned, ...], FrameSource | None]:
    """Every episode of the run, in order: the seeds of each task, or the demonstrations.

    Returns:
        The episodes, and the demonstrations that they start from or are compared with, or None.

    Raises:
        InputError: ``--dataset`` can't be read, or does not say where its episodes start.
    """
    planned: list[Planned] = []
    for task in simulator.tasks:
        for seed in range(config.seed, config.seed + config.n_episodes):
            planned.append(
                Planned(len(planned), task.suite, task.task_id, task.text, seed, task.max_steps)
            )
    if config.init_from == "seed":
        return tuple(planned), _demonstrations(config) if config.nearest else None
    source, demonstrated = starts_from_dataset(config, planned[0], checkpoint)
    return tuple(demonstrated), source


def _demonstrations(config: RolloutConfig) -> FrameSource:
    source = FrameSource(config.dataset, repo_id=config.dataset.repo_id or str(config.dataset.root))
    source.load(source.facts.choose(config.dataset.episodes))
    return source


def describe_plan(episodes: Sequence[Planned]) -> list[PlannedSeeds]:
    """What a resumed run must agree on about its episodes."""
    return planned_seeds(
        (e.group, e.task_id, e.seed, e.max_steps, e.demonstration) for e in episodes
    )
