"""Ratios measured in one process: rounds of all competitors in turn, medians with ranges."""

from __future__ import annotations

import math
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def interleaved(
    competitors: Mapping[str, Callable[[], float]], *, rounds: int = 5
) -> dict[str, list[float]]:
    """Run each competitor once a round, in turn.

    Args:
        competitors: name → a function that returns what it measured.
        rounds: after one that does not count.
    """
    found: dict[str, list[float]] = {name: [] for name in competitors}
    for round_ in range(rounds + 1):
        for name, run in competitors.items():
            value = run()
            if round_:
                found[name].append(value)
    return found


def line(name: str, values: list[float], unit: str) -> str:
    """Median and range as a row of a Markdown table."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"| {name} | {middle:.3g} {unit} | {low:.3g} – {high:.3g} |"


def ratio(ours: list[float], theirs: list[float]) -> str:
    """Median of the rounds' own ratios, and their range."""
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    return f"{statistics.median(each):.2f} [{min(each):.2f}, {max(each):.2f}]"


def operations(run: Callable[..., object], *args: object) -> int:
    """Floating-point operations of a call, oneDNN's linear layers included."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    def linear(x: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
        return 2 * math.prod(x) * weight[0]

    known = {torch.ops.mkldnn._linear_pointwise: linear}
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        run(*args)
    return counter.get_total_flops()


def machine() -> str:
    """What the numbers were measured on."""
    import os

    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} cores ({model}){gpu}, torch {torch.__version__}"
