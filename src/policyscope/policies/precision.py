"""In which precision a network of bfloat16 weights runs on a CPU that is not made for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def bfloat16_units() -> bool:
    """Whether this CPU multiplies bfloat16 numbers itself; others take longer than for float32.

    x86 does with AVX512-BF16 or AMX; elsewhere oneDNN says.
    """
    import platform

    import torch

    if platform.machine().lower() not in ("x86_64", "amd64"):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def widened(model: torch.nn.Module, *, units: Callable[[], bool] = bfloat16_units) -> bool:
    """Make bfloat16 weights on a CPU without units for them float32, which loses nothing.

    Args:
        model: on the CPU.
        units: whether the CPU has them.

    Returns:
        Whether it did.
    """
    import torch

    if not any(p.dtype == torch.bfloat16 for p in model.parameters()) or units():
        return False
    model.float()
    return True
