"""What the closed loop knows about a simulator beyond gymnasium's interface.

Any gymnasium environment works if it keeps a small contract: ``docs/environments.md`` tells it,
`policyscope.sim.contract` reads by it, `policyscope.sim.trial` tries it out. Attributes that an
environment may have: ``task_description`` (the instruction), ``action_names``, ``action_units``,
and ``pictures_wanted``: where it is set to False, steps may leave the pictures of the observation
undrawn, because nobody looks at them.
"""

from __future__ import annotations

import ctypes.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.config import EnvConfig
from policyscope.errors import UsageError
from policyscope.sim.contract import Observation


class Adapter:
    """The defaults; simulators that lerobot knows override what differs.

    Attributes:
        package: what must be installed, or None.
        install: how to, in a few words.
        tasks: values of ``--env.task`` that work, in a few words.
        trusted: whether it is known to keep the contract, so that runs begin without a trial.
        resets_itself: whether its `step` begins the next episode at the end of one, and no caller
            needs that.
        task_text: the instruction where the environment has none.
        action_names: names of the action dims, or None.
        action_units: their units, or None.
        action_kind: what an action means.
        robot_type: as LeRobot datasets of this robot record it, or None.
        board: width and height in units of the first two action dims where actions are positions
            in the picture, else None.
        bounded: whether its action space tells the range of its actions.
        offscreen: whether it needs an off-screen GL context.
        resized: how to get pictures of another size.
        reward_range: what the reward of a step can't leave, or None where that is not known.
    """

    package: str | None = None
    install: str = "install the package that brings this environment"
    tasks: str = "check --env.task and --env.settings"
    trusted: bool = False
    resets_itself: bool = False
    task_text: str = ""
    action_names: tuple[str, ...] | None = None
    action_units: tuple[str, ...] | None = None
    action_kind: Literal["absolute", "delta"] = "absolute"
    robot_type: str | None = None
    board: tuple[float, float] | None = None
    bounded: bool = True
    offscreen: bool = False
    resized: str = "--env.settings with the height and width of the training camera"
    reward_range: tuple[float, float] | None = None

    def prepare(self) -> None:
        """Set up what must be there before the simulator's packages are imported.

        Raises:
            UsageError: it can't run here, whatever is installed.
        """
        if self.offscreen:
            find_gl()

    def listed(self, config: EnvConfig) -> tuple[tuple[str, int], ...] | None:
        """(suite, task number) of each task, where that is known before one is made."""
        del config
        return None

    def kind_of_action(self, config: EnvConfig) -> Literal["absolute", "delta"]:
        """What an action means, where settings change it."""
        del config
        return self.action_kind

    def without_effect(self, setting: str) -> str:
        """What to do where lerobot passes over a setting."""
        return f"leave it out: lerobot's simulator of this type does not use {setting}"

    def opened(self, env: Any) -> None:
        """Called once with each new environment."""

    def text(self, env: Any, info: Mapping[str, Any]) -> str:
        """The instruction, where the environment's own attributes have none.

        Args:
            env: the environment.
            info: of the last reset; empty before.
        """
        del env, info
        return self.task_text

    def before_reset(self, env: Any, seed: int) -> None:
        """Make the coming episode depend on its seed alone."""

    def start_options(self, env: Any, start: FloatArray) -> dict[str, Any]:
        """Options of `reset` that begin an episode in a recorded state.

        Raises:
            UsageError: this simulator can't.
        """
        del env, start
        raise UsageError(
            "--init_from dataset",
            expected="a simulator that can start from a recorded state (pusht)",
            found="one that can't",
            fix="--init_from seed",
        )

    @contextmanager
    def unseen(self, env: Any) -> Iterator[None]:
        """Within it, steps need not draw the pictures of their observations."""
        inner = env.unwrapped
        if not hasattr(inner, "pictures_wanted"):
            yield
            return
        inner.pictures_wanted = False
        try:
            yield
        finally:
            inner.pictures_wanted = True

    def before_render(self, env: Any) -> None:
        """Called before `render`, whose picture may come from what was last drawn."""
        del env

    def state(self, observation: Observation) -> FloatArray:
        """[S] what moves, for trajectories and smoothness; empty where nobody knows."""
        return np.asarray(observation.get("agent_pos", ()), dtype=np.float64).reshape(-1)

    def extras(self, info: Mapping[str, Any]) -> dict[str, FloatArray]:
        """Arrays of `info` that are worth keeping at each step."""
        del info
        return {}


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute of one object, replaced for a while."""
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


def find_gl() -> None:
    """Choose an off-screen GL for MuJoCo unless the user did.

    Raises:
        UsageError: neither EGL nor OSMesa is installed.
    """
    chosen = os.environ.get("MUJOCO_GL")
    if chosen is None:
        found = [
            name
            for name, library in (("egl", "EGL"), ("osmesa", "OSMesa"))
            if ctypes.util.find_library(library)
        ]
        if not found:
            raise UsageError(
                "off-screen rendering",
                expected="libEGL or libOSMesa, to draw without a display",
                found="neither",
                fix="apt-get install libegl1 libgl1 libosmesa6, or set MUJOCO_GL",
            )
        chosen = found[0]
        os.environ["MUJOCO_GL"] = chosen
    if chosen in ("egl", "osmesa"):
        os.environ["PYOPENGL_PLATFORM"] = chosen
