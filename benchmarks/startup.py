"""What a command costs before it has done anything: processor seconds, and how many are imports.

    python benchmarks/startup.py REPO_ID --root DATA [--policy CHECKPOINT]

Each command runs twice, in a process of its own; the second finds the files in the system's cache.
An evaluation asks about one batch of frames. Seconds of imports are counted in a third run.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile


def spent(words: list[str], *flags: str) -> tuple[float, str]:
    """Processor seconds of a command, and what it wrote to stderr."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *flags, "-m", "policyscope", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(words)}: {done.stderr[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr


def imported(stderr: str) -> tuple[float, int]:
    """Seconds of imports, and how many modules, as ``-X importtime`` lists them."""
    own = [
        line.split("|")[0].split(":")[1] for line in stderr.splitlines() if "import time:" in line
    ]
    micros = [int(text) for text in own if text.strip().isdigit()]
    return sum(micros) / 1e6, len(micros)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("repo_id")
    parser.add_argument("--root", required=True)
    parser.add_argument("--policy")
    args = parser.parse_args()
    data = ["--dataset.repo_id", args.repo_id, "--dataset.root", args.root]
    with tempfile.TemporaryDirectory() as folder:
        still = ["--policy.type", "hold_state", *data]
        few = ["--max_frames", "32", "--latency_calls", "0", "--overwrite"]
        commands = {
            "--help": ["--help"],
            "plan": ["plan", "--from", "0.6", "--to", "0.8"],
            "schema": ["schema", *data],
            "check --frames 0": ["check", *still, "--frames", "0"],
            "eval, hold_state": ["eval", *still, *few, "--output_dir", f"{folder}/a"],
            "report": ["report", f"{folder}/a"],
        }
        if args.policy:
            own = ["--policy.path", args.policy, *data, *few, "--output_dir", f"{folder}/b"]
            commands["eval, checkpoint"] = ["eval", *own]
        print("command             first s   second s   imports s   modules")
        for name, words in commands.items():
            first, second = spent(words)[0], spent(words)[0]
            seconds, n = imported(spent(words, "-X", "importtime")[1])
            print(f"{name:18} {first:8.2f} {second:10.2f} {seconds:11.2f} {n:9}")


if __name__ == "__main__":
    main()
