"""Action spaces are types: native and normalized actions can't be mixed.

A policy network speaks *normalized* actions; a robot, a dataset and every number that means
something speak *native* actions (pixels, radians, metres). Comparing one with the other gives a
number of the right shape and the wrong size. Here the two are different final classes, and
`Normalizer` is the one door between them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policyscope.actions.meanings import Meaning, one_unit, selected
from policyscope.errors import MissingStatsError, SpaceError

FloatArray = NDArray[np.float64]

_EPS = 1e-8  # lerobot's NormalizerProcessorStep default


@final
@dataclass(frozen=True)
class ActionSchema:
    """The dims of an action vector, in order.

    Attributes:
        names: one name a dim.
        units: one unit a dim; `meanings.UNDECLARED_UNIT` where nobody said.
        meanings: what the dims are; empty where nobody said, else each dim stands in one.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    meanings: tuple[Meaning, ...] = ()

    def __post_init__(self) -> None:
        if len(self.names) != len(self.units):
            raise SpaceError(
                "action schema",
                expected=f"one unit for each of {len(self.names)} dims",
                found=f"{len(self.units)} units",
                fix="give --dataset.action_units one unit, or one a dim",
            )

    @property
    def dim(self) -> int:
        """Number of action dims (A)."""
        return len(self.names)

    @property
    def single_unit(self) -> str | None:
        """The unit all dims share, or None where they differ or nobody declared them."""
        return one_unit(self.units)

    @property
    def labels(self) -> tuple[str, ...]:
        """What the dims are called where people read: as declared, else as recorded."""
        called = {d: n for m in self.meanings for d, n in zip(m.dims, m.names, strict=True)}
        return tuple(called.get(d, name) for d, name in enumerate(self.names))

    @property
    def kind(self) -> Literal["absolute", "delta"]:
        """``delta`` where whatever moves is declared to be displaced; grippers aside."""
        moving = [m.delta for m in self.meanings if m.kind != "gripper"]
        return "delta" if moving and all(moving) else "absolute"

    def displaced(self) -> ActionSchema:
        """The same, where the user says that actions are displacements; grippers aside."""
        said = (replace(m, delta=m.kind != "gripper") for m in self.meanings)
        return replace(self, meanings=tuple(said))

    def select(self, dims: tuple[int, ...]) -> ActionSchema:
        """The schema of the given dims, in the given order."""
        return ActionSchema(
            tuple(self.names[d] for d in dims),
            tuple(self.units[d] for d in dims),
            selected(self.meanings, dims),
        )


@final
@dataclass(frozen=True, eq=False)
class NativeActions:
    """Actions in the units of the robot or the dataset.

    Attributes:
        values: float array, last axis = action dim (A); chunks are [B, H, A].
        units: one unit a dim.
    """

    values: FloatArray
    units: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", np.asarray(self.values, dtype=np.float64))
        if self.values.shape[-1:] != (len(self.units),):
            raise SpaceError(
                "native actions",
                expected=f"a last axis of {len(self.units)} dims, one for each unit",
                found=f"shape {self.values.shape}",
                fix="build them with the action schema of the dataset",
            )

    @property
    def space_id(self) -> str:
        """What must be equal for two native arrays to be compared."""
        return "native:" + ",".join(self.units)


@final
@dataclass(frozen=True, eq=False)
class NormalizedActions:
    """Actions as a policy network sees them: dimensionless, tied to their statistics.

    Attributes:
        values: float array, last axis = action dim (A); chunks are [B, H, A].
        stats_id: identifies mode and statistics of the normalizer that made them.
    """

    values: FloatArray
    stats_id: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", np.asarray(self.values, dtype=np.float64))

    @property
    def space_id(self) -> str:
        """What must be equal for two normalized arrays to be compared."""
        return f"normalized:{self.stats_id}"


def require_same_space(predicted: NativeActions | NormalizedActions, target: Any) -> None:
    """Raise unless both arrays live in the same space, with the same units or statistics.

    Raises:
        SpaceError: a bare array, a mix of spaces, of units, of statistics, or of shapes.
    """
    # A type checker has said so already, where there is one; files and notebooks have none.
    for role, actions in (("predicted", predicted), ("target", target)):
        if not isinstance(actions, NativeActions | NormalizedActions):
            raise SpaceError(
                f"{role} actions",
                expected="NativeActions or NormalizedActions",
                found=f"a bare {type(actions).__name__}, whose space nobody knows",
                fix="wrap it in its space, or convert it with Normalizer",
            )
    if predicted.space_id != target.space_id:
        raise SpaceError(
            "predicted and target actions",
            expected="the same space, units and statistics",
            found=f"{predicted.space_id} against {target.space_id}",
            fix="convert one of them with Normalizer.normalize or Normalizer.unnormalize",
        )
    if predicted.values.shape != target.values.shape:
        raise SpaceError(
            "predicted and target actions",
            expected="equal shapes",
            found=f"{predicted.values.shape} against {target.values.shape}",
            fix="compare chunks of one horizon and one set of dims",
        )


_MODE_STATS = {
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
    "IDENTITY": (),
}
"""Normalization mode → the statistics it needs (lerobot, normalize_processor.py)."""


def missing_stats(stats: Mapping[str, Mapping[str, Any]], mode: str, key: str) -> list[str]:
    """The dotted names (``action.std``) of the statistics that `mode` needs and `stats` lacks."""
    have = stats.get(key, {})
    return [f"{key}.{name}" for name in _MODE_STATS[mode] if name not in have]


def stats_id(stats: Mapping[str, Mapping[str, Any]], mode: str, key: str = "action") -> str:
    """A short hash of mode and statistics: equal ids convert equally.

    Raises:
        MissingStatsError: `stats` lacks what `mode` needs.
    """
    lacking = missing_stats(stats, mode, key)
    if lacking:
        raise MissingStatsError(
            "normalization statistics",
            expected=" and ".join(f"{key}.{n}" for n in _MODE_STATS[mode]) + f" for mode {mode}",
            found=f"no {', '.join(lacking)}"
            + (f" (statistics for: {', '.join(sorted(stats))})" if stats else " (no statistics)"),
            fix="--stats dataset takes the dataset's own statistics, or save the processors again",
        )
    # float32, because checkpoints keep that and datasets write doubles as JSON: what is the same
    # statistic in both must get the same id.
    digest = hashlib.sha256(f"{mode}:".encode())
    for name in _MODE_STATS[mode]:
        values = np.asarray(stats[key][name], dtype=np.float32).reshape(-1)
        digest.update(name.encode() + values.tobytes())
    return f"{mode.lower()}-{digest.hexdigest()[:12]}"


@final
@dataclass(frozen=True, eq=False)
class Normalizer:
    """The one door between native and normalized actions.

    The formulas are those of lerobot's ``normalize_processor.py`` (all of them are affine per
    dim), but missing statistics raise here, where lerobot returns its input unchanged.

    Attributes:
        offset: [A], native.
        scale: [A], native per normalized unit.
        divisor: [A], `scale` guarded against zero as lerobot does.
        units: native units, one a dim.
        stats_id: identifies mode and statistics.
    """

    offset: FloatArray
    scale: FloatArray
    divisor: FloatArray
    units: tuple[str, ...]
    stats_id: str

    @classmethod
    def from_stats(
        cls,
        stats: Mapping[str, Mapping[str, ArrayLike]],
        *,
        mode: str,
        units: tuple[str, ...],
        key: str = "action",
    ) -> Normalizer:
        """Build the door from a statistics table.

        Args:
            stats: feature key → statistic name → [A] values, as in ``meta/stats.json``.
            mode: a lerobot ``NormalizationMode`` name.
            units: native units, one a dim.
            key: the feature to convert.

        Raises:
            MissingStatsError: `stats` lacks what `mode` needs; the message names the keys.
            SpaceError: the statistics do not have one value a dim.
        """
        identity = stats_id(stats, mode, key)
        if mode == "IDENTITY":
            ones = np.ones(len(units))
            return cls(np.zeros(len(units)), ones, ones, units, identity)
        low, high = (
            np.asarray(stats[key][name], dtype=np.float64).reshape(-1) for name in _MODE_STATS[mode]
        )
        if low.shape != (len(units),):
            raise SpaceError(
                f"statistics of {key}",
                expected=f"{len(units)} values, one a dim",
                found=f"{low.size}",
                fix="use the statistics of the dataset whose actions these are",
            )
        # lerobot divides by the guarded number and multiplies by the bare one, so that back and
        # forth is not quite the identity; what counts is to get the numbers that it gets.
        if mode == "MEAN_STD":
            return cls(low, high, high + _EPS, units, identity)
        # Two bounds become -1 and 1; a dim that never moves has no width to divide by.
        span = np.where(high == low, _EPS, high - low) / 2
        return cls(low + span, span, span, units, identity)

    def normalize(self, actions: NativeActions) -> NormalizedActions:
        """Native → normalized.

        Raises:
            SpaceError: the units are not this door's.
        """
        if actions.units != self.units:
            raise SpaceError(
                "native actions",
                expected=f"units {self.units}",
                found=f"{actions.units}",
                fix="use the normalizer of the same dataset",
            )
        return NormalizedActions((actions.values - self.offset) / self.divisor, self.stats_id)

    def unnormalize(self, actions: NormalizedActions) -> NativeActions:
        """Normalized → native.

        Raises:
            SpaceError: the actions were normalized with other statistics.
        """
        if actions.stats_id != self.stats_id:
            raise SpaceError(
                "normalized actions",
                expected=f"statistics {self.stats_id}",
                found=actions.stats_id,
                fix="unnormalize with the statistics they were normalized with",
            )
        return NativeActions(actions.values * self.scale + self.offset, self.units)
