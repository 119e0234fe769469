"""How fast a policy answers: latency at batch 1, throughput by batch size, dtype, compilation."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from policyscope.checks.inputs import read_offline
from policyscope.commands.session import Evaluated, output_dir
from policyscope.config import BenchConfig, EvalConfig
from policyscope.data.frames import Row
from policyscope.data.source import FrameSource
from policyscope.engine.progress import Watch
from policyscope.engine.timing import measure_latency
from policyscope.errors import OutOfMemoryError, RefusedError, errors_in
from policyscope.files import write_text
from policyscope.policies.base import Policy
from policyscope.runs.bench import BatchSpeed, BenchDataset, BenchRecord, Road, TooLarge
from policyscope.runs.claim import claimed
from policyscope.runs.record import environment
from policyscope.views.bench import draw_bench

_PATIENCE_S = 60.0  # for one batch size
_WARM_UP = 2


@final
@dataclass(frozen=True)
class Bench:
    """A finished measurement.

    Attributes:
        directory: holds ``bench.json`` and ``bench.png``.
        record: the content of ``bench.json``.
    """

    directory: Path
    record: BenchRecord


def bench(config: BenchConfig, progress: Watch | None = None) -> Bench:
    """Measure a policy on frames of a dataset.

    Latency is measured as a robot would meet it: batch 1, first call apart, warm-up discarded,
    model call, queue pop and end to end each on its own. Throughput is the median of repeated
    model calls, plus what the processors around the model cost.

    Raises:
        InputError: something can't be read or makes no sense.
        RefusedError: policy and dataset do not fit.
    """
    with claimed(output_dir(config.output_dir, "bench")) as directory:
        return _write(directory, _measured(config, progress or Watch()))


def _measured(config: BenchConfig, watch: Watch) -> BenchRecord:
    roads = []
    for variant in config.variants():
        inputs = read_offline(variant)
        if errors := errors_in(inputs.findings):
            raise RefusedError(tuple(errors))
        watch.stage(f"loading the policy ({_name(variant)})")
        policy = inputs.open_policy(variant)
        episode, fps = inputs.episodes[0], inputs.source.facts.robot.fps
        watch.stage(f"timing single calls ({_name(variant)})")
        latency = measure_latency(policy, inputs.source, episode, calls=config.calls, fps=fps)
        rows: list[Row] = [
            (e, f, 0) for e in inputs.episodes for f in range(inputs.source.facts.lengths[e])
        ][: max(config.sizes())]
        throughput = []
        for size in config.sizes():
            watch.stage(f"batch {size} ({_name(variant)})")
            throughput.append(_throughput(policy, inputs.source, rows, size, config.repeats))
        roads.append(
            Road(
                dtype=variant.dtype,
                compile=variant.compile,
                latency=latency,
                throughput=throughput,
            )
        )
    spec = policy.spec
    robot = inputs.source.facts.robot
    return BenchRecord(
        policy=Evaluated(config.policy, inputs.checkpoint, spec).facts(samples=1),
        dataset=BenchDataset(repo_id=robot.name, fps=fps),
        cameras={key: robot.cameras[key] for key in spec.keys & set(robot.cameras)},
        roads=roads,
        environment=environment(device=spec.device, dtype=spec.dtype, seed=config.seed),
    )


def _name(variant: EvalConfig) -> str:
    return variant.dtype + (", compiled" if variant.compile else "")


def _throughput(
    policy: Policy, source: FrameSource, rows: list[Row], size: int, repeats: int
) -> BatchSpeed | TooLarge:
    some = [rows[i % len(rows)] for i in range(size)]
    batch = policy.stage(source.batch(some, keys=policy.spec.keys, steps=policy.spec.steps))
    model_s: list[float] = []
    whole_s: list[float] = []
    try:
        first = policy.predict(batch)
        begin = time.perf_counter()
        for i in range(1, _WARM_UP + repeats):
            start = time.perf_counter()
            answer = policy.predict(batch)
            end = time.perf_counter()
            if i >= _WARM_UP or end - begin > _PATIENCE_S:
                model_s.append(answer.model_s)
                whole_s.append(end - start)
            if end - begin > _PATIENCE_S:
                break
    except OutOfMemoryError:
        return TooLarge(batch_size=size)
    return BatchSpeed(
        batch_size=size,
        n=len(model_s),
        first_ms=first.model_s * 1e3,
        model_ms=float(np.median(model_s)) * 1e3,
        model_ms_min=min(model_s) * 1e3,
        model_ms_max=max(model_s) * 1e3,
        whole_ms=float(np.median(whole_s)) * 1e3,
        samples_per_s=size / float(np.median(model_s)),
        samples_per_s_whole=size / float(np.median(whole_s)),
    )


def _write(directory: Path, record: BenchRecord) -> Bench:
    write_text(directory / "bench.json", json.dumps(record.to_json(), indent=1))
    draw_bench(record, directory / "bench.png")
    return Bench(directory, record)
