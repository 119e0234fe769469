"""Camera pictures of episodes: which file holds them, who decodes it, and in which thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.data.decoders import (
    LARGE,
    TOLERANCE_S,
    Decoder,
    Picture,
    PyavDecoder,
    StoredPictures,
    TorchcodecDecoder,
    packet_times,
    short_groups,
)
from policyscope.data.files import Folder, unreadable
from policyscope.data.frames import Episode, Rows
from policyscope.data.index import EpisodeIndex
from policyscope.data.info import Feature
from policyscope.data.kept import KeptPictures
from policyscope.data.pictures import Loan
from policyscope.errors import DatasetError

_MOST_LANES = 4


@final
@dataclass(frozen=True)
class Lane:
    """One of the threads that read batches in turn; -1 is whoever asks for a single batch."""

    index: int
    count: int


ALONE = Lane(-1, 1)


@final
class Cameras:
    """Decodes the pictures of a dataset; each lane has decoders of its own.

    Args:
        folder: where the files lie.
        index: which file holds which episode.
        features: of all cameras.
        backend: ``pyav`` or ``torchcodec``, for videos.
        episode: reads an episode, whose timestamps and rows say where its frames are.
        kept: where decoded pictures stay at hand; None where each is asked for once.
        threads: that decode; None for as many as there are cores.
    """

    def __init__(
        self,
        folder: Folder,
        index: EpisodeIndex,
        features: Mapping[str, Feature],
        *,
        backend: Literal["pyav", "torchcodec"],
        episode: Callable[[int], Episode],
        kept: KeptPictures | None = None,
        threads: int | None = None,
    ) -> None:
        self._folder, self._index, self._backend = folder, index, backend
        self._features = {key: f for key, f in features.items() if f.is_camera}
        self._videos = {key for key, f in self._features.items() if f.dtype == "video"}
        self._episode, self._kept, self._threads = episode, kept, threads
        self._decoders: dict[tuple[str, int], tuple[str, Decoder]] = {}
        self._stored: dict[tuple[str, int], tuple[str, StoredPictures]] = {}
        self._times: tuple[str, FloatArray] | None = None

    def files(self, episodes: Sequence[int]) -> set[str]:
        """The videos in which the episodes' pictures are.

        Raises:
            DatasetError: the index does not say where a video is.
        """
        return {self._index.clip(e, key)[0] for e in episodes for key in sorted(self._videos)}

    def times(self, key: str, episode: int) -> FloatArray | None:
        """See `FrameSource.picture_times`; the times of the latest file stay at hand."""
        if key not in self._videos:
            return None
        name, start = self._index.clip(episode, key)
        if self._times is None or self._times[0] != name:
            try:
                self._times = (name, packet_times(self._folder.file(name)))
            except DatasetError:
                raise
            except Exception as error:  # whatever a decoder raises on a broken file
                raise unreadable(f"video {name}", error) from error
        times, end = self._times[1], self._index.clip_end(episode, key)
        own = times >= start - TOLERANCE_S
        if end is not None:
            own &= times < end - TOLERANCE_S
        return times[own] - start

    def video(self, key: str, episode: int) -> tuple[str, int] | None:
        """See `FrameSource.video`."""
        if key not in self._videos:
            return None
        name, _ = self._index.clip(episode, key)
        return name, self._folder.file(name).stat().st_size

    def lanes(self, rows: Rows, keys: frozenset[str]) -> int:
        """How many threads read: several decoders do more than the threads of one.

        Small pictures are not worth it; nor are videos that a decoder can't enter in the middle.
        """
        cameras = sorted(keys & self._videos)
        large = any(self._pixels(key) > LARGE for key in cameras)
        if not len(rows) or not large or self._backend == "torchcodec":
            return 1
        names = [self._index.clip(int(rows[0][0]), key)[0] for key in cameras]
        try:
            short = all(short_groups(self._folder.file(name)) for name in names)
        except DatasetError:
            raise
        except Exception as error:  # whatever a decoder raises on a broken file
            raise unreadable(f"video of {', '.join(cameras)}", error) from error
        return min(_MOST_LANES, self._threads or os.cpu_count() or 1) if short else 1

    def look(
        self,
        key: str,
        episodes: NDArray[np.int64],
        frames: NDArray[np.int64],
        loan: Loan,
        lane: Lane,
    ) -> NDArray[np.uint8]:
        """The pictures of [steps, rows] frames; each is decoded once.

        Returns:
            [steps, rows, C, H, W]; large pictures contiguous, small ones channels last in memory,
            as FFmpeg makes them faster.

        Raises:
            DatasetError: a picture can't be decoded, or has not the size that is declared.
        """
        channels, *size = self._features[key].picture
        if self._pixels(key) > LARGE:
            values = loan.array((*frames.shape, channels, *size), np.uint8)
        else:
            values = np.moveaxis(loan.array((*frames.shape, *size, channels), np.uint8), -1, 2)
        places = values.reshape(-1, channels, *size)
        at: dict[tuple[int, int], list[int]] = {}
        of = np.broadcast_to(episodes, frames.shape).reshape(-1).tolist()
        for place, one in enumerate(zip(of, frames.reshape(-1).tolist(), strict=True)):
            at.setdefault(one, []).append(place)
        for episode, ones in groupby(sorted(at), key=itemgetter(0)):
            asked = list(ones)
            wanted = np.array([frame for _, frame in asked], np.int64)
            pictures = self._at_hand(key, episode, wanted, lane)
            for one, picture in zip(asked, pictures, strict=True):
                first, *others = at[one]
                _put(picture, places[first])
                for other in others:
                    places[other] = places[first]
        return values

    def _at_hand(
        self, key: str, episode: int, frames: NDArray[np.int64], lane: Lane
    ) -> Iterator[Picture]:
        """The pictures of rising frames, as kept or decoded now."""
        if self._kept is None:
            return self._decoded(key, episode, frames, lane)
        return self._kept.through(
            key, episode, frames, lambda missing: self._decoded(key, episode, missing, lane)
        )

    def _decoded(
        self, key: str, episode: int, frames: NDArray[np.int64], lane: Lane
    ) -> Iterator[Picture]:
        """The pictures of rising frames, of exactly the size that the metadata declares.

        A smaller one would be repeated over the declared size where numpy can, in silence.
        """
        channels, *size = self._features[key].picture
        what = f"frames {frames[0]}-{frames[-1]} of {key}, episode {episode}"
        try:
            for picture in self._pictures(key, episode, frames, lane):
                if picture.shape != (*size, channels):
                    raise self._other_size(key, what, str(picture.shape))
                yield picture
        except DatasetError:
            raise
        except Exception as error:  # whatever a decoder raises on a broken file
            raise unreadable(what, error) from error

    def _pictures(
        self, key: str, episode: int, frames: NDArray[np.int64], lane: Lane
    ) -> Iterator[Picture]:
        known = self._episode(episode)
        if key in self._videos:
            name, start = self._index.clip(episode, key)
            seconds = [start + float(t) for t in known.timestamps[frames]]
            yield from self._decoder(key, name, lane).read(seconds)
            return
        assert known.rows is not None
        files = [known.files[int(f)] for f in frames]
        at = 0
        while at < len(files):  # an episode may run on in another file
            end = at + next((i for i, f in enumerate(files[at:]) if f != files[at]), len(files))
            rows = [int(known.rows[int(f)]) for f in frames[at:end]]
            yield from self._pictures_in(key, files[at], lane).read(rows)
            at = min(end, len(files))

    def _decoder(self, key: str, name: str, lane: Lane) -> Decoder:
        held = self._decoders.get((key, lane.index))
        if held is None or held[0] != name:
            if held is not None:
                self._decoders.pop((key, lane.index))[1].close()
            path = self._folder.file(name)
            alone = lane.count == 1 and self._pixels(key) > LARGE
            decoder: Decoder = (
                TorchcodecDecoder(path)
                if self._backend == "torchcodec"
                else PyavDecoder(path, threads=self._threads or 0 if alone else 1)
            )
            if decoder.size != self._features[key].picture[1:]:  # before pictures take memory
                decoder.close()
                raise self._other_size(key, name, f"{decoder.size} in the file")
            held = self._decoders[key, lane.index] = (name, decoder)
        return held[1]

    def _pictures_in(self, key: str, name: str, lane: Lane) -> StoredPictures:
        held = self._stored.get((key, lane.index))
        if held is None or held[0] != name:
            if held is not None:
                self._stored.pop((key, lane.index))[1].close()
            _, height, width = self._features[key].picture
            held = self._stored[key, lane.index] = (
                name,
                StoredPictures(self._folder, name, key, (height, width)),
            )
        return held[1]

    def _other_size(self, key: str, what: str, found: str) -> DatasetError:
        channels, height, width = self._features[key].picture
        return DatasetError(
            what,
            expected=f"pictures of shape {(height, width, channels)} (height, width, channels), as "
            "meta/info.json declares",
            found=found,
            fix=f"correct the shape of {key} in meta/info.json, or record again",
        )

    def _pixels(self, key: str) -> int:
        _, height, width = self._features[key].picture
        return height * width


def _put(picture: Picture, place: NDArray[np.uint8]) -> None:
    """Copy a picture to its place, [C, H, W]."""
    channels = picture.shape[-1]
    if channels > 1 and place.flags.c_contiguous and picture.strides[1:] == (channels, 1):
        import cv2

        cv2.split(picture, list(place))  # numpy would go byte by byte
    else:
        place[...] = picture.transpose(2, 0, 1)
