"""Noise that anybody can reproduce: a frame gets the same noise in any batch, order or machine."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def noise_seed(seed: int, episode_index: int, frame_index: int, sample: int) -> int:
    """The generator seed of one prediction, in [0, 2**63)."""
    key = f"{seed}:{episode_index}:{frame_index}:{sample}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "little") % 2**63


def standard_normal(shape: tuple[int, ...], generator_seed: int) -> torch.Tensor:
    """Standard-normal noise of `shape`, float32, drawn on the CPU from its own generator."""
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(generator_seed))
