"""Decoded pictures that stay at hand: several policies look at the same frames, decoded once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray

from policyscope.data.decoders import Picture


@final
@dataclass
class _Clip:
    """The pictures of one camera and episode that are there; `values` grows with the frames."""

    values: dict[int, Picture] = field(default_factory=dict)
    n_bytes: int = 0


@final
class KeptPictures:
    """Decoded pictures within a bound of memory; the episodes that nobody asked for longest go.

    Args:
        most: bytes of pictures that are kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._clips: OrderedDict[tuple[str, int], _Clip] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()  # several lanes read at once

    def through(
        self,
        key: str,
        episode: int,
        frames: NDArray[np.int64],
        decode: Callable[[NDArray[np.int64]], Iterator[Picture]],
    ) -> Iterator[Picture]:
        """The pictures of rising frames: those that are kept, and the others decoded.

        Args:
            key: of the camera.
            episode: whose frames they are.
            frames: which.
            decode: yields the pictures of the frames that are not kept.
        """
        with self._lock:
            clip = self._clips.setdefault((key, episode), _Clip())
            self._clips.move_to_end((key, episode))
            known = {f: clip.values[f] for f in frames.tolist() if f in clip.values}
        fresh = decode(np.array([f for f in frames.tolist() if f not in known], dtype=np.int64))
        for frame in frames.tolist():
            if frame in known:
                yield known[frame]
                continue
            picture = np.array(next(fresh))  # a copy: decoders use their memory again
            self._keep((key, episode), clip, frame, picture)
            yield picture

    def _keep(self, place: tuple[str, int], clip: _Clip, frame: int, picture: Picture) -> None:
        with self._lock:
            while self._held + picture.nbytes > self.most:
                oldest = next(iter(self._clips), place)
                if oldest == place:  # of what is being read nothing goes
                    return
                self._held -= self._clips.pop(oldest).n_bytes
            if self._clips.get(place) is clip and frame not in clip.values:
                clip.values[frame] = picture
                clip.n_bytes += picture.nbytes
                self._held += picture.nbytes
