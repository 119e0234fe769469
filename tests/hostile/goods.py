"""The good files that hostile cases spoil."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import fakes
import policyscope as ps


def write(folder: Path) -> None:
    """Write a dataset, one with video, a checkpoint, finished runs and unfinished ones."""
    data = fakes.write_dataset(folder / "data", tasks=("push the block", "hold still"))
    video = fakes.write_dataset(folder / "video", lengths=(9, 12, 7, 10, 8), video=True)
    policy = fakes.write_policy(folder / "policy", data, "act")
    trained = {"dataset": {"repo_id": "fake/data", "episodes": [0, 2], "fps": 10}, "env": None}
    (policy / "train_config.json").write_text(json.dumps(trained))
    right: dict[str, Any] = {}
    for name, who, root in (("act", policy, data), ("data", None, data), ("video", None, video)):
        run = ps.evaluate(config(root, folder / f"run-{name}", who))
        summary = run.record["summary"]
        right[name] = [summary[s][m]["value"] for s in ("step1", "chunk") for m in ("mae", "mse")]
    right["part"] = right["data"]
    (folder / "right.json").write_text(json.dumps(right))
    (folder / "run-act").rename(folder / "run")
    _rollout(folder / "rollout")
    _elsewhere(folder)
    _unfinished(folder, data)
    _write_bomb(folder / "bomb.parquet")


def _write_bomb(file: Path) -> None:
    """Three hundred million equal numbers: kilobytes on disk, gigabytes in memory."""
    n = 300_000_000
    numbers = pa.DictionaryArray.from_arrays(np.zeros(n, np.int8), pa.array([7]))
    pq.write_table(
        pa.table({"episode_index": numbers}), file, compression="zstd", store_schema=False
    )
    assert file.stat().st_size < 2**21 < pq.read_metadata(file).num_rows


def config(root: Path, out: Path, policy: Path | None, **settings: Any) -> ps.EvalConfig:
    """Twelve frames of two episodes."""
    who = ps.PolicyConfig(
        path=None if policy is None else str(policy),
        type="hold_state" if policy is None else None,
        chunk_size=6,
    )
    data = ps.DatasetConfig(repo_id="fake/data", root=str(root), episodes="3:5", action_units="px")
    defaults: dict[str, Any] = {"max_frames": 12, "latency_calls": 0, "device": "cpu"}
    return ps.EvalConfig(policy=who, dataset=data, output_dir=str(out), **{**defaults, **settings})


def rollout_config(out: Path, **settings: Any) -> ps.RolloutConfig:
    """Two episodes of the small environment."""
    return ps.RolloutConfig(
        policy=ps.PolicyConfig(type="hold_state", chunk_size=6),
        env=ps.EnvConfig(type="gym", task="fake_envs:fake_envs/Point-v0"),
        output_dir=str(out),
        n_episodes=2,
        n_envs="1",
        latency_calls=0,
        video="none",
        **settings,
    )


class Stopped(BaseException):
    """Ends a run as a kill would, without its last words."""


class _Stop:
    """Watches a run and ends it once the metrics begin: all parts are there then."""

    look = None

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None

    def stage(self, text: str) -> None:
        if text == "computing metrics":
            raise Stopped


def _rollout(out: Path) -> None:
    ps.rollout(rollout_config(out))


def _elsewhere(folder: Path) -> None:
    """What other tools and people write."""
    metrics = {"successes": [True, False], "max_rewards": [1.0, 0.5], "sum_rewards": [3.0, 1.0]}
    task = {"task_group": "pusht", "task_id": 0, "metrics": metrics}
    content = {"per_task": [task], "overall": {"pc_success": 50.0, "n_success": 1}}
    (folder / "lerobots").mkdir()
    (folder / "lerobots" / "eval_info.json").write_text(json.dumps(content))
    (folder / "table").mkdir()
    text = "episode,success,notes,task\n0,yes,fine,push\n1,no,,push\n"
    (folder / "table" / "labels.csv").write_text(text)


def _unfinished(folder: Path, data: Path) -> None:
    for seed, name in ((0, "part"), (1, "other")):
        try:
            ps.evaluate(config(data, folder / name, None, seed=seed), _Stop())
        except Stopped:
            continue
        raise AssertionError("the run was not stopped")
    other = sorted((folder / "other" / "parts").glob("episode-*"))[0]
    os.link(other, folder / "other_part.parquet")
    shutil.rmtree(folder / "other")
    try:
        ps.rollout(rollout_config(folder / "rollout_part"), _Stop())
    except Stopped:
        return
    raise AssertionError("the run was not stopped")
