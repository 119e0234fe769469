"""Diffusion Policy's sampling, with its encoder run once for several samples of one frame."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def sharing(model: Any, rows: torch.Tensor) -> Iterator[None]:
    """Within, noise may have more rows than there are observations.

    What the encoder says of an observation conditions each of its samples; the noise, which is
    handed over, decides how many there are.

    Args:
        model: lerobot's ``DiffusionModel``.
        rows: [B] the observation that each row of the noise belongs to.
    """
    theirs = model._prepare_global_conditioning

    def conditioning(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        said: torch.Tensor = theirs(batch)[rows]
        return said

    model._prepare_global_conditioning = conditioning
    try:
        yield
    finally:
        del model._prepare_global_conditioning
