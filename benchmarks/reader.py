"""How fast demonstrations are read, against LeRobotDataset's items and a bare decoding loop.

python benchmarks/reader.py lerobot/pusht --root DATA --episodes 0:20

Equal pictures are shown first. Every competitor gives the same float32 (or uint8) pictures of the
same frames; the bare loop decodes them and keeps nothing. torchcodec takes part where it loads.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from lerobot.datasets import LeRobotDataset
from ratios import interleaved, line, machine, ratio
from torch.utils.data import DataLoader

from policyscope.config import DatasetConfig
from policyscope.config.parsing import parse_episodes
from policyscope.data.decoders import LARGE, _pixels, _planes
from policyscope.data.pictures import Buffers, unit_range
from policyscope.data.source import FrameSource


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repo_id")
    parser.add_argument("--root")
    parser.add_argument("--episodes", default="0:5")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--items", type=int, default=150, help="frames a round of the slow ones")
    parser.add_argument("--workers", type=int, default=2, help="of the DataLoader")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()

    source = FrameSource(DatasetConfig(repo_id=args.repo_id, root=args.root), repo_id=args.repo_id)
    episodes = parse_episodes(args.episodes, len(source.facts.lengths))
    source.load(episodes)
    cameras = sorted(source.facts.robot.cameras)
    rows = [(e, f, 0) for e in episodes for f in range(source.facts.lengths[e])]
    keys, buffers = frozenset({*cameras, "observation.state"}), Buffers()

    def dataset(backend: str, *, as_uint8: bool = False) -> Any:
        return LeRobotDataset(
            args.repo_id,
            root=args.root,
            episodes=list(episodes),
            video_backend=backend,
            return_uint8=as_uint8,
        )

    items = dataset("pyav")
    some = [*range(0, len(rows), max(1, len(rows) // 40))]
    whole = source.batches(rows, batch_size=args.batch_size, keys=keys)
    place, compared = 0, 0
    for batch in whole:
        for at in [i - place for i in some if place <= i < place + len(batch)]:
            item = items[place + at]
            for key in cameras:
                ours = unit_range(batch.observations[0][key][at : at + 1])[0]
                if not np.array_equal(ours, item[key]):
                    raise SystemExit(f"frame {place + at} of {key} differs")
                compared += 1
        place += len(batch)
        batch.release()
    print(f"{compared} pictures over all {len(rows)} frames: equal bit for bit\n")

    def ours(*, floats: bool) -> float:
        start = time.perf_counter()
        for batch in source.batches(rows, batch_size=args.batch_size, keys=keys):
            with buffers.loan() as loan:
                for key in cameras:
                    seen = batch.observations[0][key]
                    seen = unit_range(seen, loan) if floats else seen
            batch.release()
        return len(rows) / (time.perf_counter() - start)

    ring, draw = itertools.count(), random.Random(0)

    def single(items: Any, *, anywhere: bool = False) -> float:
        first = next(ring) * args.items
        order = [(first + i) % len(rows) for i in range(args.items)]
        if anywhere:
            order = draw.choices(range(len(rows)), k=args.items)
        start = time.perf_counter()
        for i in order:
            items[i]
        return args.items / (time.perf_counter() - start)

    def loader() -> float:
        batches = DataLoader(items, batch_size=args.batch_size, num_workers=args.workers)
        seen, start = 0, 0.0
        for batch in batches:
            if not start:  # the workers' start does not count
                start = time.perf_counter()
                continue
            seen += len(batch["index"])
            if seen >= args.items:
                break
        return seen / (time.perf_counter() - start)

    def bare() -> float:
        path = source._folder.file(source._index.clip(episodes[0], cameras[0])[0])
        left, start = len(rows), time.perf_counter()
        with av.open(str(path)) as container:
            for _ in container.decode(video=0):
                left -= 1
                if not left:
                    break
        return (len(rows) - left) / (time.perf_counter() - start) / len(cameras)

    def one_core(*, colours: bool) -> float:
        """Milliseconds of processor time a picture, by one thread."""
        path = source._folder.file(source._index.clip(episodes[0], cameras[0])[0])
        reformatter, n, left = VideoReformatter(), min(len(rows), 300), 0
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            size, count = (stream.height, stream.width), args.batch_size
            large = math.prod(size) > LARGE
            batch = np.zeros((count, 3, *size) if large else (count, *size, 3), np.uint8)
            start = time.process_time()
            for left, frame in enumerate(container.decode(stream), start=1):
                if colours and large:
                    _planes(reformatter, frame, batch[left % count])
                elif colours:
                    batch[left % count] = _pixels(reformatter, frame)
                if left == n:
                    break
        return (time.process_time() - start) / left * 1e3

    def floats_alone(*, written: bool) -> float:
        """The same of floats, or of the mere writing of as many bytes."""
        _, height, width = source.facts.features[cameras[0]].picture
        pictures = np.zeros((args.batch_size, 3, height, width), np.uint8)
        with buffers.loan() as loan:
            target = loan.array(pictures.shape, np.float32)
            start = time.process_time()
            target.fill(0.5) if written else unit_range(pictures, loan)
            return (time.process_time() - start) / len(pictures) * 1e3

    competitors: dict[str, Callable[[], float]] = {
        "policyscope, float32 in [0, 1]": lambda: ours(floats=True),
        "policyscope, uint8 (what a policy is handed)": lambda: ours(floats=False),
        "bare sequential PyAV decode, kept nothing": bare,
        "LeRobotDataset[i] in order, PyAV, float32": lambda: single(items),
        "LeRobotDataset[i] in any order, PyAV, float32": lambda: single(items, anywhere=True),
    }
    bytes_ = dataset("pyav", as_uint8=True)
    competitors["LeRobotDataset[i] in order, PyAV, uint8"] = lambda: single(bytes_)
    competitors[f"DataLoader over it, PyAV, {args.workers} workers"] = loader
    try:
        import torchcodec.decoders  # noqa: F401

        codec = dataset("torchcodec")
        name = "LeRobotDataset[i] {} order, torchcodec, float32"
        competitors[name.format("in")] = lambda: single(codec)
        competitors[name.format("in any")] = lambda: single(codec, anywhere=True)
    except (ImportError, RuntimeError, OSError):
        print("torchcodec does not load here: it takes no part\n")

    found = interleaved(competitors, rounds=args.rounds)
    print(f"{args.repo_id}, {len(rows)} frames, batches of {args.batch_size}; {machine()}\n")
    print("| reader | frames a second | range |\n|---|---|---|")
    for name, values in found.items():
        print(line(name, values, ""))
    decoded, coloured, made, written = (
        statistics.median(step() for _ in range(5))
        for step in (
            lambda: one_core(colours=False),
            lambda: one_core(colours=True),
            lambda: floats_alone(written=False),
            lambda: floats_alone(written=True),
        )
    )
    print(
        f"\nprocessor time of one thread a picture: decoded {decoded:.3f} ms, and its colours in "
        f"the batch {coloured:.3f} ms; its floats {made:.3f} ms, "
        f"writing as many bytes {written:.3f} ms"
    )
    floats, raw = found["policyscope, float32 in [0, 1]"], list(found.values())[1]
    print("\n| policyscope against | float32 | uint8 |\n|---|---|---|")
    for name, values in list(found.items())[2:]:
        print(f"| {name} | {ratio(floats, values)} | {ratio(raw, values)} |")


if __name__ == "__main__":
    main()
