"""Rollouts as a LeRobot v3.0 dataset, in lerobot's own hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import numpy as np

from policyscope.actions.spaces import ActionSchema
from policyscope.engine.episodes import Planned
from policyscope.engine.replay import Moment
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

    def episode(
        self, planned: Planned, stored: StoredRollout
    ) -> tuple[Callable[[Moment], None], Callable[[], None]]:
        """What takes the moments of one episode, and what ends it."""
        frames: list[dict[str, Any]] = []
        self._order.append(planned.index)
        task = planned.task or "no instruction"

        def add(moment: Moment) -> None:
            if moment.step >= len(stored.actions):
                return
            seen = self._eyes.see([moment.observation], [task])
            frames.append({key: _plain(value[0].numpy()) for key, value in seen.items()})

        def save() -> None:
            n = len(stored.actions)
            if len(frames) != n or not n:
                return
            dataset = self._open(frames[0])
            solved = stored.row.success
            for t, frame in enumerate(frames):
                last = t == n - 1
                dataset.add_frame(
                    {
                        **frame,
                        "action": stored.actions[t].astype(np.float32),
                        "next.reward": np.array([stored.rewards[t]], np.float32),
                        "next.success": np.array([bool(solved) and last]),
                        "next.done": np.array([last]),
                        "task": task,
                    }
                )
            dataset.save_episode()

        def close() -> None:
            """Save this episode and those that waited for it: datasets keep the run's order."""
            self._ready[planned.index] = save
            while self._order and self._order[0] in self._ready:
                self._ready.pop(self._order.pop(0))()

        return add, close

    def finish(self) -> None:
        """Close the dataset."""
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
                fps=round(self._fps),
                features=features,
                root=self._root,
                robot_type=self._robot_type,
                use_videos=True,
            )
        return self._dataset


def _plain(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A tensor as datasets hold it: pictures [H, W, C] uint8, all else float32."""
    if value.ndim == 3:
        return (value.transpose(1, 2, 0) * 255).round().astype(np.uint8)
    return value.astype(np.float32)
