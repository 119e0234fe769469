"""Demonstrations as policyscope reads them, against LeRobotDataset's own items."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch

import fakes
from policyscope.config import DatasetConfig
from policyscope.data.ahead import ahead
from policyscope.data.decoders import PyavDecoder, _same_in_planes
from policyscope.data.facts import dataset_revision
from policyscope.data.kept import KeptPictures
from policyscope.data.pictures import Buffers, unit_range
from policyscope.data.source import FrameSource

H = 5


def _items(root: Path, source: FrameSource, episodes: list[int]):
    from lerobot.datasets import LeRobotDataset

    fps = source.facts.robot.fps
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
    seen = {key: unit_range(value) for key, value in batch.observations[0].items()}
    for i, (episode, frame, _) in enumerate(rows):
        item = items[i]
        for key in keys:
            assert np.array_equal(seen[key][i], item[key].numpy()), (key, i)
        chunks, is_pad = source.episode(episode).chunks(H)
        assert np.array_equal(chunks.values[frame].astype(np.float32), item["action"].numpy())
        assert np.array_equal(is_pad[frame], item["action_is_pad"].numpy())
        assert batch.task[i] == item["task"]


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video file of three episodes, in groups of two pictures."""
    root = tmp_path_factory.mktemp("filmed") / "d"
    return fakes.write_dataset(root, lengths=(25, 30, 20), video=True)


@pytest.mark.parametrize(
    "rows",
    [
        [(2, 3, 0), (0, 8, 1), (2, 0, 0), (1, 5, 0), (0, 0, 0), (0, 8, 0)],
        [(e, f, 0) for e in range(3) for f in range(0, 20, 7)],
        [(1, f, 0) for f in reversed(range(20))],
    ],
    ids=["any order", "stride", "backwards"],
)
def test_rows_in_any_order_and_batch(rows: list[tuple[int, int, int]], filmed: Path) -> None:
    items, keys = _items(filmed, _open(filmed, [0]), [0, 1, 2]), frozenset({fakes.IMAGE})
    starts = (0, 25, 55)
    for size in (1, 4, len(rows)):
        batches = _open(filmed, [0, 1, 2]).batches(rows, batch_size=size, keys=keys, steps=(-1, 0))
        at = 0
        for batch in batches:
            seen = [unit_range(step[fakes.IMAGE]) for step in batch.observations]
            for i, (episode, frame, _) in enumerate(rows[at : at + size]):
                now, before = starts[episode] + frame, starts[episode] + max(frame - 1, 0)
                assert np.array_equal(seen[1][i], items[now][fakes.IMAGE])
                assert np.array_equal(seen[0][i], items[before][fakes.IMAGE])
            at += len(batch)
        assert at == len(rows)


def test_pictures_that_nobody_asked_for_are_not_decoded(filmed: Path) -> None:
    import av

    [path] = filmed.glob("videos/**/*.mp4")
    decoded: list[int] = []

    class Counted(PyavDecoder):  # type: ignore[misc]
        def _decode(self):
            for frame in super()._decode():
                decoded.append(frame.pts)
                yield frame

    pictures = list(Counted(path).read([f / 10 for f in range(0, 70, 10)]))
    assert len(pictures) == 7
    with av.open(str(path)) as container:
        n = sum(1 for _ in container.decode(video=0))
    assert n == 75
    assert len(decoded) < n / 2


def test_several_lanes_give_the_same_frames(filmed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policyscope.data.cameras.LARGE", 0)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    source, keys = _open(filmed, [0, 1, 2]), frozenset({fakes.IMAGE})
    rows = [(e, f, 0) for e in range(3) for f in range(source.facts.lengths[e])]
    assert source._cameras.lanes(rows, keys) == 3
    at = 0
    for batch in source.batches(rows, batch_size=4, keys=keys):
        some = rows[at : at + 4]
        alone = _open(filmed, [0, 1, 2]).batch(some, keys=keys)
        assert np.array_equal(
            batch.observations[0][fakes.IMAGE], alone.observations[0][fakes.IMAGE]
        )
        assert batch.frame_index.tolist() == [f for _, f, _ in some]
        at += len(batch)
    assert at == len(rows)
    assert not [t for t in threading.enumerate() if t.name == "reader"]


@pytest.mark.parametrize("same", [True, False], ids=["planes", "pixels"])
def test_large_pictures_equal_lerobots(
    same: bool, filmed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policyscope.data.cameras.LARGE", 0)
    monkeypatch.setattr("policyscope.data.decoders.LARGE", 0)
    if not same:  # as on processors where FFmpeg rounds planes otherwise
        monkeypatch.setattr("policyscope.data.decoders._same_in_planes", lambda *_: False)
    items = _items(filmed, _open(filmed, [0]), [0, 1, 2])
    rows = [(0, 3, 0), (1, 7, 0), (0, 3, 0), (2, 19, 0)]
    batch = _open(filmed, [0, 1, 2]).batch(rows, keys=frozenset({fakes.IMAGE}))
    pictures = batch.observations[0][fakes.IMAGE]
    assert pictures.flags.c_contiguous
    for picture, row in zip(unit_range(pictures), (3, 32, 3, 74), strict=True):
        assert np.array_equal(picture, items[row][fakes.IMAGE])


def test_planes_are_made_only_where_they_equal_pixels() -> None:
    sizes = [(480, 640), (479, 633), (98, 130)]
    for layout in ("yuv420p", "yuv444p", "nv12", "yuv420p10le"):
        for height, width in sizes:
            frame, draw = av.VideoFrame(width, height, layout), np.random.default_rng(1)
            for plane in frame.planes:
                plane.update(draw.bytes(plane.buffer_size))
            planes = frame.to_ndarray(format="gbrp")
            equal = np.array_equal(planes, frame.to_ndarray(format="rgb24"))
            assert equal or not _same_in_planes(height, width, layout), (layout, height, width)


@pytest.mark.parametrize("n", [1, 3])
def test_colours_become_floats_as_lerobots_do(n: int) -> None:
    mixed = np.random.default_rng(0).integers(0, 256, (n, 300, 301, 3), dtype=np.uint8)
    planes = np.ascontiguousarray(mixed.transpose(0, 3, 1, 2))
    wanted = torch.from_numpy(planes).float() / 255
    with Buffers().loan() as loan:
        for pictures in (planes, mixed.transpose(0, 3, 1, 2)):
            assert np.array_equal(unit_range(pictures), wanted)
            assert np.array_equal(unit_range(pictures, loan), wanted)


def test_a_reader_far_ahead_stops_with_its_caller() -> None:
    made: list[int] = []

    def numbers():
        for n in range(1000):
            made.append(n)
            yield n

    items = ahead([numbers()], 2)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    items.close()
    assert len(made) <= 7
    assert not [t for t in threading.enumerate() if t.name == "reader"]


def test_an_error_of_the_reader_reaches_the_caller_in_its_place() -> None:
    def broken():
        yield 1
        raise OSError("no such sector")

    items = ahead([broken()], 2)
    assert next(items) == 1
    with pytest.raises(OSError, match="no such sector"):
        next(items)


def test_buffers_are_used_again_only_when_they_were_given_back() -> None:
    buffers = Buffers()
    first, second = buffers.loan(), buffers.loan()
    kept = first.array((4, 3), np.float32)
    place = second.array((4, 3), np.float32).ctypes.data
    assert kept.ctypes.data != place
    second.give_back()
    second.give_back()  # says nothing new
    with buffers.loan() as third:
        assert third.array((2, 3), np.float32).ctypes.data == place
        assert third.array((2, 3), np.float32).ctypes.data not in (place, kept.ctypes.data)
    kept[:] = 7
    with buffers.loan() as fourth:
        for _ in range(4):
            fourth.array((4, 3), np.float32)[:] = 1
    assert (kept == 7).all()


def test_a_batch_that_is_kept_is_not_overwritten(data: Path) -> None:
    source, keys = _open(data, [0, 1]), frozenset({fakes.IMAGE})
    rows = [(e, f, 0) for e in (0, 1) for f in range(source.facts.lengths[e])]
    kept = list(source.batches(rows, batch_size=4, keys=keys))
    released = []
    for batch in source.batches(rows, batch_size=4, keys=keys):
        released.append(batch.observations[0][fakes.IMAGE].copy())
        batch.release()
    for batch, copy in zip(kept, released, strict=True):
        assert np.array_equal(batch.observations[0][fakes.IMAGE], copy)


@pytest.mark.parametrize("borrows", [False, True])
def test_memory_is_used_again_only_where_a_policy_is_done_with_it(
    borrows: bool, data: Path
) -> None:
    from policyscope.engine.offline import Clock, predict_rows
    from policyscope.engine.progress import Watch
    from policyscope.policies.builtin import ReplayPolicy

    source = _open(data, [0, 1])
    rows = [(e, f, 0) for e in (0, 1) for f in range(source.facts.lengths[e])]
    known = source.batch(rows, keys=frozenset({fakes.IMAGE})).observations[0][fakes.IMAGE].copy()

    class Keeps(ReplayPolicy):  # type: ignore[misc]
        borrows = False
        kept: list[np.ndarray] = []  # noqa: RUF012

        def predict(self, batch):
            self.kept.append(batch.observations[0][fakes.IMAGE])
            return super().predict(batch)

    policy = Keeps(source, dims=(0, 1))
    policy.borrows, policy.kept = borrows, []
    policy.spec = replace(policy.spec, keys=frozenset({fakes.IMAGE}))
    for _ in predict_rows(policy, source, rows, batch_size=4, clock=Clock(), progress=Watch()):
        pass
    places = {picture.ctypes.data for picture in policy.kept}
    assert (len(places) < len(policy.kept)) == borrows
    if not borrows:
        np.testing.assert_array_equal(np.concatenate(policy.kept), known)


def test_history_repeats_the_first_frame(data: Path) -> None:
    source = _open(data, [1])
    batch = source.batch(
        [(1, 0, 0), (1, 1, 0), (1, 4, 0)], keys=frozenset({fakes.STATE}), steps=(-2, -1, 0)
    )
    state = source.episode(1).state
    assert state is not None
    got = np.stack([step[fakes.STATE] for step in batch.observations], axis=1)
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
    assert _open(root, [0]).facts.robot.actions.names == expected


def test_revision_follows_the_metadata(data: Path, tmp_path: Path) -> None:
    assert dataset_revision(data) == dataset_revision(data)
    assert dataset_revision(data) != dataset_revision(tmp_path)


# ── pictures that stay at hand ────────────────────────────────────────


def test_kept_pictures_are_decoded_once_within_their_bound() -> None:
    decoded: list[int] = []

    def decode(frames: np.ndarray) -> Iterator[np.ndarray]:
        memory = np.zeros((2, 2, 3), np.uint8)  # the same for each, as decoders have it
        for frame in frames.tolist():
            decoded.append(frame)
            memory[:] = frame
            yield memory

    def seen(kept: KeptPictures, episode: int, *frames: int) -> list[int]:
        pictures = list(kept.through("top", episode, np.array(frames), decode))
        return [int(p[0, 0, 0]) for p in pictures]

    kept = KeptPictures(most=5 * 12)  # five pictures
    assert seen(kept, 0, 0, 2) == [0, 2]
    assert seen(kept, 0, 0, 1, 2, 3) == [0, 1, 2, 3]
    assert decoded == [0, 2, 1, 3]
    assert seen(kept, 1, 7, 8) == [7, 8]  # does not fit beside the first episode
    assert seen(kept, 1, 7, 8) == [7, 8]
    assert decoded == [0, 2, 1, 3, 7, 8]
    assert seen(kept, 0, 3) == [3]
    assert decoded[6:] == [3]
    assert seen(kept, 2, *range(9)) == list(range(9))  # larger than all that may be kept
    assert seen(kept, 2, *range(9)) == list(range(9))
    assert decoded[7:] == [*range(9), *range(5, 9)]
