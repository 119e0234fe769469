#!/usr/bin/env python
"""The same seed, the same episode: PushT with 1, 4 and 8 simulators, and killed and resumed.

Policies: hold, the planner of ``examples/make_pusht_demos``, and checkpoints.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from policyscope.commands.rollout import rollout
from policyscope.config import EnvConfig, PolicyConfig, RolloutConfig
from policyscope.runs.record import read_record

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "make_pusht_demos"))
KEYS = ("seed", "success", "steps", "ended", "n_calls")


def run(name: str, out: Path, n_envs: int, n_episodes: int, *, resume: bool = False) -> Any:
    warnings.filterwarnings("ignore")
    policy = PolicyConfig(path=name) if Path(name).is_dir() else PolicyConfig(type="hold_state")
    scripted = None
    if name == "planner":
        from policy import Planner

        policy, scripted = PolicyConfig(), Planner()
    config = RolloutConfig(
        policy=policy,
        env=EnvConfig(),
        output_dir=str(out),
        n_episodes=n_episodes,
        n_envs=str(n_envs),
        device="cpu",
        latency_calls=0,
        video="none",
        resume=resume,
    )
    return rollout(config, policy=scripted).record


def killed(name: str, out: Path, n_episodes: int) -> Any:
    """Kill the run when a third of its episodes is done; go on with another number."""
    process = multiprocessing.get_context("spawn").Process(
        target=run, args=(name, out, 4, n_episodes)
    )
    process.start()
    while process.is_alive() and len(list(out.glob("parts/episode-*"))) < n_episodes / 3:
        time.sleep(0.01)
    done = len(list(out.glob("parts/episode-*")))
    if process.is_alive():
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert 0 < done < n_episodes, f"killed at {done} episodes: run it again"
    resumed = run(name, out, 8, n_episodes, resume=True)
    assert read_record(out)["status"] == "complete"
    return resumed, done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("policies", nargs="+", help="hold, planner, or checkpoint directories")
    parser.add_argument("--n_episodes", type=int, default=50)
    args = parser.parse_args()
    for name in args.policies:
        with tempfile.TemporaryDirectory() as scratch:
            records = {
                f"{n} simulators": run(name, Path(scratch) / str(n), n, args.n_episodes)
                for n in (1, 4, 8)
            }
            records["resumed"], done = killed(name, Path(scratch) / "killed", args.n_episodes)
        rows = {kind: record["episodes"] for kind, record in records.items()}
        first = rows["1 simulators"]
        same = sum(
            all(
                [other[i][key] for key in KEYS] == [row[key] for key in KEYS]
                and abs(other[i]["max_reward"] - row["max_reward"]) < 1e-9
                for other in rows.values()
            )
            for i, row in enumerate(first)
        )
        success = records["1 simulators"]["success"]
        speeds = ", ".join(
            f"{kind} {r['throughput']['episodes_per_min']:.0f}"
            for kind, r in records.items()
            if r["throughput"]["episodes_per_min"]
        )
        best = records["1 simulators"]["closed_loop"]["max_reward"]["value"]
        print(
            f"{Path(name).name}: {same} of {len(first)} seeds alike with 1, 4 and 8 simulators and "
            f"after a kill at {done} episodes; success {success['k']}/{success['n']} "
            f"[{success['ci_low']:.2f}, {success['ci_high']:.2f}], average max reward {best:.3f}; "
            f"episodes/min: {speeds}",
            flush=True,
        )


if __name__ == "__main__":
    main()
