"""A small real gymnasium environment, registered on import; it can be told to fail."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np


class Point(gym.Env[dict[str, Any], np.ndarray]):
    """A point that moves towards the action; solved near its goal.

    Args:
        trouble: ``die``, ``hang`` or ``raise``, at step 3 of the episode of seed `trouble_seed`.
        marker: file that is written at the first trouble; there is none once it exists. Without
            it there is trouble each time.
        delay_s: that each step takes.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        render_mode: str = "rgb_array",
        size: int = 64,
        trouble: str = "",
        trouble_seed: int = -1,
        marker: str = "",
        delay_s: float = 0.0,
        success_at: float = 5.0,
    ) -> None:
        self.render_mode, self._size, self._trouble = render_mode, size, trouble
        self._trouble_seed, self._marker, self._delay_s = trouble_seed, marker, delay_s
        self._success_at = success_at
        self.task_description = "go to the goal"
        self.pictures_wanted = True
        self.action_space = gym.spaces.Box(0, 200, (2,), np.float32)
        self.observation_space = gym.spaces.Dict(
            {
                "pixels": gym.spaces.Box(0, 255, (size, size, 3), np.uint8),
                "agent_pos": gym.spaces.Box(-np.inf, np.inf, (2,), np.float64),
            }
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed, options=options)
        self._seed, self._step = seed, 0
        self._at = self.np_random.uniform(50, 150, 2)
        self._goal = self.np_random.uniform(80, 120, 2)
        return self._observation(), self._info(False)

    def step(self, action: np.ndarray) -> Any:
        assert action.dtype == np.float32
        time.sleep(self._delay_s)
        self._step += 1
        self._maybe_fail()
        self._at = self._at + 0.3 * (action.astype(np.float64) - self._at)
        distance = float(np.linalg.norm(self._at - self._goal))
        solved = self._solved(distance)
        return (
            self._observation(),
            self._reward(distance),
            self._over(solved),
            False,
            self._info(solved),
        )

    def _solved(self, distance: float) -> bool:
        return distance < self._success_at

    def _over(self, solved: bool) -> bool:
        return solved

    def _reward(self, distance: float) -> Any:
        return float(np.exp(-distance / 20))

    def _info(self, solved: bool) -> dict[str, Any]:
        return {"is_success": solved, "goal": self._goal.copy()}

    def render(self) -> np.ndarray:
        return self._picture()

    def _observation(self) -> dict[str, Any]:
        picture = self._picture() if self.pictures_wanted else np.zeros((1, 1, 3), np.uint8)
        return {"pixels": picture, "agent_pos": self._at.copy()}

    def _picture(self) -> np.ndarray:
        picture = np.full((self._size, self._size, 3), 255, np.uint8)
        for place, colour in ((self._goal, (0, 200, 0)), (self._at, (0, 0, 200))):
            x, y = (place / 200 * self._size).clip(2, self._size - 3).astype(int)
            picture[y - 2 : y + 3, x - 2 : x + 3] = colour
        return picture

    def _maybe_fail(self) -> None:
        if self._seed != self._trouble_seed or self._step != 3:
            return
        if self._marker:
            if Path(self._marker).exists():
                return
            Path(self._marker).touch()
        if self._trouble == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._trouble == "hang":
            time.sleep(1000)
        raise RuntimeError("the simulator broke")


class Forgetful(Point):
    """Breaks the contract: its episodes depend on those before."""

    _episodes = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        answer = super().reset(seed=seed, options=options)
        Forgetful._episodes += 1
        self._at = self._at + Forgetful._episodes
        return self._observation(), answer[1]


gym.register("fake_envs/Point-v0", entry_point=Point, max_episode_steps=20)
gym.register("fake_envs/Forgetful-v0", entry_point=Forgetful, max_episode_steps=20)
