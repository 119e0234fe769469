"""Episodes that somebody else ran, with what was noted about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from policyscope.runs.rows import OutcomeRow

MOST_EPISODES = 1_000_000
"""Of an imported run."""


@final
@dataclass(frozen=True)
class Labelled:
    """One episode.

    Attributes:
        success: None where nobody says.
        task_group: the suite; an empty text where there is none.
        task_id: its place in the suite.
        task: the instruction, or an empty text.
        seed: None where nobody noted it.
        max_reward: the highest reward, or None.
        sum_reward: the sum of rewards, or None.
        note: what somebody wrote down.
        recorded: its number in a recording, or None.
    """

    success: bool | None
    task_group: str = ""
    task_id: int = 0
    task: str = ""
    seed: int | None = None
    max_reward: float | None = None
    sum_reward: float | None = None
    note: str = ""
    recorded: int | None = None

    def row(self, place: int) -> OutcomeRow:
        """As tables hold it, at its place in the run."""
        return OutcomeRow(
            episode=place,
            seed=self.seed,
            task_group=self.task_group,
            task_id=self.task_id,
            task=self.task,
            success=self.success,
            max_reward=self.max_reward,
            sum_reward=self.sum_reward,
        )


def seeds_known(episodes: Sequence[Labelled]) -> bool:
    """Whether each has a seed: a few alone pair nothing."""
    return all(episode.seed is not None for episode in episodes)
