"""Whether an episode's task was solved, and when, from what its environment said step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from policyscope.runs.rows import RolloutRow

SuccessRule = Literal["any", "end"]
"""When an episode counts as solved: if that was said at any step, or at its last one."""


@final
@dataclass(frozen=True)
class Verdict:
    """What came of an episode's task.

    Attributes:
        success: None where nothing was said of it.
        step: how many steps it took; None without success. With the rule ``end``, those before
            the last stretch of steps that are all solved, and the first of these.
    """

    success: bool | None
    step: int | None


def judge(said: NDArray[np.int8], rule: SuccessRule) -> Verdict:
    """Whether an episode's task was solved, and when.

    Args:
        said: [1 + T] after the reset and each step: 1 solved, 0 not, -1 nothing was said. What is
            said after the reset counts as no success, nobody having acted yet.
        rule: any step, or the last one.
    """
    solved = said[1:] == 1
    success = bool(solved.any() if rule == "any" else solved[-1:].any())
    if not success:
        return Verdict(False if (said >= 0).any() else None, None)
    if rule == "any":
        return Verdict(True, int(solved.argmax()) + 1)
    return Verdict(True, int(np.nonzero(~solved)[0].max(initial=-1)) + 2)


def settled(rows: Sequence[RolloutRow]) -> list[RolloutRow]:
    """Rows of a run, with failures where the environment speaks of success alone.

    Some say ``is_success`` only when it is true. Where one episode of the run spoke, one that did
    not has failed; where none did, nobody knows.
    """
    if all(row.success is None for row in rows):
        return list(rows)
    return [
        row if row.ended == "fault" else row.model_copy(update={"success": bool(row.success)})
        for row in rows
    ]
