"""lerobot's way from raw observations of simulators to what a policy reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.sim.contract import Observation


@final
class Eyes:
    """lerobot's way from raw observations to what a policy reads.

    Args:
        env_config: lerobot's configuration of the environment.
        policy_type: of the policy: lerobot gives X-VLA processors of its own in LIBERO.

    Attributes:
        translates: whether the policy speaks of other action dims than the environment, so that
            a chunk has a meaning here only after `act`.
    """

    def __init__(self, env_config: Any, policy_type: str | None = None) -> None:
        from lerobot.envs.configs import LiberoEnv

        self.translates = policy_type == "xvla" and isinstance(env_config, LiberoEnv)
        if self.translates:
            from lerobot.policies.xvla.processor_xvla import make_xvla_libero_pre_post_processors

            self._before, self._after = make_xvla_libero_pre_post_processors()
        else:
            self._before, self._after = env_config.get_env_processors()

    def see(
        self, observations: Sequence[Observation], tasks: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """Raw observations of B simulators as LeRobot has them: key → [B, …].

        What lerobot's processors leave as something else, no policy reads.
        """
        import torch
        from lerobot.envs.utils import preprocess_observation

        seen = preprocess_observation(stack(observations))
        seen = self._before({**seen, "task": list(tasks)})
        return {
            key: value.numpy()
            for key, value in seen.items()
            if key.startswith("observation.") and isinstance(value, torch.Tensor)
        }

    def act(self, actions: FloatArray) -> FloatArray:
        """[m, A] actions of the policy as the environment takes them."""
        import torch

        given = torch.from_numpy(actions.astype(np.float32))
        taken = self._after({"action": given})["action"]
        return np.asarray(taken.numpy(), dtype=np.float64)


def stack(rows: Sequence[Observation]) -> Observation:
    """Raw observations of several simulators as one batch."""
    first = rows[0]
    return {
        key: stack([row[key] for row in rows])
        if isinstance(value, Mapping)
        else np.stack([np.asarray(row[key]) for row in rows])
        for key, value in first.items()
    }
