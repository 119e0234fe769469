"""Demonstrations as policyscope reads them, against LeRobotDataset's own items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import fakes
from policyscope.config import DatasetConfig
from policyscope.facts import dataset_revision
from policyscope.frames import FrameSource
from policyscope.pictures import Buffers, unit_range

H = 5


def _items(root: Path, source: FrameSource, episodes: list[int]):
    from lerobot.datasets import LeRobotDataset

    fps = source.facts.fps
    return LeRobotDataset(
        "fake/data",
        root=root,
        episodes=episodes,
        delta_timestamps={"action": [h / fps for h in range(H)]},
        video_backend="pyav",
    )


def _open(root: Path, episodes: list[int]) -> FrameSource:
    source = FrameSource(DatasetConfig(repo_id="fake/data", root=str(root)), repo_id="fake/data")
    source.load(episodes)
    return source


@pytest.mark.parametrize("video", [False, True])
def test_equals_lerobots_items(video: bool, tmp_path: Path) -> None:
    cameras = ("observation.images.top", "observation.images.wrist")
    root = fakes.write_dataset(
        tmp_path / "d", lengths=(5, 7, 6), dim=3, cameras=cameras, video=video, tasks=("a", "b")
    )
    source = _open(root, [0, 2])
    items = _items(root, source, [0, 2])
    rows = [(e, f, 0) for e in (0, 2) for f in range(source.facts.lengths[e])]
    keys = frozenset({*cameras, fakes.STATE})
    batch = source.batch(rows, keys=keys)
    seen = {key: unit_range(value, Buffers()) for key, value in batch.observations[0].items()}
    for i, (episode, frame, _) in enumerate(rows):
        item = items[i]
        for key in keys:
            assert torch.equal(seen[key][i], item[key]), (key, i)
        chunks, is_pad = source.episode(episode).chunks(H)
        assert np.array_equal(chunks.values[frame].astype(np.float32), item["action"].numpy())
        assert np.array_equal(is_pad[frame], item["action_is_pad"].numpy())
        assert batch.task[i] == item["task"]


def test_rows_in_any_order_and_batch(data: Path) -> None:
    source = _open(data, [0, 1, 2])
    keys = frozenset({fakes.IMAGE, fakes.STATE})
    rows = [(2, 3, 0), (0, 8, 1), (2, 0, 0), (1, 5, 0), (0, 0, 0)]
    whole = source.batch(sorted(rows), keys=keys).observations[0]
    at = {row: i for i, row in enumerate(sorted(rows))}
    # a batch keeps the episodes' first-seen order; single rows are the reference
    for row in rows:
        single = source.batch([row], keys=keys).observations[0]
        for key in keys:
            assert torch.equal(single[key][0], whole[key][at[row]])


def test_history_repeats_the_first_frame(data: Path) -> None:
    source = _open(data, [1])
    batch = source.batch(
        [(1, 0, 0), (1, 1, 0), (1, 4, 0)], keys=frozenset({fakes.STATE}), steps=(-2, -1, 0)
    )
    state = source.episode(1).state
    assert state is not None
    got = torch.stack([step[fakes.STATE] for step in batch.observations], dim=1).numpy()
    expected = [[state[0]] * 3, [state[0], state[0], state[1]], [state[2], state[3], state[4]]]
    assert np.array_equal(got, np.array(expected))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], ("a", "b")),
        ({"motors": ["a", "b"]}, ("a", "b")),
        (None, ("action[0]", "action[1]")),
        (["only one"], ("action[0]", "action[1]")),
    ],
)
def test_names(names, expected: tuple[str, ...], tmp_path: Path) -> None:
    root = fakes.write_dataset(tmp_path / "d", lengths=(3,), cameras=())
    info = (root / "meta" / "info.json").read_text()
    import json

    content = json.loads(info)
    content["features"]["action"]["names"] = names
    (root / "meta" / "info.json").write_text(json.dumps(content))
    assert _open(root, [0]).facts.actions.names == expected


def test_revision_follows_the_metadata(data: Path, tmp_path: Path) -> None:
    assert dataset_revision(data) == dataset_revision(data)
    assert dataset_revision(data) != dataset_revision(tmp_path)
