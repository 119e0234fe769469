"""What each known mistake would turn the demonstrated actions into."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.meanings import UNDECLARED_UNIT
from policyscope.actions.spaces import (
    ActionSchema,
    FloatArray,
    NativeActions,
    NormalizedActions,
    Normalizer,
)

_NOT_ANGLES = ("gripper", "hand", "finger")


@final
@dataclass(frozen=True, eq=False)
class Sample:
    """Predictions and demonstrations of the same frames.

    Attributes:
        predicted: [N, H, A] chunks.
        target: [N, H, A] demonstrated chunks.
        is_pad: [N, H] true past the end of the episode.
        episode: [N] episode indices.
        state: [N, A] the robot's state, where it has the action's dims; else None.
        around: [N, 2 H + 1, A] demonstrated actions from H steps before the frame to H after it,
            NaN outside the episode; or None.
        trivial: name → [N, A] the action that a baseline holds over the chunk; of those that need
            no recorded action, which no policy gets.
    """

    predicted: NativeActions
    target: NativeActions
    is_pad: NDArray[np.bool_]
    episode: NDArray[np.int64]
    state: FloatArray | None
    around: NDArray[np.float32] | None = None
    trivial: Mapping[str, FloatArray] = field(default_factory=dict)


@final
@dataclass(frozen=True, eq=False)
class Declared:
    """What the checkpoint and the dataset say about the actions.

    Attributes:
        schema: names and units of the dims.
        normalizer: of the mode that the checkpoint declares, with its statistics, or with the
            dataset's where it has none; None where nothing is normalized.
        std: [A] standard deviations of the dataset's actions.
        low: [A] smallest action in the dataset's statistics, or None.
        high: [A] largest, or None.
        kind: ``absolute`` or ``delta``.
    """

    schema: ActionSchema
    normalizer: Normalizer | None
    std: FloatArray
    low: FloatArray | None = None
    high: FloatArray | None = None
    kind: str = "absolute"


@final
@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A mistake, and what it makes of the demonstrated actions.

    Attributes:
        code: of the finding.
        turns_into: [N, A] demonstrated actions and the [N, A] state (or None) → what a good
            policy's would look like.
        says: in words, after "found predictions that look like".
        fix: what to do.
        late: whether the middle of the chunk tells more than its first step, where displacements
            are small.
    """

    code: str
    turns_into: Callable[[FloatArray, FloatArray | None], FloatArray]
    says: str
    fix: str
    late: bool = False


_SAVE_AGAIN = "save the processors again with lerobot's make_pre_post_processors; --stats dataset "


def hypotheses(declared: Declared, *, has_state: bool) -> tuple[Hypothesis, ...]:
    """Every mistake that could be told from right predictions by its exact form."""
    return (*_normalization(declared), *_angles(declared.schema), *_kind(declared.kind, has_state))


def _normalization(declared: Declared) -> list[Hypothesis]:
    door = declared.normalizer
    if door is None:
        return []
    mode = door.stats_id.split("-", 1)[0].upper()

    def normalized(values: FloatArray, _: FloatArray | None = None) -> FloatArray:
        return door.normalize(NativeActions(values, door.units)).values

    def unnormalized(values: FloatArray, _: FloatArray | None = None) -> FloatArray:
        return door.unnormalize(NormalizedActions(values, door.stats_id)).values

    return [
        Hypothesis(
            "suspect_not_unnormalized",
            normalized,
            f"normalized actions (mode {mode}, as the checkpoint declares)",
            "the postprocessor must end with an unnormalizer that has the statistics of action: "
            + _SAVE_AGAIN
            + "takes the dataset's",
        ),
        Hypothesis(
            "suspect_normalized_twice",
            lambda values, _: normalized(normalized(values)),
            f"actions that were normalized twice (mode {mode})",
            "normalize once: either in the dataset or in the policy's processors, then train again",
        ),
        Hypothesis(
            "suspect_unnormalized_twice",
            unnormalized,
            f"actions that were unnormalized twice (mode {mode})",
            "leave one unnormalizer in the postprocessor; old checkpoints with statistics in their "
            "weights need none",
        ),
    ]


def _angles(schema: ActionSchema) -> list[Hypothesis]:
    known = np.array([unit in ("rad", "deg") for unit in schema.units])
    unknown = np.array(
        [
            unit == UNDECLARED_UNIT and not any(word in name.lower() for word in _NOT_ANGLES)
            for name, unit in zip(schema.names, schema.units, strict=True)
        ]
    )
    angles = known if known.any() else unknown
    if not angles.any():
        return []
    found = []
    for name, other, factor in (("degrees", "rad", 180 / np.pi), ("radians", "deg", np.pi / 180)):
        if known.any() and other not in schema.units:
            continue  # the dataset's angles are in that unit already
        factors = np.where(angles, factor, 1.0)
        found.append(
            Hypothesis(
                f"suspect_{name}",
                partial(_times, factors),
                f"{name}, where the dataset has {'radians' if other == 'rad' else 'degrees'}",
                "evaluate on a dataset in the unit of the training, or convert one of the two",
            )
        )
    return found


def _times(factors: FloatArray, values: FloatArray, _: FloatArray | None = None) -> FloatArray:
    return values * factors


def _kind(kind: str, has_state: bool) -> list[Hypothesis]:
    if not has_state:
        return []
    if kind == "absolute":
        return [
            Hypothesis(
                "suspect_delta",
                lambda values, state: values if state is None else values - state,
                "displacements from the current state, where the dataset has absolute actions",
                "evaluate on a dataset with delta actions and --action_kind delta, or take the "
                "policy that was trained on absolute ones",
                late=True,
            )
        ]
    return [
        Hypothesis(
            "suspect_absolute",
            lambda values, state: values if state is None else values + state,
            "absolute actions, where the dataset has displacements from the current state",
            "evaluate on a dataset with absolute actions and --action_kind absolute",
            late=True,
        )
    ]
