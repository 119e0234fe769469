#!/usr/bin/env python
"""Closed loop against lerobot-eval: the same checkpoint, seeds and settings, in one process.

First the outcomes of each seed are compared, then the episodes per minute, whole calls on both
sides: simulators started, episodes run, results written; neither draws videos. lerobot-eval runs
with one simulator (its default on two cores) and with as many as policyscope; the faster of the
two counts. Its simulators stay in one process: lerobot 0.6.1 fails on gym-pusht in processes of
their own (``eval.use_async_envs``: the environment is not registered there, and lacks the
attribute ``task_description``).

The policy is the shipped SmolVLA unless --policy names another; lerobot's copy is given the noise
that policyscope draws for the same seed and step.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
import warnings
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from policyscope.commands.rollout import rollout
from policyscope.config import EnvConfig, PolicyConfig, RolloutConfig
from policyscope.policies.noise import noise_seed, standard_normal

OURS = Path(str(files("policyscope") / "assets" / "smolvla-pusht"))


def give_noise(policy: Any, first_seed: int, n_envs: int) -> None:
    """Make lerobot's SmolVLA start from the noise of the published rule."""
    reset, select = policy.reset, policy.select_action
    config, now = policy.config, {"batch": -1, "step": 0}

    def begin() -> None:
        now["batch"] += 1
        now["step"] = 0
        reset()

    def act(batch: Any) -> torch.Tensor:
        noise = None
        if now["step"] % config.n_action_steps == 0:
            shape = (config.chunk_size, config.max_action_dim)
            seeds = [first_seed + now["batch"] * n_envs + i for i in range(n_envs)]
            noise = torch.stack(
                [standard_normal(shape, noise_seed(0, seed, now["step"], 0)) for seed in seeds]
            )
        now["step"] += 1
        return select(batch, noise=noise)

    policy.reset, policy.select_action = begin, act


def lerobot_eval(path: Path, args: argparse.Namespace, n_envs: int) -> tuple[Any, float]:
    """What `lerobot-eval` does after parsing its flags; its rows and seconds."""
    from lerobot.configs import PreTrainedConfig
    from lerobot.envs import close_envs
    from lerobot.envs.factory import make_env, make_env_config, make_env_pre_post_processors
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors
    from lerobot.scripts.lerobot_eval import eval_policy_all

    os.chdir(path)  # the shipped checkpoint names its tokenizer relatively
    config = PreTrainedConfig.from_pretrained(path)
    config.n_action_steps = args.n_action_steps
    policy = get_policy_class(config.type).from_pretrained(path, config=config).eval()
    if config.type == "smolvla":
        give_noise(policy, args.seed, n_envs)
    pre, post = make_pre_post_processors(config, pretrained_path=str(path))
    env_config = make_env_config("pusht")
    begin = time.perf_counter()
    envs = make_env(env_config, n_envs=n_envs, use_async_envs=False)
    before, after = make_env_pre_post_processors(env_config, config)
    with torch.no_grad():
        info = eval_policy_all(
            envs, policy, before, after, pre, post, args.n_episodes, start_seed=args.seed
        )
    close_envs(envs)
    return info["per_task"][0]["metrics"], time.perf_counter() - begin


def ours(
    path: Path,
    args: argparse.Namespace,
    n_envs: int,
    width: int,
    sampling: Literal["auto", "lerobot"] = "auto",
) -> tuple[Any, float]:
    """The same with policyscope; the whole call, the policy's loading included."""
    with tempfile.TemporaryDirectory() as out:
        config = RolloutConfig(
            policy=PolicyConfig(path=str(path), sampling=sampling),
            env=EnvConfig(type="pusht", task_text=""),  # lerobot-eval gives PushT an empty text
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
    parser.add_argument("--policy", type=Path, default=OURS, help="SmolVLA or ACT for PushT")
    parser.add_argument("--n_episodes", type=int, default=50)
    parser.add_argument("--n_envs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--n_action_steps", type=int, default=8)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    compare(args.policy, args)


def compare(path: Path, args: argparse.Namespace) -> None:
    warm = argparse.Namespace(**{**vars(args), "n_episodes": 1})
    lerobot_eval(path, warm, 1)  # imports, fork server
    ours(path, warm, 1, 1)
    theirs_1, seconds_1 = lerobot_eval(path, args, 1)
    rows_1, _ = ours(path, args, args.n_envs, 1, "lerobot")
    print(f"one row a call on both sides: {agreement(rows_1, theirs_1, args.n_episodes)}")
    theirs, seconds = lerobot_eval(path, args, args.n_envs)
    plain, plain_s = ours(path, args, args.n_envs, 4, "lerobot")
    print(f"batched on both sides: {agreement(plain, theirs, args.n_episodes)}")
    rows, took = ours(path, args, args.n_envs, 4)
    print(f"with the faster sampling: {agreement(rows, theirs, args.n_episodes)}")
    print(f"\n{'':44}{'seconds':>9}{'episodes/min':>15}")
    for name, value in (
        ("lerobot-eval, 1 simulator (its default here)", seconds_1),
        (f"lerobot-eval, {args.n_envs} simulators", seconds),
        (f"policyscope, {args.n_envs} simulators, lerobot's sampling", plain_s),
        (f"policyscope rollout, {args.n_envs} simulators", took),
    ):
        print(f"{name:46}{value:7.1f}{60 * args.n_episodes / value:15.1f}")
    best = min(seconds, seconds_1)
    print(f"\nratio to the faster lerobot-eval: {best / took:.2f} ({best / plain_s:.2f})")


if __name__ == "__main__":
    main()
