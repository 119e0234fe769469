"""Ways to bend a dataset as strangers' tools do, and what pandas reads in the straight one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
INDEX, DATA = "meta/episodes/chunk-000/file-000.parquet", "data/chunk-000/file-000.parquet"
STATE = "observation.state"

Bend = Callable[[Path], None]


def edit_json(name: str, change: Callable[[dict[str, Any]], Any]) -> Bend:
    def bend(root: Path) -> None:
        content = json.loads((root / name).read_text())
        change(content)
        (root / name).write_text(json.dumps(content))

    return bend


def edit_table(name: str, change: Callable[[pa.Table], pa.Table]) -> Bend:
    def bend(root: Path) -> None:
        with pq.ParquetFile(root / name) as file:  # which bears doubled columns
            table = file.read()
        pq.write_table(change(table), root / name)

    return bend


def info(**fields: Any) -> Bend:
    return edit_json(INFO, lambda content: content.update(fields))


def feature(key: str, **fields: Any) -> Bend:
    return edit_json(INFO, lambda content: content["features"].setdefault(key, {}).update(fields))


def stats(key: str, **fields: Any) -> Bend:
    return edit_json(STATS, lambda content: content[key].update(fields))


def column(table: pa.Table, name: str, values: Any, kind: pa.DataType | None = None) -> pa.Table:
    """The table with one column replaced, or added."""
    array = values if isinstance(values, pa.Array) else pa.array(values, kind)
    at = table.schema.get_field_index(name)
    return table.append_column(name, array) if at < 0 else table.set_column(at, name, array)


def order(rows: list[int]) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.take(pa.array([r for r in rows if r < len(table)]))


def backwards(table: pa.Table) -> pa.Table:
    return table.take(pa.array(range(len(table))[::-1]))


def split_data(at: int, *, indices: list[int] | None = None) -> Bend:
    """Rows from `at` on move to a second file; the index says so, or says `indices`."""

    def bend(root: Path) -> None:
        table = pq.read_table(root / DATA)
        pq.write_table(table.slice(0, at), root / DATA)
        pq.write_table(table.slice(at), root / DATA.replace("file-000", "file-001"))
        if indices is not None:
            bend_index = edit_table(
                INDEX, lambda t: column(t, "data/file_index", indices, pa.int64())
            )
            bend_index(root)

    return bend


def together(*bends: Bend) -> Bend:
    def bend(root: Path) -> None:
        for one in bends:
            one(root)

    return bend


def truth(root: Path) -> dict[int, dict[str, Any]]:
    """Episode → actions, state and texts of a straight dataset, by a plain loop over pandas."""
    frames = pd.concat([pd.read_parquet(f) for f in sorted(root.glob("data/*/*.parquet"))])
    texts = {
        int(row.task_index): str(text) for text, row in pd.read_parquet(root / TASKS).iterrows()
    }
    known: dict[int, dict[str, Any]] = {}
    for episode, rows in frames.groupby("episode_index"):
        rows = rows.sort_values("frame_index")
        known[int(episode)] = {
            "action": np.array([np.asarray(a, dtype=np.float64) for a in rows["action"]]),
            "state": np.array([np.asarray(s, dtype=np.float64) for s in rows[STATE]]),
            "tasks": tuple(texts[int(i)] for i in rows["task_index"]),
            "seconds": rows["timestamp"].to_numpy(dtype=np.float64),
        }
    return known
