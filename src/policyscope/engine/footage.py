"""From a dataset's camera pictures to the clips that a run keeps for its page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from policyscope.config import PageConfig
from policyscope.data.source import FrameSource
from policyscope.engine.progress import Footage
from policyscope.errors import DatasetError, Finding
from policyscope.runs.chosen import chosen_episodes
from policyscope.runs.clips import Clip, clip_layout, make_clip, write_clips
from policyscope.runs.rows import EpisodeRow

_BLOCK = 32


def pictures(
    source: FrameSource, episode: int, camera: str, frames: Sequence[int]
) -> Iterator[NDArray[np.uint8]]:
    """[H, W, C] camera pictures of the given frames of a loaded episode, decoded in blocks.

    Raises:
        DatasetError: a picture can't be decoded.
    """
    for start in range(0, len(frames), _BLOCK):
        rows = [(episode, f, 0) for f in frames[start : start + _BLOCK]]
        block = source.batch(rows, keys=frozenset({camera})).observations[0][camera]
        if block.dtype != np.uint8:  # in [0, 1]
            block = (block * 255).round().clip(0, 255).astype(np.uint8)
        yield from block.transpose(0, 2, 3, 1)


def footage(source: FrameSource, episode: int, frames: Sequence[int]) -> Footage:
    """What yields the pictures of each camera at the given frames of an episode."""
    return {
        camera: partial(pictures, source, episode, camera, frames)
        for camera in source.facts.robot.cameras
    }


def episode_clips(source: FrameSource, episode: int, n_frames: int) -> list[Clip]:
    """A clip of each camera over the first frames of an episode.

    Raises:
        DatasetError: a picture can't be decoded.
    """
    cameras = source.facts.robot.cameras
    clips = []
    for camera, (_, height, width) in cameras.items():
        layout = clip_layout((width, height), n_frames, len(cameras))
        frames = range(0, n_frames, layout[2])
        shown = pictures(source, episode, camera, frames)
        clips.append(make_clip(episode, camera, shown, n_frames=n_frames, layout=layout))
    return clips


def keep_clips(
    source: FrameSource,
    rows: Sequence[EpisodeRow],
    lengths: Mapping[int, int],
    page: PageConfig,
    directory: Path,
) -> list[Finding]:
    """Keep the pictures of the episodes that a page will play; a page can do without.

    Args:
        source: the demonstrations.
        rows: errors of each episode over whole chunks.
        lengths: frames of each episode up to its last evaluated one.
        page: which episodes it plays.
        directory: of the run.

    Returns:
        A finding where pictures can't be decoded.
    """
    try:
        for episode in chosen_episodes(rows, page.episodes):
            write_clips(directory, episode_clips(source, episode, lengths[episode]))
    except DatasetError as error:
        return [Finding("pictures_left_out", "warning", str(error), "mend the dataset's pictures")]
    return []
