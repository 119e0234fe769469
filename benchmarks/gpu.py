"""A full-size SmolVLA with random weights on one GPU: samples a second, and where the time goes.

python benchmarks/gpu.py SMOLVLM2_500M_FILES [--device cuda] [--batch_sizes 1,8,32,64,128]

Needs config, tokenizer and processor files of SmolVLM2-500M, no weights. Three 512 px cameras,
chunks of 50 steps, ten denoising steps: the public configuration. Shows first that lerobot's
sampling and policyscope's give the same actions, then samples a second by batch size for both, in
float32 and (on a GPU) bfloat16 autocast, with three different pictures and with one that feeds all
cameras, and compiled; the share of the bfloat16 rate that the device reaches on a large matrix
product, measured beside it; and the operations that take longest.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from full_size import inputs, network
from ratios import machine
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from policyscope.policies.smolvla import speed_up


@dataclass(frozen=True)
class Road:
    """A way to ask the policy; `one` picture feeds all cameras."""

    call: Callable[..., torch.Tensor]
    dtype: str
    one: bool


ORIGINAL = 71.0  # samples a second of the script that the project began with


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch_sizes", default="1,8,16,32,64,128,256")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument(
        "--weights",
        choices=("as_is", "float32"),
        default="as_is",
        help="the public configuration is mostly bfloat16, which many CPUs are slow at",
    )
    args = parser.parse_args()
    sizes = [int(size) for size in args.batch_sizes.split(",")]

    policy = network(args.files, args.device)
    policy = policy.float() if args.weights == "float32" else policy
    faster = copy.deepcopy(policy)
    sampler = speed_up(faster)
    if sampler is None:
        raise SystemExit("policyscope's sampling does not give lerobot's actions here")
    n = sum(p.numel() for p in policy.parameters())
    print(f"SmolVLA of {n / 1e6:.0f} M parameters, three 512 px cameras; {machine()}\n")

    def wait() -> None:
        if args.device == "cuda":
            torch.cuda.synchronize()

    def asked(road: Road, batch: dict[str, Any], noise: torch.Tensor) -> torch.Tensor:
        with (
            torch.inference_mode(),
            torch.autocast(args.device, torch.bfloat16, enabled=road.dtype == "bfloat16"),
        ):
            return road.call(dict(batch), noise=noise)

    def seconds(road: Road, size: int) -> float:
        batch, noise = inputs(policy, size, one=road.one)
        took = []
        for i in range(args.repeats + 2):
            wait()
            start = time.perf_counter()
            asked(road, batch, noise)
            wait()
            if i >= 2:
                took.append(time.perf_counter() - start)
        return statistics.median(took)

    theirs, ours = policy.predict_action_chunk, faster.predict_action_chunk
    roads = {
        f"{whose}, {dtype}{', one picture' if one else ''}": Road(call, dtype, one)
        for dtype in (("float32", "bfloat16") if args.device == "cuda" else ("float32",))
        for one in (False, True)
        for whose, call in (("lerobot", theirs), ("policyscope", ours))
    }
    if args.compile:
        twin = copy.deepcopy(policy)
        compiled = speed_up(twin)
        assert compiled is not None
        compiled.compile()
        whole = torch.compile(theirs)
        roads["lerobot, bfloat16, compiled"] = Road(whole, "bfloat16", False)
        roads["policyscope, bfloat16, compiled"] = Road(
            twin.predict_action_chunk, "bfloat16", False
        )
    batch, noise = inputs(policy, 2)
    plain = Road(theirs, "float32", False), Road(ours, "float32", False)
    one, other = (asked(road, batch, noise).float() for road in plain)
    print(f"actions at most {(one - other).abs().max() / one.std():.1e} of their deviation apart\n")
    batch, noise = inputs(policy, 1)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        policy.predict_action_chunk(dict(batch), noise=noise)
    flops = counter.get_total_flops()
    peak = _matrix_rate(args.device)
    print(
        f"{flops / 1e12:.2f} TFLOP a sample; a large bfloat16 product runs at {peak / 1e12:.3g} "
        "TFLOP/s here\n"
    )
    print("| road | batch | ms a call | samples/s | against batch 1 | against 71/s | of the peak |")
    print("|---|---|---|---|---|---|---|")
    best = ("", 0, 0.0)
    for name, road in roads.items():
        single = 0.0
        for size in sizes:
            try:
                took = seconds(road, size)
            except torch.OutOfMemoryError:
                print(f"| {name} | {size} | out of memory | | | | |")
                break
            rate = size / took
            single = single or rate
            best = max(best, (name, size, rate), key=lambda found: found[2])
            print(
                f"| {name} | {size} | {took * 1e3:.1f} | {rate:.3g} | {rate / single:.1f} | "
                f"{rate / ORIGINAL:.1f} | {rate * flops / peak:.1%} |"
            )
    name, size, _ = best
    seconds(roads[name], size)
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if args.device == "cuda" else []
    batch, noise = inputs(policy, size, one=roads[name].one)
    with profile(activities=activities) as seen:
        asked(roads[name], batch, noise)
        wait()
    order = f"self_{'cuda' if args.device == 'cuda' else 'cpu'}_time_total"
    print(f"\nwhere a call goes ({name}, batch {size}):\n")
    print(seen.key_averages().table(sort_by=order, row_limit=20, max_name_column_width=60))


def _matrix_rate(device: str) -> float:
    n = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    rates = []
    for _ in range(6):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        rates.append(2 * n**3 / (time.perf_counter() - start))
    return max(rates)


if __name__ == "__main__":
    main()
