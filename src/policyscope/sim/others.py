"""lerobot's other simulators: what to install for each, and what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policyscope.errors import UsageError
from policyscope.sim.adapter import Adapter


class MetaWorld(Adapter):
    """Meta-World: fifty tasks of one arm under MuJoCo, in groups by difficulty."""

    package, install = "metaworld", "pip install 'lerobot[metaworld]'"
    tasks = "--env.task easy, medium, hard or very_hard, or a task such as push-v3"
    action_names = ("x", "y", "z", "gripper")
    action_kind = "delta"
    offscreen = True
    resets_itself = True


class RoboCasa(Adapter):
    """RoboCasa: kitchens under MuJoCo."""

    package = "robocasa"
    install = "clone https://github.com/robocasa/robocasa, pip install -e it, fetch its assets"
    tasks = "--env.task CloseFridge, a list of tasks, or a group such as atomic_seen"
    action_kind = "delta"
    offscreen = True
    resets_itself = True


class RoboTwin(Adapter):
    """RoboTwin 2.0: two arms under SAPIEN."""

    package = "envs (RoboTwin 2.0)"
    install = (
        "clone https://github.com/RoboTwin-Platform/RoboTwin, install what it asks for, and put "
        "it on PYTHONPATH"
    )
    tasks = "--env.task beat_block_hammer, or a list of tasks"
    resets_itself = True


class VLABench(Adapter):
    """VLABench: one arm under dm_control."""

    package = "VLABench"
    install = "clone https://github.com/OpenMOSS/VLABench, pip install -e it, fetch its assets"
    tasks = "--env.task select_fruit, a list of tasks, or the suites primitive and composite"
    offscreen = True
    resets_itself = True


class RoboMME(Adapter):
    """RoboMME: memory tasks under ManiSkill."""

    package = "robomme"
    install = "pip install git+https://github.com/RoboMME/robomme_benchmark (Linux)"
    tasks = "--env.task PickXtimes, or a list of tasks"

    def text(self, env: Any, info: Mapping[str, Any]) -> str:
        """See `Adapter.text`. It is said at reset alone."""
        del env
        goal = info.get("task_goal", "")
        return goal if isinstance(goal, str) else ""


class IsaacLabArena(Adapter):
    """Isaac Lab Arena: lerobot fetches its code from a hub."""

    def prepare(self) -> None:
        """See `Adapter.prepare`.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "--env.type isaaclab_arena",
            expected="an environment whose code is installed here",
            found="one that runs code fetched from a hub",
            fix="install Isaac Lab Arena, register its environment with gymnasium, and take "
            "--env.type gym --env.task PACKAGE:ID",
        )


class Manipulator(Adapter):
    """lerobot's own robots, not a simulator."""

    def prepare(self) -> None:
        """See `Adapter.prepare`.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "--env.type gym_manipulator",
            expected="a simulator, which can be reset to a seed",
            found="lerobot's interface to a real robot",
            fix="for its simulation: pip install gym-hil, then --env.type gym --env.task "
            "gym_hil:gym_hil/PandaPickCubeBase-v0",
        )
