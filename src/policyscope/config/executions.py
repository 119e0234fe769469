"""How a robot runs the chunks of a policy: the values of ``--execute``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from policyscope.config.parsing import is_positive_int
from policyscope.errors import UsageError

FLAG = "--execute"
COEFFICIENT = 0.01
"""Of ACT's temporal ensemble, as its authors ran it."""
_MOST = 100


@final
@dataclass(frozen=True)
class Execution:
    """One way to run chunks.

    Attributes:
        steps: that are run of a chunk before the next is asked for.
        coefficient: of a temporal ensemble, which asks at every step and runs the mean of all that
            chunks so far said about it; None where chunks are run one after the other.
    """

    steps: int
    coefficient: float | None = None


def parse_executions(text: str) -> tuple[Execution, ...] | None:
    """The ways that a flag names; None for ``auto``.

    Args:
        text: ``auto``, ``none``, or a list such as ``1,8,16,ensemble,ensemble:0.1``.

    Raises:
        UsageError: something else.
    """
    if text in ("auto", "none"):
        return None if text == "auto" else ()
    found = []
    for part in (p.strip() for p in text.split(",")):
        word, colon, number = part.partition(":")
        if is_positive_int(part):
            found.append(Execution(int(part)))
        elif word == "ensemble" and (not colon or _is_number(number)):
            found.append(Execution(1, float(number) if colon else COEFFICIENT))
        else:
            raise UsageError(
                FLAG,
                expected="auto, none, or a list of steps and ensemble[:COEFFICIENT]",
                found=repr(part)[:80],
                fix=f"{FLAG} 1,8,16,ensemble",
            )
    if len(found) > _MOST:
        raise UsageError(
            FLAG, expected=f"at most {_MOST}", found=str(len(found)), fix=f"{FLAG} auto"
        )
    return tuple(dict.fromkeys(found))


SWEEP = "--sweep"
_SWEPT = "n_action_steps"


def parse_sweep(text: str) -> tuple[int, ...]:
    """The numbers of steps that ``--sweep n_action_steps=1,8,16`` names, in its order.

    Raises:
        UsageError: something else, or fewer than two.
    """
    name, _, values = text.partition("=")
    parts = [part.strip() for part in values.split(",")]
    if name.strip() == _SWEPT and all(is_positive_int(part) for part in parts):
        steps = tuple(dict.fromkeys(int(part) for part in parts))
        if 2 <= len(steps) <= _MOST:
            return steps
    raise UsageError(
        SWEEP,
        expected=f"{_SWEPT}= and 2 to {_MOST} numbers of steps that are run of each chunk",
        found=repr(text)[:80],
        fix=f"{SWEEP} {_SWEPT}=1,8,16",
    )


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) <= 100 and math.isfinite(float(text))
    except ValueError:
        return False


def chosen_executions(
    wanted: tuple[Execution, ...] | None,
    *,
    horizon: int,
    n_action_steps: int,
    stride: int,
    ensembling: float | None = None,
) -> tuple[Execution, ...]:
    """The ways that can be tried with the chunks that there are.

    Args:
        wanted: of `parse_executions`; None tries powers of two, the run's own way, whole chunks
            and an ensemble.
        horizon: steps of a chunk.
        n_action_steps: that this run's robot executes.
        stride: frames from one chunk to the next.
        ensembling: coefficient with which this run's robot does.

    Raises:
        UsageError: a wanted one needs other chunks.
    """
    if wanted is None:
        powers = {2**i for i in range(horizon.bit_length())} | {n_action_steps, horizon}
        steps = [Execution(m) for m in sorted(powers) if m <= horizon and m % stride == 0]
        known = COEFFICIENT if ensembling is None else ensembling
        return (*steps, *([Execution(1, known)] if stride == 1 and horizon > 1 else []))
    for one in wanted:
        if one.steps > horizon:
            raise UsageError(
                FLAG,
                expected=f"at most {horizon}, the steps of a chunk",
                found=str(one.steps),
                fix=f"{FLAG} {horizon}",
            )
        if one.steps % stride:
            what = str(one.steps) if one.coefficient is None else "ensemble"
            raise UsageError(
                FLAG,
                expected=f"multiples of {stride}: with --stride {stride} there is a chunk at every "
                f"{stride}th frame alone",
                found=what,
                fix=f"{FLAG} {stride}, or --stride 1",
            )
    return wanted
