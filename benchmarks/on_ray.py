"""`--engine ray`: what a second worker is worth where pictures are decoded, and what Ray costs.

    python benchmarks/on_ray.py workers lerobot/aloha --root DATA --episodes 0:20
    python benchmarks/on_ray.py overhead lerobot/pusht --root DATA --policy CHECKPOINT

`workers`: a policy that looks at one pixel of each picture, with one worker and with two, of one
CPU each. `overhead`: a checkpoint in this process, and in one worker of Ray with all its threads.
Equal records are shown first, in the round that does not count. Frames a second are the record's,
of the loop over the frames; seconds are those of the whole command, from its start to its page.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from ratios import line, machine, ratio

from policyscope.actions.robots import Robot
from policyscope.testing import FrameBatch, NativeActions, Policy, PolicySpec, Prediction

_CLOCKS = ("latency", "throughput", "environment")


class Looks(Policy):
    """Answers with the state, moved by one pixel of each picture."""

    def __init__(self, robot: Robot) -> None:
        self._cameras, self._units = sorted(robot.cameras), robot.actions.units
        self.spec = PolicySpec(
            path="looks",
            type="looks",
            chunk_size=1,
            n_action_steps=1,
            keys=frozenset({"observation.state", *self._cameras}),
        )

    @property
    def borrows(self) -> bool:
        return True

    def predict(self, batch: FrameBatch) -> Prediction:
        begin = time.perf_counter()
        seen = batch.observations[-1]
        chunks = seen["observation.state"][:, None].astype(float)
        for key in self._cameras:
            chunks = chunks + seen[key][:, :1, 7, 11, None]
        return Prediction(NativeActions(chunks, self._units), time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("workers", "overhead"))
    parser.add_argument("repo_id")
    parser.add_argument("--root")
    parser.add_argument("--episodes")
    parser.add_argument("--policy")
    parser.add_argument("--batch_size", default="32")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    who = ["--policy.path", args.policy] if args.policy else ["--policy.type", "on_ray:Looks"]
    words = [*who, "--dataset.repo_id", args.repo_id, "--batch_size", args.batch_size]
    words += ["--latency_calls", "0", "--execute", "none", "--critical", "none"]
    for flag, value in (
        ("--dataset.root", args.root),
        ("--dataset.episodes", args.episodes),
        ("--max_frames", args.frames),
    ):
        words += [] if value is None else [flag, str(value)]

    def on_ray(workers: int, cpus: int) -> list[str]:
        ray = ["--engine", "ray", "--ray.workers", str(workers), "--ray.cpus", str(cpus)]
        return [*words, *ray]

    if args.what == "workers":
        pair = {"two workers": on_ray(2, 1), "one worker": on_ray(1, 1)}
    else:
        pair = {"one worker of Ray": on_ray(1, os.cpu_count() or 1), "this process": words}
    print(machine())
    _measured(pair, args.rounds)


def _evaluated(words: list[str]) -> tuple[dict[str, Any], float]:
    """The record of a command, and its seconds."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent / "src")])
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch, "run")
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "policyscope", "eval", *words, "--output_dir", str(run)],
            env=os.environ | {"PYTHONPATH": path},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        took = time.perf_counter() - begin
        return json.loads((run / "run.json").read_text()), took


def _measured(pair: dict[str, list[str]], rounds: int) -> None:
    """Print speeds and ratios of two ways, in turn."""
    rates: dict[str, list[float]] = {name: [] for name in pair}
    seconds: dict[str, list[float]] = {name: [] for name in pair}
    for n in range(rounds + 1):
        records = []
        for name, words in pair.items():
            record, took = _evaluated(words)
            records.append(record)
            if n:
                rates[name].append(record["throughput"]["frames_per_s"] or np.nan)
                seconds[name].append(took)
        first, second = ({k: v for k, v in r.items() if k not in _CLOCKS} for r in records)
        if first != second:
            raise SystemExit("the records differ")
    print(f"equal records, but for clocks: {records[0]['dataset']['n_frames']} frames")
    for name in pair:
        print(line(name, rates[name], "frames/s"), line("whole", seconds[name], "s"))
    ours, theirs = pair
    print(f"frames/s of {ours} over {theirs}: {ratio(rates[ours], rates[theirs])}")
    print(f"seconds of {ours} over {theirs}: {ratio(seconds[ours], seconds[theirs])}")


if __name__ == "__main__":
    main()
