"""`policyscope sweep` against the time that its models take, and against `eval` of each checkpoint.

python benchmarks/sweep.py 'CHECKPOINTS/*' lerobot/pusht --root DATA --episodes 185:206
python benchmarks/sweep.py CHECKPOINT lerobot/pusht --root DATA --episodes 185:188 --copies 6

Copies of a checkpoint have weights a little apart, as those of a training run.

Equal records are shown first. Then the seconds of a whole sweep (reading, opening, predicting,
scoring, pages) over the seconds within the models, and those of the evaluations one by one, pages
included, which run once; imports and the first call of anything do not count.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from ratios import line, machine, ratio
from safetensors.torch import load_file, save_file

from policyscope.commands.evaluate import evaluate
from policyscope.commands.report import render
from policyscope.commands.sweep import sweep
from policyscope.config import DatasetConfig, ReportConfig, SweepConfig
from policyscope.policies.checkpoint import WEIGHTS
from policyscope.policies.series import find
from policyscope.runs.record import read_complete
from policyscope.runs.sweep import SweepRecord

_CLOCKS = ("latency", "throughput", "environment")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints")
    parser.add_argument("repo_id")
    parser.add_argument("--root")
    parser.add_argument("--episodes", default="185:206")
    parser.add_argument("--batch_size", default="32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--copies", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.copies:
            _copied(Path(args.checkpoints), Path(folder), args.copies)
            args.checkpoints = f"{folder}/*"
        _compare(args)


def _copied(checkpoint: Path, folder: Path, n: int) -> None:
    weights = load_file(checkpoint / WEIGHTS)
    for step in range(1, n + 1):
        copy = folder / f"{step:06d}"
        shutil.copytree(checkpoint, copy)
        apart = {
            name: values * (1 + 1e-3 * step) if values.is_floating_point() else values
            for name, values in weights.items()
        }
        (copy / WEIGHTS).unlink()
        save_file(apart, copy / WEIGHTS)


def _compare(args: argparse.Namespace) -> None:
    config = SweepConfig(
        checkpoints=(args.checkpoints,),
        dataset=DatasetConfig(repo_id=args.repo_id, root=args.root, episodes=args.episodes),
        batch_size=args.batch_size,
    )
    saved = find(config.checkpoints).saved
    print(f"{machine()}; {len(saved)} checkpoints")
    with tempfile.TemporaryDirectory() as scratch:
        swept, _, record = _swept(config, Path(scratch) / "first")
        theirs = _alone(config, Path(scratch) / "alone", [one.path for one in saved])
        _require_equal(swept, Path(scratch) / "alone", record)
        print("equal records, but for clocks")
        ours, models = [], []
        for n in range(args.rounds):
            _, seconds, record = _swept(config, Path(scratch) / f"sweep-{n}")
            ours.append(seconds)
            models.append(_model_s(Path(scratch) / f"sweep-{n}", record))
    for name, values in (("sweep", ours), ("its models", models), ("one by one", [theirs])):
        print(line(name, values, "s"))
    print(f"sweep over the sum of its model times: {ratio(ours, models)}")
    print(f"sweep over evaluations one by one: {ratio(ours, [theirs] * len(ours))}")


def _swept(config: SweepConfig, out: Path) -> tuple[Path, float, SweepRecord]:
    begin = time.perf_counter()
    done = sweep(replace(config, output_dir=str(out)))
    return out, time.perf_counter() - begin, done.record


def _alone(config: SweepConfig, out: Path, paths: list[Path]) -> float:
    """Seconds of the evaluations one by one, each with its page."""
    begin = time.perf_counter()
    for n, path in enumerate(paths):
        asked = config.offline(str(path), str(out / str(n)), config.batch_size)
        run = evaluate(replace(asked, resume=False))
        render(ReportConfig(str(run.directory)))
    return time.perf_counter() - begin


def _model_s(out: Path, record: SweepRecord) -> float:
    return sum(read_complete(out / str(row.run)).throughput.model_s for row in record.done)


def _require_equal(swept: Path, alone: Path, record: SweepRecord) -> None:
    for n, row in enumerate(record.done):
        pair = (swept / str(row.run), alone / str(n))
        mine, theirs = (json.loads((run / "run.json").read_text()) for run in pair)
        if any(mine[key] != theirs[key] for key in mine.keys() - {*_CLOCKS}):
            raise SystemExit(f"{row.name}: the sweep's record is another one")


if __name__ == "__main__":
    main()
