"""A stranger's first hour, typed: what helps is said in a line, and nothing else is said."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import policyscope

_ASSETS = Path(policyscope.__file__).parent / "assets"
_SEES, _PLAYS = str(_ASSETS / "smolvla-pusht"), str(_ASSETS / "act-pusht")
_DATA = ("--dataset.repo_id", "policyscope/pusht-planner", "--dataset.root")
_PLANNER = (*_DATA, str(_ASSETS / "pusht-planner"))
_CHATTER = re.compile(
    r"Traceback|Warning|\bwarn(ing)?s?\b:|Svt\[|\[mp4|it/s|\d%\||\x1b|^(INFO|DEBUG|WARNING)|pygame"
    r"|tokeniz|Map:|File \""
)
"""What libraries say of themselves: nobody asked."""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """An empty folder in which somebody begins."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    return tmp_path


def _typed(words: Sequence[str], here: Path) -> tuple[int, list[str], list[str]]:
    """Status, lines of standard output, lines of standard error; into a file, as in a log."""
    log = here / "log.txt"
    env = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "COLUMNS": "80"}
    env.pop("HF_HUB_OFFLINE", None)
    with log.open("w") as file:
        done = subprocess.run(
            [sys.executable, "-m", "policyscope", *words],
            cwd=here,
            env=env,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            timeout=600,
            check=False,
        )
    said = log.read_text().splitlines()
    for line in (*said, *done.stdout.splitlines()):
        assert not _CHATTER.search(line), f"{' '.join(words)}: {line}"
    return done.returncode, done.stdout.splitlines(), said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["evla"], "eval"),
        (["eval", "--polcy.path", "x", *_PLANNER], "--policy.path"),
        (["eval", "--policy.path", "x", "--dataset.repoid", "y"], "--dataset.repo_id"),
        (["eval", "--policy.path", "nowhere", *_PLANNER], "nowhere"),
        (["eval", "--policy.path", "notes.txt", *_PLANNER], "notes.txt"),
        (["eval", "--policy.path", "empty", *_PLANNER], "config.json"),
        (["eval", "--policy.path", "someone/model", *_PLANNER], "someone/model"),
        (["eval", "--policy.type", "hold_stat", *_PLANNER], "hold_state"),
        (["eval", "--policy.type", "hold_state", *_DATA, "empty"], "info.json"),
        (["eval", "--policy.type", "hold_state", *_DATA, "nowhere"], "nowhere"),
        (["eval", "--policy.type", "hold_state", "--dataset.repo_id", "a/b"], "a/b"),
        (
            ["eval", "--policy.type", "hold_state", *_PLANNER, "--dataset.episodes", "990"],
            "990",
        ),
        (
            ["eval", "--policy.type", "hold_state", *_PLANNER, "--output_dir", "notes.txt"],
            "notes.txt",
        ),
        (["eval", "--policy.path", _SEES, *_PLANNER, "--device", "cuda"], "cuda"),
        (["rollout", "--policy.path", _PLAYS, "--env.type", "push"], "pusht"),
        (["report", "empty"], "run.json"),
        (["compare", "empty", "nowhere"], "run.json"),
        (["plan", "--from", "60"], "--to"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_goes_wrong_is_one_line_that_names_it(
    words: list[str], named: str, here: Path
) -> None:
    status, out, said = _typed(words, here)
    assert status == 2
    assert out == []
    *stages, line = said
    assert set(stages) <= {
        "reading policy and dataset",
        "loading the policy",
        "starting the simulator",
    }
    assert line.startswith("error: ")
    assert named in line
    assert "Fix: " in line
    assert sorted(path.name for path in here.iterdir()) == ["empty", "log.txt", "notes.txt"]


@pytest.mark.slow
def test_an_hour_in_which_all_goes_well(here: Path) -> None:
    few = ("--max_frames", "160")
    assert _typed(["--version"], here)[0] == 0
    assert _typed(["--help"], here)[1]
    status, out, _ = _typed(["check", "--policy.path", _SEES, *_PLANNER, "--frames", "32"], here)
    assert status in (0, 1)
    assert out[0].startswith("✓ dataset")
    ours = ["eval", "--policy.path", _SEES, *_PLANNER, *few, "--output_dir", "ours"]
    status, out, said = _typed(ours, here)
    assert status == 0
    assert any(line.startswith("Skill") or "better than" in line for line in out)
    assert any("160/160 frames" in line for line in said)
    assert (here / "ours" / "report.html").is_file()
    status, _, said = _typed(ours, here)  # once more: the run that is there is not lost
    assert (status, len(said)) == (2, 1)
    assert "--overwrite" in said[0]
    hold = ["eval", "--policy.type", "hold_state", *_PLANNER, *few, "--output_dir", "hold"]
    assert _typed(hold, here)[0] == 0
    status, out, _ = _typed(["compare", "hold", "ours"], here)
    assert status == 0
    assert max(map(len, out)) <= 80
    assert _typed(["compare", "ours", "ours"], here)[0] == 2
    assert _typed(["report", "ours", "--lang", "zh"], here)[0] == 0
    assert _typed(["report", "hold", "ours", "--output", "both.html"], here)[0] == 0
    assert (here / "both.html").is_file()


@pytest.mark.slow
def test_a_rollout_that_is_filmed_and_recorded_is_silent(here: Path) -> None:
    pytest.importorskip("gym_pusht")
    status, out, said = _typed(
        ["rollout", "--policy.type", "hold_state", "--env.type", "pusht", "--n_episodes", "2",
         "--env.settings", '{"episode_length": 40}', "--video", "all", "--record", "seen",
         "--output_dir", "games"],
        here,
    )  # fmt: skip
    assert status == 0
    assert said[-1] == "recording the rollouts"
    assert "videos/" in out[-2] + out[-3]
    assert out[-1] == "recorded as a dataset: seen"
    assert len(list((here / "games" / "videos").iterdir())) == 2
    assert (here / "games" / "run.log").is_file()
    assert _typed(["check", "--policy.type", "hold_state", *_DATA, "seen"], here)[0] in (0, 1)
