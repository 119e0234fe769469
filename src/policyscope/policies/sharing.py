"""What several samples of one frame share, computed once where lerobot's own code samples.

They differ by their noise alone. Within these contexts noise may have more rows than there are
observations: what the network makes of an observation is handed to each of its samples.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def _diffusion(policy: Any, rows: torch.Tensor) -> Iterator[None]:
    """Diffusion Policy: what the encoder says conditions every step."""
    model = policy.diffusion
    theirs = model._prepare_global_conditioning

    def conditioning(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        said: torch.Tensor = theirs(batch)[rows]
        return said

    model._prepare_global_conditioning = conditioning
    try:
        yield
    finally:
        del model._prepare_global_conditioning


@contextlib.contextmanager
def _pi(policy: Any, rows: torch.Tensor) -> Iterator[None]:
    """PI0 and PI0.5: the action expert looks at keys and values that PaliGemma made."""
    model = policy.model
    theirs = model.denoise_step
    spread: list[Any] = []

    def step(
        *,
        prefix_pad_masks: torch.Tensor,
        past_key_values: Any,
        state: torch.Tensor | None = None,
        **more: Any,
    ) -> torch.Tensor:
        if not spread:  # the same for all steps, each of which copies what it grows
            spread.append([(k[rows], v[rows], window) for k, v, window in past_key_values])
        if state is not None:  # PI0.5 has it among the words
            more["state"] = state[rows]
        said: torch.Tensor = theirs(
            prefix_pad_masks=prefix_pad_masks[rows], past_key_values=spread[0], **more
        )
        return said

    model.denoise_step = step
    try:
        yield
    finally:
        del model.denoise_step


_SHARING: Mapping[str, Callable[[Any, torch.Tensor], AbstractContextManager[None]]] = {
    "diffusion": _diffusion,
    "pi0": _pi,
    "pi05": _pi,
}


def shares(kind: str, policy: Any) -> bool:
    """Whether `sharing` knows how.

    Args:
        kind: the policy's type.
        policy: lerobot's own, of which a compiled loop stays as it is.
    """
    return kind in _SHARING and not getattr(policy.config, "compile_model", False)


def sharing(kind: str, policy: Any, rows: torch.Tensor) -> AbstractContextManager[None]:
    """Let noise have more rows than there are observations.

    Args:
        kind: the policy's type, one that `shares`.
        policy: lerobot's own.
        rows: [B] the observation that each row of the noise belongs to.
    """
    return _SHARING[kind](policy, rows)
