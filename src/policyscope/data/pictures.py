"""Memory for pictures, lent and given back, and their colours as floats."""

from __future__ import annotations

import math
import threading
from types import TracebackType
from typing import Any, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

_CACHE = 1 << 20  # bytes
_AT_ONCE = 1 << 17  # bytes: with more, OpenCV starts threads, which fight with the decoders'
_UNIT = np.arange(256, dtype=np.float32) / np.float32(255)


@final
class Buffers:
    """Memory that is lent and lent again: fresh pages cost more than decoding a picture.

    Nothing is taken back from anybody. Memory that is never given back is never used again, and
    goes where Python's arrays go when nobody holds them.

    Args:
        pinned: page-locked memory, from which a GPU copies while it computes.
    """

    def __init__(self, *, pinned: bool = False) -> None:
        self._pinned = pinned
        self._free: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()  # one thread gives back what another borrows next

    def loan(self) -> Loan:
        """Begin to borrow."""
        return Loan(self)

    def _take(self, n: int) -> NDArray[np.uint8]:
        """The smallest free array of at least n bytes, or a new one."""
        with self._lock:
            fitting = [i for i, array in enumerate(self._free) if array.nbytes >= n]
            if fitting:
                return self._free.pop(min(fitting, key=lambda i: self._free[i].nbytes))
            if self._free:
                self._free.pop(0)  # too small for what is read now: let it go
        if not self._pinned:
            return np.empty(n, np.uint8)
        import torch

        pinned: NDArray[np.uint8] = torch.empty(n, dtype=torch.uint8, pin_memory=True).numpy()
        return pinned

    def _put(self, arrays: list[NDArray[np.uint8]]) -> None:
        with self._lock:
            self._free += arrays


@final
class Loan:
    """Arrays that are borrowed together and given back together; a ``with`` block does both."""

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._held: list[NDArray[np.uint8]] = []

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array with any content; it is the borrower's until `give_back`."""
        n = math.prod(shape) * np.dtype(dtype).itemsize
        self._held.append(self._buffers._take(n))
        return self._held[-1][:n].view(dtype).reshape(shape)

    def give_back(self) -> None:
        """End the loan: from now on others write into its arrays."""
        held, self._held = self._held, []
        self._buffers._put(held)

    def __enter__(self) -> Loan:
        """Borrow for a block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give back at its end."""
        self.give_back()


def unit_range(pictures: NDArray[Any], loan: Loan | None = None) -> NDArray[Any]:
    """uint8 pictures as float32 in [0, 1], bit for bit as lerobot makes them; floats pass.

    Args:
        pictures: [B, C, H, W] in any memory layout.
        loan: where the result lies; None for memory of its own.

    Returns:
        [B, C, H, W], contiguous.
    """
    if pictures.dtype != np.uint8:
        return pictures
    import cv2

    b, c, h, w = shape = pictures.shape
    result = np.empty(shape, np.float32) if loan is None else loan.array(shape, np.float32)
    if pictures.flags.c_contiguous:
        whole, floats = pictures.reshape(1, -1), result.reshape(1, -1)
        for at in range(0, whole.size, _AT_ONCE):
            cv2.LUT(whole[:, at : at + _AT_ONCE], _UNIT, dst=floats[:, at : at + _AT_ONCE])
        return result
    rows = np.ascontiguousarray(pictures.transpose(0, 2, 3, 1)).reshape(b, h * w, c)
    planes = result.reshape(b, c, h * w)
    some = max(1, _CACHE // (c * h * w))  # pictures that stay in the cache between two steps
    for at in range(0, b, some):
        for channel, plane in enumerate(cv2.split(rows[at : at + some])):
            cv2.LUT(plane, _UNIT, dst=planes[at : at + some, channel])
    return result
