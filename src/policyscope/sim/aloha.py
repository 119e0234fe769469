"""gym-aloha: two arms under MuJoCo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from policyscope.sim.adapter import Adapter, replaced

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

    package, install = "gym_aloha", "pip install 'policyscope[aloha]'"
    tasks = "--env.task AlohaInsertion-v0, or AlohaTransferCube-v0"
    trusted = True
    resized = (
        "--env.type gym --env.task gym_aloha/AlohaInsertion-v0 --env.settings "
        """'{"obs_type": "pixels_agent_pos", "observation_height": 256, """
        """"observation_width": 256}'"""
    )
    action_names = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in _ALOHA_JOINTS)
    action_units = (*["rad"] * 6, "0-1") * 2
    robot_type = "aloha"
    bounded = False  # it says -1 to 1, of joint angles
    offscreen = True
    reward_range = (0.0, 4.0)  # one for each stage of the task
    _texts: Mapping[str, str] = {  # those of lerobot's datasets
        "transfer_cube": "Pick up the cube with the right arm and transfer it to the left arm.",
        "insertion": "Insert the peg into the socket.",
    }

    def without_effect(self, setting: str) -> str:
        """See `Adapter.without_effect`. gymnasium's own way passes everything on."""
        if setting not in ("observation_height", "observation_width"):
            return super().without_effect(setting)
        return self.resized

    def opened(self, env: Any) -> None:
        """See `Adapter.opened`. The task draws three cameras; observations hold one, top."""
        physics = env.unwrapped._env.physics
        draw, blank = physics.render, np.zeros((1, 1, 3), np.uint8)

        def top_alone(**view: Any) -> Any:
            return draw(**view) if view.get("camera_id") == "top" else blank

        physics.render = top_alone

    def text(self, env: Any, info: Mapping[str, Any]) -> str:
        """See `Adapter.text`."""
        del info
        return self._texts.get(env.unwrapped.task, "")

    @contextmanager
    def unseen(self, env: Any) -> Iterator[None]:
        """See `Adapter.unseen`."""
        blank = np.zeros((1, 1, 3), np.uint8)
        with replaced(env.unwrapped._env.physics, "render", lambda **_: blank):
            yield
