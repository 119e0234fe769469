"""The streams into Rerun: all that was predicted, and every model call of a rollout."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import fakes
from policyscope.commands.evaluate import evaluate
from policyscope.commands.rollout import rollout
from policyscope.errors import UsageError
from test_rollout import Seeker, outcome
from test_rollout import config as rollout_config


def test_without_rerun_live_says_what_to_install(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(UsageError, match=r"policyscope\[rerun\]"):
        evaluate(fakes.config_for(data, "repeat_last", tmp_path / "o", live=True))
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_live_records_what_was_predicted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = pytest.importorskip("rerun.experimental")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    out = tmp_path / "o"
    record = evaluate(fakes.config_for(data, "repeat_last", out, live=True)).record
    reader = reading.RrdReader(str(out / "live.rrd"))
    assert len(reader.blueprints()) == 1
    rows: dict[str, int] = {}
    for chunk in reader.store().stream().to_chunks():
        rows[chunk.entity_path] = rows.get(chunk.entity_path, 0) + chunk.num_rows
    dims = [name.replace("[", "_").replace("]", "_") for name in record["actions"]["names"]]
    n = record["dataset"]["n_frames"]
    for path in (
        "errors/frame",
        "errors/running",
        "skill/running",
        "cameras/observation.image",
        *(f"actions/{d}/{who}" for d in dims for who in ("predicted", "demonstrated")),
        *(f"chunks/{d}" for d in dims),
    ):
        assert rows[f"/{path}"] == n, path
    assert rows["/log"] == len(record["dataset"]["episodes"])


@pytest.mark.slow
def test_live_shows_every_model_call_of_a_rollout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = pytest.importorskip("rerun.experimental")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    plain = rollout(rollout_config(tmp_path / "a", n_episodes=5), policy=Seeker())
    shown = rollout(rollout_config(tmp_path / "b", n_episodes=5, live=True), policy=Seeker())
    assert outcome(plain) == outcome(shown)
    reader = reading.RrdReader(str(tmp_path / "b" / "live.rrd"))
    assert reader.blueprints()
    rows: dict[str, int] = {}
    for chunk in reader.store().stream().to_chunks():
        rows[chunk.entity_path] = rows.get(chunk.entity_path, 0) + chunk.num_rows
    calls = sum(row["n_calls"] for row in shown.record["episodes"])
    for what in ("image", "image/title", "actions/action_0_"):
        assert sum(rows.get(f"/simulators/{place}/{what}", 0) for place in (0, 1)) == calls, what
    assert not [path for path in rows if path.startswith("/simulators/2")]
    for path in ("success/rate", "success/low", "success/high", "reward/episode", "log"):
        assert rows[f"/{path}"] == 5, path


def test_without_rerun_a_live_rollout_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(UsageError, match=r"policyscope\[rerun\]"):
        rollout(rollout_config(tmp_path / "o", live=True))
    assert not (tmp_path / "o").exists()
