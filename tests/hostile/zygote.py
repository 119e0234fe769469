"""Command lines in processes of their own, without importing everything for each of them.

One process imports what the command line needs, and forks for every run: a run can be killed like
any other process, and begins in milliseconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PRELOAD = "import lerobot.datasets, matplotlib.figure, scipy.stats, rich.live, filelock, av"


@dataclass
class Run:
    """One command line at work.

    Attributes:
        pid: of its process.
        said: where its standard error goes.
    """

    pid: int
    said: Path
    zygote: Zygote
    status: int | None = None

    def poll(self) -> int | None:
        """Its exit status (negative: the signal that ended it), or None while it runs."""
        if self.status is None:
            answer = self.zygote.ask({"poll": self.pid})
            self.status = answer["status"]
        return self.status

    def wait(self, timeout_s: float = 120.0) -> int:
        """Its exit status.

        Raises:
            TimeoutError: it takes longer.
        """
        deadline = time.monotonic() + timeout_s
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"still running after {timeout_s} s: {self.text()}")
            time.sleep(0.01)
        assert self.status is not None
        return self.status

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def text(self) -> str:
        """What it has said on standard error."""
        return self.said.read_text(errors="replace")

    def errors(self) -> list[str]:
        """Its lines of error."""
        return [line for line in self.text().splitlines() if line.startswith(("error", "refused"))]


class Zygote:
    """Forks command lines."""

    def __init__(self, scratch: Path) -> None:
        self._scratch, self._n = scratch, 0
        root = Path(__file__).parents[2]
        paths = [str(root / "src"), str(root / "tests")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hostile.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        )
        self.ask({"ready": True})

    def ask(self, question: dict[str, Any]) -> Any:
        """One question, one answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def run(self, *words: str, file_bytes: int | None = None, out: str | None = None) -> Run:
        """Begin a command line.

        Args:
            words: its words.
            file_bytes: what a file may grow to; writing more fails as on a full disk.
            out: where its standard output goes.
        """
        self._n += 1
        said = self._scratch / f"said-{self._n}"
        question = {"words": words, "said": str(said), "file_bytes": file_bytes, "out": out}
        return Run(self.ask(question)["pid"], said, self)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@contextlib.contextmanager
def zygote(scratch: Path) -> Iterator[Zygote]:
    """A zygote for as long as it is needed."""
    started = Zygote(scratch)
    try:
        yield started
    finally:
        started.close()


def _serve() -> None:
    exec(_PRELOAD)
    ended: dict[int, int] = {}
    for line in sys.stdin:
        question = json.loads(line)
        answer: dict[str, Any] = {}
        if "words" in question:
            pid = os.fork()
            if pid == 0:
                _become(question)
            answer = {"pid": pid}
        elif "poll" in question:
            pid = question["poll"]
            if pid not in ended:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    ended[pid] = os.waitstatus_to_exitcode(status)
            answer = {"status": ended.get(pid)}
        print(json.dumps(answer), flush=True)


def _become(question: dict[str, Any]) -> None:
    """Be the command line that was asked for; never returns."""
    from hostile.child import command_line

    err = os.open(question["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    out = os.open(question["out"] or os.devnull, os.O_WRONLY)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((null, 0), (out, 1), (err, 2)):
        os.dup2(number, target)
    if question["file_bytes"] is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (question["file_bytes"],) * 2)
    sys.argv = ["policyscope", *question["words"]]
    command_line()(question["words"])


if __name__ == "__main__":
    _serve()
