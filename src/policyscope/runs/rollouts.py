"""The files of a closed-loop run, beside those that every run has.

Each finished episode waits in ``parts/``, written whole; at the end they become two tables:
``predictions.parquet`` (a row for each model call) and ``steps.parquet`` (a row for each step).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from policyscope.actions.spaces import ActionSchema, FloatArray
from policyscope.files import remove, write_whole
from policyscope.runs.directory import FRAMES, STEPS, RunDirectory
from policyscope.runs.parts import first_problem
from policyscope.runs.predictions import PREDICTIONS
from policyscope.runs.rows import RolloutRow
from policyscope.runs.tables import Stamped, lists, merge_tables, read_table


@final
@dataclass(frozen=True, eq=False)
class StoredRollout:
    """One finished episode, as it is stored and read back.

    Attributes:
        row: what the record lists of it.
        states: [T + 1, S].
        rewards: [T].
        actions: [T, A] as executed.
        extras: name → [T + 1, …], as far as the simulator gives them.
        called_at: [C] step of each model call.
        chunks: [C, H, A].
        model_s: [C].
    """

    row: RolloutRow
    states: FloatArray
    rewards: FloatArray
    actions: FloatArray
    extras: dict[str, FloatArray]
    called_at: NDArray[np.int64]
    chunks: FloatArray
    model_s: FloatArray


@final
class RolloutStore:
    """Episodes of a run directory."""

    def __init__(self, directory: RunDirectory, schema: ActionSchema, stats_id: str) -> None:
        self._directory, self._schema, self._stats_id = directory, schema, stats_id

    def add(self, rollout: StoredRollout, picture: NDArray[np.uint8] | None) -> None:
        """Store an episode; its last file makes it count as finished.

        Args:
            rollout: the episode.
            picture: [H, W, 3] at its end, or None.
        """
        index, seed, dim = rollout.row.episode, rollout.row.seed, self._schema.dim
        states, rewards, chunks = rollout.states, rollout.rewards, rollout.chunks
        actions = rollout.actions.reshape(-1, dim)
        stamp = {
            "space": "native",
            "names": self._schema.names,
            "units": self._schema.units,
            "stats_id": self._stats_id,
            "action_dim": dim,
            "row": rollout.row.to_json(),
        }
        if picture is not None:
            drawn = _png(picture)
            write_whole(
                self._directory.path / FRAMES / f"{index:06d}.png",
                lambda tmp: tmp.write_bytes(drawn),
            )
        calls = pa.table(
            {
                "episode_index": np.full(len(chunks), seed),
                "episode": np.full(len(chunks), index),
                "frame_index": rollout.called_at,
                "sample": np.zeros(len(chunks), dtype=np.int64),
                "predicted": lists(chunks),
                "model_call_s": rollout.model_s,
            }
        )
        layout = {**stamp, "horizon": chunks.shape[1], "layout": "[horizon, action_dim], row-major"}
        self._directory.write_part("calls", index, calls, layout)
        padded = np.concatenate([actions, np.full((1, dim), np.nan)])
        table = {
            "episode_index": np.full(len(states), seed),
            "episode": np.full(len(states), index),
            "step": np.arange(len(states)),
            "state": lists(states),
            "action": lists(padded[: len(states)]),
            "reward": np.append(rewards, np.nan)[: len(states)],
        }
        table |= {name: lists(values) for name, values in rollout.extras.items()}
        self._directory.write_part("episode", index, pa.table(table), stamp)

    def episode(self, index: int) -> StoredRollout:
        """A finished episode of an unfinished run.

        Raises:
            OutputError: it is broken, or another's.
        """
        steps = self._directory.read_part("episode", index)
        calls = self._directory.read_part("calls", index)
        for table in (steps, calls):
            if (table.column("episode") != index).any():
                raise table.refuse(expected=f"episode {index}", found="another")
        return _stored(_row(steps, index), steps, calls)

    def forget(self, indices: Sequence[int]) -> None:
        """Remove the pictures of episodes that do not count."""
        for index in indices:
            remove(self._directory.path / FRAMES / f"{index:06d}.png")

    def merge(self, indices: list[int]) -> None:
        """Turn the parts into the two tables."""
        for name, kind in ((STEPS, "episode"), (PREDICTIONS, "calls")):
            parts = [self._directory.part_file(kind, index) for index in indices]
            merge_tables(self._directory.path / name, parts, drop=("part", "row"))


def stored_rollouts(directory: Path, rows: Sequence[RolloutRow]) -> Iterator[StoredRollout]:
    """The episodes of a finished run, from its two tables and the rows of its record.

    An imported run whose steps nobody counted has no tables, and episodes without steps.

    Raises:
        OutputError: a table is missing, broken, or does not fit the record.
    """
    if all(row.steps is None for row in rows):
        yield from map(outcome_alone, rows)
        return
    steps, calls = read_table(directory / STEPS), read_table(directory / PREDICTIONS)
    for index, row in enumerate(rows):
        yield _stored(row, steps.where("episode", index), calls.where("episode", index))


def outcome_alone(row: RolloutRow) -> StoredRollout:
    """An episode of which nothing but its outcome is known."""
    nothing, never = np.zeros((0, 0)), np.zeros(0, dtype=np.int64)
    return StoredRollout(
        row, nothing, np.zeros(0), nothing, {}, never, np.zeros((0, 1, 0)), np.zeros(0)
    )


def _row(steps: Stamped, index: int) -> RolloutRow:
    try:
        row = RolloutRow.model_validate(steps.stamp.get("row"))
    except ValueError as error:
        raise steps.refuse(
            expected=f"the row of episode {index}", found=first_problem(error)
        ) from error
    if row.episode != index:
        raise steps.refuse(expected=f"the row of episode {index}", found=f"that of {row.episode}")
    return row


def _stored(row: RolloutRow, steps: Stamped, calls: Stamped) -> StoredRollout:
    dim = steps.number("action_dim")
    known = {"episode_index", "episode", "step", "state", "action", "reward"}
    extras = [
        name
        for name in steps.table.column_names
        if name not in known and not steps.table.column(name).null_count
    ]
    chunks = calls.finite("predicted")
    if chunks.shape[1] % dim:
        raise calls.refuse(expected=f"chunks of {dim} dims", found=f"{chunks.shape[1]} numbers")
    called_at = calls.column("frame_index")
    if (np.diff(called_at) <= 0).any() or (called_at < 0).any():
        raise calls.refuse(expected="model calls in their order", found="others")
    states = steps.matrix("state")
    n = max(0, len(states) - 1)
    if n != row.steps:
        expected = f"{row.steps} steps of episode {row.episode}, as its record says"
        raise steps.refuse(expected=expected, found=str(n))
    return StoredRollout(
        row=row,
        states=states,
        rewards=steps.column("reward")[:-1],
        actions=steps.matrix("action", dim)[:-1],
        extras={name: steps.matrix(name) for name in extras},
        called_at=called_at,
        chunks=chunks.reshape(len(chunks), -1, dim) if len(chunks) else np.zeros((0, 1, dim)),
        model_s=calls.column("model_call_s"),
    )


def _png(picture: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((256, 256))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
