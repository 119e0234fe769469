"""What the closed loop needs to know about an environment beyond gymnasium's interface.

Any gymnasium environment works if it keeps this small contract; ``docs/environments.md`` tells it
at length, and `policyscope.sim.conformance` checks it:

- the observation is a dict with ``agent_pos`` ([S] float) and/or ``pixels`` ([H, W, 3] uint8, or a
  dict of such pictures, camera name to picture); a bare array of either kind will do;
- the action space is a one-dimensional `Box`;
- ``info["is_success"]`` says at each step whether the task is solved;
- ``metadata["render_fps"]`` is the control rate, ``render()`` gives an RGB array;
- the same seed, and the same actions, give the same episode.

Attributes it may have: ``task_description`` (the instruction), ``action_names``, ``action_units``,
and ``pictures_wanted``: where it is set to False, steps may leave the pictures of the
observation undrawn, because nobody looks at them.
"""

from __future__ import annotations

import ctypes.util
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policyscope.errors import UsageError
from policyscope.spaces import FloatArray

Observation = dict[str, Any]
"""As gymnasium gives it: nested dicts of arrays."""


class Adapter:
    """The defaults; simulators that lerobot knows override what differs.

    Attributes:
        package: what ``pip install`` must have brought, or None.
        extra: the extra of policyscope that brings it, or None.
        task_text: the instruction where the environment has none.
        action_names: names of the action dims, or None.
        action_units: their units, or None.
        action_kind: what an action means.
        robot_type: as LeRobot datasets of this robot record it, or None.
        board: width and height in units of the first two action dims where actions are positions
            in the picture, else None.
        bounded: whether its action space tells the range of its actions.
        offscreen: whether it needs an off-screen GL context.
    """

    package: str | None = None
    extra: str | None = None
    task_text: str = ""
    action_names: tuple[str, ...] | None = None
    action_units: tuple[str, ...] | None = None
    action_kind: str = "absolute"
    robot_type: str | None = None
    board: tuple[float, float] | None = None
    bounded: bool = True
    offscreen: bool = False

    def prepare(self) -> None:
        """Set up what must be there before the simulator's packages are imported."""

    def opened(self, env: Any) -> None:
        """Called once with each new environment."""

    def text(self, env: Any) -> str:
        """The instruction, where the environment's own attributes have none."""
        del env
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

    def observation(self, raw: Any) -> Observation:
        """The observation as a dict, as lerobot expects it."""
        if isinstance(raw, Mapping):
            return dict(raw)
        array = np.asarray(raw)
        return {"pixels": array} if array.dtype == np.uint8 else {"agent_pos": array}

    def state(self, observation: Observation) -> FloatArray:
        """[S] what moves, for trajectories and smoothness; empty where nobody knows."""
        return np.asarray(observation.get("agent_pos", ()), dtype=np.float64).reshape(-1)

    def extras(self, info: Mapping[str, Any]) -> dict[str, FloatArray]:
        """Arrays of `info` that are worth keeping at each step."""
        del info
        return {}


@contextmanager
def replaced(owner: Any, name: str, value: Callable[..., Any]) -> Iterator[None]:
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


class PushT(Adapter):
    """gym-pusht: push a T-shaped block onto its goal on a board of 512 px."""

    package, extra = "gym_pusht", "pusht"
    task_text = "Push the T-shaped block onto the T-shaped target."  # lerobot/pusht
    action_names = ("x", "y")
    action_units = ("px", "px")
    board = (512.0, 512.0)

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
            "block_pose": np.asarray(info["block_pose"], dtype=np.float64),
            "coverage": np.asarray([info.get("coverage", np.nan)], dtype=np.float64),
        }


_ALOHA_JOINTS = (
    "waist",
    "shoulder",
    "elbow",
    "forearm_roll",
    "wrist_angle",
    "wrist_rotate",
    "gripper",
)


class Aloha(Adapter):
    """gym-aloha: two arms under MuJoCo, insertion and transfer cube."""

    package, extra = "gym_aloha", "aloha"
    action_names = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in _ALOHA_JOINTS)
    action_units = (*["rad"] * 6, "0-1") * 2
    robot_type = "aloha"
    bounded = False  # it says -1 to 1, of joint angles
    offscreen = True
    _texts: Mapping[str, str] = {  # those of lerobot's datasets
        "transfer_cube": "Pick up the cube with the right arm and transfer it to the left arm.",
        "insertion": "Insert the peg into the socket.",
    }

    def prepare(self) -> None:
        """See `Adapter.prepare`."""
        find_gl()

    def opened(self, env: Any) -> None:
        """See `Adapter.opened`. The task draws three cameras; observations hold one, top."""
        physics = env.unwrapped._env.physics
        draw, blank = physics.render, np.zeros((1, 1, 3), np.uint8)

        def top_alone(**view: Any) -> Any:
            return draw(**view) if view.get("camera_id") == "top" else blank

        physics.render = top_alone

    def text(self, env: Any) -> str:
        """See `Adapter.text`."""
        return self._texts.get(env.unwrapped.task, "")

    @contextmanager
    def unseen(self, env: Any) -> Iterator[None]:
        """See `Adapter.unseen`."""
        blank = np.zeros((1, 1, 3), np.uint8)
        with replaced(env.unwrapped._env.physics, "render", lambda **_: blank):
            yield

    def observation(self, raw: Any) -> Observation:
        """See `Adapter.observation`."""
        return {**raw, "agent_pos": np.array(raw["agent_pos"])} if "agent_pos" in raw else raw


class Libero(Adapter):
    """LIBERO: suites of ten (or ninety) tasks of one arm under MuJoCo."""

    package, extra = "libero", "libero"
    action_names = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    action_kind = "delta"
    offscreen = True

    def prepare(self) -> None:
        """See `Adapter.prepare`."""
        find_gl()
        from policyscope.sim.libero import set_up

        set_up()

    def before_reset(self, env: Any, seed: int) -> None:
        """See `Adapter.before_reset`. lerobot counts initial states up from reset to reset."""
        env.unwrapped.init_state_id = seed

    @contextmanager
    def unseen(self, env: Any) -> Iterator[None]:
        """See `Adapter.unseen`."""
        inner = env.unwrapped
        known = inner._env.env._observables
        blank = np.zeros((inner.observation_height, inner.observation_width, 3), np.uint8)
        with ExitStack() as stack:
            for camera in inner.camera_name:
                sensor = known[camera]._sensor
                undrawn = wraps(sensor)(lambda _: blank)  # robosuite reads attributes of sensors
                stack.enter_context(replaced(known[camera], "_sensor", undrawn))
            yield

    def before_render(self, env: Any) -> None:
        """See `Adapter.before_render`. The clocks by which robosuite samples stay as they are."""
        inner = env.unwrapped
        for camera in inner.camera_name if inner._env is not None else ():
            known = inner._env.env._observables[camera]
            known._current_observed_value = np.array(known._sensor({}))

    def state(self, observation: Observation) -> FloatArray:
        """See `Adapter.state`: position of the gripper in metres."""
        return np.asarray(observation["robot_state"]["eef"]["pos"], dtype=np.float64)


_KNOWN: dict[str, type[Adapter]] = {"pusht": PushT, "aloha": Aloha, "libero": Libero}


def adapter_for(env_type: str, task: str | None) -> Adapter:
    """The adapter of an environment type; that of a known simulator for its gymnasium id, too."""
    for name, known in _KNOWN.items():
        if env_type == name or (env_type == "gym" and str(task).startswith(f"gym_{name}/")):
            return known()
    return Adapter()


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


def as_float(value: Any) -> NDArray[np.float64]:
    """A flat float array."""
    return np.asarray(value, dtype=np.float64).reshape(-1)
