"""Action schemas as files: what a person declares about the dims, and a first draft of it.

    actions:
      - {names: [x, y, z], kind: position, unit: m}
      - {names: [rx, ry, rz], kind: rotation, form: axis_angle, unit: rad}
      - {names: [gripper], kind: gripper, closed: 0, open: 1}

Each dim stands in one entry, in the order of the action. What is left out is unknown.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from policyscope.actions.meanings import FORM_DIMS, UNDECLARED_UNIT, Form, Kind, Meaning
from policyscope.errors import UsageError, visible
from policyscope.files import Door

FLAG = "--dataset.actions"
_MOST_BYTES = 1 << 18
_DOOR = Door(UsageError, f"policyscope schema --dataset.… writes a first draft for {FLAG}")
_FINITE = Field(allow_inf_nan=False)
_Text = Annotated[str, Field(min_length=1, max_length=100)]


@final
class _Entry(BaseModel):
    """One entry of the file (see `Meaning`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: Annotated[tuple[_Text, ...], Field(min_length=1, max_length=1000)]
    kind: Kind
    unit: _Text = "unknown"
    group: Annotated[str, Field(max_length=100)] = ""
    delta: bool = False
    form: Form | None = None
    axes: Annotated[str, Field(pattern=r"^([xyz]{3}|[XYZ]{3})$")] = "xyz"
    continuous: bool = False
    closed: Annotated[float, _FINITE] | None = None
    open: Annotated[float, _FINITE] | None = None
    scale: Annotated[float, _FINITE, Field(gt=0)] = 1.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        n = len(self.names)
        if (self.kind == "rotation") != (self.form is not None):
            raise ValueError("form belongs to a rotation, and a rotation needs one")
        if self.form is not None and n != FORM_DIMS[self.form]:
            raise ValueError(f"{self.form} has {FORM_DIMS[self.form]} dims, not {n}")
        if self.kind == "gripper" and (n != 1 or self.delta):
            raise ValueError("a gripper is one dim, and its value absolute; else it is other")
        if self.kind != "gripper" and (self.closed is not None or self.open is not None):
            raise ValueError("closed and open belong to a gripper")
        if self.kind == "gripper" and self.closed is not None and self.closed == self.open:
            raise ValueError("closed and open are the same value")
        if self.continuous and self.kind != "angle":
            raise ValueError("continuous belongs to angles")
        return self


@final
class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    actions: Annotated[tuple[_Entry, ...], Field(min_length=1, max_length=1000)]


def read_meanings(path: str, n_dims: int) -> tuple[Meaning, ...]:
    """What ``--dataset.actions`` declares.

    Args:
        path: of a YAML or JSON file.
        n_dims: of the action.

    Raises:
        UsageError: it can't be read, says what can't be, or is about another number of dims.
    """
    file = Path(path).expanduser()
    try:
        entries = _File.model_validate(_DOOR.yaml(file, most=_MOST_BYTES)).actions
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"{FLAG} {path}",
            expected="entries of names, kind, and what docs/actions.md lists",
            found=f"{where}: {first['msg']}"[:200],
            fix=f"mend it, or let policyscope schema write a draft for {FLAG}",
        ) from None
    names = [name for entry in entries for name in entry.names]
    if len(names) != n_dims or len(set(names)) < len(names):
        twice = next((n for i, n in enumerate(names) if n in names[:i]), None)
        raise UsageError(
            f"{FLAG} {path}",
            expected=f"{n_dims} different names, one for each action dim in its order",
            found=f"{len(names)} names" if twice is None else f"{twice!r} twice",
            fix=f"name each dim once; policyscope schema writes a draft for {FLAG}",
        )
    return _placed([entry.model_dump() for entry in entries])


def _placed(entries: Sequence[dict[str, Any]]) -> tuple[Meaning, ...]:
    """Entries with the places of their dims, which follow one another."""
    found, at = list[Meaning](), 0
    for entry in entries:
        unit = UNDECLARED_UNIT if entry["unit"] == "unknown" else entry["unit"]
        dims = tuple(range(at, at := at + len(entry["names"])))
        found.append(Meaning(**{**entry, "dims": dims, "unit": unit}))
    return tuple(found)


def stored_meanings(entries: Any, n_dims: int) -> tuple[Meaning, ...]:
    """Meanings as they were stored, each with the places of its dims.

    Raises:
        ValueError: they are not what is stored of an action with so many dims.
    """
    if not isinstance(entries, list):
        raise ValueError("meanings that are no list")
    found = []
    for entry in entries:
        dims = tuple(entry["dims"])
        known = _Entry.model_validate({k: v for k, v in entry.items() if k != "dims"})
        if len(dims) != len(known.names) or not all(type(d) is int for d in dims):
            raise ValueError("meanings without a place for each dim")
        found.append(Meaning(**{**known.model_dump(), "dims": dims}))
    every = [d for meaning in found for d in meaning.dims]
    if len(set(every)) < len(every) or not set(every) <= set(range(n_dims)):
        raise ValueError("meanings of dims that are not there")
    return tuple(found)


def digest(meanings: Sequence[Meaning]) -> str:
    """A short hash of what is declared."""
    text = json.dumps([vars(m) for m in meanings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# ── a first draft ─────────────────────────────────────────────────────

_SIDE = re.compile(r"(?:^|[._\W])(left|right|l|r)(?=[._\W]|$)", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_GRIPPER = ("gripper", "grasp", "claw")
_FINGER = ("hand", "finger", "thumb", "pinky")
_RUNS: tuple[tuple[tuple[str, ...], Kind, Form | None], ...] = (
    (("x", "y", "z"), "position", None),
    (("x", "y"), "position", None),
    (("rx", "ry", "rz"), "rotation", "axis_angle"),
    (("ax", "ay", "az"), "rotation", "axis_angle"),
    (("wx", "wy", "wz"), "rotation", "axis_angle"),
    (("roll", "pitch", "yaw"), "rotation", "euler"),
    (("qx", "qy", "qz", "qw"), "rotation", "quaternion_xyzw"),
    (("qw", "qx", "qy", "qz"), "rotation", "quaternion_wxyz"),
)
_WORDS = "position|angle|rotation|gripper|other"


def drafted(names: Sequence[str]) -> tuple[Meaning, ...]:
    """What names suggest: kinds and groups, never units. For a person to read and mend."""
    found, at = list[Meaning](), 0
    while at < len(names):
        meaning = _drafted(tuple(names), at)
        at = meaning.dims[-1] + 1
        last = found[-1] if found else None
        if last and last.kind == meaning.kind in ("angle", "other") and last.group == meaning.group:
            found.pop()
            whole = (last.names + meaning.names, last.dims + meaning.dims)
            meaning = Meaning(meaning.kind, *whole, group=meaning.group)
        found.append(meaning)
    return tuple(found)


def _drafted(names: tuple[str, ...], at: int) -> Meaning:
    leaves = [_leaf(name) for name in names]
    for run, kind, form in _RUNS:
        if tuple(leaves[at : at + len(run)]) == run:
            dims = tuple(range(at, at + len(run)))
            group = _group(names[at], "arm")
            return Meaning(kind, names[at : at + len(run)], dims, group=group, form=form)
    name = names[at].lower()
    if any(word in name for word in _GRIPPER):
        return Meaning("gripper", (names[at],), (at,), group=_group(names[at], "arm"))
    if any(word in name for word in _FINGER):
        return Meaning("other", (names[at],), (at,), group=_group(names[at], "hand"))
    joint = re.search(
        r"joint|waist|shoulder|elbow|wrist|forearm|hip|knee|ankle|base|pan|lift|flex", name
    )
    kind = "angle" if joint else "other"
    return Meaning(kind, (names[at],), (at,), group=_group(names[at], "arm"))


def _leaf(name: str) -> str:
    """The last word of a name: ``left_eef.x`` and ``x`` are both x."""
    return re.split(r"[._\s]", re.sub(r"\.(pos|position)$", "", name.lower()))[-1]


def _group(name: str, limb: str) -> str:
    side = _SIDE.search(_CAMEL.sub("_", name))
    return f"{ {'l': 'left', 'r': 'right'}[side[1][0].lower()] } {limb}" if side else ""


def as_yaml(meanings: Sequence[Meaning], heading: Sequence[str] = ()) -> str:
    """Meanings as the file that `read_meanings` reads.

    Args:
        meanings: of all dims, in their order.
        heading: lines of comment above it.
    """
    lines = [f"# {line}" for line in heading] + ["actions:"]
    for meaning in meanings:
        lines.append(f"  - names: [{', '.join(map(_quoted, meaning.names))}]")
        lines.append(f"    kind: {meaning.kind}  # {_WORDS}")
        if meaning.form is not None:
            lines.append(f"    form: {meaning.form}  # {'|'.join(FORM_DIMS)}")
        if meaning.form == "euler":
            lines.append(
                f"    axes: {meaning.axes}  # xyz: fixed axes; XYZ: those that were turned"
            )
        unit = "unknown" if meaning.unit == UNDECLARED_UNIT else _quoted(meaning.unit)
        lines.append(f"    unit: {unit}")
        if meaning.scale != 1:
            lines.append(f"    scale: {meaning.scale:g}  # a value of 1 is so many of the unit")
        if meaning.group:
            lines.append(f"    group: {_quoted(meaning.group)}")
        if meaning.kind == "gripper":
            lines += [
                f"    {word}: {'null' if value is None else f'{value:g}'}"
                for word, value in (("closed", meaning.closed), ("open", meaning.open))
            ]
        else:
            lines.append(f"    delta: {str(meaning.delta).lower()}")
        if meaning.kind == "angle":
            lines.append(f"    continuous: {str(meaning.continuous).lower()}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(visible(text), ensure_ascii=False)
