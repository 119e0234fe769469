"""Every file that is read × every fault: one line and a status, or the right numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hostile import goods
from hostile.cases import cases
from hostile.child import MEMORY

EVERY = 24
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    goods.write(folder)
    return folder


def _tried(good: Path, scratch: Path, every: int) -> list[dict[str, Any]]:
    """Cases tried in one process of their own, whose memory is limited."""
    results = scratch / "results.jsonl"
    paths = [str(ROOT / "src"), str(ROOT / "tests")]
    done = subprocess.run(
        [sys.executable, "-m", "hostile.child", str(good), str(results), str(every)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert done.returncode == 0, f"{rows[-1]}\n{done.stderr[-3000:]}"
    return rows


def _judge(rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> int:
    tried = [row for row in rows if "case" in row]
    wrong = [row for row in tried if row["wrong"]]
    peak = rows[-1]["peak"]
    with capsys.disabled():
        print(
            f"\nhostile inputs: {len(tried)} tried, {len(tried) - len(wrong)} passed, "
            f"at most {peak / 2**30:.2f} GiB"
        )
    assert not wrong, "\n".join(f"{row['case']}: {row['wrong']}" for row in wrong[:20])
    assert peak < MEMORY
    return len(tried)


@pytest.mark.parametrize(
    ("every", "n"), [(EVERY, 100), pytest.param(EVERY // 3, 300, marks=pytest.mark.slow)]
)
def test_a_share_of_all_hostile_inputs(
    every: int, n: int, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _judge(_tried(good, tmp_path, every), capsys) >= n


@pytest.mark.long
def test_all_hostile_inputs(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _judge(_tried(good, tmp_path, 1), capsys) == sum(1 for _ in cases())


def test_every_fault_and_every_file_is_in_the_matrix() -> None:
    names = [case.name for case in cases()]
    assert len(names) == len(set(names))
    for fault in (
        "missing", "null", "wrong type", "NaN", "inf", "huge", "negative", "nested", "duplicate",
        "truncated", "bit-flipped", "FIFO", "directory", "denied", "symlink loop", "bomb",
    ):  # fmt: skip
        assert any(fault in name for name in names), fault
    for file in (
        "config.json", "policy_preprocessor.json", "policy_postprocessor.json", "safetensors",
        "train_config.json", "info.json", "stats.json", "tasks.parquet", "meta/episodes",
        "data/", "mp4", "run.json", "predictions.parquet", "clips.parquet", "steps.parquet",
        "plan.json", "eval_info.json", "labels.csv", "episode-",
        "calls-", "eval --", "check --", "report ", "rollout --", "bench ",
    ):  # fmt: skip
        assert any(file in name for name in names), file
