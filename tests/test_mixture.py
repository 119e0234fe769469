"""One policy on several datasets: a run each, and the mean in which each counts once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import bend
import fakes
from policyscope.commands.cli import main
from policyscope.runs.record import read_record


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("other") / "other"
    return fakes.write_dataset(root, lengths=(7, 30), cameras=())


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["eval", "--policy.type", "hold_state", "--latency_calls", "0", *words])
    return int(end.value.code or 0)


def test_a_run_of_each_and_their_mean(
    data: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o"
    where = [f"--dataset.root={data}", "--dataset.root", str(other), "--output_dir", str(out)]
    assert run(*where) == 0
    runs = [read_record(out / name) for name in ("d", "other")]
    errors = [record.summary.executed.nmae.value for record in runs]
    assert [len(record.dataset.episodes) for record in runs] == [6, 2]
    known = json.loads((out / "mixture.json").read_text())
    assert known["macro_mean"]["executed.nmae"] == pytest.approx(sum(errors) / 2)
    assert [row["executed.nmae"]["value"] for row in known["datasets"]] == errors
    assert [row["n_frames"] for row in known["datasets"]] == [57, 37]
    assert "mean of 2" in capsys.readouterr().out
    assert (out / "other/report.html").is_file()
    line = runs[1].environment.command_line
    assert str(other) in line
    assert str(data) not in " ".join(line)
    assert line[-2:] == ["--output_dir", str(out / "other")]


def test_one_that_is_refused_keeps_no_other(data: Path, other: Path, tmp_path: Path) -> None:
    bent = shutil.copytree(other, tmp_path / "bent")
    bend.stats("action", mean=[0.0, 0.0], std=[1.0, 1.0], min=[0, 0], max=[1, 1])(bent)
    out = tmp_path / "o"
    roots = ["--dataset.root", str(bent), "--dataset.root", str(data)]
    assert run(*roots, "--output_dir", str(out)) == 1
    rows = json.loads((out / "mixture.json").read_text())["datasets"]
    assert [row["status"] for row in rows] == ["refused", "complete"]
    assert "dataset_stats_contradict" in rows[0]["why"]
    assert run("--dataset.root", str(bent), "--dataset.root", str(bent)) == 2


def test_equal_names_get_numbers(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    words = [word for _ in range(2) for word in ("--dataset.root", str(data))]
    assert (
        run(
            *words, "--dataset.episodes", "0", "--dataset.episodes", "1,2", "--output_dir", str(out)
        )
        == 0
    )
    assert [len(read_record(out / f"d-{i}").dataset.episodes) for i in (1, 2)] == [1, 2]


def test_flags_that_do_not_go_together(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for _ in range(3) for word in ("--dataset.root", str(data))]
    assert run(*words, "--dataset.episodes", "0", "--dataset.episodes", "1") == 2
    assert "--dataset.root 3 times, --dataset.episodes 2 times" in capsys.readouterr().err
