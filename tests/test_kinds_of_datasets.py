"""One small dataset of each kind: what is in it reaches a policy, and the rest is said."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bend
import fakes
import policyscope as ps
from policyscope.commands.evaluate import evaluate
from policyscope.data.source import FrameSource


def opened(root: Path) -> FrameSource:
    return FrameSource(ps.DatasetConfig(root=str(root)), repo_id="d")


def codes(root: Path, policy: Path | str, out: Path, **settings: Any) -> list[str]:
    run = evaluate(fakes.config_for(root, policy, out, latency_calls=0, **settings))
    assert run.record.status == "complete"
    return [finding.code for finding in run.record.findings]


def test_depth_maps_are_left_out_with_a_hint(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    shutil.copytree(data, root)
    depth = {
        "dtype": "video",
        "shape": [64, 64, 1],
        "names": ["height", "width", "channels"],
        "info": {"video.is_depth_map": True},
    }
    bend.feature("observation.images.depth", **depth)(root)
    source = opened(root)
    assert list(source.facts.robot.cameras) == [fakes.IMAGE]
    assert source.facts.left_out == {"observation.images.depth": "a depth map"}
    assert "observations_left_out" in codes(root, "hold_state", tmp_path / "o")


def test_no_camera_at_all(tmp_path: Path) -> None:
    root = fakes.write_dataset(tmp_path / "d", cameras=())
    assert not opened(root).facts.robot.cameras
    assert "observations_left_out" not in codes(root, "hold_state", tmp_path / "o")


def test_cameras_of_different_sizes(tmp_path: Path) -> None:
    root = _two_sizes(tmp_path / "d")
    sizes = {"observation.images.a": 48, "observation.images.b": 64}
    source = opened(root)
    assert {k: v[1] for k, v in source.facts.robot.cameras.items()} == sizes
    policy = fakes.write_policy(tmp_path / "p", root, "smolvla", cameras=sizes)
    codes(root, policy, tmp_path / "o")
    batch = source.batch([(0, 1, 0)], keys=frozenset(sizes))
    shapes = {key: value.shape for key, value in batch.observations[0].items()}
    assert shapes == {key: (1, 3, size, size) for key, size in sizes.items()}


def _two_sizes(root: Path) -> Path:
    from lerobot.datasets import LeRobotDataset

    features: dict[str, Any] = {
        key: {"dtype": "float32", "shape": (2,), "names": None} for key in (bend.STATE, "action")
    }
    sizes = {"observation.images.a": 48, "observation.images.b": 64}
    for key, size in sizes.items():
        names = ["height", "width", "channels"]
        features[key] = {"dtype": "image", "shape": (size, size, 3), "names": names}
    made = LeRobotDataset.create("you/d", fps=10, features=features, root=root, use_videos=False)
    draw = np.random.default_rng(0)
    for _ in range(3):
        for _ in range(6):
            frame: dict[str, Any] = {
                key: draw.normal(size=2).astype(np.float32) for key in (bend.STATE, "action")
            }
            frame |= {k: draw.integers(0, 255, (n, n, 3), np.uint8) for k, n in sizes.items()}
            made.add_frame({**frame, "task": "push"})
        made.save_episode()
    made.finalize()
    return root


@pytest.mark.parametrize(("dim", "state_dim"), [(3, 5), (4, 2)])
def test_state_and_action_of_different_width(dim: int, state_dim: int, tmp_path: Path) -> None:
    root = fakes.write_dataset(tmp_path / "d", dim=dim, state_dim=state_dim)
    policy = fakes.write_policy(tmp_path / "p", root, "act", action_dim=dim, state_dim=state_dim)
    assert "hold_state_unavailable" in codes(root, policy, tmp_path / "o")
    trial = ps.check_dataset(ps.CheckConfig(dataset=ps.DatasetConfig(root=str(root))))
    assert {look.title: look.outcome for look in trial.looks}["lag"] == "absent"


def test_several_tasks_each_have_a_row_and_their_text(data: Path, tmp_path: Path) -> None:
    run = evaluate(fakes.config_for(data, "hold_state", tmp_path / "o", latency_calls=0))
    assert {row.task for row in run.record.tasks()} == {"push the block", "hold still"}
    batch = opened(data).batch([(0, 0, 0), (1, 0, 0)], keys=frozenset({bend.STATE}))
    assert batch.task == ("push the block", "hold still")


def test_pictures_and_videos_reach_a_policy_alike(tmp_path: Path) -> None:
    """The same recording once as PNG, once as a lossy video: the same shapes, like colours."""
    roots = [
        fakes.write_dataset(tmp_path / kind, lengths=(4, 4), video=kind == "video")
        for kind in ("image", "video")
    ]
    seen = [
        opened(root).batch([(1, 2, 0)], keys=frozenset({fakes.IMAGE})).observations[0][fakes.IMAGE]
        for root in roots
    ]
    assert seen[0].shape == seen[1].shape == (1, 3, 64, 64)
    assert seen[0].dtype == seen[1].dtype == np.uint8


def test_the_shortest_recordings_are_looked_at(tmp_path: Path) -> None:
    root = fakes.write_dataset(tmp_path / "d", lengths=(1, 2, 1), cameras=())
    trial = ps.check_dataset(
        ps.CheckConfig(dataset=ps.DatasetConfig(root=str(root)), html=str(tmp_path / "p.html"))
    )
    assert len(trial.looks) > 10
    assert "error" not in {finding.severity for finding in trial.findings}


def test_the_table_of_support_says_what_came_of_it(tmp_path: Path) -> None:
    import support

    pictures, *_, none = [
        support.Data(
            name,
            fakes.write_dataset(tmp_path / name, cameras=tuple(cameras), size=32),
            cameras=cameras,
        )
        for name, cameras in (("pictures", {fakes.IMAGE: 32}), ("none", {}))
    ]
    cells = {
        data.name: support.tried(
            partial(
                support._do, support._plain, tmp_path / "p", "act", data, tmp_path / "o" / data.name
            )
        )
        for data in (pictures, none)
    }
    assert cells["pictures"].ok
    assert cells["pictures"].text.endswith(" s")
    assert "must provide at least one image" in cells["none"].why
    lines = support.table({"act": cells}, notes := [])
    assert lines[-1] == f"| `act` | ✓ {cells['pictures'].text} | ✗ 1 |"
    assert notes == [cells["none"].why]
