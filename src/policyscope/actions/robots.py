"""What a policy meets: a robot, as a dataset recorded it or a simulator plays it.

What action dims are, and their units, is declared by the user, or known for a few public robots;
never guessed. LeRobot datasets record names alone. An unknown unit stays `UNDECLARED_UNIT`, and
the run says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, final

from numpy.typing import NDArray

from policyscope.actions.declared import drafted, read_meanings
from policyscope.actions.meanings import UNDECLARED_UNIT, Meaning
from policyscope.actions.spaces import ActionSchema, FloatArray
from policyscope.errors import UsageError

UNIT_INTERVAL = "0-1"
PUSHT_BOARD_PX = 512
"""Width and height of gym-pusht's board, whatever the size of the picture."""


@final
@dataclass(frozen=True)
class Robot:
    """What gives a policy its observations and takes its actions.

    Attributes:
        kind: what to call it where it is spoken of: "the dataset", "a simulator".
        name: repo id of the dataset, or name of the simulator.
        fps: observations a second.
        robot_type: as recorded or known, or None.
        actions: names and units of the action dims.
        state_names: names of the state dims; empty without a state.
        features: key → its shape: the action, and everything that can be observed.
        cameras: camera key → (C, H, W).
        stats: key → statistic → values; empty where nobody recorded any.
        tasks: all task texts.
    """

    kind: Literal["dataset", "simulator"]
    name: str
    fps: float
    robot_type: str | None
    actions: ActionSchema
    state_names: tuple[str, ...]
    features: Mapping[str, tuple[int, ...]]
    cameras: Mapping[str, tuple[int, ...]]
    stats: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()

    @property
    def observed(self) -> tuple[str, ...]:
        """Keys of everything but the action."""
        return tuple(key for key in self.features if key != "action")


def action_schema(
    *,
    names: tuple[str, ...],
    repo_id: str,
    robot_type: str | None,
    bounds: tuple[FloatArray, FloatArray] | None = None,
    units: str | None = None,
    meanings: str | None = None,
) -> ActionSchema:
    """What the dims of a dataset's actions are, as far as it is declared or known.

    Args:
        names: of the dims, as recorded.
        repo_id: dataset id.
        robot_type: ``robot_type`` of the dataset's metadata.
        bounds: [A] smallest and largest recorded values, where they are known.
        units: ``--dataset.action_units``: one unit, or a comma-separated list, one a dim.
        meanings: ``--dataset.actions``: a file (`policyscope.actions.declared`).

    Raises:
        UsageError: units and meanings together, or for another number of dims.
    """
    if units is not None and meanings is not None:
        raise UsageError(
            "--dataset.action_units / --dataset.actions",
            expected="one of them: an action schema has units",
            found="both",
            fix="write the units into the file of --dataset.actions",
        )
    if meanings is not None:
        known = read_meanings(meanings, len(names))
    else:
        known = known_meanings(names, repo_id, robot_type, bounds)
    if units is not None:
        declared = _declared_units(units, len(names))
        known = tuple(_in_unit(m, tuple(declared[d] for d in m.dims)) for m in known)
        return ActionSchema(names, declared, known)
    native = {d: m.native_unit for m in known for d in m.dims}
    return ActionSchema(
        names, tuple(native.get(d, UNDECLARED_UNIT) for d in range(len(names))), known
    )


def _in_unit(meaning: Meaning, units: tuple[str, ...]) -> Meaning:
    """What is known of some dims, in the units that the user says they have."""
    if set(units) == {meaning.native_unit}:
        return meaning
    one = units[0] if len(set(units)) == 1 else UNDECLARED_UNIT
    return replace(meaning, unit=one, scale=1.0)


def _declared_units(text: str, n_dims: int) -> tuple[str, ...]:
    units = tuple(u.strip() for u in text.split(","))
    if len(units) == 1:
        return units * n_dims
    if len(units) != n_dims or not all(units):
        raise UsageError(
            "--dataset.action_units",
            expected=f"one unit, or {n_dims} (one for each action dim)",
            found=f"{len(units)}: {text!r}",
            fix=f"--dataset.action_units {','.join([units[0] or 'rad'] * n_dims)}",
        )
    return units


def image_plane(repo_id: str, units: tuple[str, ...]) -> dict[str, int] | None:
    """The plane that a camera looks at squarely, where actions are points of it; else None.

    Returns:
        ``x`` and ``y``, the dims that hold the point, and the plane's ``width`` and ``height`` in
        the unit of those dims.
    """
    if repo_id.rsplit("/", 1)[-1].startswith("pusht") and units == ("px", "px"):
        return {"x": 0, "y": 1, "width": PUSHT_BOARD_PX, "height": PUSHT_BOARD_PX}
    return None


# ── public robots ─────────────────────────────────────────────────────


def known_meanings(
    names: tuple[str, ...],
    repo_id: str,
    robot_type: str | None,
    bounds: tuple[FloatArray, FloatArray] | None = None,
) -> tuple[Meaning, ...]:
    """The meanings of a public robot's dims; none for others (arguments as `action_schema`)."""
    leaf, robot = repo_id.rsplit("/", 1)[-1].lower(), (robot_type or "").lower()
    if leaf.startswith("pusht") and len(names) == 2:
        return (Meaning("position", ("x", "y"), (0, 1), "px"),)
    if robot == "aloha":
        return _from_names(names, "rad", closed=0.0, open=1.0, hand=UNIT_INTERVAL)
    if robot == "unitree_g1_inspire":
        return _from_names(names, "rad", hand=UNIT_INTERVAL)
    if robot.startswith(_HOBBY):
        # Degrees in some recordings, -100 to 100 in others: the dataset does not say which.
        calibrated = all(name.endswith(".pos") for name in names)
        ends = {"closed": 0.0, "open": 100.0} if calibrated else {}
        return _from_names(names, UNDECLARED_UNIT, hand=_PERCENT if ends else None, **ends)
    if "libero" in leaf and len(names) == 7 and _within_one(bounds):
        return _LIBERO
    if leaf.startswith("droid") and robot == "franka":
        return _droid(names)
    return ()


_HOBBY = ("so100", "so101", "so_follower", "bi_so", "koch", "bi_koch")
_PERCENT = "%"
_LIBERO = (
    Meaning("position", ("x", "y", "z"), (0, 1, 2), "m", delta=True, scale=0.05),
    Meaning(
        "rotation",
        ("rx", "ry", "rz"),
        (3, 4, 5),
        "rad",
        delta=True,
        form="axis_angle",
        scale=0.5,
    ),
    Meaning("gripper", ("gripper",), (6,), "±1", closed=1.0, open=-1.0),
)
"""robosuite's OSC_POSE: values of 1 are 5 cm and half a radian."""


def _within_one(bounds: tuple[FloatArray, FloatArray] | None) -> bool:
    """Displacements that a controller scales stay within 1; places do not."""
    return bounds is not None and bool((bounds[0] >= -1.01).all() and (bounds[1] <= 1.01).all())


def _from_names(
    names: tuple[str, ...],
    unit: str,
    *,
    closed: float | None = None,
    open: float | None = None,  # noqa: A002
    hand: str | None = None,
) -> tuple[Meaning, ...]:
    """What the names of arms' joints, grippers and hands say, with their units."""
    found = []
    for meaning in drafted(names):
        if meaning.kind == "gripper":
            found.append(replace(meaning, unit=hand or UNDECLARED_UNIT, closed=closed, open=open))
        elif meaning.kind == "other":
            known = hand if meaning.group.endswith("hand") else None
            found.append(replace(meaning, unit=known or UNDECLARED_UNIT))
        else:
            found.append(replace(meaning, unit=unit))
    return tuple(found)


def _droid(names: tuple[str, ...]) -> tuple[Meaning, ...]:
    """DROID's joints and gripper, or its end effector: scipy's fixed axes, metres, radians."""
    units = {"position": "m", "rotation": "rad", "angle": "rad"}
    found = drafted(names)
    if any(m.kind == "other" for m in found):
        return ()
    return tuple(
        replace(m, unit=UNIT_INTERVAL, closed=1.0, open=0.0)
        if m.kind == "gripper"
        else replace(m, unit=units[m.kind])
        for m in found
    )
