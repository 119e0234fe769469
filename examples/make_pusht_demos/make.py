#!/usr/bin/env python
"""Generate PushT demonstrations with a planner and write them as a LeRobot dataset.

The planner reads the simulator's state, tries straight pushes against the block's edges in a
copy of the simulation, and executes the one that brings the block to the goal fastest; then it
plans again. See README.md next to this file.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import gym_pusht
import gymnasium as gym
import numpy as np
import shapely
import shapely.geometry as sg
import shapely.ops
from lerobot.datasets.lerobot_dataset import LeRobotDataset

TASK = "Push the T-shaped block onto the T-shaped target."
AGENT_RADIUS = 15.0
BOARD = 512.0
MARGIN = 24.0  # the agent's centre stays this far from the board's edge
# Outline of the block in its own frame.
OUTLINE = np.array(
    [(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)], float
)
CENTRE = np.array([0.0, 40.7])  # centroid of the outline


def rotation(angle: float) -> np.ndarray:
    """Two-dimensional rotation matrix."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s], [s, c]])


def place(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Map points from the block's frame to the board."""
    return points @ rotation(pose[2]).T + pose[:2]


@dataclass
class State:
    """What the planner needs to know about the simulation."""

    agent: np.ndarray
    agent_velocity: np.ndarray
    pose: np.ndarray  # x, y, angle of the block

    @classmethod
    def read(cls, env: gym_pusht.envs.PushTEnv) -> State:
        """Read the state of an environment."""
        body = env.block
        return cls(
            np.array(env.agent.position),
            np.array(env.agent.velocity),
            np.array([*body.position, body.angle]),
        )


class Model:
    """A copy of the simulation for trying out actions, without rendering."""

    def __init__(self) -> None:
        self.env = gym.make("gym_pusht/PushT-v0", obs_type="state").unwrapped
        self.env.reset(seed=0)
        self.goal = place(OUTLINE, self.env.goal_pose)

    def write(self, state: State) -> None:
        """Put the copy into a state."""
        env = self.env
        env.agent.position = tuple(state.agent)
        env.agent.velocity = tuple(state.agent_velocity)
        env.block.angle = float(state.pose[2])  # before the position: it turns about the centre
        env.block.position = tuple(state.pose[:2])
        env.block.velocity = (0, 0)
        env.block.angular_velocity = 0
        env.space.reindex_shapes_for_body(env.agent)
        env.space.reindex_shapes_for_body(env.block)

    def step(self, action: np.ndarray) -> None:
        """Advance by one action, with the controller of gym-pusht."""
        env, ax, ay = self.env, float(action[0]), float(action[1])
        agent, space, dt = env.agent, env.space, env.dt
        for _ in range(10):
            (px, py), (vx, vy) = agent.position, agent.velocity
            agent.velocity = (
                vx + (env.k_p * (ax - px) - env.k_v * vx) * dt,
                vy + (env.k_p * (ay - py) - env.k_v * vy) * dt,
            )
            space.step(dt)

    def error(self) -> float:
        """Mean distance of the block's corners from their places in the goal."""
        body = self.env.block
        points = place(OUTLINE, np.array([*body.position, body.angle]))
        return float(np.linalg.norm(points - self.goal, axis=1).mean())


@dataclass
class Push:
    """A straight push: go to ``start``, then move ``length`` along ``direction``."""

    start: np.ndarray
    direction: np.ndarray
    speed: float
    length: float = 0.0
    error: float = math.inf
    travel: list[np.ndarray] = field(default_factory=list)

    def actions(self, length: float, hold: int = 2) -> np.ndarray:
        """Targets of the push: accelerate, move evenly, stop and hold."""
        distances, position, speed = [], 0.0, 0.0
        while position < length - 1e-6:
            speed = min(self.speed, speed + self.speed / 2)
            position = min(length, position + speed)
            distances.append(position)
        distances += [length] * hold
        return self.start + np.array(distances)[:, None] * self.direction


class Expert:
    """Greedy planner over straight pushes, with a look-ahead when it gets stuck."""

    def __init__(self, args: argparse.Namespace, seed: int) -> None:
        self.args = args
        self.model = Model()
        self.rng = np.random.default_rng(seed)

    def candidates(self, pose: np.ndarray, error: float) -> list[Push]:
        """Pushes from all sides of the block."""
        outline = place(OUTLINE, pose)
        block = sg.Polygon(outline)
        shapely.prepare(block)
        speed = self.args.push_speed if error > 12 else self.args.fine_speed
        found = []
        for a, b in zip(outline, np.roll(outline, -1, axis=0), strict=True):
            edge = b - a
            length = np.linalg.norm(edge)
            inward = np.array([-edge[1], edge[0]]) / length
            count = max(2, round(length / self.args.spacing))
            offsets = (np.arange(count) + self.rng.uniform(0.25, 0.75, count)) / count
            for offset, angle in itertools.product(offsets, np.radians([-35, -15, 0, 15, 35])):
                direction = rotation(angle + self.rng.normal(0, 0.05)) @ inward
                start = a + offset * edge - direction * (AGENT_RADIUS + 8)
                inside = np.all((start > MARGIN) & (start < BOARD - MARGIN))
                if inside and block.distance(sg.Point(start)) > AGENT_RADIUS + 1.5:
                    found.append(Push(start, direction, speed))
        return found

    def try_lengths(self, state: State, push: Push) -> list[tuple[float, float]]:
        """Simulate one long push; the error after each distance, roughly."""
        self.model.write(State(push.start, np.zeros(2), state.pose))
        result, longest = [], self.args.longest if push.speed > 8 else 60.0
        best = math.inf
        for action in push.actions(longest, hold=0):
            if not np.all((action > MARGIN - 6) & (action < BOARD - MARGIN + 6)):
                break
            self.model.step(action)
            error = self.model.error()
            best = min(best, error)
            if error > best + 25:
                break
            reached = np.array(self.model.env.agent.position) - push.start
            result.append((float(reached @ push.direction), error))
        return result

    def outcome(self, state: State, push: Push, length: float) -> tuple[float, State]:
        """Simulate a push of exactly this length."""
        self.model.write(State(push.start, np.zeros(2), state.pose))
        for action in push.actions(length, hold=4):
            self.model.step(action)
        return self.model.error(), State.read(self.model.env)

    def rank(self, state: State, error: float, travel: bool) -> list[tuple[float, Push]]:
        """All useful pushes with their scores (gain per time), best first."""
        found = []
        for push in self.candidates(state.pose, error):
            distance = np.linalg.norm(push.start - state.agent)
            steps = distance / self.args.travel_speed if travel else 10.0
            for length, after in self.try_lengths(state, push)[1:]:
                score = (error - after) / (steps + length / push.speed + self.args.patience)
                found.append((score, Push(push.start, push.direction, push.speed, length, after)))
        found.sort(key=lambda item: -item[0])
        distinct: list[tuple[float, Push]] = []
        for score, push in found:
            if all(
                np.linalg.norm(push.start - other.start) > 4
                or abs(push.direction @ other.direction) < 0.99
                for _, other in distinct
            ):
                distinct.append((score, push))
            if len(distinct) >= self.args.beam:
                break
        return distinct

    def plan(self, state: State) -> Push | None:
        """Choose the next push and the way to its start."""
        self.model.write(state)
        error = self.model.error()
        best: tuple[float, Push] | None = None
        options = self.rank(state, error, travel=True)
        for _, push in options[: self.args.beam]:
            path = self.path(state, push)
            if path is None:
                continue
            steps = (
                sum(np.linalg.norm(b - a) for a, b in itertools.pairwise(path))
                / self.args.travel_speed
            )
            for change in (-8.0, -4.0, -2.0, 0.0, 2.0, 4.0):
                length = push.length + change
                if length < 4:
                    continue
                after, _ = self.outcome(state, push, length)
                score = (error - after) / (steps + length / push.speed + self.args.patience)
                if best is None or score > best[0]:
                    exact = Push(push.start, push.direction, push.speed, length, after, path)
                    best = (score, exact)
        if best is not None and error - best[1].error > max(0.3, 0.03 * error):
            return best[1]
        return (
            self.look_ahead(state, error, options)
            or (best[1] if best else None)
            or self.any_push(state, error)
        )

    def any_push(self, state: State, error: float) -> Push | None:
        """A random push that can be reached, for when nothing else is possible."""
        found = self.candidates(state.pose, error)
        for index in self.rng.permutation(len(found)):
            push = found[index]
            path = self.path(state, push)
            if path is not None:
                push.length, push.travel = float(self.rng.uniform(15, 40)), path
                return push
        return None

    def look_ahead(
        self, state: State, error: float, options: list[tuple[float, Push]]
    ) -> Push | None:
        """Two pushes ahead: a push may increase the error if the next one makes up for it."""
        best: tuple[float, Push] | None = None
        tries = [p for _, p in options[:4]]
        extra = self.candidates(state.pose, error)
        for index in self.rng.permutation(len(extra))[:12]:
            extra[index].length = float(self.rng.uniform(15, 50))
            tries.append(extra[index])
        for push in tries:
            path = self.path(state, push)
            if path is None:
                continue
            after, then = self.outcome(state, push, push.length)
            following = self.rank(then, after, travel=False)
            if following and (best is None or following[0][1].error < best[0]):
                chosen = Push(push.start, push.direction, push.speed, push.length, after, path)
                best = (following[0][1].error, chosen)
        return best[1] if best and best[0] < error - 0.2 else None

    def path(self, state: State, push: Push) -> list[np.ndarray] | None:
        """Shortest way around the block, as corners of a polyline."""
        block = sg.Polygon(place(OUTLINE, state.pose))
        obstacle = block.buffer(AGENT_RADIUS + 2)
        here = state.agent
        points = [here]
        if obstacle.contains(sg.Point(here)):  # back away from the block first
            near = shapely.ops.nearest_points(block, sg.Point(here))[0]
            away = here - np.array(near.coords[0])
            away /= max(1e-6, np.linalg.norm(away))
            points.append(np.clip(here + away * 12, MARGIN, BOARD - MARGIN))
        ring = block.buffer(AGENT_RADIUS + 14, join_style="mitre", mitre_limit=2.0).exterior
        corners = np.array(ring.simplify(3).coords)[:-1]
        keep = np.all((corners > MARGIN - 4) & (corners < BOARD - MARGIN + 4), axis=1)
        nodes = [points[-1], *corners[keep], push.start]
        for clearance in (1.0, -2.0, -6.0):  # touching the block is better than being stuck
            route = self.shortest(nodes, block.buffer(AGENT_RADIUS + clearance))
            if route is not None:
                return [*points[:-1], *route]
        return None

    @staticmethod
    def shortest(nodes: list[np.ndarray], obstacle: sg.Polygon) -> list[np.ndarray] | None:
        """Shortest polyline from the first to the last node that avoids the obstacle."""
        n = len(nodes)
        cost, previous, closed = [math.inf] * n, [-1] * n, [False] * n
        cost[0] = 0.0
        for _ in range(n):  # Dijkstra; the graph has about ten nodes
            current = min((i for i in range(n) if not closed[i]), key=lambda i: cost[i])
            if math.isinf(cost[current]) or current == n - 1:
                break
            closed[current] = True
            for other in range(n):
                if closed[other] or obstacle.intersects(
                    sg.LineString([nodes[current], nodes[other]])
                ):
                    continue
                total = cost[current] + float(np.linalg.norm(nodes[other] - nodes[current])) + 3
                if total < cost[other]:
                    cost[other], previous[other] = total, current
        if math.isinf(cost[-1]):
            return None
        route = [n - 1]
        while previous[route[-1]] >= 0:
            route.append(previous[route[-1]])
        return [nodes[i] for i in reversed(route)]

    def travel_actions(self, path: list[np.ndarray]) -> list[np.ndarray]:
        """Targets along a polyline at an even speed, slower towards its end."""
        lengths = [float(np.linalg.norm(b - a)) for a, b in itertools.pairwise(path)]
        total, position, speed, actions = sum(lengths), 0.0, 0.0, []
        while position < total - 1e-6:
            speed = min(self.args.travel_speed, speed + 5.0, 4.0 + (total - position) / 2)
            position = min(total, position + speed)
            rest, part = position, 0
            while part < len(lengths) - 1 and rest > lengths[part]:
                rest -= lengths[part]
                part += 1
            share = min(1.0, rest / max(lengths[part], 1e-6))
            actions.append(path[part] + share * (path[part + 1] - path[part]))
        return [*actions, path[-1]]


def rollout(env: gym.Env, seed: int, args: argparse.Namespace) -> tuple[list[dict], bool, float]:
    """Let the expert play one episode and record it."""
    expert = Expert(args, seed)
    observation, _ = env.reset(seed=seed)
    frames: list[dict] = []
    best, success, plans = 0.0, False, 0
    while len(frames) < args.max_steps and not success:
        push = expert.plan(State.read(env.unwrapped))
        plans += 1
        if push is None:
            break
        actions = expert.travel_actions(push.travel)
        actions += list(push.actions(push.length))
        for action in actions:
            action = np.clip(action, 0, BOARD).astype(np.float32)
            frame = {
                "observation.image": observation["pixels"],
                "observation.state": observation["agent_pos"].astype(np.float32),
                "action": action,
            }
            # The simulator computes in double precision from the recorded action.
            observation, reward, success, _, _ = env.unwrapped.step(action.astype(np.float64))
            best = max(best, float(reward))
            frame["next.reward"] = np.array([reward], np.float32)
            frame["next.success"] = np.array([success], bool)
            frame["next.done"] = np.array([False], bool)
            frames.append(frame)
            if success or len(frames) >= args.max_steps:
                break
    if frames:
        frames[-1]["next.done"] = np.array([True], bool)
    return frames, bool(success), best


def features(size: int) -> dict:
    """Features of the dataset, those of ``lerobot/pusht``."""
    axes = {"motors": ["motor_0", "motor_1"]}
    return {
        "observation.image": {
            "dtype": "video",
            "shape": (size, size, 3),
            "names": ["height", "width", "channel"],
        },
        "observation.state": {"dtype": "float32", "shape": (2,), "names": axes},
        "action": {"dtype": "float32", "shape": (2,), "names": axes},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
    }


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output_dir", type=Path, help="dataset folder; without it, only play")
    parser.add_argument("--repo_id", default="local/pusht-planner")
    parser.add_argument("--episodes", type=int, default=10, help="successful episodes to keep")
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--max_seeds", type=int, default=40, help="give up after so many seeds")
    parser.add_argument("--max_steps", type=int, default=300)
    parser.add_argument("--travel_speed", type=float, default=18.0, help="board units per step")
    parser.add_argument("--push_speed", type=float, default=10.0)
    parser.add_argument("--fine_speed", type=float, default=5.0)
    parser.add_argument("--longest", type=float, default=150.0, help="longest push")
    parser.add_argument("--spacing", type=float, default=12.0, help="of the contact points")
    parser.add_argument("--patience", type=float, default=12.0, help="higher: fewer, longer pushes")
    parser.add_argument("--beam", type=int, default=8, help="pushes that are tried exactly")
    return parser.parse_args()


def main() -> None:
    """Play seeds in order and keep the successful episodes."""
    args = parse_args()
    env = gym.make("gym_pusht/PushT-v0", obs_type="pixels_agent_pos", render_mode="rgb_array")
    size = env.observation_space["pixels"].shape[0]
    dataset = None
    if args.output_dir is not None:
        dataset = LeRobotDataset.create(
            args.repo_id,
            fps=env.metadata["render_fps"],
            features=features(size),
            root=args.output_dir,
            use_videos=True,
        )
    kept, rewards = 0, []
    for seed in range(args.first_seed, args.first_seed + args.max_seeds):
        began = time.perf_counter()
        frames, success, best = rollout(env, seed, args)
        rewards.append(best)
        print(
            f"seed {seed}: {len(frames)} steps, max reward {best:.3f}"
            f"{', success' if success else ''} ({time.perf_counter() - began:.1f} s)",
            flush=True,
        )
        if not success:
            continue
        kept += 1
        if dataset is not None:
            for frame in frames:
                dataset.add_frame({**frame, "task": TASK})
            dataset.save_episode()
        if kept >= args.episodes:
            break
    if dataset is not None:
        dataset.finalize()
    print(f"{kept} of {len(rewards)} seeds succeeded, average max reward {np.mean(rewards):.3f}")


if __name__ == "__main__":
    main()
