"""What records are made of: frozen, typed parts whose numbers JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    ValidationError,
    WithJsonSchema,
)

Scope = Literal["step1", "chunk", "executed"]
"""Step 1 of a chunk, all of its unpadded steps, or those that a robot would run."""

SCOPES: tuple[Scope, ...] = ("step1", "chunk", "executed")

Metric = Literal["mae", "mse", "rmse", "nmae", "nmse"]
"""Errors in native units, and those in units of the dataset's standard deviation."""

_MOST_EPISODES = 2_000_000


def _finite(value: object) -> object:
    """JSON has neither NaN nor inf: an undefined number is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[Annotated[float, Strict()] | None, BeforeValidator(_finite)]
"""A number; None where it is undefined, NaN and inf among them."""

Finite = Annotated[float, Strict()]
"""A number that is always there."""

Whole = Annotated[int, Strict(), Field(ge=0)]
"""A count or an index."""

Flag = Annotated[bool, Strict()]


def spans(episodes: Iterable[int]) -> str:
    """Episode indices as the slices and numbers that ``--dataset.episodes`` takes."""
    parts: list[list[int]] = []
    for e in episodes:
        if parts and parts[-1][1] == e:
            parts[-1][1] = e + 1
        else:
            parts.append([e, e + 1])
    return ",".join(str(a) if b == a + 1 else f"{a}:{b}" for a, b in parts)


def _indices(value: object) -> object:
    """What `spans` wrote, as indices; a list of them passes as it is."""
    if not isinstance(value, str):
        return value
    found: list[int] = []
    for part in value.split(",") if value else ():
        ends = part.split(":")
        if len(ends) > 2 or not all(end.isascii() and end.isdigit() for end in ends):
            raise ValueError("expected slices and numbers, such as 0:3,7")
        first, stop = int(ends[0]), int(ends[1]) if len(ends) == 2 else int(ends[0]) + 1
        if not 0 <= stop - first <= _MOST_EPISODES - len(found):
            raise ValueError(f"expected at most {_MOST_EPISODES:,} episodes, in rising slices")
        found += range(first, stop)
    return found


Episodes = Annotated[
    Sequence[Whole],
    BeforeValidator(_indices),
    PlainSerializer(spans, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+(:\d+)?(,\d+(:\d+)?)*)?$"}),
]
"""Episode indices; in the file a text of slices, ``185:189,200``, that stays short."""


class Part(BaseModel):
    """A part of a record.

    Frozen, and checked when it is made and when it is read. Keys that it does not know are left
    out: a later version may have written them. Scripts may subscript it like the JSON it stands
    for, ``record["summary"]``; our own code uses attributes, which the type checker knows.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, use_attribute_docstrings=True
    )

    def __getitem__(self, key: str) -> Any:
        try:
            return getattr(self, key)
        except AttributeError:
            raise KeyError(key) from None

    def to_json(self) -> dict[str, Any]:
        """As the file holds it."""
        return self.model_dump(mode="json")


class Columns(Part):
    """A row of a table that has further columns of numbers for each baseline.

    ``hold_state_mae`` and ``skill_hold_state``, for example: which baselines there are depends on
    the dataset and the kind of its actions.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Number]

    def beside(self, columns: Mapping[str, float | None]) -> Self:
        """The same row with columns of baselines."""
        return self.model_copy(update={name: _finite(value) for name, value in columns.items()})

    def column(self, name: str) -> float | None:
        """Any column of numbers; None where it is undefined.

        Raises:
            KeyError: the table has none of that name.
        """
        value: float | None = self[name]
        return value

    def ends(self, name: str) -> tuple[float | None, float | None]:
        """The interval of a further column; None where the table has none."""
        extra = self.__pydantic_extra__
        return extra.get(f"{name}_ci_low"), extra.get(f"{name}_ci_high")

    def skill(self, baseline: str) -> float | None:
        """1 - MSE/MSE of a baseline."""
        return self.column(f"skill_{baseline}")


_TAGS = ("offline", "rollout", "complete", "partial", "refused")


def first_problem(error: Exception) -> str:
    """Where a part is wrong, and how, on one line."""
    if not isinstance(error, ValidationError):
        return str(error).strip().splitlines()[0][:200]
    worst = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = [str(key) for key in worst["loc"] if key not in _TAGS]
    return f"{'.'.join(['$', *place])}: {worst['msg']}"[:200]
