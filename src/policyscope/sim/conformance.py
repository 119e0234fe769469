"""For people who write an environment: does it keep the contract that the numbers rest on?"""

from __future__ import annotations

from typing import Any

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.config import EnvConfig
from policyscope.errors import Finding
from policyscope.sim.adapter import Observation
from policyscope.sim.simulator import Simulator, Steps, list_tasks


def check_environment(config: EnvConfig, *, seed: int = 0, n_steps: int = 12) -> list[Finding]:
    """Run an environment for a few steps and say what breaks the contract.

    Args:
        config: the environment; the first of its tasks is looked at.
        seed: of the episode that is looked at.
        n_steps: steps of it.

    Returns:
        What breaks the contract (see `policyscope.sim.adapter`); empty if nothing does.

    Raises:
        UsageError: it can't be opened.
    """
    group, task_id = list_tasks(config)[0]
    simulator = Simulator(config, group, task_id)
    try:
        return _findings(simulator, seed, n_steps)
    finally:
        simulator.close()


def _findings(simulator: Simulator, seed: int, n_steps: int) -> list[Finding]:
    spec = simulator.spec(())
    first = simulator.reset(seed)
    found = _observation(first.observations[0])
    low, high = (
        np.where(np.isfinite(bound), bound, fallback)
        for bound, fallback in ((spec.action_low, -1.0), (spec.action_high, 1.0))
    )
    draw = np.random.default_rng(0)
    actions = draw.uniform(low, high, (n_steps, len(low)))
    whole = simulator.act(actions, tail=n_steps)
    if not np.isfinite(whole.rewards).all():
        found.append(_broken("reward", "finite rewards", "NaN or inf", "return a finite float"))
    if "is_success" not in whole.info:
        found.append(
            _broken(
                "success",
                'info["is_success"] at each step',
                f"info with {', '.join(whole.info) or 'nothing'}",
                'put info["is_success"] = solved into what step returns',
            )
        )
    if not simulator.env.metadata.get("render_fps"):
        found.append(
            _broken(
                "rate",
                'metadata["render_fps"], the control rate',
                "none",
                'metadata = {"render_modes": ["rgb_array"], "render_fps": 20}',
            )
        )
    simulator.render()
    simulator.reset(seed + 1)
    simulator.act(draw.uniform(low, high, (3, len(low))))
    again = simulator.reset(seed)
    repeated = simulator.act(actions, tail=n_steps)
    if not (_same(first, again) and _same(whole, repeated)):
        found.append(
            _broken(
                "seed",
                "the same episode from the same seed and actions, whatever ran before",
                "another one",
                "draw everything from self.np_random, and reset every part of the state",
            )
        )
    simulator.reset(seed)
    blind = simulator.act(actions, tail=1)
    alike = np.array_equal(blind.states, repeated.states) and (
        not (blind.observations and repeated.observations)
        or _equal(blind.observations[-1], repeated.observations[-1])
    )
    if not alike:
        found.append(
            _broken(
                "unseen",
                "the same states and last observation where pictures in between are not drawn",
                "others",
                "pictures_wanted = False may change nothing but the pictures of observations",
            )
        )
    return found


def _observation(observation: Observation) -> list[Finding]:
    found = []
    pixels = observation.get("pixels", {})
    pictures = pixels if isinstance(pixels, dict) else {"pixels": pixels}
    for name, picture in pictures.items():
        array = np.asarray(picture)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
            found.append(
                _broken(
                    "picture",
                    f"{name} of shape [H, W, 3] and type uint8",
                    f"{array.dtype} of shape {array.shape}",
                    "channels last, 0 to 255",
                )
            )
    if not observation.keys() & {"pixels", "agent_pos", "environment_state", "robot_state"}:
        found.append(
            _broken(
                "observation",
                "agent_pos or pixels",
                ", ".join(observation) or "nothing",
                "name the robot's state agent_pos and its picture pixels",
            )
        )
    return found


def _broken(code: str, expected: str, found: str, fix: str) -> Finding:
    return Finding(f"env_{code}", "error", f"expected {expected}; found {found}.", fix)


def _same(a: Steps, b: Steps) -> bool:
    return (
        np.array_equal(a.states, b.states)
        and np.allclose(a.rewards, b.rewards, rtol=1e-9, atol=1e-9)
        and np.array_equal(a.successes, b.successes)
        and all(_equal(x, y) for x, y in zip(a.observations, b.observations, strict=True))
    )


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    x: FloatArray = np.asarray(a)
    return bool(np.array_equal(x, np.asarray(b)))
