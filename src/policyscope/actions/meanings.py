"""What the dims of an action are: positions, joint angles, rotations, grippers, and of what.

LeRobot datasets record names of dims, not what they are. A meaning is declared in a file, or known
for a public robot (`policyscope.actions.robots`); it is never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

UNDECLARED_UNIT = "native"
"""The unit of a dim that neither the dataset nor the user declared."""


def one_unit(units: Sequence[str]) -> str | None:
    """The unit that all dims share, so that their errors may be averaged; None where there is none.

    Units that nobody declared are not known to be one, however many dims have none.
    """
    shared = set(units)
    if len(shared) != 1 or (UNDECLARED_UNIT in shared and len(units) > 1):
        return None
    return units[0]


Kind = Literal["position", "angle", "rotation", "gripper", "other"]
Form = Literal["axis_angle", "quaternion_xyzw", "quaternion_wxyz", "rotation_6d", "euler"]

FORM_DIMS: Mapping[Form, int] = {
    "axis_angle": 3,
    "quaternion_xyzw": 4,
    "quaternion_wxyz": 4,
    "rotation_6d": 6,
    "euler": 3,
}
_MM = {"m": 1000.0, "cm": 10.0, "mm": 1.0}
_DEGREES = {"rad": 57.29577951308232, "deg": 1.0}
_WITHOUT_UNIT = ("quaternion_xyzw", "quaternion_wxyz", "rotation_6d")


@final
@dataclass(frozen=True)
class Meaning:
    """What some dims of an action are together.

    Attributes:
        kind: ``position`` (of a point, in as many axes as there are dims), ``angle`` (of joints),
            ``rotation`` (one, in a `form`), ``gripper`` (one dim that opens and closes), or
            ``other``.
        names: what the dims are called, one each.
        dims: where in the action they stand.
        unit: of a value of one, times `scale`; `UNDECLARED_UNIT` where nobody said.
        group: of which limb: "left arm"; empty where there is one alone.
        delta: whether an action is a displacement from the one before; else it is absolute.
        form: of a rotation.
        axes: of Euler angles, as scipy has them: "xyz" turns about fixed axes, "XYZ" about those
            that were turned.
        continuous: of joint angles: whether a full turn is no turn.
        closed: of a gripper: the value at which it is closed, or None.
        open: the value at which it is open, or None.
        scale: how many of its unit a value of one is.
    """

    kind: Kind
    names: tuple[str, ...]
    dims: tuple[int, ...]
    unit: str = UNDECLARED_UNIT
    group: str = ""
    delta: bool = False
    form: Form | None = None
    axes: str = "xyz"
    continuous: bool = False
    closed: float | None = None
    open: float | None = None
    scale: float = 1.0

    @property
    def native_unit(self) -> str:
        """The unit of the values as they stand in the action."""
        if self.unit == UNDECLARED_UNIT or self.scale == 1:
            return self.unit
        return f"×{self.scale:g} {self.unit}"

    @property
    def turn(self) -> float | None:
        """A full turn in native values, where it is no turn and its unit is known."""
        if self.kind != "angle" or not self.continuous or self.unit not in _DEGREES:
            return None
        return 360 / (_DEGREES[self.unit] * self.scale)

    @property
    def shown_unit(self) -> str:
        """The unit in which errors are said: degrees and millimetres where that can be."""
        if self.is_rotation or (self.kind == "angle" and self.unit in _DEGREES):
            return "deg"
        if self.kind == "position" and self.unit in _MM:
            return "mm"
        return self.native_unit

    @property
    def shown_scale(self) -> float:
        """Native values times this are in `shown_unit`; of rotations, in radians."""
        if self.kind == "rotation":
            return self.scale * _DEGREES.get(self.unit, 1.0) / _DEGREES["rad"]
        if self.shown_unit == "deg":
            return self.scale * _DEGREES[self.unit]
        return self.scale * _MM[self.unit] if self.shown_unit == "mm" else 1.0

    @property
    def is_rotation(self) -> bool:
        """Whether its values are known to be a rotation: angles without a unit are not."""
        known = self.form in _WITHOUT_UNIT or self.unit in _DEGREES
        return self.kind == "rotation" and known

    @property
    def middle(self) -> float | None:
        """Of a gripper: the value between closed and open, where both are known."""
        if self.closed is None or self.open is None:
            return None
        return (self.closed + self.open) / 2


def selected(meanings: tuple[Meaning, ...], dims: tuple[int, ...]) -> tuple[Meaning, ...]:
    """The meanings of some dims of an action, in their new places.

    What only some dims of a rotation are, nobody knows: they become ``other``.
    """
    place = {d: i for i, d in enumerate(dims)}
    found = []
    for meaning in meanings:
        kept = [i for i, d in enumerate(meaning.dims) if d in place]
        if not kept:
            continue
        whole = len(kept) == len(meaning.dims) or meaning.kind != "rotation"
        found.append(
            replace(
                meaning,
                kind=meaning.kind if whole else "other",
                form=meaning.form if whole else None,
                names=tuple(meaning.names[i] for i in kept),
                dims=tuple(place[meaning.dims[i]] for i in kept),
            )
        )
    return tuple(found)
