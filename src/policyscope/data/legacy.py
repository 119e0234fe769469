"""Datasets of LeRobot v2.0 and v2.1: a Parquet file and a video an episode, texts as JSON lines.

They are read to be converted, never to be evaluated. lerobot's own converter does the writing; what
it needs and a dataset lacks (statistics of each episode, counts) is made here, beside the dataset.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from policyscope.data.columns import matrix
from policyscope.data.decoders import PyavDecoder, StoredPictures, packet_times
from policyscope.data.files import Folder, unreadable
from policyscope.data.info import INFO, Feature, fill_path
from policyscope.errors import DatasetError
from policyscope.files import parse_json

VERSIONS = ("v2.0", "v2.1")
EPISODES, TASKS, EPISODES_STATS = (
    "meta/episodes.jsonl",
    "meta/tasks.jsonl",
    "meta/episodes_stats.jsonl",
)
_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
_MOST_LINES = 256 << 20  # bytes of a file of JSON lines
_MOST_EPISODE = 1 << 30  # bytes of one episode's columns, as its file declares them
_PICTURES = 64  # of an episode, for statistics
_LEAST_SIDE = 150  # pixels to which lerobot shrinks them
_KEY: Final = re.compile(r"[\w.\-]{1,200}")
_AGAIN = "download the dataset again, with its meta directory"


@final
@dataclass(frozen=True)
class Legacy:
    """A dataset of an older format.

    Attributes:
        folder: where it lies.
        info: its ``meta/info.json``, with what lerobot's converter wants to find there.
        features: what each feature declares.
        episodes: its episodes, in order: index, tasks, length.
        tasks: ``task_index`` and text.
        stats: of each episode; None where they are not there for all of them.
    """

    folder: Folder
    info: dict[str, Any]
    features: Mapping[str, Feature]
    episodes: tuple[dict[str, Any], ...]
    tasks: tuple[dict[str, Any], ...]
    stats: tuple[dict[str, Any], ...] | None

    @property
    def videos(self) -> tuple[str, ...]:
        """Cameras that are stored as videos."""
        return tuple(key for key, feature in self.features.items() if feature.dtype == "video")

    def data(self, episode: int) -> str:
        """The name of an episode's Parquet file."""
        return self._name("data_path", _DATA, episode)

    def video(self, episode: int, camera: str) -> str:
        """The name of an episode's video."""
        return self._name("video_path", _VIDEO, episode, video_key=camera)

    def _name(self, field: str, usual: str, episode: int, **values: Any) -> str:
        chunk = episode // int(self.info["chunks_size"])
        return fill_path(
            self.info.get(field) or usual,
            field,
            self.folder.name,
            episode_chunk=chunk,
            episode_index=episode,
            **values,
        )


def read_legacy(folder: Folder) -> Legacy:
    """Read the metadata of a dataset of v2.0 or v2.1.

    Raises:
        DatasetError: another format, or something is missing or broken.
    """
    info = folder.json(INFO)
    version = info.get("codebase_version")
    if version not in VERSIONS:
        raise folder.refused(
            INFO,
            f"a dataset of {' or '.join(VERSIONS)}, which can be converted",
            f"version {str(version)[:40]}",
            "nothing, if it is v3.0 already; older ones need lerobot 0.3",
        )
    features = _features(folder, info)
    episodes = sorted(_lines(folder, EPISODES), key=lambda row: _whole(folder, row, EPISODES))
    numbers = [row["episode_index"] for row in episodes]
    if not numbers or numbers != list(range(len(numbers))):
        found = f"{len(numbers)} of them, up to {numbers[-1]}" if numbers else "none"
        raise folder.refused(EPISODES, "episodes 0 to N - 1, once each", found, _AGAIN)
    chunks = info.get("chunks_size", 1000)
    if type(chunks) is not int or chunks < 1:
        raise folder.refused(INFO, "chunks_size of at least 1", repr(chunks)[:40], _AGAIN)
    whole = {
        "total_chunks": -(-len(episodes) // chunks),
        "total_videos": 0,
        "video_path": _VIDEO if any(f.dtype == "video" for f in features.values()) else None,
        **info,
        "chunks_size": chunks,
    }
    return Legacy(
        folder,
        whole,
        features,
        tuple(episodes),
        tuple(_lines(folder, TASKS)),
        _stats(folder, numbers),
    )


def _features(folder: Folder, info: Mapping[str, Any]) -> dict[str, Feature]:
    declared = info.get("features")
    if not isinstance(declared, dict) or not declared:
        raise folder.refused(INFO, "features", "none", _AGAIN)
    try:
        features = {key: Feature.model_validate(value) for key, value in declared.items()}
    except ValueError as error:
        raise folder.refused(
            INFO, "features of a dtype and a shape", str(error)[:80], _AGAIN
        ) from None
    for key in features:
        if not _KEY.fullmatch(key):  # it becomes a directory
            raise folder.refused(
                INFO, "names of letters, digits, dots and dashes", repr(key)[:80], "rename it"
            )
    return features


def _stats(folder: Folder, numbers: list[int]) -> tuple[dict[str, Any], ...] | None:
    if not folder.has(EPISODES_STATS):
        return None
    rows = {row.get("episode_index"): row for row in _lines(folder, EPISODES_STATS)}
    known = [rows[n] for n in numbers if n in rows and isinstance(rows[n].get("stats"), dict)]
    return tuple(known) if len(known) == len(numbers) else None


def _lines(folder: Folder, name: str) -> list[dict[str, Any]]:
    path = folder.file(name)
    if path.stat().st_size > _MOST_LINES:
        raise folder.refused(name, f"at most {_MOST_LINES >> 20} MiB", "more", _AGAIN)
    rows = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip():
                rows.append(parse_json(line, finite=False))
    except (OSError, ValueError) as error:
        raise unreadable(f"{name} of {folder.name}", error) from error
    if not all(isinstance(row, dict) for row in rows):
        raise folder.refused(name, "an object a line", "something else", _AGAIN)
    return rows


def _whole(folder: Folder, row: Mapping[str, Any], name: str) -> int:
    number, length = row.get("episode_index"), row.get("length")
    if type(number) is not int or type(length) is not int or min(number, length) < 0:
        raise folder.refused(name, "episode_index and length in each line", repr(row)[:80], _AGAIN)
    return number


def require_files(known: Legacy) -> dict[str, Path]:
    """Name → file of every Parquet file and video, each measured before anybody reads it whole.

    Raises:
        DatasetError: one is missing, leads out of the folder, has other rows than its episode, is
            too large, or lies under a path that FFmpeg's lists of files can't hold.
    """
    files = {}
    for row in known.episodes:
        episode = row["episode_index"]
        name = known.data(episode)
        with known.folder.parquet(name) as file:
            rows = file.metadata.num_rows
            groups = (file.metadata.row_group(i) for i in range(file.num_row_groups))
            size = sum(group.total_byte_size for group in groups)
        if rows != row["length"] or size > _MOST_EPISODE:
            found = f"{rows} in {size >> 20} MiB"
            raise known.folder.refused(name, f"{row['length']} rows, as meta says", found, _AGAIN)
        names = [name, *(known.video(episode, camera) for camera in known.videos)]
        for one in names:
            files[one] = known.folder.file(one)
            if any(c in str(files[one]) for c in "'\n\r\\"):
                raise known.folder.refused(
                    one, "a path without quotes and line ends", repr(one)[:80], "move the dataset"
                )
    return files


def episode_stats(known: Legacy) -> Iterator[dict[str, Any]]:
    """What ``episodes_stats.jsonl`` would hold, a line each, by lerobot's own code.

    Raises:
        DatasetError: a column or a video is broken.
    """
    from lerobot.datasets.compute_stats import compute_episode_stats, get_feature_stats

    for row in known.episodes:
        episode = row["episode_index"]
        numeric = [k for k, f in known.features.items() if f.is_numeric and not f.is_camera]
        name = known.data(episode)
        with known.folder.parquet(name) as file:
            table = known.folder.columns(name, file, numeric, most=_MOST_EPISODE)
        values = {  # its sums of squares lose digits in float32
            key: matrix(table.column(key), known.features[key].shape, key, episode).astype(float)
            for key in numeric
        }
        declared = {key: {"dtype": feature.dtype} for key, feature in known.features.items()}
        stats = compute_episode_stats(values, declared)
        for key, feature in known.features.items():
            if feature.is_camera:
                pictures = _pictures(known, episode, key, row["length"])
                of = get_feature_stats(pictures, axis=(0, 2, 3), keepdims=True)
                scale = 1.0 if feature.is_depth else 255.0
                stats[key] = {
                    name: value if name == "count" else np.squeeze(value / scale, axis=0)
                    for name, value in of.items()
                }
        plain = {key: {n: v.tolist() for n, v in table.items()} for key, table in stats.items()}
        yield {"episode_index": episode, "stats": plain}


def _pictures(known: Legacy, episode: int, key: str, length: int) -> NDArray[np.uint8]:
    """[N, C, H, W] of an episode, spread over it, shrunk as lerobot shrinks them."""
    at = np.unique(np.linspace(0, length - 1, min(_PICTURES, length)).round().astype(int))
    _, height, width = known.features[key].picture
    every = max(1, min(height, width) // _LEAST_SIDE)
    try:
        if known.features[key].dtype == "image":
            stored = StoredPictures(known.folder, known.data(episode), key, (height, width))
            pictures = [p[::every, ::every] for p in stored.read(at.tolist())]
            stored.close()
        else:
            path = known.folder.file(known.video(episode, key))
            times = packet_times(path)
            decoder = PyavDecoder(path, threads=1)
            if decoder.size != (height, width):  # before pictures take memory
                raise ValueError(f"pictures of {decoder.size}, not {(height, width)}")
            seconds = times[np.minimum(at, len(times) - 1)].tolist()
            pictures = [p[::every, ::every].copy() for p in decoder.read(seconds)]
            decoder.close()
    except DatasetError:
        raise
    except Exception as error:  # whatever a decoder raises on a broken file
        raise unreadable(f"{key} of episode {episode}", error) from error
    return np.moveaxis(np.stack(pictures), -1, 1)


def stage(known: Legacy, files: Mapping[str, Path], where: Path) -> None:
    """Lay a dataset out as lerobot's converter wants it: metadata anew, the rest as links.

    Args:
        known: the dataset.
        files: as `require_files` gives them.
        where: an empty directory.
    """
    (where / "meta").mkdir()
    (where / INFO).write_text(json.dumps({**known.info, "codebase_version": VERSIONS[-1]}))
    stats = known.stats if known.stats is not None else episode_stats(known)
    for name, rows in ((EPISODES, known.episodes), (TASKS, known.tasks), (EPISODES_STATS, stats)):
        with (where / name).open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    for row in known.episodes:
        episode = row["episode_index"]
        places = {_DATA: known.data(episode)}
        places |= {
            _VIDEO.replace("{video_key}", camera): known.video(episode, camera)
            for camera in known.videos
        }
        for template, name in places.items():
            link = where / template.format(episode_chunk=0, episode_index=episode)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(files[name])
