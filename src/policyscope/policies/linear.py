"""Linear layers on CPUs whose widest units PyTorch's matrix products leave idle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_SMALL = 1 << 22  # multiplications that take no longer than finding oneDNN's kernel for them


def idle_units() -> bool:
    """Whether a product of float32 matrices does without this CPU's AVX-512.

    MKL, which PyTorch asks, uses it on Intel's CPUs alone; oneDNN, which PyTorch has for its
    convolutions, wherever it is.
    """
    import torch

    cpu = Path("/proc/cpuinfo")
    return (
        torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and torch.cpu._is_avx512_supported()
        and cpu.is_file()
        and "AuthenticAMD" in cpu.read_text(encoding="utf-8", errors="replace")
    )


def by_onednn(model: torch.nn.Module, *, idle: Callable[[], bool] = idle_units) -> bool:
    """Let oneDNN compute a network's linear layers where that is faster; equal but for rounding.

    Args:
        model: on the CPU, for inference.
        idle: whether it is.

    Returns:
        Whether it does.
    """
    import torch

    if not hasattr(torch.ops.mkldnn, "_linear_pointwise") or not idle():
        return False
    for layer in model.modules():
        if type(layer) is torch.nn.Linear:
            vars(layer)["forward"] = MethodType(_forward, layer)
    return True


def _forward(layer: Any, x: torch.Tensor) -> torch.Tensor:
    import torch

    weight, bias = layer.weight, layer.bias
    if (
        x.dtype != torch.float32
        or weight.dtype != torch.float32
        or x.numel() * len(weight) < _SMALL
        or torch.is_autocast_enabled("cpu")
        or torch.compiler.is_compiling()  # which takes oneDNN's products of constants alone
    ):
        return torch.nn.functional.linear(x, weight, bias)
    answer: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return answer
