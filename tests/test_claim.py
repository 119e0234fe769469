"""Whose a directory is: ours alone is written into, by one run at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from policyscope.errors import OutputError
from policyscope.runs.claim import LOCK, MARKER, claimed, remove_own, require_ours

_HOLD = (
    "import sys; from pathlib import Path\n"
    "from policyscope.runs.claim import claimed\n"
    "with claimed(Path(sys.argv[1])):\n"
    "    Path(sys.argv[1], 'run.json').write_text('{}')\n"
    "    print('held', flush=True); sys.stdin.read()\n"
)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_a_new_directory_becomes_ours(tmp_path: Path) -> None:
    with claimed(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "run.json").write_text("{}")
    assert (tmp_path / "a" / "b" / MARKER).is_file()
    with claimed(tmp_path / "a" / "b"):  # and stays ours
        pass
    require_ours(tmp_path / "a" / "b")


def test_a_directory_that_is_just_being_claimed_is_no_stranger_s(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    (tmp_path / f".{MARKER}.0123456789ab.tmp").write_text("{")
    with claimed(tmp_path):
        (tmp_path / "run.json").write_text("{}")
    require_ours(tmp_path)


def test_a_run_that_wrote_nothing_leaves_nothing(tmp_path: Path) -> None:
    with claimed(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="mine"), claimed(tmp_path / "a"):
        raise ValueError("mine")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    with claimed(tmp_path / "empty"):
        pass
    assert list((tmp_path / "empty").iterdir()) == []


def _foreign(folder: Path, *files: str) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the user's {name}")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (("meta/info.json", "videos/observation.image/chunk-000/file-000.mp4"), "a dataset"),
        (("config.json", "model.safetensors"), "a checkpoint"),
        (("notes.txt",), r"not policyscope's \(notes.txt\)"),
        (("videos/holiday.mp4",), r"not policyscope's \(videos\)"),
        (("videos/000001.mp4",), "only look like"),
        (("frames/000001.png", "run.json"), "only look like"),
        (("report.html",), "only look like"),
        (("predictions.parquet", "parts/plan.json"), "only look like"),
        (("a", "b", "c", "d"), r"\(a, b, c, \.\.\.\)"),
        ((f"{MARKER}/x",), "not policyscope's|only look like"),
    ],
)
def test_what_is_not_ours_is_refused_and_keeps_every_byte(
    files: tuple[str, ...], found: str, tmp_path: Path
) -> None:
    _foreign(tmp_path / "o", *files)
    before = _bytes(tmp_path / "o")
    with pytest.raises(OutputError, match=found), claimed(tmp_path / "o"):
        pass
    assert _bytes(tmp_path / "o") == before


def test_a_marker_does_not_make_a_dataset_ours(tmp_path: Path) -> None:
    _foreign(tmp_path, MARKER, "meta/info.json", "videos/000001.mp4")
    with pytest.raises(OutputError, match="a dataset"), claimed(tmp_path):
        pass


def test_links_to_elsewhere_are_refused(tmp_path: Path) -> None:
    _foreign(tmp_path / "elsewhere", "000001.mp4")
    for name in ("videos", "parts", "run.json", "live.rrd"):
        out = tmp_path / f"o-{name}"
        out.mkdir()
        (out / MARKER).write_text("{}")
        (out / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OutputError, match="a link to elsewhere"), claimed(out):
            pass
        remove_own(out)
    assert _bytes(tmp_path / "elsewhere") == {"000001.mp4": b"the user's 000001.mp4"}


def test_a_run_of_the_first_version_is_ours(tmp_path: Path) -> None:
    record = {"schema_version": 1, "kind": "offline", "status": "complete", "findings": []}
    (tmp_path / "run.json").write_text(json.dumps(record))
    _foreign(tmp_path, "predictions.parquet", "clips.parquet", "report.html", "videos/000000.mp4")
    with claimed(tmp_path):
        remove_own(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "run.json").write_text(json.dumps(record))
    _foreign(tmp_path, "thesis.tex")
    with pytest.raises(OutputError, match=r"thesis\.tex"), claimed(tmp_path):
        pass


def test_only_our_names_are_removed(tmp_path: Path) -> None:
    theirs = ("notes.txt", "videos/holiday.mp4", "parts/spare.parquet", "frames/a/000001.png")
    ours = ("run.json", "report.html", "videos/000001.mp4", "parts/episode-000003.parquet")
    (tmp_path / MARKER).write_text("{}")
    _foreign(tmp_path, *theirs, *ours, ".run.json.0a1b2c0a1b2c.tmp.json", "frames/000002.png")
    with claimed(tmp_path):
        remove_own(tmp_path)
    assert set(_bytes(tmp_path)) == {*theirs, MARKER, LOCK}


def test_not_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "void").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    paths = [tmp_path / name for name in ("file", "void", "loop", "fifo", "file/inner", "a\0b")]
    for path in [*paths, Path("/dev/null"), Path("/proc/nothing/x"), tmp_path / ("x" * 5000)]:
        with pytest.raises(OutputError), claimed(path):
            pass
    assert (tmp_path / "file").read_text() == "x"


def test_two_runs_never_hold_one_directory(tmp_path: Path) -> None:
    words = [sys.executable, "-c", _HOLD, str(tmp_path / "o")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, **pipes) as first:  # type: ignore[call-overload]
        assert first.stdout.readline() == b"held\n"
        with pytest.raises(OutputError, match="being written"), claimed(tmp_path / "o"):
            pass
        first.send_signal(signal.SIGKILL)
    with claimed(tmp_path / "o"):  # the lock of the dead does not block
        pass
    assert (tmp_path / "o" / "run.json").exists()


def test_many_at_once_and_one_wins(tmp_path: Path) -> None:
    words = [sys.executable, "-c", _HOLD, str(tmp_path / "o")]
    children = [
        subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(6)
    ]
    deadline = time.monotonic() + 60
    while sum(child.poll() is None for child in children) > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    said = [child.communicate()[0] for child in children]
    assert sorted(said) == [b""] * 5 + [b"held\n"]
