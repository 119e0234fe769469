"""The demo: real inference on what ships, without a network."""

from __future__ import annotations

import socket
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from policyscope.commands.demo import DemoConfig, demo_config, demo_rollout
from policyscope.policies.reading import read_checkpoint
from policyscope.runs.record import read_record
from test_refusals import run_cli

pytestmark = pytest.mark.slow


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def blocked(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked for")

    connect = socket.socket.connect

    def within(self: socket.socket, address: object) -> None:
        """Processes of this machine may talk to each other: simulators have their own."""
        if self.family != socket.AF_UNIX:
            blocked()
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", blocked)
    monkeypatch.setattr(socket.socket, "connect", within)


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
    shown = capsys.readouterr().out
    assert shown.count("--policy.path YOUR") == 2
    pytest.importorskip("gym_pusht")
    games = read_record(tmp_path / "demo-games")
    assert games["policy"]["type"] == "act"
    # 86 of 100 seeds: none of three would be one chance in 360
    assert any(row["success"] for row in games["episodes"])
    assert (tmp_path / "demo-games" / "report.html").is_file()
    assert "demo-games/report.html" in "".join(shown.split())


def test_without_gym_pusht_no_games_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("policyscope.commands.demo.version", absent)
    with demo_rollout(DemoConfig()) as games:
        assert games is None


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
    pytest.importorskip("gym_pusht")
    with demo_config(DemoConfig()) as config, demo_rollout(DemoConfig()) as games:
        assert games is not None
        checkpoint, player = read_checkpoint(config.policy), read_checkpoint(games.policy)
        folders = (checkpoint.directory, player.directory, Path(config.dataset.root or ""))
    sizes = [sum(f.stat().st_size for f in p.rglob("*") if f.is_file()) for p in folders]
    assert sizes[0] + sizes[1] < 12e6
    assert sizes[2] < 4e6
