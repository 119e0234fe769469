"""Grippers: whether they are open or closed, and when they change."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.meanings import Meaning
from policyscope.actions.spaces import FloatArray

OUTCOMES = ("true_closed", "false_closed", "false_open", "true_open")
EVENTS = ("demonstrated", "met", "late", "off", "spurious")


def is_closed(values: FloatArray, meaning: Meaning, middle: float) -> NDArray[np.bool_]:
    """Whether a gripper is closed; of one whose ends nobody declared, whether it is above `middle`.

    Args:
        values: native, of any shape.
        meaning: of the gripper.
        middle: between its two ends.
    """
    below = meaning.closed is not None and meaning.closed < middle
    return values < middle if below else values > middle


def outcomes(
    predicted: NDArray[np.bool_], target: NDArray[np.bool_], real: NDArray[np.bool_]
) -> FloatArray:
    """[H, 4] counts of `OUTCOMES` over the frames of [T, H] states."""
    table = [predicted & target, predicted & ~target, ~predicted & target, ~predicted & ~target]
    return np.stack([(one & real).sum(axis=0) for one in table], axis=-1).astype(np.float64)


def f1(counts: FloatArray) -> float | None:
    """F1 of being closed, of [4] counts; None where nothing is closed on either side."""
    hit, false, missed, _ = counts
    under = 2 * hit + false + missed
    return float(2 * hit / under) if under else None


def balanced_accuracy(counts: FloatArray) -> float | None:
    """Mean of the shares of closed and of open steps that are met; None where one never is."""
    hit, false, missed, passed = counts
    if not hit + missed or not false + passed:
        return None
    return float(hit / (hit + missed) + passed / (false + passed)) / 2


def events(predicted: NDArray[np.bool_], target: NDArray[np.bool_], window: int) -> FloatArray:
    """[5] counts and sums of `EVENTS` of two [N] courses of states, frame by frame.

    A demonstrated change is met by the nearest predicted change in the same direction, at most
    `window` frames away, that met none before it. ``late`` sums by how many frames those are
    late, ``off`` by how many they are late or early.
    """
    total = np.zeros(len(EVENTS))
    for closes in (True, False):
        wanted, found = (_changes(states, closes) for states in (target, predicted))
        free = np.ones(len(found), bool)
        for at in wanted:
            near = np.flatnonzero(free & (np.abs(found - at) <= window))
            if not len(near):
                continue
            one = near[np.abs(found[near] - at).argmin()]
            free[one] = False
            late = float(found[one] - at)
            total[1:4] += 1, late, abs(late)
        total[0] += len(wanted)
        total[4] += free.sum()
    return total


def _changes(states: NDArray[np.bool_], closes: bool) -> NDArray[np.int64]:
    """The frames at which states become closed, or open."""
    before, after = states[:-1], states[1:]
    return np.flatnonzero((after & ~before) if closes else (before & ~after)) + 1
