"""What libraries say on the side goes to a file, and comes back to the terminal afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from policyscope.commands.streams import chatter_in, console

_SAYS = "import os; os.write(1, b'child out\\n'); os.write(2, b'child err\\n')"


def test_chatter_goes_to_the_log_whatever_says_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "run.log"
    terminal = console(stderr=True)
    with chatter_in(log):
        print("python")
        print("python err", file=sys.stderr)
        os.write(2, b"C code\n")
        subprocess.run([sys.executable, "-c", _SAYS], check=True)
        terminal.print("still seen")
    print("after")
    os.write(2, b"after err\n")
    shown = capfd.readouterr()
    assert sorted(log.read_text().splitlines()) == [
        "C code",
        "child err",
        "child out",
        "python",
        "python err",
    ]
    assert shown.out == "after\n"
    assert shown.err == "still seen\nafter err\n"


def test_silence_leaves_no_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with chatter_in(tmp_path / "run.log"):
        pass
    assert not (tmp_path / "run.log").exists()
    assert capfd.readouterr() == ("", "")


def test_streams_come_back_after_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        print("kept for who looks")
        raise KeyError

    with pytest.raises(KeyError), chatter_in(tmp_path / "run.log"):
        broken()
    print("after")
    assert capfd.readouterr().out == "after\n"
    assert (tmp_path / "run.log").read_text() == "kept for who looks\n"
