#!/usr/bin/env python
"""The expert's own games as a LeRobot dataset with keypoints, to evaluate policies offline.

With ``--noise``, some moves are random, so that corrections are in the data: the recorded action
is the executed one. Pictures only if asked for.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from board import MAX_STEPS, Board, keypoints
from expert import chunk, push_table
from lerobot.datasets.lerobot_dataset import LeRobotDataset

TASK = "Push the T-shaped block onto the T-shaped target."
AXES = {"motors": ["motor_0", "motor_1"]}


def features(pictures: bool) -> dict:
    """Those of ``lerobot/pusht_keypoints``, and of ``lerobot/pusht`` with pictures."""
    kinds = {"dtype": "float32", "shape": (2,), "names": AXES}
    picture = {"dtype": "video", "shape": (96, 96, 3), "names": ["height", "width", "channel"]}
    return {
        **({"observation.image": picture} if pictures else {}),
        "observation.state": kinds,
        "observation.environment_state": {
            "dtype": "float32",
            "shape": (16,),
            "names": {"keypoints": [f"{axis}{i}" for i in range(8) for axis in "xy"]},
        },
        "action": kinds,
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
    }


def play(board: Board, seed: int, table: tuple, args: argparse.Namespace) -> list[dict]:
    """One game of the expert, asked again every ``n_action_steps`` steps."""
    rng = np.random.default_rng(seed)
    board.reset(seed)
    frames: list[dict] = []
    while not board.success and board.steps < MAX_STEPS:
        moves = chunk(board.agent, board.velocity, board.pose, table, args.n_action_steps)
        if rng.random() < args.noise:
            moves = np.repeat(board.agent + rng.normal(0, 40, (1, 2)), len(moves), 0)
        for move in np.clip(moves, 0, 512).astype(np.float32):
            frame = {
                "observation.state": board.agent.astype(np.float32),
                "observation.environment_state": keypoints(board.pose[None])[0],
                "action": move,
                "task": TASK,
            }
            if args.pictures:
                frame["observation.image"] = board.env._render()
            board.step(move.astype(float))
            frame["next.reward"] = np.array([board.reward], np.float32)
            frame["next.success"] = np.array([board.success])
            frame["next.done"] = np.array([board.success or board.steps >= MAX_STEPS])
            frames.append(frame)
            if frame["next.done"][0]:
                break
    return frames


def main() -> None:
    """Play seeds in order."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--repo_id", default="local/pusht-ladder")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--first_seed", type=int, default=2_000_000)
    parser.add_argument("--n_action_steps", type=int, default=2)
    parser.add_argument("--noise", type=float, default=0.0, help="chance of a random move")
    parser.add_argument("--pictures", action="store_true")
    args = parser.parse_args()
    table, board, steps = push_table().arrays(), Board(), []
    dataset = LeRobotDataset.create(
        args.repo_id,
        fps=10,
        features=features(args.pictures),
        root=args.output_dir,
        use_videos=args.pictures,
    )
    for seed in range(args.first_seed, args.first_seed + args.episodes):
        frames = play(board, seed, table, args)
        for frame in frames:
            dataset.add_frame(frame)
        dataset.save_episode()
        steps.append((len(frames), bool(frames[-1]["next.success"][0])))
    dataset.finalize()
    lengths, success = zip(*steps, strict=True)
    print(f"{sum(success)} of {len(success)} succeeded, {np.mean(lengths):.0f} steps on average")


if __name__ == "__main__":
    main()
