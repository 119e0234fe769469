#!/usr/bin/env python
"""Closed loop against lerobot-eval: the same checkpoint, seeds and settings, in one process.

First the outcomes of each seed are compared, then the episodes per minute, whole calls on both
sides: simulators started, episodes run, results written; neither draws videos. lerobot-eval runs
twice, as it would by default on this machine and with as many simulators as policyscope; the
faster of the two counts. Without --policy a small ACT is trained first (it is deterministic, so
outcomes can be compared seed by seed).
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policyscope.config import EnvConfig, PolicyConfig, RolloutConfig
from policyscope.sim.rollout import rollout

DATA = Path(str(files("policyscope") / "assets" / "pusht-planner"))


def train_act(path: Path, steps: int) -> Path:
    """A small ACT, trained for a minute or two on the planner's demonstrations."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    torch.manual_seed(0)
    config = ACTConfig(
        device="cpu",
        push_to_hub=False,
        chunk_size=16,
        n_action_steps=8,
        dim_model=128,
        n_heads=4,
        dim_feedforward=256,
        n_encoder_layers=2,
        n_vae_encoder_layers=2,
        latent_dim=16,
        pretrained_backbone_weights=None,
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (2,)),
            "observation.image": PolicyFeature(FeatureType.VISUAL, (3, 96, 96)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (2,))},
    )
    ahead = [i / 10 for i in range(config.chunk_size)]
    data = LeRobotDataset(
        "policyscope/pusht-planner", root=DATA, delta_timestamps={"action": ahead}
    )
    rows = [data[i] for i in range(0, len(data), 2)]
    policy = ACTPolicy(config).train()
    pre, post = make_pre_post_processors(config, dataset_stats=data.meta.stats)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-4)
    draw = np.random.default_rng(0)
    keys = ("observation.state", "observation.image", "action", "action_is_pad")
    for _ in range(steps):
        picked = [rows[i] for i in draw.integers(0, len(rows), 16)]
        batch = pre({key: torch.stack([row[key] for row in picked]) for key in keys})
        loss, _ = policy.forward(batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
    print(f"trained ACT: {steps} steps, loss {loss.item():.3f}")
    policy.eval().save_pretrained(path)
    pre.save_pretrained(path)
    post.save_pretrained(path)
    return path


def lerobot_eval(path: Path, args: argparse.Namespace, n_envs: int) -> tuple[Any, float]:
    """What `lerobot-eval` does after parsing its flags; its rows and seconds."""
    from lerobot.configs import PreTrainedConfig
    from lerobot.envs import close_envs
    from lerobot.envs.factory import make_env, make_env_config, make_env_pre_post_processors
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors
    from lerobot.scripts.lerobot_eval import eval_policy_all

    config = PreTrainedConfig.from_pretrained(path)
    config.n_action_steps = args.n_action_steps
    policy = get_policy_class(config.type).from_pretrained(path, config=config).eval()
    pre, post = make_pre_post_processors(config, pretrained_path=str(path))
    env_config = make_env_config("pusht")
    begin = time.perf_counter()
    envs = make_env(env_config, n_envs=n_envs, use_async_envs=True)
    before, after = make_env_pre_post_processors(env_config, config)
    with torch.no_grad():
        info = eval_policy_all(
            envs, policy, before, after, pre, post, args.n_episodes, start_seed=args.seed
        )
    close_envs(envs)
    return info["per_task"][0]["metrics"], time.perf_counter() - begin


def ours(path: Path, args: argparse.Namespace, n_envs: int, width: int) -> tuple[Any, float]:
    """The same with policyscope; the whole call, the policy's loading included."""
    with tempfile.TemporaryDirectory() as out:
        config = RolloutConfig(
            policy=PolicyConfig(path=str(path)),
            env=EnvConfig(type="pusht"),
            output_dir=f"{out}/run",
            n_episodes=args.n_episodes,
            n_envs=str(n_envs),
            seed=args.seed,
            batch_size=str(width),
            device="cpu",
            n_action_steps=args.n_action_steps,
            latency_calls=0,
            video="none",
        )
        begin = time.perf_counter()
        run = rollout(config)
        took = time.perf_counter() - begin
    return run.record["episodes"], took


def agreement(rows: Any, theirs: Any, n: int) -> str:
    success = np.array([row["success"] for row in rows])
    same = int((success == np.array(theirs["successes"][:n])).sum())
    gap = np.abs(np.array([r["max_reward"] for r in rows]) - np.array(theirs["max_rewards"][:n]))
    return (
        f"{same} of {n} outcomes agree; highest reward differs by at most {gap.max():.2e}, by more "
        f"than 0.01 in {int((gap > 0.01).sum())} episodes "
        f"(mean {np.mean(theirs['max_rewards']):.3f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", type=Path, help="deterministic checkpoint for PushT")
    parser.add_argument("--n_episodes", type=int, default=50)
    parser.add_argument("--n_envs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--n_action_steps", type=int, default=8)
    parser.add_argument("--train_steps", type=int, default=400)
    parser.add_argument("--save", type=Path, help="keep the trained ACT here")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        path = args.policy or train_act(args.save or Path(scratch) / "act", args.train_steps)
        if args.save and not args.policy:
            print(f"saved to {path}")
            return
        compare(path, args)


def compare(path: Path, args: argparse.Namespace) -> None:
    warm = argparse.Namespace(**{**vars(args), "n_episodes": 1})
    lerobot_eval(path, warm, 1)  # imports, fork server
    ours(path, warm, 1, 1)
    theirs_1, seconds_1 = lerobot_eval(path, args, 1)
    rows_1, _ = ours(path, args, args.n_envs, 1)
    print(f"one row a call on both sides: {agreement(rows_1, theirs_1, args.n_episodes)}")
    theirs, seconds = lerobot_eval(path, args, args.n_envs)
    rows, took = ours(path, args, args.n_envs, 4)
    print(f"batched on both sides: {agreement(rows, theirs, args.n_episodes)}")
    print(f"\n{'':42}{'seconds':>9}{'episodes/min':>15}")
    for name, value in (
        ("lerobot-eval, 1 simulator (its default here)", seconds_1),
        (f"lerobot-eval, {args.n_envs} simulators", seconds),
        (f"policyscope rollout, {args.n_envs} simulators", took),
    ):
        print(f"{name:44}{value:7.1f}{60 * args.n_episodes / value:15.1f}")
    print(f"\nratio to the faster lerobot-eval: {min(seconds, seconds_1) / took:.2f}")


if __name__ == "__main__":
    main()
