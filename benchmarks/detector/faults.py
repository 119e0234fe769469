"""Known mistakes, injected into native predictions (or, for two of them, into the dataset).

Each is exact: the same numbers come out when the mistake is made in the checkpoint, as a test
shows with real processors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from policyscope.actions.spaces import NativeActions, NormalizedActions, Normalizer

Array = np.ndarray


@dataclass(frozen=True)
class Case:
    """Predictions and demonstrations of one dataset before a mistake.

    Attributes:
        predicted: [N, H, A] native.
        target: [N, H, A] native.
        state: [N, A], or None where it has other dims.
        door: the network's own normalizer.
        stats: the dataset's, statistic → [A].
        angles: [A] true for dims in radians.
        alive: [A] true for dims that move within episodes.
    """

    predicted: Array
    target: Array
    state: Array | None
    door: Normalizer
    stats: dict[str, Array]
    angles: Array
    alive: Array


Fault = Callable[[Case, np.random.Generator], Case]


def normalized(case: Case, values: Array) -> Array:
    return case.door.normalize(NativeActions(values, case.door.units)).values


def unnormalized(case: Case, values: Array) -> Array:
    return case.door.unnormalize(NormalizedActions(values, case.door.stats_id)).values


def clean(case: Case, _draw: np.random.Generator) -> Case:
    return case


def not_unnormalized(case: Case, _draw: np.random.Generator) -> Case:
    """The unnormalizer, or its statistics, are missing."""
    return replace(case, predicted=normalized(case, case.predicted))


def normalized_twice(case: Case, _draw: np.random.Generator) -> Case:
    """Trained on actions that were normalized already, and the unnormalizer is missing."""
    return replace(case, predicted=normalized(case, normalized(case, case.predicted)))


def unnormalized_twice(case: Case, _draw: np.random.Generator) -> Case:
    """Two unnormalizers."""
    return replace(case, predicted=unnormalized(case, case.predicted))


def other_stats(case: Case, draw: np.random.Generator) -> Case:
    """Unnormalized with the statistics of another robot or recording."""
    n = case.predicted.shape[-1]
    shift = draw.uniform(0.5, 3.0, n) * draw.choice([-1, 1], n)
    ratio = np.exp(draw.uniform(np.log(1.5), np.log(4), n) * draw.choice([-1, 1], n))
    return replace(
        case, predicted=unnormalized(case, normalized(case, case.predicted) * ratio + shift)
    )


def other_mode(case: Case, _draw: np.random.Generator) -> Case:
    """Trained with one mode, unnormalized with the other one's statistics."""
    other = "MIN_MAX" if case.door.stats_id.startswith("mean_std") else "MEAN_STD"
    stats = {"action": case.stats}
    door = Normalizer.from_stats(stats, mode=other, units=case.door.units)
    values = normalized(case, case.predicted)
    return replace(
        case, predicted=door.unnormalize(NormalizedActions(values, door.stats_id)).values
    )


def _moved(case: Case, draw: np.random.Generator) -> Array:
    """A permutation that moves two dims that vary, or all of them."""
    alive = np.flatnonzero(case.alive)
    some = draw.choice(alive, 2, replace=False) if draw.random() < 0.5 else draw.permutation(alive)
    order = np.arange(len(case.alive))
    order[some] = np.roll(some, 1)
    return order


def permuted(case: Case, draw: np.random.Generator) -> Case:
    """The dataset has its dims in another order than the training's."""
    return replace(case, predicted=case.predicted[..., _moved(case, draw)])


def permuted_within(case: Case, draw: np.random.Generator) -> Case:
    """The network's outputs are swapped before they are unnormalized."""
    values = normalized(case, case.predicted)[..., _moved(case, draw)]
    return replace(case, predicted=unnormalized(case, values))


def sign_flip(case: Case, draw: np.random.Generator) -> Case:
    """Up to half of the dims have the opposite sign in this dataset."""
    alive = np.flatnonzero(case.alive)
    chosen = draw.choice(alive, draw.integers(1, max(1, len(alive) // 2) + 1), replace=False)
    sign = np.ones(len(case.alive))
    sign[chosen] = -1
    return replace(case, predicted=case.predicted * sign)


def sign_flip_within(case: Case, draw: np.random.Generator) -> Case:
    """Up to half of the network's outputs have the opposite sign."""
    flipped = sign_flip(replace(case, predicted=np.ones(len(case.alive))), draw).predicted
    return replace(case, predicted=unnormalized(case, normalized(case, case.predicted) * flipped))


def degrees(case: Case, _draw: np.random.Generator) -> Case:
    """The policy was trained in degrees."""
    return replace(case, predicted=case.predicted * np.where(case.angles, 180 / np.pi, 1.0))


def radians(case: Case, _draw: np.random.Generator) -> Case:
    """The dataset is in degrees, the policy was trained in radians."""
    factor = np.where(case.angles, 180 / np.pi, 1.0)
    state = None if case.state is None else case.state * factor
    stats = {k: v * factor if v.size == factor.size else v for k, v in case.stats.items()}
    return replace(case, target=case.target * factor, state=state, stats=stats)


def delta(case: Case, _draw: np.random.Generator) -> Case:
    """The policy predicts displacements."""
    assert case.state is not None
    return replace(case, predicted=case.predicted - case.state[:, None, :])


def collapsed(case: Case, draw: np.random.Generator) -> Case:
    """The network ignores its inputs."""
    middle = case.predicted.mean(axis=0, keepdims=True)
    noise = draw.normal(size=case.predicted.shape) * 0.02 * case.target.std(axis=(0, 1))
    return replace(case, predicted=middle + noise)


FAULTS: dict[str, tuple[Fault, str]] = {
    "clean": (clean, "clear"),
    "not_unnormalized": (not_unnormalized, "suspect_not_unnormalized"),
    "normalized_twice": (normalized_twice, "suspect_normalized_twice"),
    "unnormalized_twice": (unnormalized_twice, "suspect_unnormalized_twice"),
    "degrees": (degrees, "suspect_degrees"),
    "radians": (radians, "suspect_radians"),
    "other_stats": (other_stats, "suspect_stats"),
    "other_mode": (other_mode, "suspect_stats"),
    "permuted": (permuted, "suspect_permuted"),
    "permuted_within": (permuted_within, "suspect_permuted"),
    "sign_flip": (sign_flip, "suspect_sign_flip"),
    "sign_flip_within": (sign_flip_within, "suspect_sign_flip"),
    "delta": (delta, "suspect_delta"),
    "collapsed": (collapsed, "suspect_collapsed"),
}
"""Mistake → how to make it, and the verdict that names it."""
