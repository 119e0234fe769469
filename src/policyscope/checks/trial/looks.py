"""What a dataset on trial is, what one look at it says, and what all looks together say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.data.frames import Episode
from policyscope.data.source import FrameSource
from policyscope.errors import Finding, Severity
from policyscope.metrics.recordings import Extent, Jump

NAMED = 4


@final
@dataclass(frozen=True, eq=False)
class Recordings:
    """The episodes that could be read, with what they have in common.

    Attributes:
        source: the dataset.
        episodes: readable ones, at least one.
    """

    source: FrameSource
    episodes: tuple[Episode, ...]

    @property
    def actions(self) -> list[FloatArray]:
        """[T, A] of each episode."""
        return [episode.actions.values for episode in self.episodes]

    @property
    def state(self) -> list[FloatArray]:
        """[T, S] of each episode; empty where there is no state."""
        known = [episode.state for episode in self.episodes]
        return [state for state in known if state is not None and state.shape[1]]

    @cached_property
    def extent(self) -> Extent:
        """Of the actions."""
        return Extent.of(self.actions)

    @cached_property
    def state_extent(self) -> Extent | None:
        """Of the state."""
        return Extent.of(self.state) if self.state else None

    @property
    def n_frames(self) -> int:
        """Of all episodes."""
        return sum(episode.length for episode in self.episodes)

    @property
    def groups(self) -> Iterable[tuple[str, tuple[str, ...], list[FloatArray], Extent]]:
        """What moves: ``action`` and ``state``, names of dims, episodes, extent."""
        robot = self.source.facts.robot
        yield "action", robot.actions.labels, self.actions, self.extent
        if self.state_extent is not None:
            yield "state", robot.state_names, self.state, self.state_extent

    def number(self, place: int) -> int:
        """The index of the episode at a place."""
        return self.episodes[place].index


@final
@dataclass(frozen=True)
class Look:
    """One thing that was looked at.

    Attributes:
        title: what, in a word or two.
        said: what was seen, a text with {values}.
        values: of the text.
        findings: what is wrong with it.
        there: whether there was anything to look at.
        episodes: those that findings are about.
    """

    title: str
    said: str
    values: Mapping[str, object] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    there: bool = True
    episodes: tuple[int, ...] = ()

    @property
    def outcome(self) -> Literal["error", "warning", "info", "fine", "absent"]:
        """The worst of its findings."""
        for severity in _WORST_FIRST:
            if any(finding.severity == severity for finding in self.findings):
                return severity
        return "fine" if self.there else "absent"


_WORST_FIRST: tuple[Severity, ...] = ("error", "warning", "info")


@final
@dataclass(frozen=True, eq=False)
class Lag:
    """How far the state is behind the action.

    Attributes:
        lags: [L] frames that were tried.
        curve: [L, D] correlation of steps at each.
        dims: [D] names of the dims that were held against each other.
    """

    lags: NDArray[np.int64]
    curve: FloatArray
    dims: tuple[str, ...]


@final
@dataclass(frozen=True, eq=False)
class Trial:
    """A dataset on trial.

    Attributes:
        source: the dataset.
        recordings: what was looked at; None where no episode could be read.
        looks: in order.
        jumps: of the actions.
        lag: of the state behind the action, where they can be compared.
        apart: [E] how far each episode is from the one nearest to it, in std; NaN of a single one.
    """

    source: FrameSource
    recordings: Recordings | None
    looks: tuple[Look, ...]
    jumps: tuple[Jump, ...] = ()
    lag: Lag | None = None
    apart: FloatArray | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of all looks, errors first."""
        every = [finding for look in self.looks for finding in look.findings]
        return tuple(sorted(every, key=lambda found: _WORST_FIRST.index(found.severity)))

    @property
    def odd(self) -> dict[int, tuple[str, ...]]:
        """Episode index → titles of the looks that found something in it."""
        found: dict[int, tuple[str, ...]] = {}
        for look in self.looks:
            for episode in look.episodes:
                found[episode] = (*found.get(episode, ()), look.title)
        return dict(sorted(found.items()))


def some(numbers: Iterable[int]) -> str:
    """A few of many episodes, frames or dims, by number."""
    known = sorted(set(numbers))
    return ", ".join(map(str, known[:NAMED])) + (", ..." if len(known) > NAMED else "")


def named(names: Sequence[str]) -> str:
    """A few of many names."""
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def leaving_out(episodes: Iterable[int]) -> str:
    """A fix that is always there."""
    return f"look at them in the page (--html), then mend or delete episodes {some(episodes)}"
