"""lerobot's way from raw observations of simulators to what a policy reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.sim.adapter import Observation
from policyscope.sim.simulator import stack


@final
class Eyes:
    """lerobot's way from raw observations to what a policy reads.

    Args:
        env_config: lerobot's configuration of the environment.
    """

    def __init__(self, env_config: Any) -> None:
        self._before, self._after = env_config.get_env_processors()

    def see(self, observations: Sequence[Observation], tasks: Sequence[str]) -> dict[str, Any]:
        """Raw observations of B simulators as LeRobot tensors: key → [B, …]."""
        from lerobot.envs.utils import preprocess_observation

        seen = preprocess_observation(stack(observations))
        seen = self._before({**seen, "task": list(tasks)})
        return {key: value for key, value in seen.items() if key.startswith("observation.")}

    def act(self, actions: FloatArray) -> FloatArray:
        """[m, A] native actions as the environment takes them."""
        import torch

        given = torch.from_numpy(actions.astype(np.float32))
        taken = self._after({"action": given})["action"]
        return np.asarray(taken.numpy(), dtype=np.float64)
