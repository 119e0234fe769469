"""Where demonstrations start: simulator states read from a dataset's first frames.

PushT datasets record where the agent is, and the block only in the picture (or as keypoints, in
the keypoint variant). The pose is found by drawing candidates with the simulator's own renderer
until the picture agrees.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from policyscope.checkpoint import Checkpoint
from policyscope.config import RolloutConfig
from policyscope.errors import DatasetError, UsageError
from policyscope.facts import STATE
from policyscope.frames import FrameSource
from policyscope.parsing import parse_episodes
from policyscope.sim.scheduler import Planned
from policyscope.spaces import FloatArray
from policyscope.split import held_out, trained_on

_KEYPOINTS = "observation.environment_state"
_BLOCK = np.array([119, 136, 153]) / 255  # LightSlateGray, as gym-pusht draws the block
_MOST_RESIDUAL = 0.06  # root mean square of the picture's difference; video noise is about 0.02


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
    n = len(source.facts.lengths)
    chosen = (
        parse_episodes(config.dataset.episodes, n)
        if config.dataset.episodes is not None
        else held_out(trained_on(checkpoint, source.facts), n)
    )[: config.n_episodes]
    source.load(chosen)
    facts = source.facts
    camera = next(iter(facts.cameras), None)
    key = _KEYPOINTS if _KEYPOINTS in facts.features else camera
    if STATE not in facts.features or len(facts.state_names) != 2 or key is None:
        raise DatasetError(
            f"dataset {name}",
            expected=f"{STATE} of 2 dims and a picture or {_KEYPOINTS}, as PushT has",
            found=", ".join(facts.features),
            fix="--init_from seed, or a PushT dataset",
        )
    finder = PoseFinder()
    planned = []
    for i, episode in enumerate(chosen):
        first = source.batch([(episode, 0, 0)], keys=frozenset({STATE, key})).observations[0]
        agent = first[STATE][0].numpy().astype(np.float64)
        if key == _KEYPOINTS:
            pose = finder.from_keypoints(first[key][0].numpy().reshape(-1, 2))
        else:
            stored = first[key][0].numpy().transpose(1, 2, 0)
            picture = stored / 255 if stored.dtype == np.uint8 else stored
            pose, residual = finder.from_picture(picture, agent)
            if residual > _MOST_RESIDUAL:
                raise DatasetError(
                    f"first frame of episode {episode}",
                    expected="a picture of PushT's board, as gym-pusht draws it",
                    found=f"one that differs from the nearest drawing by {residual:.3f}",
                    fix=f"leave episode {episode} out with --dataset.episodes, or --init_from seed",
                )
        start = (*agent.tolist(), *pose.tolist())
        planned.append(replace(template, index=i, seed=episode, start=start, demonstration=episode))
    return source, planned


class PoseFinder:
    """Finds the pose (x, y, angle) of PushT's block."""

    def __init__(self) -> None:
        from gym_pusht.envs import PushTEnv

        self._env = PushTEnv(obs_type="pixels")
        self._env.reset(seed=0)

    def from_keypoints(self, points: FloatArray) -> FloatArray:
        """The pose that takes the block's corners to [8, 2] recorded ones (least squares)."""
        self._place(np.zeros(3), np.zeros(2))
        own = self._env.get_keypoints(self._env._block_shapes)
        a, b = own - own.mean(axis=0), points - points.mean(axis=0)
        angle = np.arctan2((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum(), (a * b).sum())
        c, s = np.cos(angle), np.sin(angle)
        moved = points.mean(axis=0) - own.mean(axis=0) @ np.array([[c, s], [-s, c]])
        return np.array([*moved, angle])

    def from_picture(self, picture: FloatArray, agent: FloatArray) -> tuple[FloatArray, float]:
        """The pose whose drawing is nearest to a picture.

        Args:
            picture: [H, W, 3] in 0-1.
            agent: [2] where the agent is.

        Returns:
            The pose, and the root mean square difference that is left.
        """
        from scipy.optimize import minimize

        height, width = picture.shape[:2]
        self._env.observation_height, self._env.observation_width = height, width
        scale = np.array([512 / width, 512 / height])
        rows, columns = np.nonzero(np.abs(picture - _BLOCK).max(axis=-1) < 0.12)
        if len(rows) < 8:
            return np.zeros(3), float("inf")
        middle = np.array([columns.mean() + 0.5, rows.mean() + 0.5]) * scale
        centre = np.array(self._env.block.center_of_gravity)

        def difference(pose: FloatArray) -> float:
            self._place(pose, agent)
            drawn = self._env._render().astype(np.float64) / 255
            return float(((drawn - picture) ** 2).mean())

        def at(angle: float) -> FloatArray:
            c, s = np.cos(angle), np.sin(angle)
            turned = np.array([c * centre[0] - s * centre[1], s * centre[0] + c * centre[1]])
            return np.array([*(middle - turned), angle])

        coarse = sorted(
            (at(a) for a in np.linspace(-np.pi, np.pi, 24, endpoint=False)), key=difference
        )
        best, least = coarse[0], np.inf
        for guess in coarse[:2]:
            simplex = guess + np.array([[0, 0, 0], [6, 0, 0], [0, 6, 0], [0, 0, 0.15]])
            found = minimize(
                difference,
                guess,
                method="Nelder-Mead",
                options={"initial_simplex": simplex, "maxfev": 160, "xatol": 0.02, "fatol": 1e-8},
            )
            if found.fun < least:
                best, least = found.x, found.fun
        return best, float(np.sqrt(least))

    def _place(self, pose: FloatArray, agent: FloatArray) -> None:
        env: Any = self._env
        env.agent.position = tuple(map(float, agent))
        env.block.angle = float(pose[2])  # before the position: it turns about the centre
        env.block.position = (float(pose[0]), float(pose[1]))
        for body in (env.agent, env.block):  # drawings and corners come from the index
            env.space.reindex_shapes_for_body(body)
