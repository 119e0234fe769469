"""Errors at the frames that matter, beside those at all frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from policyscope.checks.inputs import OfflineInputs
from policyscope.config.windows import FLAG, Window, parse_windows
from policyscope.errors import UsageError
from policyscope.files import Door
from policyscope.metrics.sums import Measure, ScoredEpisode, Sums, together, windowed
from policyscope.metrics.windows import gripper_frames, slow_frames, window_scores
from policyscope.runs.values import WindowScores

_MOST_BYTES = 16 << 20
_EXAMPLE = '{"episodes": {"185": [[10, 30], [55, 80]]}}'
_DOOR = Door(UsageError, f"{FLAG} with a file like {_EXAMPLE}: first frame, one after the last")
_Frames = Annotated[int, Field(ge=0, le=10**9)]


@final
class _File(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    episodes: dict[str, list[Annotated[list[_Frames], Field(min_length=2, max_length=2)]]]


@final
class Critical:
    """Collects episodes, then answers with the scores of each window.

    Args:
        text: ``--critical``.
        inputs: the dataset, and which of its dims are compared.

    Raises:
        UsageError: a window that this dataset can't have, or a file that is none.
        DatasetError: a column that is not there.
    """

    def __init__(self, text: str, inputs: OfflineInputs) -> None:
        self._inputs = inputs
        schema = inputs.alignment.schema
        grips = any(m.kind == "gripper" for m in schema.meanings)
        wanted = parse_windows(text)
        self._windows: tuple[Window, ...] = (
            ((("gripper", ""),) if grips else ()) if wanted is None else wanted
        )
        if ("gripper", "") in self._windows and not grips:
            raise UsageError(
                f"{FLAG} gripper",
                expected="a gripper among the action dims",
                found="none that is declared or known",
                fix="--dataset.actions, see docs/actions.md; or slow, column:NAME, a JSON file",
            )
        self._files = {name: _intervals(name) for kind, name in self._windows if kind == "file"}
        for kind, name in self._windows:
            if kind == "column":  # said now, not after hours
                inputs.source.marks(inputs.episodes[0], name)
        self._sums: dict[Window, list[Sums]] = {}
        self._n_frames = 0

    def add(self, episode: ScoredEpisode, measure: Measure) -> None:
        """Sum the errors of one episode at the frames of each window."""
        self._n_frames += len(episode.frame_index)
        for window in self._windows:
            within = self._frames(window, episode.index, measure)()
            known = self._sums.setdefault(window, [Sums.nothing(measure)])
            known.append(windowed(measure, episode, within))

    def scores(self) -> list[WindowScores]:
        """One for each window."""
        return [
            window_scores(kind, name, together(self._sums[kind, name]), self._n_frames)
            for kind, name in self._windows
        ]

    def _frames(
        self, window: Window, index: int, measure: Measure
    ) -> Callable[[], NDArray[np.bool_]]:
        kind, name = window
        source = self._inputs.source
        if kind == "column":
            return partial(source.marks, index, name)
        actions = source.episode(index).actions.values[:, list(self._inputs.alignment.dataset_dims)]
        if kind == "file":
            return partial(_marked, self._files[name].get(index, ()), len(actions))
        of = gripper_frames if kind == "gripper" else slow_frames
        return partial(of, actions, measure)


def _intervals(name: str) -> Mapping[int, Sequence[Sequence[int]]]:
    file = Path(name).expanduser()
    try:
        content = _File.model_validate(_DOOR.json(file, most=_MOST_BYTES)).episodes
        return {int(episode): spans for episode, spans in content.items()}
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        found = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:200]
    except ValueError as error:
        found = str(error)[:200]
    raise _DOOR.refuse(file, expected="intervals of frames by episode", found=found)


def _marked(spans: Sequence[Sequence[int]], n: int) -> NDArray[np.bool_]:
    marked = np.zeros(n, bool)
    for first, stop in spans:
        marked[first:stop] = True
    return marked
