"""What a server is shown: which key of the robot's goes where, in the form that it reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.robots import Robot
from policyscope.config.addresses import Place, parse_place
from policyscope.config.parsing import parse_rename_map
from policyscope.errors import UsageError

Pictures = Literal["hwc", "chw"]


@final
@dataclass(frozen=True)
class Feed:
    """One input of a server.

    Attributes:
        name: as the server calls it, as it was typed.
        place: the same, parsed.
        source: key of the robot's.
        camera: whether it is a picture.
    """

    name: str
    place: Place
    source: str
    camera: bool


def feeds_of(rename_map: str | None, robot: Robot) -> tuple[Feed, ...]:
    """What ``--rename_map`` sends where.

    Raises:
        UsageError: it names what the robot does not have.
    """
    feeds = []
    for source, names in parse_rename_map(rename_map).items():
        if source not in robot.features:
            raise UsageError(
                "--rename_map",
                expected=f"{robot.kind} keys ({', '.join(robot.observed)})",
                found=source,
                fix=f"name a key that the {robot.kind} has on the left, the server's on the right",
            )
        feeds += [named(name, source, robot) for name in names]
    return tuple(feeds)


def named(name: str, source: str, robot: Robot) -> Feed:
    """A source of the robot's under a server's name.

    Raises:
        UsageError: a name that means nothing.
    """
    return Feed(name, parse_place(name), source, source in robot.cameras)


def require_all(
    feeds: Sequence[Feed], wanted: Iterable[str], robot: Robot, *, optional: Iterable[str] = ()
) -> None:
    """Raise unless exactly what a server reads is fed.

    Raises:
        UsageError: an input lacks its source, or a name is none of the server's.
    """
    keys = {feed.place.key for feed in feeds}
    wanted = list(wanted)
    missing = [key for key in wanted if key not in keys]
    strange = sorted(keys - {*wanted, *optional})
    if missing or strange:
        raise UsageError(
            "--rename_map",
            expected=f"a source for each input of the server ({', '.join(wanted)[:400]})",
            found=f"none for {', '.join(missing)[:400]}"
            if missing
            else f"{', '.join(strange)[:400]}, which it does not read",
            fix=f"""--rename_map '{{"{_first(robot)}": "{(missing or wanted)[0][:100]}"}}'""",
        )


def _first(robot: Robot) -> str:
    return robot.observed[0] if robot.observed else "observation.state"


def picture(values: NDArray[Any], axes: Pictures) -> NDArray[np.uint8]:
    """Pictures as bytes.

    Args:
        values: [..., C, H, W], bytes or floats in [0, 1].
        axes: of the pictures that are given back.
    """
    if values.dtype != np.uint8:
        values = np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
    if axes == "hwc":
        values = np.moveaxis(values, -3, -1)
    return np.ascontiguousarray(values)


def numbers(values: NDArray[Any], dims: slice) -> NDArray[Any]:
    """Numbers [..., D], and of them the dims that are sent."""
    return np.ascontiguousarray(np.asarray(values, dtype=np.float32)[..., dims])


def put(observation: dict[str, Any], place: Place, value: Any) -> None:
    """Put a value where a server reads it."""
    table, keys = observation, (place.key, *place.inner)
    for key in keys[:-1]:
        table = table.setdefault(key, {})
    table[keys[-1]] = value


def sources(feeds: Sequence[Feed]) -> Mapping[str, str]:
    """Server's name → key of the robot's, for the record."""
    return {feed.name: feed.source for feed in feeds}
