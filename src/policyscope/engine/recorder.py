"""Rollouts as a LeRobot v3.0 dataset, in lerobot's own hand."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np

from policyscope.actions.spaces import ActionSchema
from policyscope.engine.episodes import Planned
from policyscope.engine.replay import Moment, Sink
from policyscope.errors import OutputError
from policyscope.runs.rollouts import StoredRollout
from policyscope.sim.processors import Eyes


def require_absent(root: Path) -> None:
    """Raise where a recording would meet something.

    Raises:
        OutputError: the directory is there already.
    """
    if root.exists():
        raise OutputError(
            f"--record {root}",
            expected="a directory that is not there yet",
            found="one that is",
            fix="choose another one, or remove it",
        )


@final
class Recorder:
    """Writes episodes, one after the other.

    Args:
        root: of the dataset.
        repo_id: its name.
        eyes: processors of the environment: what is recorded is what the policy saw.
        schema: of the actions.
        fps: control steps a second.
        robot_type: or None.
    """

    def __init__(
        self,
        root: Path,
        *,
        repo_id: str,
        eyes: Eyes,
        schema: ActionSchema,
        fps: float,
        robot_type: str | None,
    ) -> None:
        self._root, self._repo_id, self._eyes, self._schema = root, repo_id, eyes, schema
        self._fps, self._robot_type = fps, robot_type
        self._dataset: Any = None
        self._order: list[int] = []
        self._ready: dict[int, Callable[[], None]] = {}

    def episode(self, planned: Planned, stored: StoredRollout) -> Sink:
        """What takes the moments of one episode."""
        if planned.index not in self._order:  # it is shown once more where a simulator failed
            self._order.append(planned.index)
        return _Recording(self, planned.index, stored)

    def see(self, moment: Moment, task: str) -> dict[str, Any]:
        """What the policy saw, as datasets hold it."""
        seen = self._eyes.see([moment.observation], [task])
        return {key: _plain(value[0]) for key, value in seen.items()}

    def ended(self, index: int, save: Callable[[], None]) -> None:
        """Save an episode, and those that waited for it: datasets keep the run's order."""
        self._ready[index] = save
        while self._order and self._order[0] in self._ready:
            self._ready.pop(self._order.pop(0))()

    def save(self, frames: list[dict[str, Any]], stored: StoredRollout) -> None:
        """Write one episode."""
        n = len(stored.actions)
        if len(frames) != n or not n:
            return
        dataset = self._open(frames[0])
        solved_from = (stored.row.success_step or n) if stored.row.success else n + 1
        for t, frame in enumerate(frames):
            dataset.add_frame(
                {
                    **frame,
                    "action": stored.actions[t].astype(np.float32),
                    "next.reward": np.array([stored.rewards[t]], np.float32),
                    "next.success": np.array([t + 1 >= solved_from]),
                    "next.done": np.array([t == n - 1]),
                    "task": _task(stored),
                }
            )
        dataset.save_episode()

    def finish(self) -> None:
        """Save what waits for episodes that never came, and close the dataset."""
        for index in self._order:
            self._ready.pop(index, lambda: None)()
        if self._dataset is not None:
            self._dataset.finalize()

    def _open(self, frame: dict[str, Any]) -> Any:
        if self._dataset is None:
            from lerobot.datasets.lerobot_dataset import LeRobotDataset

            features: dict[str, Any] = {
                key: {
                    "dtype": "video",
                    "shape": value.shape,
                    "names": ["height", "width", "channel"],
                }
                if value.dtype == np.uint8
                else {"dtype": "float32", "shape": value.shape, "names": None}
                for key, value in frame.items()
            }
            names = list(self._schema.names)
            features["action"] = {"dtype": "float32", "shape": (len(names),), "names": names}
            features["next.reward"] = {"dtype": "float32", "shape": (1,), "names": None}
            for key in ("next.success", "next.done"):
                features[key] = {"dtype": "bool", "shape": (1,), "names": None}
            self._dataset = LeRobotDataset.create(
                self._repo_id,
                fps=round(self._fps) if float(self._fps).is_integer() else _Rate(self._fps),
                features=features,
                root=self._root,
                robot_type=self._robot_type,
                use_videos=True,
            )
        return self._dataset


@final
class _Recording:
    """One episode on its way into a dataset.

    Args:
        recorder: that writes it.
        index: its place in the run.
        stored: the episode.
    """

    def __init__(self, recorder: Recorder, index: int, stored: StoredRollout) -> None:
        self._recorder, self._index, self._stored = recorder, index, stored
        self._frames: list[dict[str, Any]] = []

    def add(self, moment: Moment) -> None:
        """See `Sink`. The last observation has no action, and no frame."""
        if moment.step < len(self._stored.actions):
            self._frames.append(self._recorder.see(moment, _task(self._stored)))

    def close(self, *, whole: bool) -> None:
        """See `Sink`."""
        frames, self._frames = self._frames, []
        if whole:
            save = partial(self._recorder.save, frames, self._stored)
            self._recorder.ended(self._index, save)


def _task(stored: StoredRollout) -> str:
    return stored.row.task or "no instruction"


@final
class _Rate(float):
    """Frames a second as lerobot's encoder wants it: 12.5 is 25/2, and stays 12.5 in JSON."""

    @property
    def numerator(self) -> int:
        """Of the fraction."""
        return Fraction(self).limit_denominator(1000).numerator

    @property
    def denominator(self) -> int:
        """Of the fraction."""
        return Fraction(self).limit_denominator(1000).denominator


def _plain(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A tensor as datasets hold it: pictures [H, W, C] uint8, all else float32."""
    if value.ndim == 3:
        return (value.transpose(1, 2, 0) * 255).round().astype(np.uint8)
    return value.astype(np.float32)
