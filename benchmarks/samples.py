"""What K predictions of a frame cost beside one: `python benchmarks/samples.py CHECKPOINT REPO_ID
--root DATA --frames 32`.

The same frames are asked for once, for K samples that share what their frame gives, and for K
samples one call each, which is what a script without sharing does; in calls of as many rows as
`eval` makes. The operations counted say what sharing can give at best.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
from ratios import interleaved, line, machine, operations, ratio

from policyscope.commands.check import check
from policyscope.config import DatasetConfig, EvalConfig, PolicyConfig
from policyscope.data.frames import FrameBatch, Row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("repo_id")
    parser.add_argument("--root")
    parser.add_argument("--episode", type=int, default=0)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--batch_size", type=int, default=32, help="rows of a call")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    config = EvalConfig(
        policy=PolicyConfig(path=args.checkpoint),
        dataset=DatasetConfig(args.repo_id, args.root, episodes=str(args.episode)),
    )
    inputs = check(config)
    policy, source, e = inputs.open_policy(config), inputs.source, args.episode
    source.load((e,))

    def batches(rows: list[Row]) -> list[FrameBatch]:
        parts = [rows[i : i + args.batch_size] for i in range(0, len(rows), args.batch_size)]
        return [source.batch(part, keys=policy.spec.keys) for part in parts]

    one = batches([(e, f, 0) for f in range(args.frames)])
    many = batches([(e, f, k) for f in range(args.frames) for k in range(args.samples)])
    each = [replace(b, sample=np.full(len(b), k)) for k in range(args.samples) for b in one]

    def actions(batches: list[FrameBatch]) -> np.ndarray:
        return np.concatenate([policy.predict(batch).actions.values for batch in batches])

    shared, apart = actions(many), actions(each)
    apart = apart.reshape(args.samples, args.frames, *apart.shape[1:]).swapaxes(0, 1)
    apart = apart.reshape(shared.shape)
    distance = np.abs(shared - apart).max() / apart.std()
    print(
        f"{policy.spec.n_parameters / 1e6:.1f} M parameters, {args.frames} frames; {machine()}\n"
        f"chunks at most {distance:.1e} of their deviation apart; operations of K = {args.samples} "
        f"against K = 1: {operations(actions, many) / operations(actions, one):.2f}\n"
    )

    def seconds(batches: list[FrameBatch]) -> float:
        start = time.perf_counter()
        for batch in batches:
            policy.predict(batch)
        return time.perf_counter() - start

    k = args.samples
    found = interleaved(
        {
            "K = 1": lambda: seconds(one),
            f"K = {k}": lambda: seconds(many),
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
