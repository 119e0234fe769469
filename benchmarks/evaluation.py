"""`policyscope eval` against the script that everybody writes, on the same frames and noise.

python benchmarks/evaluation.py CHECKPOINT lerobot/pusht --root DATA --episodes 185:206

Equal predictions are shown first. The plain script asks `dataset[i]` and calls the policy with a
batch of one; the batched one reads through a DataLoader. All three use lerobot's own classes and
processors, full chunks, and the same noise; loading and the first call do not count. The scripts
sample by lerobot's code, `eval` as it does by default. They run on part of the frames, since they
are slow: rates are compared.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.datasets import LeRobotDataset
from ratios import interleaved, line, machine, ratio
from torch.utils.data import DataLoader, Subset

from policyscope.commands.check import check
from policyscope.config import DatasetConfig, EvalConfig, PolicyConfig
from policyscope.engine.offline import plan_frames, predict_and_store
from policyscope.engine.progress import Watch
from policyscope.policies.lerobot import LerobotPolicy
from policyscope.policies.noise import noise_seed, standard_normal
from policyscope.runs.directory import RunDirectory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("repo_id")
    parser.add_argument("--root")
    parser.add_argument("--episodes", default="185:206")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--items", type=int, default=96, help="frames a round of the scripts")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()

    config = EvalConfig(
        policy=PolicyConfig(path=args.checkpoint),
        dataset=DatasetConfig(repo_id=args.repo_id, root=args.root, episodes=args.episodes),
    )
    inputs = check(config)
    policy = inputs.open_policy(config)
    own = replace(config, policy=replace(config.policy, sampling="lerobot"))
    script = inputs.open_policy(own)
    assert isinstance(policy, LerobotPolicy)
    assert isinstance(script, LerobotPolicy)
    source, spec = inputs.source, policy.spec
    frames = plan_frames(source, inputs.episodes, max_frames=None)
    model, pre, post = script._policy, script._pre, script._post
    feeds = inputs.alignment.feeds
    items = LeRobotDataset(
        args.repo_id, root=args.root, episodes=list(inputs.episodes), video_backend="pyav"
    )

    def noise(episode: int, frame: int) -> torch.Tensor | None:
        shape = policy._noise_shape
        return None if shape is None else standard_normal(shape, noise_seed(0, episode, frame, 0))

    def call(batch: dict[str, Any]) -> np.ndarray:
        drawn = [
            noise(int(e), int(f))
            for e, f in zip(batch["episode_index"], batch["frame_index"], strict=True)
        ]
        model.reset()
        extra = {} if drawn[0] is None else {"noise": torch.stack(drawn).to(spec.device)}
        raw = {key: batch[name] for key, name in feeds.items()}
        with torch.inference_mode():
            chunk = model.predict_action_chunk(pre({**raw, "task": batch["task"]}), **extra)
        return post(chunk[:, : spec.chunk_size]).float().cpu().numpy()

    def plain() -> float:
        answers.clear()
        start = time.perf_counter()
        for i in range(args.items):
            item = items[i]
            batch = {k: v[None] for k, v in item.items() if isinstance(v, torch.Tensor)}
            answers.append(call({**batch, "task": [item["task"]]}))
        return args.items / (time.perf_counter() - start)

    def loaded() -> float:
        batches = DataLoader(
            Subset(items, range(3 * args.items)), batch_size=args.batch_size, num_workers=2
        )
        seen, start = 0, 0.0
        for batch in batches:
            if start:
                call(batch)
                seen += len(batch["task"])
            else:  # the workers' start does not count
                start = time.perf_counter()
        return seen / (time.perf_counter() - start)

    answers: list[np.ndarray] = []
    shares: list[float] = []
    predicted: list[np.ndarray] = []

    def ours() -> float:
        with tempfile.TemporaryDirectory() as folder:
            directory = RunDirectory(Path(folder))
            directory.prepare({}, resume=False, overwrite=False)
            clock = predict_and_store(
                policy,
                source,
                frames,
                directory,
                inputs.alignment,
                samples=1,
                batch_size=args.batch_size,
                progress=Watch(),
            )
            episodes = [e for e, _ in frames[: args.items]]
            predicted[:] = [part.predicted[0].values for part in directory.parts(episodes)]
        shares.append(clock.model_s / clock.wall_s)
        return clock.n_frames / clock.wall_s

    plain()
    ours()
    chunks = np.concatenate(predicted)[: args.items]
    apart = np.abs(chunks - np.concatenate(answers)).max() / chunks.std()
    print(f"{args.items} chunks: at most {apart:.1e} of the actions' deviation apart\n")
    if apart > 1e-3:
        raise SystemExit("the predictions differ")
    shares.clear()
    names = ("policyscope eval", "plain script: dataset[i], batch 1", "script over a DataLoader")
    found = interleaved(dict(zip(names, (ours, plain, loaded), strict=True)), rounds=args.rounds)
    n = sum(len(chosen) for _, chosen in frames)
    print(f"{args.checkpoint}, {n} frames, batches of {args.batch_size}; {machine()}\n")
    print("| | frames a second | range |\n|---|---|---|")
    for name, values in found.items():
        print(line(name, values, ""))
    print("\n| policyscope against | ratio |\n|---|---|")
    for name in names[1:]:
        print(f"| {name} | {ratio(found[names[0]], found[name])} |")
    each = sorted(shares[1:])
    print(
        f"\nmodel time over wall time: {each[len(each) // 2]:.3f} [{each[0]:.3f}, {each[-1]:.3f}]"
    )


if __name__ == "__main__":
    main()
