"""What `check` says that it looked at, and what it left out."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.table import Table

import fakes
from policyscope.commands.check import check
from policyscope.config import CheckConfig
from policyscope.views.checked import checked_text
from policyscope.views.console import Terminal, plain_table


def _shown(config: CheckConfig, width: int = 80) -> list[str]:
    file = io.StringIO()
    Terminal(file=file, width=width, highlight=False).print(checked_text(check(config), config))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def _config(data: Path, policy: Path | str, **more: object) -> CheckConfig:
    known = fakes.config_for(data, policy, data)
    config = CheckConfig(policy=known.policy, dataset=known.dataset, device="cpu")
    return replace(config, **more)  # type: ignore[arg-type]  # a test's own words


def _done(lines: list[str]) -> dict[str, str]:
    names = ("dataset", "policy", "the two together", "split", "predictions", "inputs")
    return {name: line[0] for line in lines for name in names if line[2:].startswith(name)}


def test_a_checkpoint_is_looked_at_from_all_sides(data: Path, act: Path) -> None:
    lines = _shown(_config(data, act, frames=16))
    assert _done(lines) == {
        "dataset": "✓",
        "policy": "✓",
        "the two together": "✓",
        "split": "–",
        "predictions": "✓",
        "inputs": "✓",
    }
    assert any("16 frames" in line or "18 frames" in line for line in lines)


@pytest.mark.parametrize(
    ("more", "left_out", "why"),
    [
        ({"frames": 0}, "predictions", "--frames 0 reads files alone"),
        ({"frames": 16, "ablate": False}, "inputs", "--no-ablate"),
    ],
)
def test_what_was_left_out_says_why(
    more: dict[str, object], left_out: str, why: str, data: Path, act: Path
) -> None:
    lines = _shown(_config(data, act, **more))
    assert _done(lines)[left_out] == "–"
    assert any(left_out in line and why in line for line in lines)


def test_a_policy_without_files_is_no_checked_policy(data: Path) -> None:
    lines = _shown(_config(data, "hold_state"))
    assert _done(lines) == {"dataset": "✓", "policy": "–"}
    assert not any("held out" in line for line in lines)


def test_three_intervals_stand_in_eighty_letters() -> None:
    table: Table = plain_table("a [title]")
    for column in ("policy", "step 1", "chunk (16)", "executed (8)"):
        table.add_column(column, justify="right")
    table.add_row("smolvla", *["12.5 [10.4, 14.6]"] * 3)
    file = io.StringIO()
    Terminal(file=file, width=80, highlight=False).print(table)
    lines = file.getvalue().splitlines()
    assert lines[1].rstrip() == "a [title]"
    assert lines[-1].count("12.5 [10.4, 14.6]") == 3
