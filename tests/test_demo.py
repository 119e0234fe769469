"""The demo: real inference on what ships, without a network."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from policyscope.commands.demo import DemoConfig, demo_config
from policyscope.policies.reading import read_checkpoint
from policyscope.runs.record import read_record
from test_refusals import run_cli

pytestmark = pytest.mark.slow


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def blocked(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket, "getaddrinfo", blocked)
    monkeypatch.setattr(socket.socket, "connect", blocked)


@pytest.mark.usefixtures("no_network")
def test_demo_runs_without_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert run_cli("demo", "--output_dir", str(out)) == 0
    record = read_record(out)
    assert record["status"] == "complete"
    assert record["policy"]["type"] == "smolvla"
    assert record["actions"]["units"] == ["px", "px"]
    assert len(record["dataset"]["episodes"]) >= 5
    # a policy that learned nothing would not be better than doing nothing
    assert record["skill"]["hold_state"]["chunk"]["ci_low"] > 0
    assert sorted(p.name for p in out.iterdir()) == [
        ".policyscope",
        ".policyscope.lock",
        "by_episode.parquet",
        "clips.parquet",
        "predictions.parquet",
        "report.html",
        "report.png",
        "run.json",
        "sums.safetensors",
    ]
    assert capsys.readouterr().out.count("--policy.path YOUR") == 2


@pytest.mark.usefixtures("no_network")
def test_broken_demo_is_refused_and_forced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert run_cli("demo", "--broken", "--output_dir", str(out)) == 2
    assert "unnormalizer_missing" in capsys.readouterr().err
    assert run_cli("demo", "--broken", "--force", "--output_dir", str(out)) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "FORCED" in shown
    assert "a difference of scale and nothing else" in shown
    right, wrong = (read_record(tmp_path / n) for n in ("demo", "demo-broken"))
    values = [r["summary"]["step1"]["mae"]["value"] for r in (right, wrong)]
    assert values[0] < 30
    assert values[1] > 150


def test_what_ships_stays_small() -> None:
    with demo_config(DemoConfig()) as config:
        checkpoint = read_checkpoint(config.policy)
        folders = (checkpoint.directory, Path(config.dataset.root or ""))
    sizes = [sum(f.stat().st_size for f in p.rglob("*") if f.is_file()) for p in folders]
    assert sizes[0] < 12e6
    assert sizes[1] < 4e6
