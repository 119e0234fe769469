"""ALOHA and LIBERO: demonstrations, a policy trained on them, offline, closed loop, all cameras."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import policyscope as ps
from policyscope.runs.clips import read_clips

_RUN = Path(__file__).parents[1] / "examples" / "aloha_and_libero" / "run.py"
_SHORT = ("--steps", "2", "--length", "8", "--n_episodes", "1", "--max_frames", "16")


def _end_to_end(out: Path, cameras: set[str], *words: str) -> None:
    source = os.pathsep.join((str(Path(ps.__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, str(_RUN), *words, *_SHORT, "--output_dir", str(out)],
        env={**os.environ, "PYTHONPATH": source, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    known = ps.read_record(out / "eval")
    assert known["dataset"]["split"] == "held_out"  # as train_config.json says
    assert known["summary"]["chunk"]["nmae"]["value"] > 0
    assert known["findings"] == [f for f in known["findings"] if f["severity"] != "error"]
    assert {clip.camera for clip in read_clips(out / "eval")} == cameras
    played = ps.read_record(out / "rollout")
    assert [row["steps"] for row in played["episodes"]] == [8]
    for run in ("eval", "rollout"):
        assert (out / run / "report.html").stat().st_size > 100_000


@pytest.mark.slow
def test_aloha_from_demonstrations_to_a_report(shared: Path, tmp_path: Path) -> None:
    root = shared / "datasets" / "aloha-sim-transfer-cube"
    _end_to_end(tmp_path, {"observation.images.top"}, "aloha", "--dataset.root", str(root))


@pytest.mark.slow
@pytest.mark.libero
def test_libero_from_its_simulator_to_a_report(tmp_path: Path) -> None:
    pytest.importorskip("libero", reason="the extras libero and libero-assets are not installed")
    cameras = {"observation.images.image", "observation.images.image2"}
    _end_to_end(tmp_path, cameras, "libero", "--seen", "1")
