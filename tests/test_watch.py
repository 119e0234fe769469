"""What is seen while a run goes on: the dashboard."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import fakes
from policyscope.commands.evaluate import evaluate
from policyscope.engine.progress import EpisodeNews, Watch
from policyscope.runs.episodes import episode_rows
from policyscope.views.terminal import TerminalProgress
from policyscope.views.words import number


class Notes(Watch):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.news: list[EpisodeNews] = []

    def scored(self, news: EpisodeNews) -> None:
        self.news.append(news)


@pytest.mark.parametrize("units", ["px", "rad,m"])
def test_the_running_score_ends_where_the_scorecard_does(
    units: str, data: Path, act: Path, tmp_path: Path
) -> None:
    notes = Notes()
    config = fakes.config_for(data, act, tmp_path / "o", action_units=units)
    record = evaluate(config, notes).record
    metric = "mae" if units == "px" else "nmae"
    last = notes.news[-1]
    assert last.unit == ("px" if units == "px" else "std")
    assert last.n_episodes == len(notes.news) == 6
    assert last.running_error == pytest.approx(record["summary"]["chunk"][metric]["value"])
    # against the strongest: the one against which the skill is least
    skills = {name: known["chunk"]["value"] for name, known in record["skill"].items()}
    assert last.against == min(skills, key=lambda name: skills[name])
    assert last.running_skill == pytest.approx(skills[last.against])
    rows = {r["episode_index"]: r for r in episode_rows(tmp_path / "o", record)}
    for news in notes.news:
        assert news.error == pytest.approx(rows[news.scored.index][metric])
        assert len(news.frame_error) == rows[news.scored.index]["n_frames"]
        (camera,) = news.footage.values()
        shown = list(camera())
        assert len(shown) == len(news.frame_error)
        assert shown[0].shape == (64, 64, 3)
        assert shown[0].dtype == np.uint8


def test_the_dashboard_shows_error_skill_and_the_worst(data: Path, tmp_path: Path) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=120, force_terminal=True)
    with TerminalProgress(console) as progress:
        record = evaluate(fakes.config_for(data, "repeat_last", tmp_path / "o"), progress).record
        console.print(progress.render())
    shown = screen.getvalue()
    rows = episode_rows(tmp_path / "o", record)
    worst = max(rows, key=lambda r: r["mae"])
    assert "worst episode" in shown
    assert f"episode {worst['episode_index']}" in shown
    assert "skill against hold state" in shown or "skill against dataset mean" in shown
    assert "skill against repeat last" not in shown  # that is what is watched
    assert f"{record['summary']['chunk']['mae']['value']:.3g}"[:3] in shown


def test_a_pipe_gets_plain_lines(data: Path, tmp_path: Path) -> None:
    screen = io.StringIO()
    with TerminalProgress(Console(file=screen)) as progress:
        evaluate(fakes.config_for(data, "repeat_last", tmp_path / "o"), progress)
    assert screen.getvalue().splitlines()[:2] == [
        "reading policy and dataset",
        "loading the policy",
    ]
    assert "\x1b" not in screen.getvalue()


def test_a_log_file_says_each_tenth_or_half_minute_how_far_it_is() -> None:
    screen, now = io.StringIO(), [0.0]
    with TerminalProgress(Console(file=screen, width=60), clock=lambda: now[0]) as progress:
        progress.begin(1000)
        for frames, seconds in ((60, 10.0), (60, 10.0), (10, 31.0), (10, 5.0), (860, 9.0)):
            now[0] += seconds
            progress.advance(frames)
    assert screen.getvalue().splitlines() == [
        "predicting 1000 frames",
        "120/1000 frames, 6.00 frames/s, 0:02:27 left to predict",
        "130/1000 frames, 2.55 frames/s, 0:05:41 left to predict",
        "1000/1000 frames, 15.4 frames/s, 0:00:00 left to predict",
    ]


def test_the_lines_of_a_log_file_carry_the_error(data: Path, tmp_path: Path) -> None:
    screen = io.StringIO()
    with TerminalProgress(Console(file=screen)) as progress:
        config = fakes.config_for(data, "repeat_last", tmp_path / "o")
        record = evaluate(config, progress).record
        progress.advance(10**6)  # whatever follows the last episode
    error = record["summary"]["chunk"]["mae"]["value"]
    shown = f"error over the chunk so far {number(error)} px in 6 episodes"
    assert shown in screen.getvalue().splitlines()[-1]
