"""Time and cost of an evaluation on N workers: a simulation fed by measured rates.

    python benchmarks/scaling.py                                 # the tables of docs/scaling.md
    python benchmarks/scaling.py --driver DATA                   # what the driver stores and scores
    python benchmarks/scaling.py --check on_ray:Looks --root DATA   # and runs made here

Workers take spans of batches, read and predict them, reading one batch ahead; the driver stores
what comes in the order of the plan, and no span begins that is too far ahead of what is stored.
Storage and the driver's network are shared by all. After the last span the driver scores alone.
"""

from __future__ import annotations

import argparse
import heapq
import math
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from policyscope.checks.inputs import read_offline
from policyscope.commands.evaluate import evaluate
from policyscope.config import DatasetConfig, EvalConfig, PolicyConfig, RayConfig
from policyscope.data.source import FrameSource
from policyscope.engine.offline import plan_frames, rows_of
from policyscope.engine.progress import Watch
from policyscope.files import write_text
from policyscope.runs.content import OfflineRecord

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
MARKERS = ("<!-- results -->", "<!-- end of results -->")
BATCH = 64
SPAN = 16  # batches, as policyscope.engine.ray has it
QUEUED = 2  # spans of a worker


@dataclass(frozen=True)
class Load:
    """What is evaluated: `rows` predictions, of `pictures` pictures each."""

    rows: int
    pictures: int
    batch: int = BATCH
    span: int = SPAN


@dataclass(frozen=True)
class Rates:
    """What parts can do.

    Attributes:
        picture_bytes: encoded, a picture.
        storage: bytes a second, all workers together.
        fetch: bytes a second, one worker.
        decode: pictures a second, one core.
        cores: of a worker, for decoding.
        samples: a second of a worker's model.
        row_bytes: of a prediction on its way to the driver.
        network: bytes a second into the driver.
        store: rows a second that the driver stores.
        score: rows a second that the driver scores at the end.
        start: seconds until a worker has opened policy and dataset.
    """

    picture_bytes: float
    storage: float
    fetch: float
    decode: float
    cores: float
    samples: float
    row_bytes: float
    network: float
    store: float
    score: float
    start: float


@dataclass(frozen=True)
class Outcome:
    """Seconds: until the last span is stored, then scored; busy shares of the former."""

    predicted_s: float
    scored_s: float
    busy: dict[str, float]

    @property
    def total_s(self) -> float:
        """From start to report."""
        return self.predicted_s + self.scored_s

    @property
    def bound(self) -> str:
        """What is busiest."""
        return max(self.busy, key=lambda name: self.busy[name])


def simulate(load: Load, rates: Rates, workers: int) -> Outcome:
    """Run it, span by span.

    A worker's span of n batches takes read + (n - 1) · max(read, model) + model, since the next
    batch is read while one is predicted.
    """
    batches = math.ceil(load.rows / load.batch)
    pictures = load.batch * load.pictures
    share = min(rates.fetch, rates.storage / workers)
    read = max(pictures * rates.picture_bytes / share, pictures / (rates.decode * rates.cores))
    model = load.batch / rates.samples
    send = load.span * load.batch * rates.row_bytes / rates.network
    store = load.span * load.batch / rates.store
    free = [(rates.start, w) for w in range(workers)]
    heapq.heapify(free)
    stored: list[float] = []
    link = driver = 0.0
    for i, first in enumerate(range(0, batches, load.span)):
        n = min(load.span, batches - first)
        begin, worker = heapq.heappop(free)
        if i >= QUEUED * workers:
            begin = max(begin, stored[i - QUEUED * workers])
        end = begin + read + (n - 1) * max(read, model) + model
        heapq.heappush(free, (end, worker))
        link = max(link, end) + send * n / load.span
        driver = max(driver, link) + store * n / load.span
        stored.append(driver)
    wall = stored[-1]
    rows = load.rows
    busy = {
        "storage": rows * load.pictures * rates.picture_bytes / share / workers / wall,
        "decoding": rows * load.pictures / (rates.decode * rates.cores) / workers / wall,
        "model": rows / rates.samples / workers / wall,
        "network": rows * rates.row_bytes / rates.network / wall,
        "driver": rows / rates.store / wall,
    }
    return Outcome(wall, rows / rates.score, busy)


def worker(samples_per_s: float, cores: float) -> Rates:
    """A worker with one GPU and some cores for its pictures.

    Measured (benchmarks/README.md): decoding of 640 × 480 pictures, their size (G1), the driver
    with chunks of 50 steps of 14 dims. Assumed: an object store that gives 100 MB/s to one worker,
    2 GB/s to all, 1 GB/s into the driver, and 40 s to open policy and dataset.
    """
    return Rates(
        picture_bytes=9_100,
        storage=2e9,
        fetch=100e6,
        decode=665,
        cores=cores,
        samples=samples_per_s,
        row_bytes=50 * 14 * 8,
        network=1e9,
        store=DRIVER_STORES,
        score=DRIVER_SCORES,
        start=40,
    )


DRIVER_STORES, DRIVER_SCORES = 13_600.0, 4_600.0  # rows a second


def table(load: Load, rates: Rates, price: float) -> str:
    """Time and cost by number of workers, as Markdown."""
    lines = [
        "| GPUs | hours | of them scoring | GPU hours | USD | speed-up | busiest |",
        "|---|---|---|---|---|---|---|",
    ]
    alone = simulate(load, rates, 1).total_s
    for n in (1, 2, 4, 8, 16, 32, 64, 128):
        out = simulate(load, rates, n)
        gpu_hours = n * out.predicted_s / 3600
        lines.append(
            f"| {n} | {out.total_s / 3600:.3g} | {out.scored_s / 3600:.2g} | {gpu_hours:.3g} "
            f"| {price * gpu_hours:,.0f} | {alone / out.total_s:.1f} "
            f"| {out.bound}, {100 * out.busy[out.bound]:.0f} % |"
        )
    return "\n".join(lines)


def pages(price: float) -> str:
    """The tables of the page."""
    parts = []
    for title, rows, samples, cores in CASES:
        load = Load(rows=rows, pictures=3)
        parts.append(f"### {title}\n\n{table(load, worker(samples, cores), price)}")
    return "\n\n".join(parts)


EPISODES, LENGTH = 100_000, 300
CASES = (
    ("Every frame, 56 samples/s a GPU, 4 cores", EPISODES * LENGTH, 56.0, 4.0),
    ("Every tenth frame, 56 samples/s a GPU, 4 cores", EPISODES * LENGTH // 10, 56.0, 4.0),
    ("Every frame, 710 samples/s a GPU, 4 cores", EPISODES * LENGTH, 710.0, 4.0),
    ("Every frame, 710 samples/s a GPU, 2 cores", EPISODES * LENGTH, 710.0, 2.0),
)


# ── rates, and runs to hold it against ────────────────────────────────


def timed_stages(config: EvalConfig) -> tuple[OfflineRecord, dict[str, float]]:
    """A run, and the seconds of its stages."""
    began: list[tuple[str, float]] = []

    class Stages(Watch):
        def stage(self, text: str) -> None:
            began.append((text, time.perf_counter()))

    with tempfile.TemporaryDirectory() as folder:
        record = evaluate(replace(config, output_dir=f"{folder}/run"), Stages()).record
    ends = [at for _, at in began[1:]] + [time.perf_counter()]
    return record, {text: end - at for (text, at), end in zip(began, ends, strict=True)}


def driver(data: DatasetConfig, chunk: int) -> tuple[float, float]:
    """Rows a second that this process stores, and scores, where predicting costs nothing."""
    policy = PolicyConfig(type="hold_state", chunk_size=chunk)
    config = EvalConfig(policy=policy, dataset=data, latency_calls=0)
    record, stages = timed_stages(config)
    speed = record.throughput
    assert speed is not None
    n = record.dataset.n_frames
    return n / (speed.wall_s - speed.model_s), n / stages["computing metrics"]


def one_core(config: EvalConfig, rows: int) -> tuple[Load, float, float]:
    """What one core reads of a policy's pictures, and predicts of its rows, a second."""
    import torch

    torch.set_num_threads(1)
    source = FrameSource(config.dataset, repo_id=config.dataset_name, threads=1)
    policy = read_offline(config, source=source).open_policy(config)
    torch.set_num_threads(1)
    plan = plan_frames(source, tuple(range(len(source.facts.lengths))), max_frames=rows)
    wanted = rows_of(plan, 1)
    size = int(config.batch_size)
    some, read_s, model_s = [], 0.0, 0.0
    for _ in range(3):
        start = time.perf_counter()
        for batch in source.batches(wanted, batch_size=size, keys=policy.spec.keys):
            if len(some) < 4 and len(batch) == size:
                some.append(batch)
        read_s = time.perf_counter() - start  # the last of three
    for _ in range(3):
        start = time.perf_counter()
        for batch in some:
            policy.predict(policy.stage(batch))
        model_s = time.perf_counter() - start
    pictures = len([key for key in policy.spec.keys if key in source.facts.robot.cameras])
    load = Load(rows=len(wanted), pictures=pictures, batch=size)
    return load, len(wanted) * pictures / read_s, len(some) * size / model_s


def check(config: EvalConfig, rows: int) -> str:
    """Seconds of prediction as simulated and as measured, with one worker and two of a CPU each.

    A worker with one core decodes and predicts by turns, and the driver takes its share of the
    machine's cores.
    """
    load, decode, samples = one_core(config, rows)
    row_s = load.pictures / decode + 1 / samples
    rates = replace(worker(1 / row_s, 1), decode=math.inf, fetch=math.inf, storage=math.inf)
    rates = replace(rates, start=0)
    lines = [
        f"one core reads {decode:.0f} pictures/s and predicts {samples:.0f} rows/s",
        "| workers | simulated s | measured s | simulated / measured |",
        "|---|---|---|---|",
    ]
    for n in (1, 2):
        seconds = simulate(load, rates, n).predicted_s
        seconds = max(seconds, load.rows * (row_s + 1 / DRIVER_STORES) / (os.cpu_count() or 1))
        on_ray = replace(config, engine="ray", ray=RayConfig(workers=n, cpus=1), max_frames=rows)
        record, _ = timed_stages(on_ray)
        assert record.throughput is not None
        took = record.throughput.wall_s
        lines.append(f"| {n} | {seconds:.1f} | {took:.1f} | {seconds / took:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--usd_per_hour", type=float, default=3.0, help="of a GPU; an assumption")
    parser.add_argument("--write", action="store_true", help="the tables into docs/scaling.md")
    parser.add_argument("--driver", type=Path, help="a dataset of many episodes")
    parser.add_argument("--check", nargs="+", metavar="POLICY", help="folders, or module:Class")
    parser.add_argument("--root", type=Path, help="a dataset with pictures, for --check")
    parser.add_argument("--rows", type=int, default=4000)
    args = parser.parse_args()
    if args.driver is not None:
        store, score = driver(DatasetConfig(repo_id="many", root=str(args.driver)), 50)
        print(f"stores {store:.0f} rows/s, scores {score:.0f} rows/s")
    for name in args.check or ():
        own = ":" in name
        policy = PolicyConfig(type=name) if own else PolicyConfig(path=name)
        data = DatasetConfig(repo_id=args.root.name, root=str(args.root))
        config = EvalConfig(
            policy=policy, dataset=data, batch_size=str(BATCH), latency_calls=0, device="cpu"
        )
        print(f"{name}\n{check(config, args.rows)}")
    if args.write:
        text = PAGE.read_text(encoding="utf-8")
        before, after = text.split(MARKERS[0])[0], text.split(MARKERS[1])[1]
        write_text(
            PAGE, f"{before}{MARKERS[0]}\n\n{pages(args.usd_per_hour)}\n\n{MARKERS[1]}{after}"
        )
    elif args.driver is None and not args.check:
        print(pages(args.usd_per_hour))


if __name__ == "__main__":
    main()
