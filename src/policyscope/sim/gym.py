"""Any registered gymnasium environment, as a configuration that lerobot's factory accepts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lerobot.envs.configs import EnvConfig


@dataclass
class GymEnv(EnvConfig):  # type: ignore[misc]
    """An environment by its gymnasium id (``package:Id-v0`` imports the package first).

    Attributes:
        settings: keyword arguments of the environment.
        episode_length: steps after which an episode ends; None keeps the registered number.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    episode_length: int | None = None

    @property
    def type(self) -> str:
        """Under which lerobot's factory files it."""
        return "gym"

    @property
    def package_name(self) -> str:
        """The package that registers it."""
        named, _, identity = str(self.task).rpartition(":")
        return named or identity.partition("/")[0]

    @property
    def gym_id(self) -> str:
        """The id that gymnasium knows."""
        return str(self.task).rpartition(":")[2]

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """What the environment is made with."""
        limit = {} if self.episode_length is None else {"max_episode_steps": self.episode_length}
        return {"render_mode": "rgb_array", **self.settings, **limit}
