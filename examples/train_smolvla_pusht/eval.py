#!/usr/bin/env python
"""Measure a SmolVLA checkpoint in gym-pusht, and on recorded episodes.

Closed loop: one environment per seed, a new chunk every ``n_action_steps`` steps, noise drawn
from a generator seeded per episode. Recorded episodes: error of the predicted chunks.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

import numpy as np
import torch

warnings.filterwarnings("ignore")

TASK = "Push the T-shaped block onto the T-shaped target."


def load(checkpoint: Path):
    """Load policy and processors from inside the checkpoint (it names ``vlm`` relatively)."""
    from lerobot.policies.factory import make_pre_post_processors
    from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy

    before = Path.cwd()
    os.chdir(checkpoint)
    try:
        policy = SmolVLAPolicy.from_pretrained(".")
        pre, post = make_pre_post_processors(policy.config, pretrained_path=".")
    finally:
        os.chdir(before)
    return policy.float().eval(), pre, post


@torch.no_grad()
def predict(policy, pre, post, images, states, generators):
    """Action chunks in board units for a batch of uint8 images and states."""
    batch = pre(
        {
            "observation.image": torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255,
            "observation.state": torch.from_numpy(states).float(),
            "task": [TASK] * len(images),
        }
    )
    c = policy.config
    noise = torch.stack(
        [torch.randn(c.chunk_size, c.max_action_dim, generator=g) for g in generators]
    )
    return post(policy.predict_action_chunk(batch, noise=noise)).numpy()


def closed_loop(policy, pre, post, args) -> None:
    """Roll out all seeds together."""
    import gym_pusht  # noqa: F401
    import gymnasium as gym

    n, horizon = args.episodes, args.n_action_steps or policy.config.n_action_steps
    envs = [gym.make("gym_pusht/PushT-v0", obs_type="pixels_agent_pos") for _ in range(n)]
    seeds = range(args.seed, args.seed + n)
    observations = [e.reset(seed=s)[0] for e, s in zip(envs, seeds, strict=False)]
    generators = [torch.Generator().manual_seed(s) for s in seeds]
    first = np.array([e.unwrapped._get_coverage() / 0.95 for e in envs]).clip(0, 1)
    best, success = first.copy(), np.zeros(n, bool)
    steps, active = np.zeros(n, int), list(range(n))
    while active:
        chunk = predict(
            policy,
            pre,
            post,
            np.stack([observations[i]["pixels"] for i in active]),
            np.stack([observations[i]["agent_pos"] for i in active]),
            [generators[i] for i in active],
        )
        still = []
        for row, i in enumerate(active):
            done = False
            for k in range(horizon):
                observations[i], reward, terminated, _, info = envs[i].unwrapped.step(
                    chunk[row, k].clip(0, 512)
                )
                steps[i] += 1
                best[i] = max(best[i], reward)
                success[i] |= info["is_success"]
                if terminated or steps[i] >= args.max_steps:
                    done = True
                    break
            if not done:
                still.append(i)
        active = still
    if args.verbose:
        for s, a, b, ok in zip(seeds, first, best, success, strict=False):
            print(f"  seed {s}: start {a:.2f} max {b:.2f} {'success' if ok else ''}")
    print(
        f"closed loop: {n} episodes from seed {args.seed}, n_action_steps {horizon}, "
        f"num_steps {policy.config.num_steps}: success {success.mean():.2f}, "
        f"avg max reward {best.mean():.3f} (at the start {first.mean():.3f}), "
        f"episodes above 0.5: {(best > 0.5).mean():.2f}"
    )


def recorded(policy, pre, post, args) -> None:
    """Chunk errors on recorded episodes, all frames."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    a, b = (int(x) for x in args.recorded.split(":"))
    data = LeRobotDataset("local/pusht", root=args.dataset_root, episodes=list(range(a, b)))
    rows = [data[i] for i in range(0, len(data), args.stride)]
    images = np.stack([(r["observation.image"] * 255).round().byte().numpy() for r in rows])
    images = images.transpose(0, 2, 3, 1)
    states = np.stack([r["observation.state"].numpy() for r in rows])
    every = [
        (int(data.hf_dataset[i]["episode_index"]), data.hf_dataset[i]["action"].numpy())
        for i in range(len(data))
    ]
    episode = np.array([e for e, _ in every])
    action = np.stack([x for _, x in every])
    size = policy.config.chunk_size
    g = torch.Generator().manual_seed(args.seed)
    chunks = np.concatenate(
        [
            predict(
                policy,
                pre,
                post,
                images[i : i + 64],
                states[i : i + 64],
                [g] * len(images[i : i + 64]),
            )
            for i in range(0, len(rows), 64)
        ]
    )
    index = np.arange(0, len(data), args.stride)
    ahead = index[:, None] + np.arange(size)
    valid = ahead < len(data)
    ahead = np.minimum(ahead, len(data) - 1)
    valid &= episode[ahead] == episode[index][:, None]
    truth = action[ahead]
    err = np.abs(chunks - truth).mean(-1)
    hold = np.abs(states[:, None] - truth).mean(-1)
    execd = valid[:, :8]
    print(
        f"recorded episodes {args.recorded}, {len(rows)} frames: MAE first action "
        f"{err[:, 0].mean():.2f} (hold state {hold[:, 0].mean():.2f}), first 8 "
        f"{err[:, :8][execd].mean():.2f} (hold {hold[:, :8][execd].mean():.2f}), chunk "
        f"{err[valid].mean():.2f} (hold {hold[valid].mean():.2f})"
    )


def main() -> None:
    """Measure."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("checkpoint", type=Path)
    p.add_argument("--episodes", type=int, default=50)
    p.add_argument("--seed", type=int, default=1000)
    p.add_argument("--max_steps", type=int, default=300)
    p.add_argument("--n_action_steps", type=int, default=0)
    p.add_argument("--num_steps", type=int, default=0, help="flow steps")
    p.add_argument("--recorded", default="", help="e.g. 185:206")
    p.add_argument("--stride", type=int, default=1)
    p.add_argument("--dataset_root", default="pusht")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--verbose", action="store_true")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    policy, pre, post = load(args.checkpoint)
    if args.num_steps:
        policy.config.num_steps = args.num_steps
    if args.recorded:
        recorded(policy, pre, post, args)
    if args.episodes:
        closed_loop(policy, pre, post, args)


if __name__ == "__main__":
    main()
