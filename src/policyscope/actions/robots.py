"""What a policy meets: a robot, as a dataset recorded it or a simulator plays it.

Units of action dims are declared by the user, or known for a few public robots; never guessed.
LeRobot datasets record names but no units. An unknown unit stays `UNDECLARED_UNIT`, and the
run says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final

from numpy.typing import NDArray

from policyscope.actions.spaces import UNDECLARED_UNIT, ActionSchema
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


def action_units(
    declared: str | None, *, names: tuple[str, ...], repo_id: str, robot_type: str | None
) -> tuple[str, ...]:
    """One unit a dim.

    Args:
        declared: ``--dataset.action_units``: one unit, or a comma-separated list, one a dim.
        names: names of the action dims.
        repo_id: dataset id.
        robot_type: ``robot_type`` of the dataset's metadata.

    Raises:
        UsageError: a list of the wrong length.
    """
    if declared is not None:
        units = tuple(u.strip() for u in declared.split(","))
        if len(units) == 1:
            return units * len(names)
        if len(units) != len(names) or not all(units):
            raise UsageError(
                "--dataset.action_units",
                expected=f"one unit, or {len(names)} (one for each action dim)",
                found=f"{len(units)}: {declared!r}",
                fix=f"--dataset.action_units {','.join([units[0] or 'rad'] * len(names))}",
            )
        return units
    return tuple(_known_unit(name, repo_id, robot_type or "") for name in names)


def image_plane(repo_id: str, units: tuple[str, ...]) -> dict[str, int] | None:
    """The plane that a camera looks at squarely, where actions are points of it; else None.

    Returns:
        ``x`` and ``y``, the dims that hold the point, and the plane's ``width`` and ``height`` in
        the unit of those dims.
    """
    if repo_id.rsplit("/", 1)[-1].startswith("pusht") and units == ("px", "px"):
        return {"x": 0, "y": 1, "width": PUSHT_BOARD_PX, "height": PUSHT_BOARD_PX}
    return None


def _known_unit(name: str, repo_id: str, robot_type: str) -> str:
    if repo_id.rsplit("/", 1)[-1].startswith("pusht"):
        return "px"  # gym-pusht: targets on the board
    if robot_type == "aloha":  # gym-aloha: joint angles, grippers scaled to their stroke
        return UNIT_INTERVAL if "gripper" in name else "rad"
    if robot_type == "Unitree_G1_Inspire":  # Unitree: joint angles, hand closure 0 to 1
        return UNIT_INTERVAL if "Hand" in name else "rad"
    return UNDECLARED_UNIT
