"""The everyday check: lint, format, order of the rooms, types, and the tests that a change touches.

Tests run nearest first (see `affected`) until the time is up; it says how many were left out.
`.ci/run` leaves none out.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import final

import pytest
from affected import Tree, affected

ROOT = Path(__file__).resolve().parents[1]
_BIN = sysconfig.get_path("scripts")
_LINTS = (
    ("ruff check", "."),
    ("ruff format", "--check", "--quiet", "."),
    ("lint-imports",),
)
_TYPES = ("mypy",)


def changed_files(since: str | None) -> list[str]:
    """Paths that differ from a commit, new ones among them.

    Args:
        since: the commit; None is the last one, or the one before it if nothing changed since.
    """
    new = _git("ls-files", "--others", "--exclude-standard")
    known = _git("diff", "--name-only", since or "HEAD")
    if since is None and not new and not known:
        known = _git("diff", "--name-only", "HEAD~1")
    return sorted({*new, *known})


def _git(*command: str) -> list[str]:
    done = subprocess.run(
        ["git", *command, "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in done.stdout.split("\0") if name]


@final
class Budget:
    """Starts no test that long after the first (a plugin of pytest).

    Attributes:
        left_out: how many were not started.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._until = seconds, 0.0
        self.left_out = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self) -> bool | None:
        """Take a test without running it once the time is up."""
        self._until = self._until or time.monotonic() + self._seconds
        if time.monotonic() < self._until:
            return None
        self.left_out += 1
        return True


def _started(command: tuple[str, ...]) -> subprocess.Popen[str]:
    name, *arguments = [*command[0].split(), *command[1:]]
    program = shutil.which(name, path=_BIN) or name
    return subprocess.Popen(
        [program, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _ended(command: tuple[str, ...], process: subprocess.Popen[str]) -> bool:
    """Whether it passed; what it said is shown where it did not."""
    said = process.communicate()[0]
    print(f"{command[0]}: {'fine' if process.returncode == 0 else 'failed'}", flush=True)
    if process.returncode != 0:
        print(said, flush=True)
    return process.returncode == 0


def _tested(files: list[str], seconds: float) -> bool:
    tests = affected(Tree(ROOT), files)
    if not tests:
        print(f"tests: none touched by {len(files)} changed files")
        return True
    budget = Budget(seconds)
    near = [test.node for test in tests]
    code = pytest.main(["-q", "--no-header", "-x", *near], plugins=[budget])
    print(
        f"tests: {len(tests)} test functions touched by {len(files)} changed files, nearest first"
    )
    if budget.left_out:
        print(f"tests: {budget.left_out} of the farthest left out for time; --seconds, or .ci/run")
    return code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def main() -> int:
    """Run everything; 0 if it passed."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--since", help="tests touched since this commit (the last one)")
    parser.add_argument(
        "--seconds", type=float, default=25.0, help="no test starts that long after the first"
    )
    given = parser.parse_args()
    types = _started(_TYPES)
    fine = [_ended(lint, _started(lint)) for lint in _LINTS]
    if all(fine):
        fine.append(_tested(changed_files(given.since), given.seconds))
    fine.append(_ended(_TYPES, types))
    print(f"{'fine' if all(fine) else 'failed'} after {time.monotonic() - began:.0f} s")
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
