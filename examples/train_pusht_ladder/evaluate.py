#!/usr/bin/env python
"""Success and average max reward of many checkpoints, quickly: all seeds at once, no videos.

`policyscope rollout` says more about one; this is for a look at a whole ladder. With --output_dir,
what `lerobot-eval` would have written goes to NAME/eval_info.json, for `policyscope import`.
"""

from __future__ import annotations

import argparse
import json
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
    parser.add_argument("--n_action_steps", type=int, default=0, help="0: the checkpoint's own")
    parser.add_argument("--output_dir", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for path in args.checkpoints:
        policy = get_policy_class(args.type).from_pretrained(path)
        before, after = make_pre_post_processors(policy.config, pretrained_path=str(path))
        torch.manual_seed(0)

        def act(boards: list[Board]) -> np.ndarray:
            seen = before(observe(boards, bool(policy.config.image_features)))  # noqa: B023
            return after(answer(policy, seen)).numpy()  # noqa: B023

        seeds = range(args.seed, args.seed + args.games)
        steps = args.n_action_steps or getattr(policy.config, "n_action_steps", 1)
        told = evaluate(act, seeds, steps)
        success, reward, _ = told.mean(0)
        print(f"{path}: success {success:.2f}, average max reward {reward:.3f}", flush=True)
        if args.output_dir:
            file = args.output_dir / f"{path.parent.name}-{path.name}" / "eval_info.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(eval_info(list(seeds), told)))


def eval_info(seeds: list[int], told: np.ndarray) -> dict:
    """As `lerobot-eval` writes it; ``told`` as `train.evaluate` returns it."""
    rows = [
        {
            "episode_ix": i,
            "seed": seed,
            "success": bool(success),
            "max_reward": float(best),
            "sum_reward": float(total),
        }
        for i, (seed, (success, best, total)) in enumerate(zip(seeds, told, strict=True))
    ]
    success, best, total = told.mean(0)
    return {
        "per_episode": rows,
        "aggregated": {
            "pc_success": float(100 * success),
            "avg_max_reward": float(best),
            "avg_sum_reward": float(total),
        },
    }


if __name__ == "__main__":
    main()
