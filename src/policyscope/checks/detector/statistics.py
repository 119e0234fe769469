"""How far predictions are from what a hypothesis says they should be, dim by dim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from policyscope.actions.spaces import FloatArray

CAP = 16.0
"""Most that a shift or a scale adds to the cost of a dim."""
_TAU = (0.8, 0.35)  # tolerated log-scale below and above: weak policies legitimately shrink
_CLIP = 6.0
_TENTHS = 2.563  # q90 - q10 of a standard normal distribution
_TINY = 1e-12


@final
@dataclass(frozen=True, eq=False)
class Fit:
    """How predictions lie to a target, one value a dim.

    Attributes:
        shift: [A] location against the target's, in its spreads.
        log_scale: [A] log of the predictions' spread over the target's.
        residual: [A] root mean square of the (clipped) difference, in the target's spreads.
        cost: [A] all three in one number: about 0 for a good policy, 1–4 for a weak one.
    """

    shift: FloatArray
    log_scale: FloatArray
    residual: FloatArray
    cost: FloatArray


def fit(predicted: FloatArray, target: FloatArray, floor: FloatArray | float = 0.0) -> Fit:
    """Compare [N, A] predictions with [N, A] targets.

    C = min(δ², 16) + min((λ/τ)², 16) + 2 ln(1 + e²), with shift δ, log-scale λ and residual e. All
    count in spreads of the target, or in `floor` where the target rests in this sample: a joint
    that hardly moves says little, and a policy that misses its resting place by less than the
    dataset's standard deviation is weak, not wrong.

    Args:
        predicted: [N, A].
        target: [N, A].
        floor: [A] smallest spread to count in, the dataset's standard deviation.
    """
    own = np.maximum(spread(target), _TINY)
    scale = np.maximum(own, floor)
    shift = (location(predicted) - location(target)) / scale
    found = np.maximum(spread(predicted), _TINY)
    log_scale = np.maximum(np.log(found / scale), 0.0) + np.minimum(np.log(found / own), 0.0)
    gap = np.clip((predicted - target) / scale, -_CLIP, _CLIP)
    residual = np.sqrt((gap**2).mean(axis=0))
    tau = np.where(log_scale > 0, _TAU[1], _TAU[0])
    cost = np.minimum(shift**2, CAP) + np.minimum((log_scale / tau) ** 2, CAP)
    return Fit(shift, log_scale, residual, cost + 2 * np.log1p(residual**2))


def free_cost(predicted: FloatArray, target: FloatArray) -> FloatArray:
    """[A] the cost that is left once each dim may be shifted and scaled at will."""
    return fit(_standard(predicted), _standard(target)).cost


def location(values: FloatArray) -> FloatArray:
    """[A] the middle between mean and median."""
    middle: FloatArray = (values.mean(axis=0) + np.median(values, axis=0)) / 2
    return middle


def spread(values: FloatArray) -> FloatArray:
    """[A] a standard deviation from the tenths; the plain one where these coincide (grippers)."""
    low, high = np.quantile(values, [0.1, 0.9], axis=0)
    robust, plain = (high - low) / _TENTHS, values.std(axis=0)
    return np.where(robust > 1e-3 * plain, np.maximum(robust, 0.3 * plain), plain)


def spearman(predicted: FloatArray, target: FloatArray) -> FloatArray:
    """[A, A] rank correlation of each predicted dim with each target dim; 0 where one rests."""
    from scipy.stats import rankdata

    a, b = (_unit(rankdata(values, axis=0)) for values in (predicted, target))
    return np.asarray(a.T @ b)


def _unit(ranks: FloatArray) -> FloatArray:
    centred = ranks - ranks.mean(axis=0)
    norm = np.sqrt((centred**2).sum(axis=0))
    return np.asarray(centred / np.where(norm > _TINY, norm, np.inf))


def _standard(values: FloatArray) -> FloatArray:
    return np.asarray((values - location(values)) / np.maximum(spread(values), _TINY))
