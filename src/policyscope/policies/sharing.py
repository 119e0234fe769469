"""What rows of a batch share, computed once where lerobot's own code samples.

Samples of one frame differ by their noise alone: noise may have more rows than there are
observations, and what the network makes of an observation is handed to each of its samples. And
frames that follow one another look at the same pictures where a policy looks back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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


@contextlib.contextmanager
def pictures_once(
    policy: Any, episode: NDArray[np.int64], frame: NDArray[np.int64], steps: Sequence[int]
) -> Iterator[None]:
    """Within, a Diffusion Policy encodes once what several frames look at.

    Args:
        policy: lerobot's own.
        episode: [B] of each row.
        frame: [B] of each row.
        steps: which frames a row looks at, relative to its own.
    """
    frames = np.maximum(frame[:, None] + np.asarray(steps), 0)
    seen = episode[:, None] * (frames.max() + 1) + frames
    encoders = [m for m in policy.modules() if type(m).__name__ == "DiffusionRgbEncoder"]
    for encoder in encoders:
        vars(encoder)["forward"] = _once(encoder.forward, seen)
    try:
        yield
    finally:
        for encoder in encoders:
            del vars(encoder)["forward"]


def _once(
    theirs: Callable[[torch.Tensor], torch.Tensor], seen: NDArray[np.int64]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """An encoder of pictures in the order of frames, steps and, where it has all, cameras."""

    def encode(pictures: torch.Tensor) -> torch.Tensor:
        cameras = len(pictures) // seen.size
        numbers = seen.reshape(-1, 1) * cameras + np.arange(cameras)
        _, first, at = np.unique(numbers, return_index=True, return_inverse=True)
        at = at.ravel()
        if len(at) != len(pictures) or not all(
            i == first[n] or pictures[i].equal(pictures[first[n]]) for i, n in enumerate(at)
        ):
            return theirs(pictures)  # before an episode there is what the data says there is
        return theirs(pictures[first])[at]

    return encode
