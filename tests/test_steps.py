"""Success over the steps that are run of each chunk: a run of each, on the same seeds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from policyscope.commands.cli import main
from policyscope.commands.rollout import rollout
from policyscope.commands.steps import sweep_steps
from policyscope.config import RolloutConfig
from policyscope.config.executions import parse_sweep
from policyscope.errors import RefusedError, UsageError
from policyscope.runs.record import read_record
from policyscope.views.steps.words import cells, headline
from test_page import Opened, _serious, browser  # noqa: F401  (a fixture)
from test_rollout import POINT, Seeker, config
from test_views import embedded


def swept(out: Path, text: str, **settings: Any) -> RolloutConfig:
    return dataclasses.replace(config(out, **settings), sweep=text)


def test_each_number_of_steps_is_what_rollout_runs(act: Path, tmp_path: Path) -> None:
    directory, known = sweep_steps(
        swept(tmp_path / "s", "n_action_steps=3,1,6", policy=act, n_episodes=4)
    )
    assert [row.steps for row in known.rows] == [1, 3, 6]
    assert known.base == 3
    for row in known.rows:
        alone = config(tmp_path / f"alone-{row.steps}", act, n_episodes=4)
        record = rollout(dataclasses.replace(alone, n_action_steps=row.steps)).record
        assert row.record.success == record.success
        assert [e.steps for e in row.record.episodes] == [e.steps for e in record.episodes]
    rows = json.loads((directory / "steps.json").read_text())["rows"]
    calls = [row["model_calls"] for row in rows]
    assert calls[0] > calls[1] > calls[2] > 0
    assert ["against_first" in row for row in rows] == [True, False, True]
    page = embedded(directory / "steps.html")
    assert [row["steps"] for row in page["rows"]] == [1, 3, 6]
    assert page["base"] == 3


def test_paired_by_seed_and_adjusted_together(tmp_path: Path) -> None:
    """A scripted policy that solves all games, run once as it is and twice frozen."""

    def roll(one: RolloutConfig) -> Any:
        if one.n_action_steps == 3:
            return rollout(dataclasses.replace(one, n_action_steps=None), policy=Seeker())
        return rollout(dataclasses.replace(one, n_action_steps=None))

    asked = swept(tmp_path / "s", "n_action_steps=3,1,2", n_episodes=8)
    _, known = sweep_steps(asked, roll)
    assert known.rows[2].record.success.k == 8
    frozen = known.rows[0].record.success.k
    assert frozen == known.rows[1].record.success.k < 4
    both = [row.to_json()["against_first"] for row in known.rows[:2]]
    lost = 8 - frozen
    assert [row["difference"] for row in both] == pytest.approx([-lost / 8] * 2)
    exact = 2 * 0.5**lost  # McNemar: all discordant seeds on one side
    assert [row["p_holm"] for row in both] == pytest.approx([min(1, 2 * exact)] * 2)
    assert {row.steps for row in known.apart} == {1, 2}
    assert headline(known).endswith("Shown to differ from 3 steps: 1, 2.")
    assert cells(known.rows[0])[-1] == "less"


def test_too_many_steps_are_refused_before_anything_runs(act: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="n_action_steps of at most 6"):
        sweep_steps(swept(tmp_path / "s", "n_action_steps=1,7", policy=act))
    assert not (tmp_path / "s/n_action_steps-1").exists()


def test_the_command_line_and_what_repeats_a_run(
    act: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s"
    words = ["rollout", "--policy.path", str(act), "--env.type", "gym", "--env.task", POINT]
    words += ["--n_episodes", "2", "--n_envs", "2", "--latency_calls", "0", "--video", "none"]
    words += ["--device", "cpu", "--sweep", "n_action_steps=1,4", "--output_dir", str(out)]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert not end.value.code
    assert "Success by steps of each chunk" in capsys.readouterr().out
    line = read_record(out / "n_action_steps-4").environment.command_line
    assert line[-4:] == ["--n_action_steps", "4", "--output_dir", str(out / "n_action_steps-4")]
    assert "--sweep" not in line
    assert (out / "n_action_steps-1/report.html").is_file()


@pytest.mark.parametrize(
    "text", ["8", "n_action_steps=", "n_action_steps=8", "n_action_steps=0,1", "x=1,2"]
)
def test_what_is_no_sweep(text: str) -> None:
    with pytest.raises(UsageError, match="--sweep"):
        parse_sweep(text)


@pytest.mark.parametrize(
    "settings", [{"n_action_steps": 3}, {"until": ("0.5",)}, {"record": "d"}, {"live": True}]
)
def test_what_does_not_go_with_a_sweep(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="beside it"):
        dataclasses.replace(config(tmp_path), sweep="n_action_steps=1,2", **settings)


@pytest.mark.slow
@pytest.mark.parametrize(("lang", "width"), [("en", 390), ("zh", 1280)])
def test_the_page_in_a_browser(
    browser: Any,  # noqa: F811
    lang: Any,
    width: int,
    act: Path,
    tmp_path: Path,
) -> None:
    asked = swept(tmp_path / "s", "n_action_steps=3,1", policy=act, n_episodes=3, lang=lang)
    directory, _ = sweep_steps(asked)
    opened = Opened(browser, directory / "steps.html", width, "light")
    opened.show_everything()
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.page.locator("[data-chart] svg[role=img]").count() == 2
    serious = _serious(opened)
    opened.context.close()
    assert serious == []
    assert opened.wrong == []
