"""Videos of episodes, with the predicted chunk drawn in."""

from __future__ import annotations

import bisect
from fractions import Fraction
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.engine.replay import Moment
from policyscope.files import changed
from policyscope.runs.rollouts import StoredRollout

_LEAST = 384  # px: smaller pictures are enlarged
_STRIP = 108  # px: height of the strip of actions below the picture
_BEHIND, _AHEAD = 40, 40  # steps that the strip shows
_COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0))
_INK, _SOFT = (20, 20, 20), (150, 150, 150)


@final
class Video:
    """One episode as H.264 in an mp4 file, written whole or not at all.

    Args:
        path: of the file.
        stored: the episode.
        fps: control steps a second.
        board: width and height of the board where actions are positions on it, else None.
        title: shown in each frame.
    """

    def __init__(
        self,
        path: Path,
        stored: StoredRollout,
        *,
        fps: float,
        board: tuple[float, float] | None,
        title: str,
    ) -> None:
        self._path, self._stored, self._fps = path, stored, fps
        self._board, self._title = board, title
        self._tmp = path.with_name(f".{path.stem}.tmp.mp4")
        self._container: Any = None
        self._stream: Any = None
        self._size: tuple[int, int] | None = None
        finite = stored.actions if len(stored.actions) else np.zeros((1, 1))
        self._low, self._high = finite.min(axis=0), finite.max(axis=0)

    @property
    def drawn(self) -> bool:
        """Whether there is a picture in it."""
        return self._container is not None

    def add(self, moment: Moment) -> None:
        """Draw and append one frame; a moment without a picture has none."""
        import av

        if moment.picture is None:
            return
        frame = self._drawn(moment.step, moment.picture)
        if self._container is None:
            self._tmp.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._tmp), "w", options={"movflags": "+faststart"})
            rate = Fraction(self._fps).limit_denominator(1000)
            self._stream = self._container.add_stream("libx264", rate=rate)
            self._stream.height, self._stream.width = frame.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.options = {"crf": "24", "preset": "veryfast"}
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        for packet in self._stream.encode(picture):
            self._container.mux(packet)

    def close(self, *, whole: bool) -> None:
        """Finish the file, or throw away what was drawn of half an episode."""
        if self._container is None:
            return
        for packet in self._stream.encode():
            self._container.mux(packet)
        self._container.close()
        if whole:
            self._tmp.replace(self._path)
            changed(self._path)
        else:
            self._tmp.unlink()

    # ── drawing ───────────────────────────────────────────────────────

    def _drawn(self, step: int, scene: NDArray[np.uint8]) -> NDArray[np.uint8]:
        from PIL import Image, ImageDraw

        picture = Image.fromarray(scene)
        self._size = self._size or picture.size
        if picture.size != self._size:  # a video has one size
            picture = picture.resize(self._size)
        scale = max(1, -(-_LEAST // min(picture.size)))
        picture = picture.resize((picture.width * scale, picture.height * scale))
        even = (picture.width // 2 * 2, picture.height // 2 * 2)
        strip = 0 if self._board else _STRIP
        canvas = Image.new("RGB", (even[0], even[1] + strip), "white")
        canvas.paste(picture.crop((0, 0, *even)))
        draw = ImageDraw.Draw(canvas, "RGBA")
        call = bisect.bisect_right(self._stored.called_at.tolist(), step) - 1
        if call >= 0:
            since = step - int(self._stored.called_at[call])
            ahead = self._stored.chunks[call][since:]
            if self._board:
                self._over_board(draw, ahead, even)
            else:
                self._below(draw, step, ahead, even)
        self._caption(draw, step)
        return np.asarray(canvas)

    def _over_board(self, draw: Any, ahead: FloatArray, size: tuple[int, int]) -> None:
        assert self._board is not None
        points = ahead[:, :2] / np.array(self._board) * np.array(size)
        flat = [tuple(map(float, p)) for p in points]
        if len(flat) > 1:
            draw.line(flat, fill=(*_COLOURS[1], 200), width=3)
        for i, (x, y) in enumerate(flat):
            fade = int(255 * (1 - 0.7 * i / max(1, len(flat))))
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(*_COLOURS[1], fade))

    def _below(self, draw: Any, step: int, ahead: FloatArray, size: tuple[int, int]) -> None:
        """Executed actions behind, the predicted chunk ahead, each dim over its range."""
        left, top, width = 0, size[1], size[0]
        span = np.where(self._high > self._low, self._high - self._low, 1.0)

        def place(at: NDArray[Any], values: FloatArray) -> list[tuple[float, float]]:
            x = left + (at - step + _BEHIND) / (_BEHIND + _AHEAD) * width
            y = top + _STRIP - 8 - values.clip(-0.1, 1.1) * (_STRIP - 16)
            return list(zip(x.tolist(), y.tolist(), strict=True))

        now = left + _BEHIND / (_BEHIND + _AHEAD) * width
        draw.line([(now, top), (now, top + _STRIP)], fill=_SOFT)
        draw.text((left + 6, top + 2), "actions: executed", fill=_SOFT)
        draw.text((now + 6, top + 2), "predicted chunk", fill=_SOFT)
        first = max(0, step - _BEHIND)
        behind = (self._stored.actions[first:step] - self._low) / span
        coming = (ahead - self._low) / span
        for d in range(behind.shape[1]):
            colour = _COLOURS[d % len(_COLOURS)]
            if len(behind) > 1:
                draw.line(place(np.arange(first, step), behind[:, d]), fill=(*colour, 255), width=2)
            if len(coming) > 1:
                shown = coming[:_AHEAD, d]
                draw.line(place(step + np.arange(len(shown)), shown), fill=(*colour, 130), width=2)

    def _caption(self, draw: Any, step: int) -> None:
        rewards = self._stored.rewards[:step]
        now = f"reward {rewards[-1]:.2f}, best {rewards.max():.2f}" if len(rewards) else "start"
        text = f"{self._title}   {step / self._fps:.1f} s   {now}"
        box = draw.textbbox((6, 4), text)
        draw.rectangle((box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 2), fill=(255, 255, 255, 210))
        draw.text((6, 4), text, fill=_INK)
