"""The files of a closed-loop run, beside those that every run has.

Each finished episode waits in ``parts/``, written whole; at the end they become two tables:
``predictions.parquet`` (a row for each model call) and ``steps.parquet`` (a row for each step).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from policyscope.actions.spaces import ActionSchema, FloatArray
from policyscope.runs.directory import FRAMES, STEPS, RunDirectory, write_whole
from policyscope.runs.predictions import PREDICTIONS

_META = b"policyscope"


@final
@dataclass(frozen=True, eq=False)
class StoredRollout:
    """One finished episode, as it is stored and read back.

    Attributes:
        row: what ``run.json`` lists of it.
        states: [T + 1, S].
        rewards: [T].
        actions: [T, A] as executed.
        extras: name → [T + 1, …], as far as the simulator gives them.
        called_at: [C] step of each model call.
        chunks: [C, H, A].
        model_s: [C].
    """

    row: dict[str, Any]
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
        self._parts = directory.path / "parts"

    def add(self, rollout: StoredRollout, picture: NDArray[np.uint8] | None) -> None:
        """Store an episode; its last file makes it count as finished.

        Args:
            rollout: the episode.
            picture: [H, W, 3] at its end, or None.
        """
        index, seed, dim = rollout.row["episode"], rollout.row["seed"], self._schema.dim
        states, rewards, chunks = rollout.states, rollout.rewards, rollout.chunks
        actions = rollout.actions.reshape(-1, dim)
        meta = {
            "space": "native",
            "names": self._schema.names,
            "units": self._schema.units,
            "stats_id": self._stats_id,
            "action_dim": dim,
            "row": rollout.row,
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
                "predicted": _lists(chunks),
                "model_call_s": rollout.model_s,
            }
        )
        layout = {**meta, "horizon": chunks.shape[1], "layout": "[horizon, action_dim], row-major"}
        self._write(f"calls-{index:06d}.parquet", calls, layout)
        padded = np.concatenate([actions, np.full((1, dim), np.nan)])
        table = {
            "episode_index": np.full(len(states), seed),
            "episode": np.full(len(states), index),
            "step": np.arange(len(states)),
            "state": _lists(states),
            "action": _lists(padded[: len(states)]),
            "reward": np.append(rewards, np.nan)[: len(states)],
        }
        table |= {name: _lists(values) for name, values in rollout.extras.items()}
        self._write(f"episode-{index:06d}.parquet", pa.table(table), meta)

    def _write(self, name: str, table: pa.Table, meta: dict[str, Any]) -> None:
        whole = table.replace_schema_metadata({_META: json.dumps(meta).encode()})
        write_whole(self._parts / name, lambda tmp: pq.write_table(whole, tmp, compression="zstd"))

    def episode(self, index: int) -> StoredRollout:
        """A finished episode of an unfinished run."""
        steps = pq.read_table(self._parts / f"episode-{index:06d}.parquet")
        calls = pq.read_table(self._parts / f"calls-{index:06d}.parquet")
        return _stored(json.loads(steps.schema.metadata[_META])["row"], steps, calls)

    def merge(self, indices: list[int]) -> None:
        """Turn the parts into the two tables."""
        for name, kind in ((STEPS, "episode"), (PREDICTIONS, "calls")):
            files = [self._parts / f"{kind}-{index:06d}.parquet" for index in indices]
            tables = [pq.read_table(file) for file in files]
            meta = json.loads(tables[0].schema.metadata[_META])
            del meta["row"]
            whole = pa.concat_tables(tables, promote_options="default")
            whole = whole.replace_schema_metadata({_META: json.dumps(meta).encode()})
            write_whole(
                self._directory.path / name,
                lambda tmp, t=whole: pq.write_table(t, tmp, compression="zstd"),  # type: ignore[misc]
            )


def stored_rollouts(directory: Path, record: dict[str, Any]) -> Iterator[StoredRollout]:
    """The episodes of a finished run, from its two tables."""
    steps = pq.read_table(directory / STEPS)
    calls = pq.read_table(directory / PREDICTIONS)
    of_step, of_call = (t.column("episode").to_numpy() for t in (steps, calls))
    for index, row in enumerate(record["episodes"]):
        yield _stored(
            row,
            steps.filter(pa.array(of_step == index)),
            calls.filter(pa.array(of_call == index)),
        )


def _stored(row: dict[str, Any], steps: pa.Table, calls: pa.Table) -> StoredRollout:
    meta = json.loads(steps.schema.metadata[_META])
    dim = int(meta["action_dim"])
    actions = _matrix(steps, "action").reshape(-1, dim)[:-1]
    chunks = _matrix(calls, "predicted")
    known = {"episode_index", "episode", "step", "state", "action", "reward"}
    return StoredRollout(
        row=row,
        states=_matrix(steps, "state"),
        rewards=steps.column("reward").to_numpy()[:-1],
        actions=actions,
        extras={n: _matrix(steps, n) for n in steps.column_names if n not in known},
        called_at=calls.column("frame_index").to_numpy(),
        chunks=chunks.reshape(len(chunks), -1, dim) if len(chunks) else np.zeros((0, 1, dim)),
        model_s=calls.column("model_call_s").to_numpy(),
    )


def _lists(values: FloatArray) -> pa.Array:
    width = int(np.prod(values.shape[1:]))
    flat = np.ascontiguousarray(values.reshape(len(values), width), dtype=np.float64)
    offsets = pa.array(np.arange(len(flat) + 1, dtype=np.int32) * flat.shape[1])
    return pa.ListArray.from_arrays(offsets, pa.array(flat.reshape(-1)))


def _matrix(table: pa.Table, name: str) -> FloatArray:
    column = table.column(name)
    if not len(column):
        return np.zeros((0, 0))
    flat: FloatArray = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1)


def _png(picture: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((256, 256))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
