"""How like a demonstration an executed episode was: DTW and discrete Fréchet distance of paths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.errors import UsageError

_BAND = 0.1  # Sakoe-Chiba, of the longer path


@final
@dataclass(frozen=True)
class Nearest:
    """The demonstration whose path is nearest to an episode's, in units of the state.

    Attributes:
        demonstration: its episode index.
        dtw: dynamic time warping distance, the square root of the sum of squared distances along
            the best warping path, over the square root of the longer path's steps.
        frechet: discrete Fréchet distance.
    """

    demonstration: int
    dtw: float
    frechet: float


def nearest_demonstration(states: FloatArray, demonstrations: Mapping[int, FloatArray]) -> Nearest:
    """Compare a path with all demonstrated ones.

    Args:
        states: [T, S] of the episode.
        demonstrations: episode index → [T', S].

    Raises:
        UsageError: the libraries that measure it are not installed.
    """
    try:
        from dtaidistance import dtw_ndim
        from similaritymeasures import frechet_dist
    except ImportError as error:
        raise UsageError(
            "--nearest",
            expected="the packages dtaidistance and similaritymeasures",
            found=str(error),
            fix="pip install 'policyscope[similarity]'",
        ) from error

    states = np.array(states, order="C")  # the library wants arrays that it could write to

    def warped(path: FloatArray) -> float:
        path = np.array(path, order="C")
        longer = max(len(states), len(path))
        window = max(1, math.ceil(_BAND * longer))
        return float(dtw_ndim.distance_fast(states, path, window=window)) / math.sqrt(longer)

    distances = {index: warped(path) for index, path in demonstrations.items()}
    best = min(distances, key=lambda index: (distances[index], index))
    return Nearest(best, distances[best], float(frechet_dist(states, demonstrations[best])))
