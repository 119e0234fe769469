"""--live: frames, actions, chunks and running errors in Rerun, episode by episode.

Everything goes into ``live.rrd`` in the run directory; where there is a screen, or a viewer that
listens already, it goes there at the same time. rerun is an extra and is imported here alone.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from policyscope.errors import UsageError
from policyscope.metrics.running import EpisodeNews
from policyscope.predict import Progress
from policyscope.run.directory import RECORDING
from policyscope.spaces import FloatArray

if TYPE_CHECKING:
    import rerun as rr

_PORT = 9876
_MOST_DIMS = 8
_DEMO, _POLICY = (120, 120, 120), (0, 114, 178)


@final
class LiveStream:
    """Watches a run and streams it. See `policyscope.predict.Progress`.

    Args:
        directory: run directory, for ``live.rrd``.
        beside: another watcher, which is told the same.

    Raises:
        UsageError: rerun is not installed.
    """

    def __init__(self, directory: Path, beside: Progress) -> None:
        self._rr = _rerun()
        self._beside = beside
        self._directory = directory
        self._stream: rr.RecordingStream | None = None
        self._frames = 0

    def stage(self, text: str) -> None:
        """Nothing to stream yet."""
        self._beside.stage(text)

    def begin(self, n_frames: int) -> None:
        """Open the stream: the run directory is ready now."""
        self._beside.begin(n_frames)
        rr = self._rr
        stream = rr.RecordingStream("policyscope", recording_id=f"policyscope-{os.getpid()}")
        sinks: list[Any] = [rr.FileSink(str(self._directory / RECORDING))]
        if _viewer_listens():
            sinks.append(rr.GrpcSink())
        elif _has_screen():
            stream.spawn(connect=False)
            sinks.append(rr.GrpcSink())
        stream.set_sinks(*sinks)
        self._stream = stream

    def advance(self, n_frames: int) -> None:
        """Episodes are streamed when they are complete."""
        self._beside.advance(n_frames)

    def episode(self, news: EpisodeNews) -> None:
        """Stream one episode."""
        self._beside.episode(news)
        assert self._stream is not None, "begin() comes first"
        rr, stream, scored = self._rr, self._stream, news.scored
        n = len(scored.frame_index)
        names = [_entity(name) for name in news.names[:_MOST_DIMS]]
        if self._frames == 0:
            stream.send_blueprint(_blueprint(list(news.footage), names, news))
        at = self._frames + np.arange(n)
        index = [rr.TimeColumn("frame", sequence=at)]

        def curve(path: str, values: FloatArray) -> None:
            stream.send_columns(path, index, rr.Scalars.columns(scalars=np.asarray(values)))

        for d, name in enumerate(names):
            curve(f"actions/{name}/demonstrated", scored.target.values[:, 0, d])
            curve(f"actions/{name}/predicted", scored.predicted[0].values[:, 0, d])
        curve("errors/frame", news.frame_error)
        curve("errors/running", np.full(n, news.running_error))
        if news.running_skill is not None:
            curve("skill/running", np.full(n, news.running_skill))
        self._chunks(news, names, at)
        for camera, frames in news.footage.items():
            for t, picture in zip(at, frames(), strict=True):
                stream.set_time("frame", sequence=int(t))
                stream.log(
                    f"cameras/{_entity(camera)}", rr.Image(picture).compress(jpeg_quality=80)
                )
        stream.set_time("frame", sequence=int(at[0]))
        task = scored.tasks[0] if scored.tasks else ""
        stream.log(
            "log", rr.TextLog(f"episode {scored.index}: error {news.error:.4g} {news.unit}. {task}")
        )
        self._frames += n

    def close(self) -> None:
        """Write what is left."""
        if self._stream is not None:
            self._stream.flush()
            self._stream.disconnect()

    def _chunks(self, news: EpisodeNews, names: list[str], at: Any) -> None:
        """The chunk of each frame as lines over the horizon, all dims on a scale of 0 to 1."""
        rr, stream, scored = self._rr, self._stream, news.scored
        assert stream is not None
        target = scored.target.values
        low, high = target.min(axis=(0, 1)), target.max(axis=(0, 1))
        span = np.where(high > low, high - low, 1.0)
        horizon = target.shape[1]
        x = np.arange(horizon) / max(horizon - 1, 1)
        colors = [_DEMO, *[_POLICY] * len(scored.predicted)]
        for i, t in enumerate(at):
            real = ~scored.is_pad[i]
            stream.set_time("frame", sequence=int(t))
            for d, name in enumerate(names):
                lines = [
                    np.stack([x[real], 1 - (v[i, real, d] - low[d]) / span[d]], axis=1)
                    for v in (target, *(p.values for p in scored.predicted))
                ]
                stream.log(f"chunks/{name}", rr.LineStrips2D(lines, colors=colors))


def _blueprint(cameras: list[str], names: list[str], news: EpisodeNews) -> Any:
    import rerun.blueprint as rrb

    views = [
        rrb.Spatial2DView(origin=f"cameras/{_entity(camera)}", name=camera) for camera in cameras
    ]
    actions = [
        rrb.Horizontal(
            rrb.TimeSeriesView(origin=f"actions/{name}", name=name),
            rrb.Spatial2DView(origin=f"chunks/{name}", name=f"chunk of {name}"),
            column_shares=[3, 1],
        )
        for name in names
    ]
    scores = [
        rrb.TimeSeriesView(origin="errors", name=f"error in {news.unit}"),
        rrb.TimeSeriesView(origin="skill", name=f"skill against {news.against}"),
        rrb.TextLogView(origin="log", name="episodes"),
    ]
    left = rrb.Vertical(*views, *scores) if views else rrb.Vertical(*scores)
    return rrb.Blueprint(
        rrb.Horizontal(left, rrb.Vertical(*actions), column_shares=[2, 3]), collapse_panels=True
    )


def _entity(name: str) -> str:
    """A name as one part of an entity path; names come from strangers."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name) or "_"


def _rerun() -> Any:
    try:
        import rerun
    except ImportError:
        raise UsageError(
            "--live",
            expected="rerun",
            found="not installed",
            fix="pip install 'policyscope[rerun]'",
        ) from None
    return rerun


def _viewer_listens() -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", _PORT)) == 0


def _has_screen() -> bool:
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True
