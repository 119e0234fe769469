"""--live: a run as a Rerun stream: demonstrations by episode, simulators by model call.

Everything goes into ``live.rrd`` in the run directory; where there is a screen, or a viewer that
listens already, it goes there at the same time. rerun is an extra and is imported here alone.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.engine.progress import EpisodeNews, Watch
from policyscope.errors import UsageError, visible
from policyscope.runs.directory import RECORDING

if TYPE_CHECKING:
    import rerun as rr

    from policyscope.engine.episodes import Planned
    from policyscope.runs.rows import RolloutRow
    from policyscope.sim.contract import Observation

See = Callable[[Sequence[dict[str, Any]], Sequence[str]], dict[str, Any]]

_PORT = 9876
_MOST_DIMS = 8
_DEMO, _POLICY = (120, 120, 120), (0, 114, 178)


@final
class LiveStream(Watch):
    """Watches a run and streams it.

    Args:
        directory: run directory, for ``live.rrd``.
        beside: another watcher, which is told the same.

    Raises:
        UsageError: rerun is not installed.
    """

    def __init__(self, directory: Path, beside: Watch) -> None:
        self._rr = _rerun()
        self._beside = beside
        self._directory = directory
        self._stream: rr.RecordingStream | None = None
        self._frames = 0

    def stage(self, text: str) -> None:
        """Nothing to stream yet."""
        self._beside.stage(text)

    def begin(self, total: int) -> None:
        """Open the stream: the run directory is ready now."""
        self._beside.begin(total)
        self._stream = _opened(self._rr, self._directory)

    def advance(self, n_frames: int) -> None:
        """Episodes are streamed when they are complete."""
        self._beside.advance(n_frames)

    def scored(self, news: EpisodeNews) -> None:
        """Stream one episode."""
        self._beside.scored(news)
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
            "log",
            rr.TextLog(
                visible(f"episode {scored.index}: error {news.error:.4g} {news.unit}. {task}")
            ),
        )
        self._frames += n

    def close(self) -> None:
        """Write what is left."""
        _close(self._stream)

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


@final
class LiveRollout(Watch):
    """Watches a closed-loop run and streams it.

    Each simulator has its place in a grid: what the policy sees, with the chunk that it predicts
    drawn in where actions are positions in the picture, else beside it.

    Args:
        directory: run directory, for ``live.rrd``.
        beside: another watcher, which is told the same.

    Raises:
        UsageError: rerun is not installed.
    """

    def __init__(self, directory: Path, beside: Watch) -> None:
        self._rr = _rerun()
        self._beside, self._directory = beside, directory
        self._stream: rr.RecordingStream | None = None
        self._see: See | None = None
        self._board: tuple[float, float] | None = None
        self._names: list[str] = []
        self._cameras: list[str] = []
        self._places: dict[int, int] = {}  # episode → place in the grid
        self._n_places = self._calls = self._k = self._n = 0

    def meet(self, see: See, board: tuple[float, float] | None, names: Sequence[str]) -> None:
        """Get to know the environment before it runs.

        Args:
            see: raw observations of B simulators and their tasks → what a policy reads.
            board: size of the picture in units of the first two action dims, or None.
            names: of the action dims.
        """
        self._see, self._board = see, board
        self._names = [_entity(name) for name in names[:_MOST_DIMS]]

    def stage(self, text: str) -> None:
        """Nothing to stream yet."""
        self._beside.stage(text)

    def begin(self, total: int) -> None:
        """Open the stream: the run directory is ready now."""
        self._beside.begin(total)
        self._stream = _opened(self._rr, self._directory)

    def called(
        self, episode: Planned, step: int, observation: Observation, chunk: FloatArray
    ) -> None:
        """Stream one model call."""
        rr, stream = self._rr, self._stream
        assert stream is not None
        assert self._see is not None
        seen = self._see([observation], [episode.task])
        pictures = {
            _entity(key.removeprefix("observation.")): value[0]
            for key, value in seen.items()
            if value.ndim == 4
        }
        if episode.index not in self._places:
            taken = set(self._places.values())
            place = next(i for i in range(len(taken) + 1) if i not in taken)
            self._places[episode.index] = place
            if place >= self._n_places:
                self._n_places, self._cameras = place + 1, list(pictures)
                stream.send_blueprint(self._blueprint())
        at = f"simulators/{self._places[episode.index]}"
        stream.set_time("call", sequence=self._calls)
        self._calls += 1
        for name, picture in pictures.items():
            array = (np.moveaxis(picture, 0, -1) * 255).round().astype(np.uint8)
            stream.log(f"{at}/{name}", rr.Image(array).compress(jpeg_quality=80))
            height, width = array.shape[:2]
            title = rr.Points2D(
                [[width / 2, height / 20]],
                labels=[f"seed {episode.seed}, step {step}"],
                colors=[_POLICY],
                show_labels=True,
            )
            stream.log(f"{at}/{name}/title", title)
            if self._board is not None:
                scale = np.array([width, height]) / np.array(self._board)
                line = rr.LineStrips2D([chunk[:, :2] * scale], colors=[_POLICY])
                stream.log(f"{at}/{name}/chunk", line)
        for d, name in enumerate(self._names if self._board is None else ()):
            stream.log(f"{at}/actions/{name}", rr.Scalars([chunk[0, d]]))

    def ended(self, row: RolloutRow) -> None:
        """Stream how an episode ended, and the success rate so far."""
        from policyscope.metrics.proportions import proportion
        from policyscope.views.rollout.words import outcome
        from policyscope.views.words import number

        self._beside.ended(row)
        rr, stream = self._rr, self._stream
        assert stream is not None, "begin() comes first"
        self._places.pop(row.episode, None)
        if row.ended == "fault":
            return
        stream.set_time("call", sequence=self._calls)
        if row.success is not None:
            self._n += 1
            self._k += row.success
            so_far = proportion(self._k, self._n)
            for name, value in (
                ("rate", self._k / self._n),
                ("low", so_far.low),
                ("high", so_far.high),
            ):
                stream.log(f"success/{name}", rr.Scalars([value]))
        if row.max_reward is not None:
            stream.log("reward/episode", rr.Scalars([row.max_reward]))
        text = (
            f"seed {row.seed}: {outcome(row)} in {row.steps} steps, "
            f"max reward {number(row.max_reward)}"
        )
        stream.log("log", rr.TextLog(text))

    def close(self) -> None:
        """Write what is left."""
        _close(self._stream)

    def _blueprint(self) -> Any:
        import rerun.blueprint as rrb

        grid: list[Any] = []
        for place in range(self._n_places):
            at = f"simulators/{place}"
            views: list[Any] = [
                rrb.Spatial2DView(origin=f"{at}/{name}", name=f"simulator {place}: {name}")
                for name in self._cameras
            ]
            if self._board is None:
                views.append(rrb.TimeSeriesView(origin=f"{at}/actions", name=f"actions of {place}"))
            grid.append(rrb.Horizontal(*views) if len(views) > 1 else views[0])
        numbers = rrb.Vertical(
            rrb.TimeSeriesView(
                origin="success",
                name="success rate, 95 % interval",
                axis_y=rrb.ScalarAxis(range=(0, 1)),
            ),
            rrb.TimeSeriesView(origin="reward", name="max reward by episode"),
            rrb.TextLogView(origin="log", name="episodes"),
        )
        return rrb.Blueprint(
            rrb.Horizontal(rrb.Grid(*grid), numbers, column_shares=[3, 2]), collapse_panels=True
        )


def _opened(rr: Any, directory: Path) -> rr.RecordingStream:
    stream = rr.RecordingStream("policyscope", recording_id=f"policyscope-{os.getpid()}")
    sinks: list[Any] = [rr.FileSink(str(directory / RECORDING))]
    if _viewer_listens():
        sinks.append(rr.GrpcSink())
    elif _has_screen():
        stream.spawn(connect=False)
        sinks.append(rr.GrpcSink())
    stream.set_sinks(*sinks)
    return stream


def _close(stream: rr.RecordingStream | None) -> None:
    if stream is not None:
        stream.flush()
        stream.disconnect()


def _blueprint(cameras: list[str], names: list[str], news: EpisodeNews) -> Any:
    import rerun.blueprint as rrb

    views = [
        rrb.Spatial2DView(origin=f"cameras/{_entity(camera)}", name=visible(camera))
        for camera in cameras
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
        rrb.TimeSeriesView(origin="errors", name=f"error in {visible(news.unit)}"),
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
