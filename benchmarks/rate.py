"""Which share of the cores' matrix rate a policy reaches, and where its time goes.

python benchmarks/rate.py CHECKPOINT REPO_ID --root DATA --batch_size 32

Operations are those that torch.utils.flop_counter counts; the cores' rate is that of 1024 × 1024
float32 products by PyTorch, and by oneDNN, which policyscope asks on some CPUs, measured in turn
with the policy. Profiled calls are slower than others: look at shares.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from ratios import interleaved, line, machine, operations, ratio
from torch.profiler import ProfilerActivity, profile

from policyscope.commands.check import check
from policyscope.config import DatasetConfig, EvalConfig, PolicyConfig

SIDE = 1024
ONEDNN = torch.ops.mkldnn._linear_pointwise
GROUPS = {
    "matrix products": ("mm", "addmm", "_linear_pointwise", "bmm", "baddbmm"),
    "convolutions": ("mkldnn_convolution",),
    "attention": ("_scaled_dot_product_flash_attention_for_cpu", "_softmax"),
    "copies": ("copy_", "cat", "index", "index_select", "roll"),
    "norms": ("native_layer_norm", "pow", "sum", "mean", "rsqrt"),
    "elementwise": ("mul", "mul_", "add", "add_", "sub", "div_", "silu", "gelu", "addcmul"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("repo_id")
    parser.add_argument("--root")
    parser.add_argument("--episode", type=int, default=0)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    config = EvalConfig(
        policy=PolicyConfig(path=args.checkpoint),
        dataset=DatasetConfig(args.repo_id, args.root, episodes=str(args.episode)),
    )
    inputs = check(config)
    ours = inputs.open_policy(config)
    own = replace(config, policy=replace(config.policy, sampling="lerobot"))
    theirs = inputs.open_policy(own)
    inputs.source.load((args.episode,))
    rows = [(args.episode, f, 0) for f in range(args.batch_size)]
    batch = inputs.source.batch(rows, keys=ours.spec.keys, steps=ours.spec.steps)
    plain = theirs.predict(batch).actions.values
    apart = abs(ours.predict(batch).actions.values - plain).max() / plain.std()
    ours_gflop, theirs_gflop = (operations(p.predict, batch) / 1e9 for p in (ours, theirs))
    print(f"{args.checkpoint}, batches of {args.batch_size}; {machine()}\n")
    print(
        f"{ours_gflop:.1f} GFLOP a call, {theirs_gflop:.1f} by lerobot's sampling; chunks at most "
        f"{apart:.1e} of their deviation apart\n"
    )

    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)

    found = interleaved(
        {
            "product, PyTorch": lambda: _rate(lambda: a @ b),
            "product, oneDNN": lambda: _rate(lambda: ONEDNN(a, b, None, "none", [], "")),
            "lerobot's sampling": lambda: theirs_gflop / theirs.predict(batch).model_s,
            "policyscope's": lambda: ours_gflop / ours.predict(batch).model_s,
        },
        rounds=args.rounds,
    )
    print("| GFLOP/s | median | range |\n|---|---|---|")
    for name, values in found.items():
        print(line(name, values, ""))
    mkl, dnn, before, now = found.values()
    print(f"\npolicyscope's against PyTorch's product: {ratio(now, mkl)}; ", end="")
    print(f"against oneDNN's: {ratio(now, dnn)}; of lerobot's sampling: {ratio(now, before)}")
    _where(ours, batch)


def _rate(product: Callable[[], Any]) -> float:
    took = []
    for _ in range(4):
        start = time.perf_counter()
        product()
        took.append(time.perf_counter() - start)
    return 2 * SIDE**3 / 1e9 / statistics.median(took)


def _where(policy: Any, batch: Any) -> None:
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        took = policy.predict(batch).model_s
    spent, shapes, products = Counter[str](), Counter[str](), dict[str, float]()
    for event in seen.key_averages(group_by_input_shape=True):
        name, seconds = event.key.partition("::")[2] or event.key, event.self_cpu_time_total / 1e6
        group = next((g for g, names in GROUPS.items() if name in names), "other, Python")
        spent[group] += seconds
        work = _products(name, event.input_shapes) * event.count
        if work and group == "matrix products":
            called = (
                f"{event.count} × {name} {' '.join(str(s) for s in event.input_shapes[:3] if s)}"
            )
            shapes[called], products[called] = seconds, work
    spent["other, Python"] += max(0.0, took - spent.total())
    print("\n| where a call goes | share |\n|---|---|")
    for group, seconds in spent.most_common():
        print(f"| {group} | {seconds / spent.total():.0%} |")
    print("\n| products | share | GFLOP/s |\n|---|---|---|")
    for called, seconds in shapes.most_common(8):
        share = seconds / spent.total()
        print(f"| {called} | {share:.1%} | {2 * products[called] / seconds / 1e9:.0f} |")


def _products(name: str, shapes: Any) -> float:
    """Multiplications of one call."""
    if name == "_linear_pointwise":
        return float(math.prod(shapes[0]) * shapes[1][0])
    if name in ("mm", "addmm", "bmm"):
        left, right = shapes[-2:] if name != "addmm" else shapes[1:3]
        return float(math.prod(left) * right[-1])
    return 0.0


if __name__ == "__main__":
    main()
