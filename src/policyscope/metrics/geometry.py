"""Angles that come round, rotations, displacements that add up. scipy's ``Rotation`` does the work.

All functions take native values whose last axes are horizon (H) and the dims of one `Meaning`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from policyscope.actions.meanings import Meaning
from policyscope.actions.spaces import ActionSchema, FloatArray

_NOTHING = 1e-12


def wrapped(difference: FloatArray, turn: float) -> FloatArray:
    """The same difference of two angles, the short way round.

    Args:
        difference: of any shape.
        turn: a full turn in its unit.
    """
    half: FloatArray = (difference + turn / 2) % turn - turn / 2
    return half


def near(values: FloatArray, target: FloatArray, schema: ActionSchema) -> FloatArray:
    """[…, A] values with continuous angles on the turn of the target that is nearest."""
    turns = [(m.dims, m.turn) for m in schema.meanings if m.turn is not None]
    if not turns:
        return values
    moved = values.copy()
    for known, turn in turns:
        dims = list(known)
        apart = wrapped(values[..., dims] - target[..., dims], turn)
        moved[..., dims] = target[..., dims] + apart
    return moved


def unrolled(values: FloatArray, schema: ActionSchema) -> FloatArray:
    """[N, A] one course of values whose continuous angles go on beyond a full turn."""
    turns = [(d, m.turn) for m in schema.meanings for d in m.dims if m.turn is not None]
    if not turns:
        return values
    whole = values.copy()
    for dim, turn in turns:
        whole[:, dim] = np.unwrap(values[:, dim], period=turn)
    return whole


def rotations(values: FloatArray, meaning: Meaning) -> Any:
    """scipy's ``Rotation`` of [N, k] native values.

    What has no direction (a quaternion of zeros, two parallel axes) is no rotation.
    """
    from scipy.spatial.transform import Rotation

    match meaning.form:
        case "axis_angle":
            return Rotation.from_rotvec(values * meaning.shown_scale)
        case "euler":
            return Rotation.from_euler(meaning.axes, values * meaning.shown_scale)
        case "rotation_6d":
            return Rotation.from_matrix(_matrices(values))
    first = meaning.form == "quaternion_wxyz"
    still = np.linalg.norm(values, axis=-1, keepdims=True) < _NOTHING
    identity = np.array([1.0, 0, 0, 0] if first else [0, 0, 0, 1.0])
    return Rotation.from_quat(np.where(still, identity, values), scalar_first=first)


def _matrices(values: FloatArray) -> FloatArray:
    """[N, 3, 3] by Gram-Schmidt: the first two columns are given (Zhou et al. 2019)."""
    first, second = values[:, :3], values[:, 3:]
    x = _unit(first, np.array([1.0, 0, 0]))
    rest = second - (x * second).sum(axis=1, keepdims=True) * x
    spare = np.eye(3)[np.abs(x).argmin(axis=1)]  # the axis that x is farthest from
    y = _unit(rest, spare - (x * spare).sum(axis=1, keepdims=True) * x)
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def _unit(vectors: FloatArray, instead: FloatArray) -> FloatArray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: FloatArray = np.where(length < _NOTHING, instead, vectors / np.maximum(length, _NOTHING))
    return found


def degrees_apart(values: FloatArray, target: FloatArray, meaning: Meaning) -> FloatArray:
    """[…] the angle of the rotation from one to the other; displacements are composed first.

    Args:
        values: […, H, k].
        target: […, H, k].
        meaning: a rotation.
    """
    shape = values.shape[:-1]
    ours, theirs = (_turned(v.reshape(-1, *v.shape[-2:]), meaning) for v in (values, target))
    found: FloatArray = np.degrees((ours.inv() * theirs).magnitude()).reshape(shape)
    return found


def _turned(values: FloatArray, meaning: Meaning) -> Any:
    """The rotations of [N, H, k] values, flat; displacements turn what those before them left.

    They turn about the axes of the base, as robosuite's and most end-effector commands do.
    """
    from scipy.spatial.transform import Rotation

    n, horizon, dim = values.shape
    if not meaning.delta:
        return rotations(values.reshape(-1, dim), meaning)
    steps, whole = [rotations(values[:, h], meaning) for h in range(horizon)], None
    quaternions = np.empty((n, horizon, 4))
    for h, step in enumerate(steps):
        whole = step if whole is None else step * whole
        quaternions[:, h] = whole.as_quat()
    return Rotation.from_quat(quaternions.reshape(-1, 4))


def integrated(values: FloatArray, schema: ActionSchema, kind: str) -> FloatArray:
    """[…, H, A] values whose displacements are added up over the horizon.

    Args:
        values: chunks.
        schema: which dims are displacements, where it says what dims are.
        kind: ``delta`` where all of them are, if it does not say.
    """
    if not schema.meanings:
        return values.cumsum(axis=-2) if kind == "delta" else values
    moving = [d for m in schema.meanings if m.delta for d in m.dims]
    walked = values.copy()
    walked[..., moving] = values[..., moving].cumsum(axis=-2)
    return walked
