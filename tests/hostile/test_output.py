"""A folder that is not ours, named as output: every byte stays, whatever is asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import fakes
import policyscope as ps
from hostile import goods
from hostile.child import attempt


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def _holiday(folder: Path) -> None:
    for name in ("videos/holiday.mp4", "frames/000001.png", "parts/spare.txt", "report.html"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("the user's own")


@pytest.fixture(scope="module")
def foreign(data: Path, act: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders that somebody else filled."""
    home = tmp_path_factory.mktemp("foreign")
    _holiday(home / "holiday")
    shutil.copytree(data, home / "dataset")
    shutil.copytree(act, home / "checkpoint")
    fakes.write_dataset(home / "filmed", lengths=(5,) * 3, video=True)
    return {name: home / name for name in ("holiday", "dataset", "checkpoint", "filmed")}


_MORE = ((), ("--overwrite",), ("--resume",), ("--force",), ("--overwrite", "--force"))


@pytest.mark.parametrize("more", _MORE, ids=" ".join)
@pytest.mark.parametrize("kind", ["holiday", "dataset", "checkpoint", "filmed"])
def test_as_output_dir(
    kind: str, more: tuple[str, ...], foreign: dict[str, Path], data: Path
) -> None:
    folder = foreign[kind]
    before = contents(folder)
    root = folder if kind in ("dataset", "filmed") else data
    demonstrations = ["--dataset.repo_id", "a/b", "--dataset.root", str(root)]
    hold, out = ["--policy.type", "hold_state"], ["--output_dir", str(folder)]
    for words in (
        ["eval", *hold, *demonstrations, *out, *more],
        ["rollout", *hold, "--env.type", "pusht", *out, *more],
        ["bench", *hold, *demonstrations, *out],
        ["demo", *out],
    ):
        status, _, said = attempt(words)
        assert status == 2, said
        assert "nothing here was touched" in said
        assert contents(folder) == before


@pytest.mark.parametrize("kind", ["holiday", "dataset", "checkpoint"])
def test_as_record(kind: str, foreign: dict[str, Path], tmp_path: Path) -> None:
    before = contents(foreign[kind])
    words = ["rollout", "--policy.type", "hold_state", "--output_dir", str(tmp_path / "o")]
    status, _, said = attempt([*words, "--record", str(foreign[kind])])
    assert status == 2, said
    assert contents(foreign[kind]) == before


def test_as_output_of_a_report(data: Path, foreign: dict[str, Path], tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("a", "b")]
    for seed, run in enumerate(runs):
        ps.evaluate(goods.config(data, run, None, seed=seed))
    words = ["report", *map(str, runs), "--output"]
    before = contents(foreign["holiday"])
    for target in (foreign["holiday"] / "report.html", foreign["holiday"], Path("/dev/null")):
        status, _, said = attempt([*words, str(target)])
        assert status == 2, said
    assert contents(foreign["holiday"]) == before
    for _ in range(2):  # a page of our own is replaced
        status, _, said = attempt([*words, str(tmp_path / "page.html")])
        assert status == 0, said
    (runs[0] / "report.html").write_text("the user's own")
    assert attempt(["report", str(runs[0])])[0] == 2
    assert (runs[0] / "report.html").read_text() == "the user's own"


def test_notes_in_a_run_stay(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    ps.evaluate(goods.config(data, out, None))
    theirs = {"notes.txt": b"mine", "videos/holiday.mp4": b"mine", "frames/x.png": b"mine"}
    for name, content in theirs.items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(content)
    ps.evaluate(goods.config(data, out, None, overwrite=True))
    assert {name: (out / name).read_bytes() for name in theirs} == theirs
