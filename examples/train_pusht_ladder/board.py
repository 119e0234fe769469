"""PushT without pictures or `gymnasium`'s wrappers: quick steps, for rollouts while training."""

from __future__ import annotations

import math

import cv2
import gym_pusht  # noqa: F401  (registers the environment)
import gymnasium as gym
import numpy as np
from expert import GOAL

MAX_STEPS = 300


class Board:
    """One PushT game."""

    def __init__(self) -> None:
        self.env = gym.make("gym_pusht/PushT-v0", obs_type="environment_state_agent_pos").unwrapped
        self.steps = 0
        self.coverage = 0.0

    def reset(self, seed: int) -> None:
        """Begin as gym-pusht does with this seed."""
        self.env.reset(seed=seed)
        self._begin()

    def put(self, agent: np.ndarray, pose: np.ndarray) -> None:
        """Begin with the agent (2) and the block (3: x, y, angle) somewhere."""
        env = self.env
        env.reset(seed=0)
        env.agent.position = tuple(agent)
        env.block.angle = float(pose[2])
        env.block.position = tuple(pose[:2])
        env.space.reindex_shapes_for_body(env.agent)
        env.space.reindex_shapes_for_body(env.block)
        env.space.step(env.dt)
        self._begin()

    def _begin(self) -> None:
        self.steps = 0
        self.coverage = self.env._get_coverage()

    @property
    def success(self) -> bool:
        """gym-pusht's own criterion."""
        return bool(self.coverage > self.env.success_threshold)

    @property
    def reward(self) -> float:
        """gym-pusht's own reward, 0 to 1."""
        return float(np.clip(self.coverage / self.env.success_threshold, 0, 1))

    @property
    def agent(self) -> np.ndarray:
        """(2,) where the agent is."""
        return np.array(self.env.agent.position)

    @property
    def velocity(self) -> np.ndarray:
        """(2,) of the agent, per second."""
        return np.array(self.env.agent.velocity)

    @property
    def pose(self) -> np.ndarray:
        """(3,) the block: x, y, angle."""
        return np.array([*self.env.block.position, self.env.block.angle])

    def see(self) -> np.ndarray:
        """(96, 96, 3) bytes: what gym-pusht shows, bit for bit, in a quarter of its time."""
        raw = np.frombuffer(self.env._draw().get_buffer(), np.uint8).reshape(512, 512, 4)
        return cv2.resize(raw, (96, 96))[..., 2::-1]  # without a copy; blue comes first

    def picture(self, agent: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """(96, 96, 3) bytes: a state as gym-pusht shows it. The game itself is lost."""
        env = self.env
        if not hasattr(env, "space"):
            env.reset(seed=0)
        env.agent.position = (float(agent[0]), float(agent[1]))
        env.block.angle = float(pose[2])
        env.block.position = (float(pose[0]), float(pose[1]))
        return self.see()

    def step(self, action: np.ndarray, *, exact: bool = True) -> None:
        """One environment step: ten of the simulator, with gym-pusht's own controller.

        Args:
            action: (2,) where the agent should go.
            exact: compute the coverage even where it can't be a success.
        """
        env, ax, ay = self.env, float(action[0]), float(action[1])
        agent, space, dt = env.agent, env.space, env.dt
        for _ in range(10):
            (px, py), (vx, vy) = agent.position, agent.velocity
            agent.velocity = (
                vx + (env.k_p * (ax - px) - env.k_v * vx) * dt,
                vy + (env.k_p * (ay - py) - env.k_v * vy) * dt,
            )
            space.step(dt)
        self.steps += 1
        x, y = env.block.position
        near = math.hypot(x - GOAL[0], y - GOAL[1]) < 20
        self.coverage = env._get_coverage() if exact or near else 0.0


def keypoints(pose: np.ndarray) -> np.ndarray:
    """(N, 16) the observation ``environment_state`` of gym-pusht for poses (N, 3)."""
    c, s = np.cos(pose[:, 2:]), np.sin(pose[:, 2:])
    x = c * KEYPOINTS[:, 0] - s * KEYPOINTS[:, 1] + pose[:, :1]
    y = s * KEYPOINTS[:, 0] + c * KEYPOINTS[:, 1] + pose[:, 1:2]
    return np.stack([x, y], -1).reshape(len(pose), 16).astype(np.float32)


def _own_keypoints() -> np.ndarray:
    board = Board()
    board.reset(0)
    return np.array([v for shape in board.env._block_shapes for v in shape.get_vertices()])


KEYPOINTS = _own_keypoints()  # (8, 2) in the block's frame, in the simulator's order
