"""The measurement of latency and throughput: what is counted, and what bad input says."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pytest

import fakes
from policyscope.commands.bench import bench
from policyscope.commands.evaluate import evaluate
from policyscope.config import BenchConfig, DatasetConfig, PolicyConfig
from policyscope.data.frames import FrameBatch
from policyscope.data.source import FrameSource
from policyscope.errors import OutOfMemoryError, UsageError
from policyscope.policies.base import Policy, Prediction
from policyscope.policies.builtin import BaselinePolicy
from policyscope.policies.lerobot import LerobotPolicy
from policyscope.runs.bench import BatchSpeed, Road
from policyscope.runs.values import Budget, Latency, Times
from policyscope.views.bench import bench_table, budget_line, compile_lines


def _config(data: Path, policy: Path, out: Path, **changes: object) -> BenchConfig:
    return BenchConfig(
        policy=PolicyConfig(path=str(policy)),
        dataset=DatasetConfig(repo_id="fake/data", root=str(data), action_units="px"),
        output_dir=str(out),
        device="cpu",
        calls=5,
        repeats=2,
        **changes,  # type: ignore[arg-type]
    )


def test_every_road_and_size(
    data: Path, smolvla: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = LerobotPolicy.predict

    def predict(self, batch):
        if len(batch) > 8:
            raise OutOfMemoryError("here", expected="memory", found="none", fix="less")
        return plain(self, batch)

    monkeypatch.setattr(LerobotPolicy, "predict", predict)
    config = _config(data, smolvla, tmp_path / "b", batch_sizes="2,1,16", dtypes="float32,bfloat16")
    record = bench(config).record
    assert [road["dtype"] for road in record["roads"]] == ["float32", "bfloat16"]
    for road in record["roads"]:
        assert [row["batch_size"] for row in road["throughput"]] == [1, 2, 16]
        assert [row["out_of_memory"] for row in road["throughput"]] == [False, False, True]
        one, two, _ = road["throughput"]
        assert two["samples_per_s"] == pytest.approx(2e3 / two["model_ms"])
        assert one["n"] == 2
        assert road["latency"]["model_call"]["n"] == 5
        assert road["latency"]["queue_pop"]["n"] == 5 * 2  # n_action_steps is three
    assert (tmp_path / "b" / "bench.json").is_file()
    assert (tmp_path / "b" / "bench.png").stat().st_size > 10_000
    from rich.console import Console

    console = Console(record=True, width=120)
    console.print(bench_table(record))
    assert "out of memory" in console.export_text()


def test_the_budget_in_words() -> None:
    budget = Budget(
        fps=10.0, sync_ms=100.0, async_ms=800.0, sync_miss_rate=0.25, async_miss_rate=0.0
    )
    rest = {"min_ms": 1.0, "mean_ms": 9.0, "p50_ms": 9.0, "p90_ms": None, "p95_ms": None}
    text = budget_line(budget, Times(n=400, p99_ms=120.0, max_ms=300.0, **rest))
    assert "120 ms (p99) misses one period of 100 ms at 10 Hz, missed in 100 of 400 " in text
    assert "missed in 0 of 400 (at most 0.75 %)" in text
    assert "fits into the 800 ms" in text
    text = budget_line(budget, Times(n=9, p99_ms=None, max_ms=90.0, **rest))
    assert "90.0 ms (slowest of 9) fits into one period" in text


def test_compilation_in_words() -> None:
    def road(
        *rows: tuple[int, float, float, float, float], compiled: bool = False, n: int = 5
    ) -> Road:
        speeds = [
            BatchSpeed(
                batch_size=size,
                n=n,
                first_ms=first,
                model_ms=ms,
                model_ms_min=low,
                model_ms_max=high,
                whole_ms=ms,
                samples_per_s=1.0,
                samples_per_s_whole=1.0,
            )
            for size, first, ms, low, high in rows
        ]
        budget = Budget(
            fps=10.0, sync_ms=100.0, async_ms=800.0, sync_miss_rate=0.0, async_miss_rate=0.0
        )
        latency = Latency(
            batch_size=1,
            first_call_ms=9_010.0 if compiled else 10.0,
            model_call=None,
            queue_pop=None,
            end_to_end=None,
            budget=budget,
        )
        return Road(dtype="float32", compile=compiled, latency=latency, throughput=speeds)

    plain = road((1, 30, 20, 18, 22), (2, 30, 20, 18, 22), (4, 9, 9, 8, 10), (8, 9, 9, 8, 10))
    rows = (1, 12, 10, 9, 11), (2, 20_010, 10, 9, 11), (4, 99, 12, 11, 13), (8, 99, 9, 7, 9)
    assert compile_lines(plain, road(*rows, compiled=True)) == [
        "--compile at batch 1: 2.00 times as fast, worth its 9.00 s from 901 calls on",
        "--compile at batch 2: 2.00 times as fast, worth its 20.0 s from 2001 calls on",
        "--compile at batch 4: 0.750 times as fast, advised against",
        "--compile at batch 8: 1.00 times as fast, no difference beyond that between calls: "
        "advised against",
    ]
    [few] = compile_lines(plain, road(rows[0], compiled=True, n=3))
    assert few.endswith("2.00 times as fast in 3 calls, too few to tell; --repeats 4")


@pytest.mark.parametrize(
    "wrong", [{"batch_sizes": "1,x"}, {"dtypes": "float16"}, {"batch_sizes": ""}, {"dtypes": ""}]
)
def test_bad_input(wrong: dict[str, str], data: Path, act: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected"):
        _config(data, act, tmp_path / "b", **wrong)


def test_bfloat16_says_what_it_costs(data: Path, smolvla: Path, tmp_path: Path) -> None:
    plain = evaluate(fakes.config_for(data, smolvla, tmp_path / "a")).record
    config = fakes.config_for(data, smolvla, tmp_path / "b", dtype="bfloat16")
    fast = evaluate(config).record
    [cost] = [f for f in fast["findings"] if f["code"] == "cost_of_speed"]
    assert "bfloat16 moves them by" in cost["message"]
    assert not [f for f in plain["findings"] if f["code"] == "cost_of_speed"]
    ours, theirs = (r["summary"]["chunk"]["mae"]["value"] for r in (fast, plain))
    assert ours != theirs
    assert ours == pytest.approx(theirs, rel=0.05)


def test_the_first_call_never_counts(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It compiles, and a compilation can outlast all patience."""
    measured = importlib.import_module("policyscope.commands.bench")
    monkeypatch.setattr(measured, "_PATIENCE_S", 0.0)
    source = FrameSource(DatasetConfig(repo_id="test/data", root=str(data)), repo_id="test/data")
    source.load((0,))
    policy = BaselinePolicy("hold_state", source, dims=(0, 1))
    took = iter([100.0, 0.01])

    class Compiles(Policy):
        spec = policy.spec

        def predict(self, batch: FrameBatch) -> Prediction:
            return Prediction(policy.predict(batch).actions, next(took))

    found = measured._throughput(Compiles(), source, [(0, 0, 0)], 2, 5)
    assert (found["n"], found["model_ms"], found["first_ms"]) == (1, 10.0, 100_000.0)


@pytest.mark.slow
def test_a_compiled_policy_predicts_the_same(data: Path, smolvla: Path, tmp_path: Path) -> None:
    if shutil.which("c++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    plain = evaluate(fakes.config_for(data, smolvla, tmp_path / "a", episodes="0:2")).record
    config = fakes.config_for(data, smolvla, tmp_path / "b", episodes="0:2", compile=True)
    fast = evaluate(config).record
    [cost] = [f for f in fast["findings"] if f["code"] == "cost_of_speed"]
    assert "float32, compiled moves them by" in cost["message"]
    ours, theirs = (r["summary"]["chunk"]["mae"]["value"] for r in (fast, plain))
    assert ours == pytest.approx(theirs, rel=1e-4)
