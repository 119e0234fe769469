"""Makes a dataset of very many episodes, without pictures, out of a small one.

    python benchmarks/many_episodes.py SMALL DATA --times 64
    policyscope eval --policy.type hold_state --dataset.repo_id many --dataset.root DATA

Every column but the pictures is repeated, episode by episode, so that 206 episodes of PushT become
13 184 with 1 641 600 frames.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def main() -> None:
    """Write the dataset."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("small", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--times", type=int, default=64)
    args = parser.parse_args()
    repeat(args.small, args.data, args.times)


def repeat(small: Path, data: Path, times: int) -> None:
    """Write a v3.0 dataset that holds another so many times, one data file each time."""
    info = json.loads((small / "meta/info.json").read_text())
    features = {k: f for k, f in info["features"].items() if f["dtype"] not in ("video", "image")}
    frames = _read(small / "data").select(list(features))
    index = _read(small / "meta/episodes")
    named = ["episode_index", "length", "tasks", "dataset_from_index", "dataset_to_index"]
    index = index.select(named)
    n, rows = len(index), len(frames)
    (data / "meta/episodes/chunk-000").mkdir(parents=True)
    (data / "data/chunk-000").mkdir(parents=True)
    parts = []
    for i in range(times):
        moved = _moved(frames, {"episode_index": i * n, "index": i * rows})
        pq.write_table(moved, data / f"data/chunk-000/file-{i:03d}.parquet")
        one = _moved(
            index,
            {
                "episode_index": i * n,
                "dataset_from_index": i * rows,
                "dataset_to_index": i * rows,
            },
        )
        zeros = np.zeros(n, np.int64)
        one = one.append_column("data/chunk_index", pa.array(zeros))
        parts.append(one.append_column("data/file_index", pa.array(zeros + i)))
    pq.write_table(pa.concat_tables(parts), data / "meta/episodes/chunk-000/file-000.parquet")
    totals = {"total_episodes": n * times, "total_frames": rows * times}
    split = {"splits": {"train": f"0:{n * times}"}}
    info = {**info, **totals, **split, "features": features, "video_path": None}
    (data / "meta/info.json").write_text(json.dumps(info, indent=1))
    stats = json.loads((small / "meta/stats.json").read_text())
    kept = {k: v for k, v in stats.items() if k in features}
    (data / "meta/stats.json").write_text(json.dumps(kept))
    (data / "meta/tasks.parquet").write_bytes((small / "meta/tasks.parquet").read_bytes())
    print(f"{data}: {n * times} episodes, {rows * times} frames")


def _read(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(file) for file in sorted(folder.rglob("*.parquet")))


def _moved(table: pa.Table, by: dict[str, int]) -> pa.Table:
    """The table with numbers added to some of its columns."""
    for name, offset in by.items():
        at = table.column_names.index(name)
        values = table.column(name).to_numpy() + offset
        table = table.set_column(at, table.field(name), pa.array(values, table.field(name).type))
    return table


if __name__ == "__main__":
    main()
