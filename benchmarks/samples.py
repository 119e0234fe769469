"""What K predictions of a frame cost beside one: `python benchmarks/samples.py CHECKPOINT REPO_ID
--root DATA --frames 32`.

The same frames are asked for once, for K samples that share what their frame gives, and for K
samples one call each, which is what a script without sharing does.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
from ratios import interleaved, line, machine, ratio

from policyscope.commands.check import check
from policyscope.config import DatasetConfig, EvalConfig, PolicyConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("repo_id")
    parser.add_argument("--root")
    parser.add_argument("--episode", type=int, default=0)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    config = EvalConfig(
        policy=PolicyConfig(path=args.checkpoint),
        dataset=DatasetConfig(args.repo_id, args.root, episodes=str(args.episode)),
    )
    inputs = check(config)
    policy, source, e = inputs.open_policy(config), inputs.source, args.episode
    source.load((e,))
    one = source.batch([(e, f, 0) for f in range(args.frames)], keys=policy.spec.keys)
    rows = [(e, f, k) for f in range(args.frames) for k in range(args.samples)]
    many = source.batch(rows, keys=policy.spec.keys)
    each = [replace(one, sample=np.full(len(one), k)) for k in range(args.samples)]

    shared = policy.predict(many).actions.values
    apart = np.stack([policy.predict(batch).actions.values for batch in each], axis=1)
    apart = apart.reshape(shared.shape)
    distance = np.abs(shared - apart).max() / apart.std()
    print(
        f"{policy.spec.n_parameters / 1e6:.1f} M parameters, {args.frames} frames; {machine()}\n"
        f"chunks at most {distance:.1e} of their deviation apart\n"
    )

    def seconds(batches: list) -> float:  # type: ignore[type-arg]
        start = time.perf_counter()
        for batch in batches:
            policy.predict(batch)
        return time.perf_counter() - start

    k = args.samples
    found = interleaved(
        {
            "K = 1": lambda: seconds([one]),
            f"K = {k}": lambda: seconds([many]),
            f"K = {k}, a call each": lambda: seconds(each),
        },
        rounds=args.rounds,
    )
    print("| | median | range |\n|---|---|---|")
    for name, values in found.items():
        print(line(name, values, "s"))
    single, together, separate = found.values()
    print(f"\nK = {k} against K = 1: {ratio(together, single)}; against a call each: ", end="")
    print(ratio(together, separate))


if __name__ == "__main__":
    main()
