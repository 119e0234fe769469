"""The frames that matter: which they are, and the errors at them, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fakes
from policyscope.actions.meanings import Meaning
from policyscope.actions.spaces import ActionSchema, NativeActions
from policyscope.commands.evaluate import evaluate
from policyscope.commands.report import ReportConfig, render
from policyscope.config.windows import parse_windows
from policyscope.errors import DatasetError, UsageError
from policyscope.metrics.sums import Measure, ScoredEpisode, Sums, windowed
from policyscope.metrics.windows import gripper_frames, slow_frames, window_scores

GRIP = Meaning("gripper", ("g",), (1,), "0-1", closed=0.0, open=1.0)
POINT = Meaning("position", ("x",), (0,), "m")
SCHEMA = ActionSchema(("x", "g"), ("m", "0-1"), (POINT, GRIP))
STATS = {"mean": [0.0, 0.0], "std": [1.0, 1.0], "min": [0.0, 0.0], "max": [9.0, 1.0]}


def _measure(schema: ActionSchema = SCHEMA) -> Measure:
    return Measure.of(schema, STATS, horizon=2, n_action_steps=1, fps=4.0)


def test_half_a_second_around_a_gripper_that_changes() -> None:
    actions = np.zeros((20, 2))
    actions[10:, 1] = 1.0
    found = np.flatnonzero(gripper_frames(actions, _measure()))
    np.testing.assert_array_equal(found, [8, 9, 10, 11, 12])  # two frames at 4 Hz


def test_the_slowest_quarter_of_what_moves() -> None:
    speed = np.concatenate([np.zeros(20), np.full(40, 1.0), np.full(20, 0.3), np.zeros(20)])
    actions = np.stack([np.cumsum(speed), np.zeros(100)], axis=1)
    found = slow_frames(actions, _measure())
    assert found[62:78].all()  # the slow approach; its borders are smoothed
    assert not found[22:58].any()
    assert not found[:18].any()  # rest is no motion
    assert not slow_frames(np.zeros((10, 2)), _measure()).any()


def test_errors_in_a_window_by_hand() -> None:
    """Off by 1 everywhere, by 3 at frames 4 and 5: of chunks the steps that fall there count."""
    n = 8
    at = np.arange(n)[:, None] + np.arange(2)
    pad = at >= n
    off = np.where((at == 4) | (at == 5), 3.0, 1.0)
    target = NativeActions(np.zeros((n, 2, 2)), SCHEMA.units)
    ours = NativeActions(np.stack([off, off], axis=-1), SCHEMA.units)
    within = np.isin(np.arange(n), [4, 5])
    sums = Sums.nothing(_measure())
    for e in (0, 1):
        base = {"repeat_last": NativeActions(np.full((n, 2, 2), 6.0), SCHEMA.units)}
        episode = ScoredEpisode(e, np.arange(n), ("",) * n, (ours,), target, pad, base)
        sums += windowed(_measure(), episode, within if e == 0 else np.zeros(n, bool))
    found = window_scores("slow", "", sums, 2 * n)
    assert (found.n_frames, found.share, found.n_episodes) == (2, 2 / 16, 1)
    assert found.summary is not None
    assert found.summary.executed.nmae.value == pytest.approx(3.0)
    assert found.summary.chunk.nmae.value == pytest.approx(3.0)
    assert found.skill["repeat_last"].executed.value == pytest.approx(1 - 9 / 36)
    nothing = window_scores("slow", "", Sums.nothing(_measure()), 8)
    assert (nothing.n_frames, nothing.summary) == (0, None)


@pytest.mark.parametrize("text", ["", "contact", "column:", "slow,,gripper", "x.yaml"])
def test_other_windows_are_one_line(text: str) -> None:
    with pytest.raises(UsageError, match="--critical gripper,slow"):
        parse_windows(text)


def test_windows_of_all_kinds_on_a_dataset(tmp_path: Path) -> None:
    names = ["left_waist", "left_gripper"]
    root = fakes.write_dataset(tmp_path / "d", names=names, robot_type="aloha", cameras=())
    marks = tmp_path / "w.json"
    marks.write_text(json.dumps({"episodes": {"0": [[2, 5]], "99": [[0, 1]]}}))
    text = f"slow,gripper,column:frame_index,{marks}"
    config = fakes.config_for(root, "repeat_last", tmp_path / "o", action_units=None, critical=text)
    run = evaluate(config)
    slow, grip, column, file = run.record.critical
    assert 0 < slow.share < 0.6
    assert (grip.kind, column.name, file.name) == ("gripper", "frame_index", str(marks))
    assert column.n_frames == run.record.dataset.n_frames - 6  # all but the first of each episode
    assert (file.n_frames, file.n_episodes) == (3, 1)
    page = render(ReportConfig(str(tmp_path / "o"), lang="zh")).read_text()
    assert "关键帧" in page
    auto = fakes.config_for(root, "repeat_last", tmp_path / "p", action_units=None)
    assert [w.kind for w in evaluate(auto).record.critical] == ["gripper"]


def test_what_a_dataset_has_not_is_one_line(data: Path, tmp_path: Path) -> None:
    def run(critical: str) -> None:
        evaluate(fakes.config_for(data, "repeat_last", tmp_path / "o", critical=critical))

    with pytest.raises(UsageError, match="expected a gripper among"):
        run("gripper")
    with pytest.raises(DatasetError, match="contact"):
        run("column:contact")
    for text in ("[]", '{"episodes": {"a": []}}', '{"episodes": {"0": [[1]]}}', "{", '{"x": 1}'):
        file = tmp_path / "w.json"
        file.write_text(text)
        with pytest.raises(UsageError, match=r"intervals|JSON"):
            run(str(file))
