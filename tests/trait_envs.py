"""Small real environments with one trait each, registered on import."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from fake_envs import Point


class Quiet(Point):
    """Says nothing about success."""

    def _info(self, solved: bool) -> dict[str, Any]:
        del solved
        return {"goal": self._goal.copy()}


class OtherWord(Point):
    """Says ``success``, as a number in an array."""

    def _info(self, solved: bool) -> dict[str, Any]:
        return {"success": np.array([float(solved)]), "goal": self._goal.copy()}


class InTheEnd(Point):
    """Says it in ``final_info`` alone, as environments that reset themselves do."""

    def _info(self, solved: bool) -> dict[str, Any]:
        said = {"final_info": {"is_success": True}} if solved else {}
        return {**said, "goal": self._goal.copy()}


class Text(Point):
    """Says "False", which is a text that Python counts as true."""

    def _info(self, solved: bool) -> dict[str, Any]:
        return {"is_success": str(solved), "goal": self._goal.copy()}


class Neither(Point):
    """Says NaN."""

    def _info(self, solved: bool) -> dict[str, Any]:
        return {"is_success": 1.0 if solved else float("nan"), "goal": self._goal.copy()}


class Share(Point):
    """Says how much of the task is done, which is no success."""

    def _info(self, solved: bool) -> dict[str, Any]:
        return {"success": 1.0 if solved else 0.4, "goal": self._goal.copy()}


class Endless(Point):
    """Goes on when the task is solved."""

    def _over(self, solved: bool) -> bool:
        del solved
        return False


class Lost(Endless):
    """Is solved at steps 4 and 5, and not again."""

    def _solved(self, distance: float) -> bool:
        del distance
        return self._step in (4, 5)


class Reused(Point):
    """Writes observations, info and reward into the same arrays at every step."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._buffers: dict[str, Any] = {}

    def _observation(self) -> dict[str, Any]:
        return {name: self._into(name, value) for name, value in super()._observation().items()}

    def _info(self, solved: bool) -> dict[str, Any]:
        return {**super()._info(solved), "goal": self._into("goal", self._goal)}

    def render(self) -> np.ndarray:
        return self._into("picture", self._picture())

    def _into(self, name: str, value: np.ndarray) -> np.ndarray:
        if name not in self._buffers or self._buffers[name].shape != value.shape:
            self._buffers[name] = np.empty_like(value)
        self._buffers[name][...] = value
        return self._buffers[name]


class Again(Point):
    """Resets itself at the end of an episode, as several of lerobot's environments do."""

    def step(self, action: np.ndarray) -> Any:
        answer = super().step(action)
        if answer[2]:
            self.reset()
        return answer


class Next(Point):
    """Resets itself and returns the next episode's first observation."""

    def step(self, action: np.ndarray) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        if terminated:
            info = {**info, "final_obs": observation}
            observation, _ = self.reset()
        return observation, reward, terminated, truncated, info


class Told(Point):
    """Draws its instruction at reset; before, there is none to read."""

    @property
    def task_description(self) -> str:
        if not hasattr(self, "_goal"):
            raise RuntimeError("not reset yet")
        return f"go to {self._goal[0]:.0f}, {self._goal[1]:.0f}\x1b[2J"

    @task_description.setter
    def task_description(self, text: str) -> None:
        del text


class Curses(Told):
    """Its texts and errors hold escape sequences."""

    action_names = ("x\x1b[31m", "\u202ey")

    def step(self, action: np.ndarray) -> Any:
        if self._seed == 1001:
            raise RuntimeError("\x1b[2J\u202ebroken\x07")
        return super().step(action)


class Rateless(Point):
    """Does not say how fast it is controlled."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012


class Fraction(Point):
    """Is controlled 12.5 times a second."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 12.5}  # noqa: RUF012


class Fast(Point):
    """Says its rate as a text."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": "fast"}  # noqa: RUF012


class Stopped(Point):
    """Says a rate of 0."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 0}  # noqa: RUF012


class Seen(Point):
    """A policy sees what `look` makes of the picture."""

    look: str = ""

    def _observation(self) -> dict[str, Any]:
        read = super()._observation()
        picture = self._picture()
        changed: Any = {
            "sixteen": lambda: picture.astype(np.uint16) * 257,
            "flat": lambda: picture[..., 0].copy(),
            "first": lambda: {"top": picture.transpose(2, 0, 1).copy()},
            "floats": lambda: (picture / 255).astype(np.float32),
            "listed": lambda: [picture],
        }[self.look]()
        return {**read, "pixels": changed}


class Sixteen(Seen):
    look = "sixteen"


class Flat(Seen):
    look = "flat"


class First(Seen):
    look = "first"


class Floats(Seen):
    look = "floats"


class Listed(Seen):
    look = "listed"


class Chatty(Point):
    """Puts a text, None and a nested text into observations."""

    def _observation(self) -> dict[str, Any]:
        more = {"hint": "left", "nothing": None, "extra": {"note": "x", "force": [1.0, 2.0]}}
        return {**super()._observation(), **more}


class Objects(Point):
    """Puts an object into observations."""

    def _observation(self) -> dict[str, Any]:
        return {**super()._observation(), "handle": object()}


class Broken(Point):
    """Its state is NaN from step 2 on."""

    def _observation(self) -> dict[str, Any]:
        read = super()._observation()
        return read if self._step < 2 else {**read, "agent_pos": self._at * np.nan}


class Growing(Point):
    """Its state has one dim more at odd seeds."""

    def _observation(self) -> dict[str, Any]:
        read = super()._observation()
        more = np.zeros(int(self._seed or 0) % 2)
        return {**read, "agent_pos": np.concatenate([self._at, more])}


class Shrinking(Point):
    """Its picture is smaller from step 15 on, which a short trial does not see."""

    def _observation(self) -> dict[str, Any]:
        read = super()._observation()
        return read if self._step < 15 else {**read, "pixels": read["pixels"][:32]}


class Infinite(Point):
    """One reward is infinite, early enough for a trial."""

    def _reward(self, distance: float) -> Any:
        del distance
        return float("inf") if self._step == 3 else 1.0


class LateNan(Endless):
    """One reward is NaN, too late for a trial."""

    def _reward(self, distance: float) -> Any:
        del distance
        return float("nan") if self._step == 18 else 1.0


class NoReward(Point):
    """Returns None as reward."""

    def _reward(self, distance: float) -> Any:
        del distance
        return None


class Pair(Point):
    """Returns two rewards."""

    def _reward(self, distance: float) -> Any:
        del distance
        return np.array([1.0, 2.0])


class Bare(Point):
    """`reset` returns the observation alone."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed, options=options)[0]


class NoInfo(Point):
    """`step` returns None as info."""

    def step(self, action: np.ndarray) -> Any:
        return (*super().step(action)[:4], None)


class Whole(Point):
    """Takes whole numbers as actions."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.action_space = gym.spaces.Box(0, 200, (2,), np.int64)


class Blind(Point):
    """Can't draw itself."""

    def render(self) -> Any:
        raise RuntimeError("no display")


class Nothing(Point):
    """Draws nothing."""

    def render(self) -> Any:
        return None


class Falls(Point):
    """Dies while it is drawn the fourth time in an episode: while a video is made of it.

    Args:
        fallen: file that is written when it dies; it dies once. Without it, each time.
    """

    def __init__(self, fallen: str = "", **settings: Any) -> None:
        super().__init__(**settings)
        self._fallen, self._drawn = fallen, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._drawn = 0
        return super().reset(seed=seed, options=options)

    def render(self) -> np.ndarray:
        self._drawn += 1
        if self._drawn == 4 and not (self._fallen and Path(self._fallen).exists()):
            if self._fallen:
                Path(self._fallen).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self._picture()


class Stubborn(Point):
    """Hangs when it is closed."""

    def close(self) -> None:
        time.sleep(1000)


class Parent(Point):
    """Starts a process of its own, and leaves it running."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        context = multiprocessing.get_context("fork")
        self._child = context.Process(target=time.sleep, args=(1000,))
        self._child.start()


class Orphans(Parent):
    """Starts a process of its own, and dies in the episode of seed 1001."""

    def step(self, action: np.ndarray) -> Any:
        if self._seed == 1001:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


class Loud(Point):
    """Writes to every output that it finds, escape sequences among it."""

    def step(self, action: np.ndarray) -> Any:
        print("LOUD\x1b[2J")
        os.write(1, b"LOUD\x1b[2J\n")
        os.write(2, b"LOUD\x1b[2J\n")
        return super().step(action)


class Chance(Point):
    """Draws its noise from Python's own generator."""

    def step(self, action: np.ndarray) -> Any:
        self._at = self._at + random.gauss(0, 2)
        return super().step(action)


for _kind in list(globals().values()):
    if isinstance(_kind, type) and issubclass(_kind, Point):
        gym.register(f"trait_envs/{_kind.__name__}-v0", entry_point=_kind, max_episode_steps=20)
