"""gym-pusht: the board, its pictures and its poses."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np

from policyscope.actions.robots import PUSHT_BOARD_PX
from policyscope.actions.spaces import FloatArray
from policyscope.sim.adapter import Adapter, replaced


class PushT(Adapter):
    """gym-pusht: push a T-shaped block onto its goal on a board of 512 px."""

    package, install = "gym_pusht", "pip install 'policyscope[pusht]'"
    tasks = "--env.task PushT-v0"
    trusted = True
    resized = (
        "--env.type gym --env.task gym_pusht/PushT-v0 --env.settings "
        """'{"obs_type": "pixels_agent_pos", "observation_height": 256, """
        """"observation_width": 256}'"""
    )
    task_text = "Push the T-shaped block onto the T-shaped target."  # lerobot/pusht
    action_names = ("x", "y")
    action_units = ("px", "px")
    board = (float(PUSHT_BOARD_PX), float(PUSHT_BOARD_PX))
    reward_range = (0.0, 1.0)  # clip(coverage / 0.95, 0, 1)

    def without_effect(self, setting: str) -> str:
        """See `Adapter.without_effect`. gymnasium's own way passes everything on."""
        if setting not in ("observation_height", "observation_width"):
            return super().without_effect(setting)
        return self.resized

    def opened(self, env: Any) -> None:
        """See `Adapter.opened`. One pose has one coverage, to the bit.

        gym-pusht adds up the block's two parts in the order of a set, by their addresses: another
        in each process.
        """
        del env
        from gym_pusht.envs import pusht

        as_it_comes = inspect.unwrap(pusht.pymunk_to_shapely)

        @wraps(as_it_comes)
        def in_order(body: Any, shapes: Iterable[Any]) -> Any:
            return as_it_comes(body, sorted(shapes, key=lambda shape: shape.get_vertices()))

        pusht.pymunk_to_shapely = in_order

    def before_reset(self, env: Any, seed: int) -> None:
        """See `Adapter.before_reset`. Pictures would show the last action of the last episode."""
        del seed
        env.unwrapped._last_action = None

    def start_options(self, env: Any, start: FloatArray) -> dict[str, Any]:
        """See `Adapter.start_options`. `start` is agent x, y, block x, y, angle.

        gym-pusht sets the position before the angle, which turns the block about its centre of
        gravity: the position that comes out right has to be given.
        """
        del env
        from gym_pusht.envs import PushTEnv
        from pymunk import Space

        block, _ = PushTEnv.add_tee(Space(), (0, 0), 0)
        centre, angle = np.array(block.center_of_gravity), float(start[4])
        c, s = np.cos(angle), np.sin(angle)
        turned = np.array([c * centre[0] - s * centre[1], s * centre[0] + c * centre[1]])
        return {"reset_to_state": [*start[:2], *(start[2:4] + turned - centre), angle]}

    @contextmanager
    def unseen(self, env: Any) -> Iterator[None]:
        """See `Adapter.unseen`."""
        inner = env.unwrapped
        blank = np.zeros((inner.observation_height, inner.observation_width, 3), np.uint8)
        with replaced(inner, "_render", lambda **_: blank):
            yield

    def extras(self, info: Mapping[str, Any]) -> dict[str, FloatArray]:
        """See `Adapter.extras`."""
        return {
            "block_pose": np.array(info["block_pose"], dtype=np.float64),
            "coverage": np.array([info.get("coverage", np.nan)], dtype=np.float64),
        }


_BLOCK = np.array([119, 136, 153]) / 255  # LightSlateGray, as gym-pusht draws the block


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
        scale = PUSHT_BOARD_PX / np.array([width, height])
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
