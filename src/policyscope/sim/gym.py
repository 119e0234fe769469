"""Any registered gymnasium environment, as a configuration that lerobot's factory accepts."""

from __future__ import annotations

import inspect
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
        mode = {"render_mode": "rgb_array"} if _takes_render_mode(self.gym_id) else {}
        return {**mode, **self.settings, **limit}


def _takes_render_mode(gym_id: str) -> bool:
    """Whether an environment can be made with a render mode; some have but one and take none."""
    import gymnasium

    maker: Any = gymnasium.spec(gym_id).entry_point
    if isinstance(maker, str):
        maker = gymnasium.envs.registration.load_env_creator(maker)
    try:
        known = inspect.signature(maker).parameters if callable(maker) else {}
    except (TypeError, ValueError):  # made in C, or by something that hides what it takes
        return True
    return "render_mode" in known or any(p.kind == p.VAR_KEYWORD for p in known.values())
