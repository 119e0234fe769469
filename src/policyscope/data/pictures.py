"""Pictures of demonstrations, each decoded once, forwards.

Videos go through PyAV (which brings its own FFmpeg) or lerobot's torchcodec road; pictures stored
in Parquet through Pillow. All of them equal `LeRobotDataset`'s bit for bit.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

if TYPE_CHECKING:
    import torch


_CACHE = 1 << 20  # bytes
_UNIT = np.arange(256, dtype=np.float32) / np.float32(255)


@final
class Buffers:
    """Arrays that are used again as soon as nobody holds them: fresh pages cost more than decoding.

    Args:
        pinned: page-locked memory, from which a GPU copies while it computes.
    """

    def __init__(self, *, pinned: bool = False) -> None:
        self._pinned = pinned
        self._arrays: list[NDArray[Any]] = []

    def take(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array with any content; it is the caller's until the last view of it is gone."""
        n = math.prod(shape) * np.dtype(dtype).itemsize
        for at in range(len(self._arrays)):
            array = self._arrays[at]
            if sys.getrefcount(array) == 3:  # the list, this name, the call
                if array.nbytes >= n:
                    return array[:n].view(dtype).reshape(shape)
                del self._arrays[at]
                break
        self._arrays.append(self._new(n))
        return self._arrays[-1][:n].view(dtype).reshape(shape)

    def _new(self, n: int) -> NDArray[np.uint8]:
        if not self._pinned:
            return np.empty(n, np.uint8)
        import torch

        pinned: NDArray[np.uint8] = torch.empty(n, dtype=torch.uint8, pin_memory=True).numpy()
        return pinned


def unit_range(pictures: torch.Tensor, buffers: Buffers) -> torch.Tensor:
    """uint8 pictures as float32 in [0, 1], bit for bit as lerobot makes them; floats pass.

    Args:
        pictures: [B, C, H, W] in any memory layout.
        buffers: where the result may lie, on a CPU.

    Returns:
        [B, C, H, W], contiguous.
    """
    import torch

    if pictures.dtype != torch.uint8:
        return pictures
    if pictures.device.type != "cpu":  # a divisor on the device: no multiplication by 1/255
        divisor = torch.full((), 255.0, device=pictures.device)
        return pictures.contiguous().float() / divisor
    import cv2

    b, c, h, w = pictures.shape
    rows = np.ascontiguousarray(pictures.permute(0, 2, 3, 1).numpy()).reshape(b, h * w, c)
    result = buffers.take((b, c, h * w), np.float32)
    some = max(1, _CACHE // (c * h * w))  # pictures that stay in the cache between two steps
    for at in range(0, b, some):
        for channel, plane in enumerate(cv2.split(rows[at : at + some])):
            cv2.LUT(plane, _UNIT, dst=result[at : at + some, channel])
    return torch.from_numpy(result.reshape(b, c, h, w))
