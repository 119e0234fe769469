#!/usr/bin/env python
"""Success and average max reward of many checkpoints, quickly: all seeds at once, no videos.

`policyscope rollout` says more about one; this is for a look at a whole ladder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from board import Board
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from policies import answer
from train import evaluate, observe


def main() -> None:
    """Evaluate each checkpoint."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--type", required=True, help="act, diffusion or tdmpc")
    parser.add_argument("--seed", type=int, default=1000, help="of the first game")
    parser.add_argument("--games", type=int, default=100)
    parser.add_argument("--n_action_steps", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for path in args.checkpoints:
        policy = get_policy_class(args.type).from_pretrained(path)
        before, after = make_pre_post_processors(policy.config, pretrained_path=str(path))
        torch.manual_seed(0)

        def act(boards: list[Board]) -> np.ndarray:
            seen = before(observe(boards, bool(policy.config.image_features)))  # noqa: B023
            return after(answer(policy, seen)).numpy()  # noqa: B023

        success, reward = evaluate(
            act, range(args.seed, args.seed + args.games), args.n_action_steps
        )
        print(f"{path}: success {success:.2f}, average max reward {reward:.3f}", flush=True)


if __name__ == "__main__":
    main()
