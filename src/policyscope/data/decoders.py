"""Pictures from video and image files, decoded once, forwards."""

from __future__ import annotations

import io
import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.data.files import Folder
from policyscope.files import column_chunks

Picture = NDArray[np.uint8]
"""[H, W, C], in any memory layout"""

TOLERANCE_S = 1e-4  # lerobot's default
LARGE = 256 * 256  # pixels: below, threads and planes of colours cost more than they save
_FAR_S = 10.0  # a jump ahead that is worth a seek
_SHORT_GROUP = 8  # pictures
_KEPT = 8  # latest frames: observation steps look back
_MOST_STORED = 1 << 30  # bytes of one row group's pictures
_AT_A_TIME = 256 << 20  # bytes of rows that are unpacked together
_ROWS = 64  # unpacked together at most
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
_CONTAINED = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi",
}


class Decoder(Protocol):
    """Pictures of one video file.

    Attributes:
        size: (height, width) as the file says before anything is decoded.
    """

    size: tuple[int, int]

    def read(self, seconds: Sequence[float]) -> Iterator[Picture]:
        """The picture at each of the given times, which rise.

        Raises:
            ValueError: the file has no picture within 0.1 ms of a time.
        """

    def close(self) -> None:
        """Close the file."""


class PyavDecoder:
    """Decodes a video forwards; goes back, or far ahead, by a seek.

    Packets of groups of pictures that nobody asked for are passed over without decoding.

    Args:
        path: the video.
        threads: of the decoder; 0 leaves it to FFmpeg.
    """

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        from av.video.reformatter import VideoReformatter

        self._path = path
        self._container = _opened(path)
        self._stream = self._container.streams.video[0]
        self._stream.codec_context.thread_count = threads
        self.size = (self._stream.height, self._stream.width)
        self._large = math.prod(self.size) > LARGE
        self._tick = float(self._stream.time_base or 0)
        self._reformatter = VideoReformatter()
        self._planes = np.empty((0, *self.size), np.uint8)
        self._recent: deque[tuple[float, Any]] = deque(maxlen=_KEPT)
        self._wanted = 0.0
        self._frames = self._decode()

    def read(self, seconds: Sequence[float]) -> Iterator[Picture]:
        """See `Decoder.read`."""
        for second in seconds:
            frame = self._find(second)
            if self._large and _same_in_planes(frame.height, frame.width, frame.format.name):
                yield self._by_planes(frame)
            else:
                yield _pixels(self._reformatter, frame)

    def close(self) -> None:
        """See `Decoder.close`."""
        self._container.close()

    def _by_planes(self, frame: Any) -> Picture:
        """The picture with each colour in one piece, as policies are fed it."""
        if self._planes.shape != (3, frame.height, frame.width):
            self._planes = np.empty((3, frame.height, frame.width), np.uint8)
        _planes(self._reformatter, frame, self._planes)
        return self._planes.transpose(1, 2, 0)

    def _find(self, second: float) -> Any:
        reached = self._recent[-1][0] if self._recent else 0.0
        if second <= reached + TOLERANCE_S:
            for at, frame in self._recent:
                if abs(at - second) <= TOLERANCE_S:
                    return frame
        self._wanted = second
        if not reached <= second < reached + _FAR_S:
            self._recent.clear()
            ticks = round(second / self._tick) - 1
            self._container.seek(max(ticks, 0), backward=True, stream=self._stream)
            self._frames = self._decode()
        for frame in self._frames:
            if frame.pts is None:
                continue
            at = frame.pts * self._tick
            self._recent.append((at, frame))
            if at >= second - TOLERANCE_S:
                if at <= second + TOLERANCE_S:
                    return frame
                break
        raise ValueError(f"no picture at {second:.4f} s of {self._path}")

    def _decode(self) -> Iterator[Any]:
        """Frames in order; what lies before the group of the wanted one is not decoded."""
        held: list[Any] = []
        for packet in self._container.demux(self._stream):
            at = None if packet.pts is None else packet.pts * self._tick
            if at is not None and packet.is_keyframe and at <= self._wanted + TOLERANCE_S:
                held = []
            held.append(packet)
            if at is None or at >= self._wanted - TOLERANCE_S:
                ready, held = held, []
                for known in ready:
                    yield from known.decode()


def _pixels(reformatter: Any, frame: Any) -> Picture:
    """The colours of a frame in its own memory, which FFmpeg lays out pixel by pixel."""
    rgb = reformatter.reformat(frame, format="rgb24")
    plane = rgb.planes[0]
    shape = (rgb.height, rgb.width, 3)
    return np.ndarray(shape, np.uint8, plane, strides=(plane.line_size, 3, 1))


def _planes(reformatter: Any, frame: Any, into: NDArray[np.uint8]) -> None:
    """The colours of a frame as three planes, [3, H, W]."""
    green_blue_red = reformatter.reformat(frame, format="gbrp").planes
    for colour, plane in zip((1, 2, 0), green_blue_red, strict=True):
        into[colour] = np.ndarray(into.shape[1:], np.uint8, plane, strides=(plane.line_size, 1))


@cache
def _same_in_planes(height: int, width: int, layout: str) -> bool:
    """Whether FFmpeg makes the very same colours as planes as it makes pixel by pixel.

    lerobot's are made pixel by pixel. FFmpeg has other code for planes, which rounds otherwise on
    some processors and for some sizes and layouts: a picture of noise tells.
    """
    import av
    from av.video.reformatter import VideoReformatter

    frame, draw = av.VideoFrame(width, height, layout), np.random.default_rng(0)
    for plane in frame.planes:
        plane.update(draw.bytes(plane.buffer_size))
    planes = np.empty((3, height, width), np.uint8)
    _planes(VideoReformatter(), frame, planes)
    return np.array_equal(planes.transpose(1, 2, 0), _pixels(VideoReformatter(), frame))


def _opened(path: Path) -> Any:
    """A video as it lies there: FFmpeg would follow what playlists name, even to the network."""
    import av

    return av.open(str(path), container_options=_CONTAINED)


def short_groups(path: Path) -> bool:
    """Whether a video can be entered at every few pictures, as lerobot records it."""
    with _opened(path) as container:
        packets = itertools.islice(container.demux(video=0), _SHORT_GROUP + 1)
        keys = sum(bool(packet.is_keyframe) for packet in packets)
    return keys > 1


def packet_times(path: Path) -> FloatArray:
    """[N] seconds of all pictures of a video, rising; nothing is decoded."""
    with _opened(path) as container:
        stream = container.streams.video[0]
        ticks = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
        times: FloatArray = np.sort(np.array(ticks, np.float64)) * float(stream.time_base or 0)
    return times


@final
class TorchcodecDecoder:
    """lerobot's own torchcodec road, for whoever wants its pictures."""

    def __init__(self, path: Path) -> None:
        with _opened(path) as container:  # a video in itself
            stream = container.streams.video[0]
            self.size = (stream.height, stream.width)
        self._path = path

    def read(self, seconds: Sequence[float]) -> Iterator[Picture]:
        """See `Decoder.read`."""
        from lerobot.datasets.video_utils import decode_video_frames

        frames = decode_video_frames(
            self._path, list(seconds), TOLERANCE_S, "torchcodec", return_uint8=True
        )
        yield from frames.permute(0, 2, 3, 1).numpy()

    def close(self) -> None:
        """lerobot keeps the file open in its cache."""


@final
class StoredPictures:
    """Pictures that a Parquet file holds, compressed one by one.

    Args:
        folder: of the dataset; some files name pictures instead of holding them.
        name: of the file.
        key: its column.
        size: (height, width) that they should have.
    """

    def __init__(self, folder: Folder, name: str, key: str, size: tuple[int, int]) -> None:
        self._folder, self._name, self._key, self._size = folder, name, key, size
        self._file = folder.parquet(name)
        sizes = [
            self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)
        ]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self._held: tuple[int, pa.ChunkedArray] | None = None
        self._workers = ThreadPoolExecutor(4)

    def read(self, rows: Sequence[int]) -> Iterator[Picture]:
        """The pictures of the given rows of the file.

        Raises:
            ValueError: a row holds no picture, or one of other colours or another size.
        """
        yield from self._workers.map(self._decoded, [self._stored(row) for row in rows])

    def close(self) -> None:
        """Close the file."""
        self._workers.shutdown(cancel_futures=True)
        self._file.close()

    def _stored(self, row: int) -> bytes | Path:
        """What a row holds: a picture's bytes, or the name of its file."""
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        if self._held is None or self._held[0] != group:
            self._held = None  # before the next one: together they may be large
            table = self._folder.columns(
                self._name,
                self._file,
                [self._key],
                groups=[group],
                most=_MOST_STORED,
                rows=self._rows_at_a_time(group),
            )
            self._held = (group, table.column(self._key))
        value = self._held[1][row - int(self._starts[group])].as_py()
        if isinstance(value, dict):
            value = value.get("path") if value.get("bytes") is None else value["bytes"]
        if isinstance(value, str):
            return self._folder.file(value)
        if not isinstance(value, bytes):
            raise ValueError(f"no picture in row {row} of {self._name}")
        return value

    def _rows_at_a_time(self, group: int) -> int:
        """Few enough, where each row may be as large as all that the group says it holds.

        A picture that stands once in a dictionary may be that of every row.
        """
        try:
            parts = column_chunks(self._file, group, self._key)
        except (pa.ArrowException, OSError):
            return 1  # which `columns` refuses
        size = sum(max(0, int(c.total_uncompressed_size)) for c in parts)
        return max(1, min(_ROWS, _AT_A_TIME // max(1, size)))

    def _decoded(self, stored: bytes | Path) -> Picture:
        """Colours as `datasets.Image` decodes them, which lerobot's items hold."""
        from PIL import Image, ImageOps

        source = io.BytesIO(stored) if isinstance(stored, bytes) else stored
        with Image.open(source, formats=_FORMATS) as image:
            height, width = self._size
            if image.size not in ((width, height), (height, width)):  # before it takes memory
                shape = (image.height, image.width, len(image.getbands()))
                return np.broadcast_to(np.uint8(0), shape)  # of the wrong shape, which is enough
            if image.getexif().get(Image.ExifTags.Base.Orientation) is not None:
                image = ImageOps.exif_transpose(image)
            array = np.asarray(image)
        if array.dtype == np.bool_:  # of one bit: lerobot has 0 and 255
            array = array.astype(np.uint8) * np.uint8(255)
        if array.dtype != np.uint8:
            raise ValueError(f"a picture of {array.dtype}, not of 8-bit colours")
        return array if array.ndim == 3 else array[..., None]
