"""Camera pictures of a few episodes, small enough for a page, kept with the run.

A clip is a set of sprite sheets: pictures side by side in WebP files. Any browser shows any
picture of it at once, to the frame, without a network and without a video decoder.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from policyscope.files import parse_json, write_whole
from policyscope.runs.directory import CLIPS
from policyscope.runs.tables import OURS

LONGEST_SIDE = 320
SIMULATOR = "simulator"
"""What stands for the camera of a simulator's own picture."""
_SHEET_SIDE = 8
_QUALITY = 72
_PIXELS = 18_000_000  # of one episode over all its cameras: what a browser must hold decoded
_SHORTEST_SIDE = 176
_BYTES = pa.list_(pa.large_binary())
_COLUMNS = {"episode_index", "camera", "layout", "sheets"}
_SIZES = ("n_frames", "stride", "width", "height", "columns", "rows")
_MOST = 2**31


@final
@dataclass(frozen=True)
class Clip:
    """Pictures of one camera over one episode.

    Attributes:
        episode: episode index, or the place of a rollout in its run.
        camera: its key, for example ``observation.images.top``.
        n_frames: frames that it covers, from the episode's first.
        stride: one picture every so many frames.
        width: of a picture, in pixels.
        height: of a picture, in pixels.
        columns: pictures in a row of a sheet.
        rows: rows of a sheet.
        sheets: WebP files; picture i is on sheet ``i // (columns * rows)``, row-major.
    """

    episode: int
    camera: str
    n_frames: int
    stride: int
    width: int
    height: int
    columns: int
    rows: int
    sheets: tuple[bytes, ...]

    @property
    def n_bytes(self) -> int:
        """Size of all sheets."""
        return sum(len(sheet) for sheet in self.sheets)


def clip_layout(size: tuple[int, int], n_frames: int, n_cameras: int) -> tuple[int, int, int]:
    """Width and height of a picture, and the stride, that keep an episode within bounds.

    Args:
        size: (width, height) that the camera records.
        n_frames: frames of the episode.
        n_cameras: cameras of the episode.
    """
    scale = min(1.0, LONGEST_SIDE / max(size))
    least = min(scale, _SHORTEST_SIDE / max(size))
    area = size[0] * size[1] * n_cameras
    fitting = (_PIXELS / (area * max(n_frames, 1))) ** 0.5
    scale = max(min(scale, fitting), least)
    stride = max(1, round(area * scale**2 * n_frames / _PIXELS))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale)), stride


def make_clip(
    episode: int,
    camera: str,
    frames: Iterable[NDArray[np.uint8]],
    *,
    n_frames: int,
    layout: tuple[int, int, int],
) -> Clip:
    """Put pictures on sheets.

    Args:
        episode: as a clip has it.
        camera: its key.
        frames: [H, W, C] pictures of frames 0, stride, 2·stride, …
        n_frames: frames of the episode.
        layout: as `clip_layout` gives it.
    """
    from PIL import Image

    width, height, stride = layout
    n = -(-n_frames // stride)
    columns = min(_SHEET_SIDE, n)
    rows = min(_SHEET_SIDE, -(-n // columns))
    sheets: list[bytes] = []
    sheet: Any = None
    for i, frame in enumerate(frames):
        place = i % (columns * rows)
        if place == 0:
            sheets += [] if sheet is None else [_webp(sheet)]
            sheet = Image.new("RGB", (columns * width, rows * height))
        plain = frame[..., 0] if frame.shape[-1] == 1 else frame
        picture = (
            Image.fromarray(plain).convert("RGB").resize((width, height), Image.Resampling.BOX)
        )
        sheet.paste(picture, (place % columns * width, place // columns * height))
    if sheet is not None:
        sheets.append(_webp(sheet))
    return Clip(episode, camera, n_frames, stride, width, height, columns, rows, tuple(sheets))


@final
class GrowingClip:
    """A clip whose pictures come one by one, kept as small as they will be shown.

    Args:
        episode: as a clip has it.
        camera: its key.
        n_frames: pictures that are to come; fewer make a shorter clip.
    """

    def __init__(self, episode: int, camera: str, n_frames: int) -> None:
        self._episode, self._camera, self._n_frames = episode, camera, n_frames
        self._layout: tuple[int, int, int] | None = None
        self._kept: list[NDArray[np.uint8]] = []
        self._seen = 0

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Take the next picture, [H, W, 3]."""
        from PIL import Image

        height, width = picture.shape[:2]
        self._layout = self._layout or clip_layout((width, height), self._n_frames, 1)
        if self._seen % self._layout[2] == 0:
            small = Image.fromarray(picture).resize(self._layout[:2], Image.Resampling.BOX)
            self._kept.append(np.asarray(small))
        self._seen += 1

    def clip(self) -> Clip | None:
        """What came; None if nothing did."""
        if self._layout is None:
            return None
        return make_clip(
            self._episode, self._camera, self._kept, n_frames=self._seen, layout=self._layout
        )


def _webp(sheet: Any) -> bytes:
    file = io.BytesIO()
    sheet.save(file, "WEBP", quality=_QUALITY, method=2)
    return file.getvalue()


def write_clips(directory: Path, clips: Sequence[Clip]) -> None:
    """Keep clips in a run directory, beside those that are there."""
    held = {(c.episode, c.camera): c for c in (*read_clips(directory), *clips)}
    if not held:
        return
    kept = [held[key] for key in sorted(held)]
    layout = [
        {k: v for k, v in vars(clip).items() if k not in ("episode", "camera", "sheets")}
        for clip in kept
    ]
    table = pa.table(
        {
            "episode_index": pa.array([c.episode for c in kept], pa.int64()),
            "camera": pa.array([c.camera for c in kept], pa.string()),
            "layout": pa.array([json.dumps(row, sort_keys=True) for row in layout], pa.string()),
            "sheets": pa.array([list(c.sheets) for c in kept], _BYTES),
        }
    )
    write_whole(
        directory / CLIPS,
        lambda tmp: pq.write_table(table, tmp, compression="none", use_dictionary=False),
    )


def read_clips(directory: Path) -> list[Clip]:
    """The clips that a run directory holds; none where it has no such file.

    Raises:
        OutputError: the file is not what `write_clips` wrote.
    """
    file = directory / CLIPS
    if not os.path.lexists(file):
        return []
    with OURS.parquet(file, whole=True) as opened:
        missing = _COLUMNS - set(opened.schema_arrow.names)
        if missing:
            raise OURS.refuse(file, expected="clips", found=f"no column {min(missing)}")
        table = opened.read(columns=sorted(_COLUMNS))
    try:
        rows = table.to_pylist()
    except ValueError as error:  # texts that are not UTF-8
        raise OURS.refuse(file, expected="clips", found=str(error)[:120]) from error
    return [_clip(file, row) for row in rows]


def _clip(file: Path, row: dict[str, Any]) -> Clip:
    try:
        layout = parse_json(row["layout"] or "")
        sizes = {name: layout[name] for name in _SIZES}
        clip = Clip(
            episode=row["episode_index"],
            camera=row["camera"],
            sheets=tuple(row["sheets"]),
            **sizes,
        )
        numbers = [clip.episode + 1, *sizes.values()]
        if not all(type(size) is int and 0 < size < _MOST for size in numbers):
            raise ValueError("sizes that are no small positive numbers")
        n = -(-clip.n_frames // clip.stride)
        if len(clip.sheets) != -(-n // (clip.columns * clip.rows)):
            raise ValueError(f"{len(clip.sheets)} sheets")
        if not all(sheet[:4] == b"RIFF" and sheet[8:12] == b"WEBP" for sheet in clip.sheets):
            raise ValueError("sheets that are no WebP")
        if not isinstance(clip.camera, str):
            raise ValueError("no camera")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OURS.refuse(file, expected="clips", found=str(error)[:120]) from error
    return clip
