"""Errors between two chunks of one space. A mix of spaces fails the type checker and raises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import (
    FloatArray,
    NativeActions,
    NormalizedActions,
    require_same_space,
)
from policyscope.errors import InputError


@final
@dataclass(frozen=True, eq=False)
class ErrorSums:
    """Sums of errors over frames; padded steps are left out. Everything else derives from them.

    Attributes:
        absolute: [H, A] sum of abs(predicted - target).
        squared: [H, A] sum of (predicted - target)².
        count: [H] number of unpadded frames at each horizon step.
    """

    absolute: FloatArray
    squared: FloatArray
    count: FloatArray

    def __add__(self, other: ErrorSums) -> ErrorSums:
        return ErrorSums(
            self.absolute + other.absolute,
            self.squared + other.squared,
            self.count + other.count,
        )

    def steps(self, which: slice) -> ErrorSums:
        """The sums of some horizon steps."""
        return ErrorSums(self.absolute[which], self.squared[which], self.count[which])

    def times(self, weight: float) -> ErrorSums:
        """The sums of frames that each stand for so many."""
        if weight == 1:
            return self
        return ErrorSums(self.absolute * weight, self.squared * weight, self.count * weight)

    def mean_over(self, k: int) -> ErrorSums:
        """The mean over the K samples of the same frames that were added up here."""
        return ErrorSums(self.absolute / k, self.squared / k, self.count / k)


def total(sums: Sequence[ErrorSums]) -> ErrorSums:
    """All of them added up."""
    if len(sums) == 1:
        return sums[0]
    return ErrorSums(
        np.sum([s.absolute for s in sums], axis=0),
        np.sum([s.squared for s in sums], axis=0),
        np.sum([s.count for s in sums], axis=0),
    )


def error_sums[A: (NativeActions, NormalizedActions)](
    predicted: A, target: A, is_pad: NDArray[np.bool_] | None = None
) -> ErrorSums:
    """Sums of absolute and squared errors by horizon step and dim.

    Args:
        predicted: [B, H, A].
        target: [B, H, A], in the same space.
        is_pad: [B, H], true where the demonstration has ended.

    Raises:
        SpaceError: the two are not of one space, or not of one shape.
        InputError: nothing is left to compare.
    """
    require_same_space(predicted, target)
    real = np.ones(predicted.values.shape[:2], bool) if is_pad is None else ~is_pad
    if not real.any():
        raise InputError(
            "errors of action chunks",
            expected="at least one unpadded step",
            found=f"none in {real.shape[0]} frames",
            fix="choose frames with demonstrated actions",
        )
    error = np.where(real[..., None], predicted.values - target.values, 0.0)
    return ErrorSums(
        np.abs(error).sum(axis=0), (error**2).sum(axis=0), real.sum(axis=0).astype(np.float64)
    )


def mae[A: (NativeActions, NormalizedActions)](
    predicted: A, target: A, is_pad: NDArray[np.bool_] | None = None
) -> FloatArray:
    """Mean absolute error of each dim, [A], in the unit of the space (see `error_sums`)."""
    sums = error_sums(predicted, target, is_pad)
    result: FloatArray = sums.absolute.sum(axis=0) / sums.count.sum()
    return result


def mse[A: (NativeActions, NormalizedActions)](
    predicted: A, target: A, is_pad: NDArray[np.bool_] | None = None
) -> FloatArray:
    """Mean squared error of each dim, [A], in the unit of the space, squared."""
    sums = error_sums(predicted, target, is_pad)
    result: FloatArray = sums.squared.sum(axis=0) / sums.count.sum()
    return result
