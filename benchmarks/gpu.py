"""A full-size SmolVLA with random weights on one GPU: samples a second, and where the time goes.

python benchmarks/gpu.py SMOLVLM2_500M_FILES [--device cuda] [--batch_sizes 1,8,32,64,128]

Needs config, tokenizer and processor files of SmolVLM2-500M, no weights. Three 512 px cameras,
chunks of 50 steps, ten denoising steps: the public configuration. Prints samples a second by batch
size for float32, bfloat16 autocast and compiled bfloat16; the share of the bfloat16 rate that the
device reaches on a large matrix product, measured beside it; and the operations that take longest.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot.utils.constants import OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS
from ratios import machine
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

ORIGINAL = 71.0  # samples a second of the script that the project began with


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch_sizes", default="1,8,16,32,64,128,256")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    sizes = [int(size) for size in args.batch_sizes.split(",")]

    cameras = [f"observation.images.camera{i}" for i in (1, 2, 3)]
    config = SmolVLAConfig(
        vlm_model_name=args.files,
        load_vlm_weights=False,
        device=args.device,
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (6,)),
            **{key: PolicyFeature(FeatureType.VISUAL, (3, 512, 512)) for key in cameras},
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (6,))},
    )
    torch.manual_seed(0)
    policy = SmolVLAPolicy(config).to(args.device).eval()
    n = sum(p.numel() for p in policy.parameters())
    print(f"SmolVLA of {n / 1e6:.0f} M parameters, three 512 px cameras; {machine()}\n")

    def inputs(size: int) -> tuple[dict[str, Any], torch.Tensor]:
        tokens = torch.randint(0, 1000, (size, config.tokenizer_max_length), device=args.device)
        batch = {key: torch.rand(size, 3, 512, 512, device=args.device) for key in cameras}
        batch["observation.state"] = torch.randn(size, 6, device=args.device)
        batch[OBS_LANGUAGE_TOKENS] = tokens
        batch[OBS_LANGUAGE_ATTENTION_MASK] = torch.ones_like(tokens, dtype=torch.bool)
        noise = torch.randn(size, config.chunk_size, config.max_action_dim, device=args.device)
        return batch, noise

    def wait() -> None:
        if args.device == "cuda":
            torch.cuda.synchronize()

    def seconds(call: Callable[..., torch.Tensor], size: int, dtype: str) -> float:
        batch, noise = inputs(size)
        took = []
        for i in range(args.repeats + 2):
            wait()
            start = time.perf_counter()
            with (
                torch.inference_mode(),
                torch.autocast(args.device, torch.bfloat16, enabled=dtype == "bfloat16"),
            ):
                call(dict(batch), noise=noise)
            wait()
            if i >= 2:
                took.append(time.perf_counter() - start)
        return statistics.median(took)

    roads: dict[str, tuple[Callable[..., torch.Tensor], str]] = {
        "float32": (policy.predict_action_chunk, "float32"),
        "bfloat16": (policy.predict_action_chunk, "bfloat16"),
    }
    if args.compile:
        roads["bfloat16, compiled"] = (torch.compile(policy.predict_action_chunk), "bfloat16")
    batch, noise = inputs(1)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        policy.predict_action_chunk(dict(batch), noise=noise)
    flops = counter.get_total_flops()
    peak = _matrix_rate(args.device)
    print(
        f"{flops / 1e12:.2f} TFLOP a sample; a large bfloat16 product runs at {peak / 1e12:.0f} "
        "TFLOP/s here\n"
    )
    print("| road | batch | ms a call | samples/s | against batch 1 | against 71/s | of the peak |")
    print("|---|---|---|---|---|---|---|")
    best = ("", 0, 0.0)
    for name, (call, dtype) in roads.items():
        single = 0.0
        for size in sizes:
            try:
                took = seconds(call, size, dtype)
            except torch.OutOfMemoryError:
                print(f"| {name} | {size} | out of memory | | | | |")
                break
            rate = size / took
            single = single or rate
            best = max(best, (name, size, rate), key=lambda found: found[2])
            print(
                f"| {name} | {size} | {took * 1e3:.1f} | {rate:.1f} | {rate / single:.1f} | "
                f"{rate / ORIGINAL:.1f} | {rate * flops / peak:.1%} |"
            )
    name, size, _ = best
    call, dtype = roads[name]
    seconds(call, size, dtype)
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if args.device == "cuda" else []
    batch, noise = inputs(size)
    with (
        torch.inference_mode(),
        torch.autocast(args.device, torch.bfloat16, enabled=dtype == "bfloat16"),
        profile(activities=activities) as seen,
    ):
        call(dict(batch), noise=noise)
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
