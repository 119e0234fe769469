"""The clocks of a dataset: timestamps, numbers of frames, and videos that should keep step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.checks.trial.looks import Look, Recordings, leaving_out, some
from policyscope.data.frames import Episode
from policyscope.data.pictures import unit_range
from policyscope.data.source import FrameSource
from policyscope.errors import DatasetError, Finding

_UNEVEN = 0.1  # of a step
_OFF = 0.5  # of a step
_TOLERANCE_S = 1e-4  # of a picture's time, lerobot's default
_MOST_BYTES = 2 << 30  # of videos whose index is read: seconds
_SEEN = 6  # episodes whose pictures are looked at
_BLOCK = 12  # pictures in a row
_DARK, _FLAT = 0.03, 0.01  # of white; standard deviation within a picture
_SAME = 5e-4  # of white, on average: below what a codec makes of one picture twice


def look_at_time(known: Recordings, said: Sequence[Finding]) -> Look:
    """Timestamps against frame numbers and the declared rate.

    Args:
        known: the recordings.
        said: what is known of rates and gaps.
    """
    step = 1 / known.source.facts.robot.fps
    uneven, off, longest = {}, {}, 0.0
    for episode in known.episodes:
        times = episode.timestamps
        steps = np.diff(times)
        if len(steps):
            longest = max(longest, float(steps.max()))
            usual = float(np.median(steps))
            bad = np.flatnonzero(np.abs(steps - usual) > _UNEVEN * step)
            if len(bad):
                uneven[episode.index] = (int(bad[0]) + 1, float(steps[bad[0]]), len(bad))
        if abs(times[0]) > _OFF * step:
            off[episode.index] = float(times[0])
    findings = list(said)
    if uneven:
        first = min(uneven)
        frame, found, _ = uneven[first]
        n = sum(count for _, _, count in uneven.values())
        findings.append(
            Finding(
                "timestamps_uneven",
                "warning",
                f"expected {step:.4g} s from frame to frame; found {n} steps in {len(uneven)} "
                f"episodes that differ, first {found:.4g} s before frame {frame} of episode "
                f"{first}. Suspect: frames that were dropped, or a clock that was set.",
                f"{leaving_out(uneven)}; chunks span another time there",
            )
        )
    if off:
        first = min(off)
        findings.append(
            Finding(
                "timestamps_offset",
                "warning",
                f"expected timestamps that begin at 0 in each episode; found {off[first]:.4g} s in "
                f"episode {first}, and {len(off) - 1} more. Pictures are looked up by them: those "
                "of another moment would be shown.",
                "subtract the first timestamp of each episode",
            )
        )
    return Look(
        "timestamps",
        "{frames} frames at {fps} a second; the longest step is {ms} ms",
        {
            "frames": known.n_frames,
            "fps": f"{known.source.facts.robot.fps:g}",
            "ms": f"{1000 * longest:.4g}",
        },
        tuple(findings),
        episodes=tuple(sorted(uneven.keys() | off.keys())),
    )


def look_at_order(known: Recordings) -> Look:
    """The running number of all frames, by which lerobot finds rows."""
    off, expected = [], None
    for episode in known.episodes:
        numbers = known.source.said(episode.index, "index")
        if numbers is None:
            return Look("running index", "there is none", there=False)
        follows = expected is None or episode.index != expected[0] or numbers[0] == expected[1]
        if not follows or (np.diff(numbers) != 1).any():
            off.append(episode.index)
        expected = (episode.index + 1, int(numbers[-1]) + 1)
    findings: tuple[Finding, ...] = ()
    if off:
        findings = (
            Finding(
                "dataset_index_broken",
                "warning",
                f"expected an index that counts the frames of all episodes; found another in "
                f"episodes {some(off)}. lerobot finds rows by it, for example those of a chunk.",
                "write the index column again: 0 to the number of frames",
            ),
        )
    said = "counts the frames of {n} episodes"
    values = {"n": len(known.episodes)}
    return Look("running index", said, values, findings, episodes=tuple(off))


def look_at_videos(known: Recordings) -> Look:
    """Whether each frame of each episode has its picture in the video."""
    source, title = known.source, "videos"
    cameras = [key for key, f in source.facts.features.items() if f.dtype == "video"]
    if not cameras:
        return Look(title, "no videos", there=False)
    findings: list[Finding] = []
    bad: set[int] = set()
    n = without = 0
    read: dict[str, int] = {}
    for camera in cameras:
        lacking: dict[int, int] = {}
        try:
            for episode in known.episodes:
                video = source.video(episode.index, camera)
                if video is None or (video[0] not in read and sum(read.values()) > _MOST_BYTES):
                    continue
                read[video[0]] = video[1]
                missing = _missing(source, episode, camera)
                n += episode.length
                if missing:
                    lacking[episode.index] = missing
        except DatasetError as error:
            findings.append(Finding("video_broken", "error", str(error), error.fix))
            continue
        if lacking:
            bad |= lacking.keys()
            without += sum(lacking.values())
            first = min(lacking)
            findings.append(
                Finding(
                    "video_shorter",
                    "error",
                    f"expected a picture of {camera} within {1000 * _TOLERANCE_S:g} ms of each "
                    "row's timestamp, before the next episode's; found none for "
                    f"{sum(lacking.values())} rows of {len(lacking)} episodes, "
                    f"{lacking[first]} of them in episode {first}.",
                    f"encode the video again, or leave episodes {some(lacking)} out",
                )
            )
    return Look(
        title,
        "{n} rows of {cameras} cameras have their pictures",
        {"n": n - without, "cameras": len(cameras)},
        tuple(findings),
        episodes=tuple(sorted(bad)),
    )


def _missing(source: FrameSource, episode: Episode, camera: str) -> int:
    """How many rows of an episode have no picture."""
    times = source.picture_times(episode.index, camera)
    assert times is not None, "it is a video"
    at = np.searchsorted(times, episode.timestamps)
    near: FloatArray = np.full(episode.length, np.inf)
    for place in (at - 1, at):
        inside = (place >= 0) & (place < len(times))
        apart = np.abs(times[np.clip(place, 0, max(len(times) - 1, 0))] - episode.timestamps)
        near = np.where(inside, np.minimum(near, apart), near)
    return int((near > _TOLERANCE_S).sum())


def look_at_pictures(known: Recordings) -> Look:
    """Cameras that show nothing, or one picture while the robot moves; a few of each episode."""
    source, title = known.source, "pictures"
    cameras = tuple(source.facts.robot.cameras)
    if not cameras:
        return Look(title, "no camera", there=False)
    places = np.unique(np.linspace(0, len(known.episodes) - 1, _SEEN).astype(int))
    findings, bad, seen = [], set[int](), 0
    for camera in cameras:
        dark, frozen = [], []
        try:
            for place in places:
                episode = known.episodes[place]
                start = _moving(known, episode)
                rows = [(episode.index, f, 0) for f in range(*start)]
                batch = source.batch(rows, keys=frozenset({camera}))
                pictures = unit_range(batch.observations[0][camera])
                seen += len(pictures)
                if pictures.mean() < _DARK or pictures.std(axis=(-3, -2, -1)).mean() < _FLAT:
                    dark.append(episode.index)
                elif len(pictures) > 2 and np.abs(np.diff(pictures, axis=0)).mean() < _SAME:
                    frozen.append(episode.index)
                batch.release()
        except DatasetError as error:
            findings.append(Finding("pictures_broken", "error", str(error), error.fix))
            continue
        for code, where, words in (
            ("pictures_empty", dark, "a picture of the scene; found a dark or even one"),
            ("pictures_frozen", frozen, "pictures that change as the robot moves; found one"),
        ):
            bad |= set(where)
            if where:
                findings.append(
                    Finding(
                        code,
                        "warning",
                        f"expected of {camera} {words} in {len(where)} of {len(places)} episodes "
                        f"that were looked at ({some(where)}).",
                        leaving_out(where),
                    )
                )
    return Look(
        title,
        "{n} pictures of {cameras} cameras, in {episodes} episodes",
        {"n": seen, "cameras": len(cameras), "episodes": len(places)},
        tuple(findings),
        episodes=tuple(sorted(bad)),
    )


def _moving(known: Recordings, episode: Episode) -> tuple[int, int]:
    """First frame and the one after the last of the frames in which the robot moves most."""
    std = known.extent.std
    steps = np.abs(np.diff(episode.actions.values[:, std > 0], axis=0)) / std[std > 0]
    if len(steps) <= _BLOCK or not steps.size:
        return 0, min(_BLOCK, episode.length)
    sums = np.convolve(steps.sum(axis=1), np.ones(_BLOCK), "valid")
    start = int(sums.argmax())
    return start, start + _BLOCK
