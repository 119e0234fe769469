"""Which demonstrations the blind baselines learn from, and what they then predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.data.facts import ACTION
from policyscope.data.frames import Episode
from policyscope.data.source import FrameSource
from policyscope.errors import DatasetError, NonFiniteError
from policyscope.metrics.blind import Blind, Demonstration, Scale
from policyscope.policies.builtin import baseline_actions

_STATE = "observation.state"
_MOST_EPISODES = 500
_FEWEST_EPISODES = 5
Fitted = Literal["training", "left_out"]


@final
@dataclass(frozen=True, eq=False)
class Learned:
    """Blind baselines, and what they have seen.

    Attributes:
        blind: the fitted baselines.
        on: ``training``, the episodes that the policy's training saw; or ``left_out``, the
            evaluated ones, each predicted from the others.
        episodes: what they learnt from.
        action_kind: of the dataset.
    """

    blind: Blind
    on: Fitted
    episodes: tuple[int, ...]
    action_kind: str

    def chunks(self, source: FrameSource, episode: Episode) -> dict[str, FloatArray]:
        """Name → [T, H, A] predicted chunks of every frame of an episode."""
        return self.blind.chunks(_demonstration(source, episode, self.action_kind))


def learn(
    source: FrameSource,
    evaluated: Sequence[int],
    *,
    trained: frozenset[int] | None,
    horizon: int,
    action_kind: str,
) -> Learned | None:
    """Fit the blind baselines as the policy was: on the episodes of its training.

    Where these are not known, or not here, the evaluated episodes stand in, each predicted from
    all others.

    Args:
        source: the dataset.
        evaluated: episodes of the evaluation.
        trained: episodes that the training saw; None where nobody knows.
        horizon: steps of a chunk.
        action_kind: ``absolute`` or ``delta``.

    Returns:
        None where the dataset has no states, no statistics of them, or too few episodes.
    """
    stats = source.facts.robot.stats
    known = [name for name in (_STATE, ACTION) if {"mean", "std"} <= stats.get(name, {}).keys()]
    if len(known) < 2:
        return None
    scale = Scale.of(stats[_STATE], stats[ACTION])
    choices: list[tuple[Fitted, Sequence[int]]] = [("left_out", evaluated)]
    if trained is not None:
        choices.insert(0, ("training", sorted(trained & set(source.facts.lengths))))
    for on, episodes in choices:
        chosen = _spread(episodes)
        seen = _demonstrations(source, chosen, action_kind, scale)
        if len(seen) >= _FEWEST_EPISODES:
            return Learned(Blind(seen, scale, horizon=horizon), on, tuple(chosen), action_kind)
    return None


def _spread(episodes: Sequence[int]) -> list[int]:
    """At most so many, evenly spread."""
    places = np.linspace(0, len(episodes) - 1, min(len(episodes), _MOST_EPISODES))
    return [episodes[round(i)] for i in places.tolist()]


def _demonstrations(
    source: FrameSource, episodes: Sequence[int], action_kind: str, scale: Scale
) -> list[Demonstration]:
    """All of them, or none where one can't be read or has other dims than the statistics."""
    seen = []
    try:
        for index in episodes:
            episode = source.episode(index)
            if episode.state is None or episode.state.shape[1] != len(scale.state[0]):
                return []
            seen.append(_demonstration(source, episode, action_kind))
    except (DatasetError, NonFiniteError):  # its files need not be here
        return []
    return seen


def _demonstration(source: FrameSource, episode: Episode, action_kind: str) -> Demonstration:
    assert episode.state is not None
    single = baseline_actions(episode, stats=source.facts.robot.stats, action_kind=action_kind)
    return Demonstration(
        episode.index,
        episode.state.astype(np.float64),
        episode.actions.values,
        single["repeat_last"],
    )
