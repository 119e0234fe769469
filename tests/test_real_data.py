"""Real demonstrations and a real checkpoint; skipped, visibly, where they are not at hand."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policyscope.commands.evaluate import evaluate
from policyscope.commands.report import ReportConfig, render
from policyscope.config import DatasetConfig, EvalConfig, PolicyConfig
from policyscope.data.pictures import unit_range
from policyscope.data.source import FrameSource
from policyscope.errors import DatasetError
from policyscope.runs.directory import RunDirectory


def _config(shared: Path, out: Path, data: str, policy: str, **settings: Any) -> EvalConfig:
    ours = shared / "checkpoints" / policy
    who = PolicyConfig(path=str(ours)) if ours.is_dir() else PolicyConfig(type=policy)  # type: ignore[arg-type]
    episodes = settings.pop("episodes", None)
    dataset = DatasetConfig(
        repo_id=f"lerobot/{data}", root=str(shared / "datasets" / data), episodes=episodes
    )
    defaults = {"latency_calls": 0, "device": "cpu"}
    return EvalConfig(policy=who, dataset=dataset, output_dir=str(out), **{**defaults, **settings})


@pytest.mark.parametrize(
    ("policy", "mae", "mse"), [("hold_state", 14.748, 404.84), ("repeat_last", 6.496, 93.668)]
)
def test_baselines_on_all_of_pusht(
    policy: str, mae: float, mse: float, shared: Path, tmp_path: Path
) -> None:
    record = evaluate(_config(shared, tmp_path / "o", "pusht", policy)).record
    assert record["dataset"]["n_frames"] == 25_650
    assert record["actions"]["units"] == ["px", "px"]
    assert record["summary"]["step1"]["mae"]["value"] == pytest.approx(mae, abs=5e-4)
    assert record["summary"]["step1"]["mse"]["value"] == pytest.approx(mse, abs=5e-3)


@pytest.mark.parametrize(("data", "dim"), [("g1", 26), ("aloha-sim-transfer-cube", 14)])
@pytest.mark.parametrize("policy", ["hold_state", "repeat_last", "dataset_mean", "replay"])
def test_builtins_on_real_robots(
    data: str, dim: int, policy: str, shared: Path, tmp_path: Path
) -> None:
    record = evaluate(_config(shared, tmp_path / "o", data, policy)).record
    assert len(record["actions"]["names"]) == dim
    assert len([r for r in record["by_dim"] if r["scope"] == "chunk"]) == dim
    assert record["summary"]["chunk"]["mae"]["value"] is None  # radians and closures: never mixed
    assert record["summary"]["chunk"]["nmae"]["value"] is not None
    assert (record["summary"]["chunk"]["nmae"]["value"] == 0) == (policy == "replay")
    render(ReportConfig(str(tmp_path / "o")))


@pytest.mark.parametrize("data", ["pusht", "g1", "aloha-sim-transfer-cube"])
def test_real_video_frames_equal_lerobots(data: str, shared: Path) -> None:
    from lerobot.datasets import LeRobotDataset

    root = shared / "datasets" / data
    source = FrameSource(DatasetConfig(root=str(root)), repo_id="a/b")
    source.load([1, 3])
    items = LeRobotDataset("a/b", root=root, episodes=[1, 3], video_backend="pyav")
    keys = frozenset(source.facts.robot.cameras)
    n = source.facts.lengths[1]
    rows = [(1, 0, 0), (1, 7, 0), (1, 8, 0), (1, n - 1, 0), (3, 2, 0)]
    batch = source.batch(rows, keys=keys)
    for i, at in enumerate((0, 7, 8, n - 1, n + 2)):
        for key in keys:
            value = unit_range(batch.observations[0][key][i : i + 1])[0]
            assert np.array_equal(value, items[at][key])


def test_the_older_format_is_refused_with_the_conversion_command(shared: Path) -> None:
    with pytest.raises(DatasetError, match="policyscope convert"):
        FrameSource(DatasetConfig(root=str(shared / "datasets" / "g1-v21")), repo_id="a/b")


def _plain_script(shared: Path, episodes: list[int]) -> dict[str, tuple[float, float]]:
    """What a careful person would write: no policyscope, one item and one model call at a time."""
    import os

    from lerobot.configs import PreTrainedConfig
    from lerobot.datasets import LeRobotDataset
    from lerobot.policies.factory import make_pre_post_processors
    from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy

    here = Path.cwd()
    os.chdir(shared / "checkpoints" / "smolvla-pusht-small")  # its config names "vlm"
    try:
        config = PreTrainedConfig.from_pretrained(Path.cwd())
        config.device = "cpu"
        policy = SmolVLAPolicy.from_pretrained(Path.cwd(), config=config)
        pre, post = make_pre_post_processors(config, pretrained_path=str(Path.cwd()))
    finally:
        os.chdir(here)
    data = LeRobotDataset(
        "lerobot/pusht",
        root=shared / "datasets" / "pusht",
        episodes=episodes,
        delta_timestamps={"action": [h / 10 for h in range(16)]},
    )
    errors: dict[str, list[np.ndarray]] = {"step1": [], "chunk": [], "executed": []}
    for i in range(len(data)):
        item = data[i]
        key = f"0:{int(item['episode_index'])}:{int(item['frame_index'])}:0"
        s = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") % 2**63
        noise = torch.randn((16, 2), generator=torch.Generator().manual_seed(s))[None]
        inputs = {k: item[k] for k in ("observation.image", "observation.state", "task")}
        chunk = post(policy.predict_action_chunk(pre(inputs), noise=noise))[0].double().numpy()
        error = chunk - item["action"].double().numpy()
        real = ~item["action_is_pad"].numpy()
        errors["step1"].append(error[:1])
        errors["chunk"].append(error[real])
        errors["executed"].append(error[:8][real[:8]])
    return {
        scope: (float(np.abs(e).mean()), float((e**2).mean()))
        for scope, e in ((s, np.concatenate(rows)) for s, rows in errors.items())
    }


@pytest.mark.slow
def test_smolvla_agrees_with_a_plain_script(shared: Path, tmp_path: Path) -> None:
    config = _config(
        shared, tmp_path / "o", "pusht", "smolvla-pusht-small", episodes="185:188", batch_size="32"
    )
    summary = evaluate(config).record["summary"]
    for scope, (mae, mse) in _plain_script(shared, [185, 186, 187]).items():
        assert summary[scope]["mae"]["value"] == pytest.approx(mae, rel=1e-4)
        assert summary[scope]["mse"]["value"] == pytest.approx(mse, rel=1e-4)
    # and with the figures on the checkpoint's own card
    assert summary["step1"]["mae"]["value"] == pytest.approx(12.519, abs=1e-3)
    assert summary["chunk"]["mse"]["value"] == pytest.approx(2122.6, abs=0.1)


@pytest.mark.slow
def test_the_training_recipe_makes_a_checkpoint_that_opens(shared: Path, tmp_path: Path) -> None:
    recipe = Path(__file__).parents[1] / "examples" / "train_smolvla_pusht" / "train.py"
    words = [sys.executable, str(recipe), "--dataset_root", str(shared / "datasets" / "pusht")]
    words += ["--output_dir", str(tmp_path / "t"), "--episodes", "0:4"]
    words += ["--steps", "3", "--batch_size", "4", "--threads", "1"]
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    made = tmp_path / "t" / "checkpoint"
    config = _config(shared, tmp_path / "o", "pusht", str(made), episodes="185", max_frames=16)
    record = evaluate(config).record
    assert record["policy"]["type"] == "smolvla"
    assert record["dataset"]["n_frames"] == 16


@pytest.mark.slow
def test_the_shipped_checkpoint_is_as_good_as_its_card_says(shared: Path, tmp_path: Path) -> None:
    """Held-out real episodes: better than doing nothing at step 1 and over the chunk."""
    config = _config(shared, tmp_path / "o", "pusht", "hold_state")
    assets = Path(__file__).parents[1] / "src" / "policyscope" / "assets"
    config = replace(config, policy=PolicyConfig(path=str(assets / "smolvla-pusht")))
    record = evaluate(config).record
    assert record["dataset"]["split"] == "held_out"
    assert record["dataset"]["episodes"] == list(range(185, 206))
    card = (assets / "smolvla-pusht" / "README.md").read_text()
    for scope in ("step1", "executed", "chunk"):
        gain = record["skill"]["hold_state"][scope]
        assert gain["ci_low"] > 0
        assert f"{record['summary'][scope]['mae']['value']:.1f} [" in card
        assert f"{gain['value']:.2f} [{gain['ci_low']:.2f}, {gain['ci_high']:.2f}]" in card


@pytest.mark.slow
def test_smolvla_in_any_batch_and_order(shared: Path, tmp_path: Path) -> None:
    found = {}
    for name, size, episodes in (
        ("a", "1", "185,187"),
        ("b", "7", "187,185"),
        ("c", "64", "185:188:2"),
    ):
        config = _config(
            shared,
            tmp_path / name,
            "pusht",
            "smolvla-pusht-small",
            episodes=episodes,
            batch_size=size,
        )
        evaluate(config)
        found[name] = np.concatenate(
            [e.predicted[0].values for e in RunDirectory(tmp_path / name).stored()]
        )
    std = np.array([101.6, 96.04])
    assert (np.abs(found["a"] - found["b"]) / std).max() < 1e-4
    assert (np.abs(found["a"] - found["c"]) / std).max() < 1e-4


@pytest.mark.slow
def test_the_founding_bug_is_refused_on_the_real_checkpoint(shared: Path, tmp_path: Path) -> None:
    from policyscope.errors import RefusedError
    from test_refusals import drop_unnormalizer

    broken = tmp_path / "p"
    shutil.copytree(shared / "checkpoints" / "smolvla-pusht-small", broken)
    broken.chmod(0o755)
    for file in broken.rglob("*"):
        file.chmod(0o755)
    drop_unnormalizer(broken)
    config = _config(shared, tmp_path / "o", "pusht", str(broken), episodes="185:188")
    with pytest.raises(RefusedError, match="unnormalizer_missing"):
        evaluate(config)
    forced = _config(shared, tmp_path / "f", "pusht", str(broken), episodes="185:188", force=True)
    record = evaluate(forced).record
    assert record["forced"]
    assert record["summary"]["step1"]["mae"]["value"] == pytest.approx(256.1, abs=0.1)
