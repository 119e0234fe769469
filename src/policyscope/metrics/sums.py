"""What is left of predictions once they are scored: sums, by episode and task.

An episode is reduced to small sums as soon as it is complete, so memory does not grow with the
dataset, and every table, interval, skill and comparison derives from the same sums. Adding those of
two parts of a dataset gives those of the whole, so that parts can be scored anywhere; stored with
a run they stand in for predictions and dataset when it is scored or compared again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policyscope.actions.spaces import (
    ActionSchema,
    FloatArray,
    NativeActions,
    NormalizedActions,
    Normalizer,
)
from policyscope.errors import InputError
from policyscope.metrics.errors import ErrorSums, error_sums, total
from policyscope.metrics.geometry import integrated, near
from policyscope.metrics.meant import Chunks, MeaningSums, meaning_sums
from policyscope.metrics.samples import SampleSums, sample_sums
from policyscope.metrics.segments import Segment, Segments, Space, Stack
from policyscope.metrics.shape import EpisodeShape, episode_shape, in_range

POLICY = "policy"
MIN_STD = 1e-6


@final
@dataclass(frozen=True, eq=False)
class ScoredEpisode:
    """Predictions of one episode, ready to be scored.

    Attributes:
        index: episode index.
        frame_index: [T], rising.
        tasks: T texts.
        predicted: K arrays of [T, H, A], one a sample.
        target: [T, H, A].
        is_pad: [T, H].
        baselines: name → [T, H, A].
        executed: K arrays of [T, 1, A], what a robot runs at each frame; empty where it runs the
            first steps of its chunks.
        weight: frames of the whole episode over those that are here: what each stands for.
    """

    index: int
    frame_index: NDArray[np.int64]
    tasks: tuple[str, ...]
    predicted: tuple[NativeActions, ...]
    target: NativeActions
    is_pad: NDArray[np.bool_]
    baselines: Mapping[str, NativeActions]
    executed: tuple[NativeActions, ...] = ()
    weight: float = 1.0

    def with_executed(self) -> ScoredEpisode:
        """What is run as one more step at the end of each chunk, so that it is summed with it."""
        if not self.executed:
            return self

        def longer(chunks: NativeActions, by: NativeActions) -> NativeActions:
            return NativeActions(np.concatenate([chunks.values, by.values], axis=1), chunks.units)

        def first(chunks: NativeActions) -> NativeActions:
            return NativeActions(chunks.values[:, :1], chunks.units)

        pairs = zip(self.predicted, self.executed, strict=True)
        return replace(
            self,
            predicted=tuple(longer(p, run) for p, run in pairs),
            target=longer(self.target, first(self.target)),
            is_pad=np.concatenate([self.is_pad, self.is_pad[:, :1]], axis=1),
            baselines={name: longer(b, first(b)) for name, b in self.baselines.items()},
            executed=(),
        )


@final
@dataclass(frozen=True, eq=False)
class Measure:
    """What sums are sums of; they add up only where this is the same.

    Attributes:
        schema: names and units of the compared dims.
        stats: the dataset's statistics of those dims: name → [A].
        horizon: steps of a chunk (H).
        n_action_steps: steps of it that a robot runs.
        fps: frames per second.
        action_kind: ``delta`` actions are integrated before their shapes are compared; what the
            schema says of single dims goes before.
        ensembled: whether episodes say themselves what a robot runs (`ScoredEpisode.executed`).
    """

    schema: ActionSchema
    stats: Mapping[str, FloatArray]
    horizon: int
    n_action_steps: int
    fps: float
    action_kind: str = "absolute"
    ensembled: bool = False

    @staticmethod
    def of(
        schema: ActionSchema,
        stats: Mapping[str, ArrayLike],
        *,
        horizon: int,
        n_action_steps: int,
        fps: float,
        action_kind: str = "absolute",
        ensembled: bool = False,
    ) -> Measure:
        """Arguments as the attributes; statistics may be lists."""
        known = {k: np.asarray(v, dtype=np.float64).reshape(-1) for k, v in stats.items()}
        return Measure(schema, known, horizon, n_action_steps, fps, action_kind, ensembled)

    @property
    def n_steps(self) -> int:
        """Steps that are summed apart (S): the chunk's, and what is run where that is another."""
        return self.horizon + int(self.ensembled)

    def stacked(self, segments: Sequence[Segment]) -> Segments:
        """Sums of some episodes and tasks, or of none, as arrays."""
        return Segments.of(segments, self.n_steps, self.schema.dim)

    def steps(self, scope: str) -> slice:
        """The steps of ``step1``, ``chunk`` or ``executed``."""
        if scope == "executed" and self.ensembled:  # see `ScoredEpisode.with_executed`
            return slice(self.horizon, self.n_steps)
        stop = {"step1": 1, "chunk": self.horizon, "executed": self.n_action_steps}[scope]
        return slice(0, stop)

    @property
    def included(self) -> NDArray[np.bool_]:
        """[A], false for dims that hardly vary (std < 1e-6): they have no normalized error."""
        return self.stats["std"] >= MIN_STD

    @property
    def basis(self) -> Literal["native", "normalized"]:
        """``native`` where all dims share a unit, else ``normalized``."""
        one = self.schema.single_unit is not None or not self.included.any()
        return "native" if one else "normalized"

    @property
    def moves(self) -> bool:
        """Whether any dim is a displacement, so that chunks share no origin."""
        said = self.schema.meanings
        return any(m.delta for m in said) if said else self.action_kind == "delta"

    def normalizer(self) -> Normalizer:
        """The door to units of the dataset's standard deviation."""
        return Normalizer.from_stats(
            {"action": self.stats}, mode="MEAN_STD", units=self.schema.units
        )

    def difference(self, other: Measure) -> str | None:
        """The first thing in which two measures differ, in words; None where they agree."""
        for known in fields(self):
            ours, theirs = getattr(self, known.name), getattr(other, known.name)
            if known.name == "stats":
                same = ours.keys() == theirs.keys() and all(
                    np.array_equal(ours[k], theirs[k], equal_nan=True) for k in ours
                )
                if not same:
                    return "statistics of actions"
            elif ours != theirs:
                return f"{known.name} {ours} and {theirs}"
        return None


@final
@dataclass(frozen=True, eq=False)
class Sums:
    """The sums of some episodes.

    Attributes:
        measure: what they are sums of.
        segments: a row for each episode and task.
        shapes: one for each episode, in the order of the segments.
        samples: the same, for policies with several samples a frame; else none.
        in_range: [5, A] predicted values seen, out of the dataset's range, at its edge; second
            differences of the demonstrations, and their summed size.
        meanings: one for each episode, where the schema says what dims are; else none.
    """

    measure: Measure
    segments: Segments
    shapes: tuple[EpisodeShape, ...]
    samples: tuple[SampleSums, ...]
    in_range: FloatArray
    meanings: tuple[MeaningSums, ...] = ()

    @staticmethod
    def nothing(measure: Measure) -> Sums:
        """The sums of no episode."""
        return Sums(measure, measure.stacked(()), (), (), np.zeros((5, measure.schema.dim)))

    def __add__(self, other: Sums) -> Sums:
        """The sums of both (errors as in `together`)."""
        return together([self, other])

    @property
    def who(self) -> tuple[str, ...]:
        """Whose errors were summed: the baselines, and `POLICY`."""
        return self.segments.who

    @property
    def episodes(self) -> tuple[int, ...]:
        """Indices of the episodes, in the order in which they were added."""
        return tuple(dict.fromkeys(self.segments.episode.tolist()))

    def by_episode(self, who: str, *, space: Space) -> ErrorSums:
        """Errors of each episode, stacked: what `paired_errors` compares.

        Args:
            who: `POLICY` or a baseline.
            space: ``native`` or ``normalized``.

        Returns:
            Sums of shape [G, S, A], and [G, S] counts, in the order of `episodes`.
        """
        place = {episode: g for g, episode in enumerate(self.episodes)}
        at = np.array([place[e] for e in self.segments.episode.tolist()], dtype=np.int64)
        sums = self.segments.errors_of(who, space)
        shape = (len(place), self.measure.n_steps, self.measure.schema.dim)
        stacked = ErrorSums(np.zeros(shape), np.zeros(shape), np.zeros(shape[:2]))
        np.add.at(stacked.absolute, at, sums.absolute)
        np.add.at(stacked.squared, at, sums.squared)
        np.add.at(stacked.count, at, sums.count)
        return stacked


@final
class Gathered:
    """The sums of parts as they come, without a copy of what is there.

    Args:
        measure: what they are sums of.
        room: episodes that are expected; any number may come.
    """

    def __init__(self, measure: Measure, room: int = 0) -> None:
        self._measure, self._who, self._seen = measure, tuple[str, ...](), set[int]()
        self._stacks = {name: Stack(room, axis) for name, axis in _STACKED.items()}
        self._tasks: list[str] = []
        self._lists: dict[str, list[Any]] = {"shapes": [], "samples": [], "meanings": []}
        self._in_range: FloatArray = np.zeros((5, measure.schema.dim))

    def add(self, part: Sums) -> None:
        """Add a part.

        Raises:
            InputError: it is of something different, or has an episode that is there.
        """
        found = self._measure.difference(part.measure)
        if found is None and part.who and self._who and part.who != self._who:
            found = f"{', '.join(self._who)} and {', '.join(part.who)}"
        twice = self._seen & set(part.episodes)
        if found is None and twice:
            found = f"episode {min(twice)} in both"
        if found is not None:
            raise InputError(
                "sums of two parts",
                expected="the same dims, units, statistics, horizon and baselines; others episodes",
                found=found,
                fix="score both parts with the same options, and each episode in one of them",
            )
        self._in_range = self._in_range + part.in_range
        if not len(part.segments):
            return
        self._who = part.who
        self._seen |= set(part.episodes)
        for name, stack in self._stacks.items():
            stack.add(getattr(part.segments, name))
        self._tasks += part.segments.task
        for name, known in self._lists.items():
            known += getattr(part, name)

    @property
    def sums(self) -> Sums:
        """Of all parts so far."""
        segments = self._measure.stacked(())
        if self._who:
            arrays = {name: stack.rows for name, stack in self._stacks.items()}
            segments = Segments(self._who, tuple(self._tasks), **arrays)
        lists = {name: tuple(known) for name, known in self._lists.items()}
        return Sums(self._measure, segments, in_range=self._in_range, **lists)


# each with the axis of its rows in memory: as `pack` stores them, so that it need not copy them
_STACKED = {"episode": 0, "n_frames": 0, "weight": 0, "errors": 2, "count": 0, "target": 1}


def together(parts: Sequence[Sums]) -> Sums:
    """The sums of all parts.

    Raises:
        InputError: they are sums of different things, or share an episode.
    """
    gathered = Gathered(parts[0].measure, sum(len(part.segments) for part in parts))
    for part in parts:
        gathered.add(part)
    return gathered.sums


def sums_of(measure: Measure, episode: ScoredEpisode) -> Sums:
    """Reduce one episode to its sums."""
    normalize = measure.normalizer().normalize
    predicted = [sample.values for sample in episode.predicted]
    layout = (episode.is_pad, episode.frame_index)
    within = in_range(predicted, episode.target.values, *layout, measure.stats)
    episode = _near(episode, measure.schema)
    whole = episode.with_executed()
    mean = measure.stats["mean"]
    segments = measure.stacked(
        [_segment(whole, task, normalize, mean) for task in dict.fromkeys(episode.tasks)]
    )
    samples: tuple[SampleSums, ...] = ()
    if len(episode.predicted) > 1:
        chunks = np.stack([normalize(p).values for p in episode.predicted])
        samples = (
            sample_sums(
                chunks[..., measure.included],
                normalize(episode.target).values[..., measure.included],
                episode.is_pad,
            ),
        )
    shapes = (_shape(measure, episode),)
    return Sums(measure, segments, shapes, samples, within, _meanings(measure, episode))


def windowed(measure: Measure, episode: ScoredEpisode, within: NDArray[np.bool_]) -> Sums:
    """The errors of one episode at some of its frames; of chunks, of the steps that fall on them.

    Args:
        measure: what to sum.
        episode: its predictions.
        within: [N] whether a frame of the demonstration counts.
    """
    at = episode.frame_index[:, None] + np.arange(measure.horizon)
    counts = within[np.minimum(at, len(within) - 1)]
    narrow = replace(_near(episode, measure.schema), is_pad=episode.is_pad | ~counts)
    whole, normalize = narrow.with_executed(), measure.normalizer().normalize
    tasks = np.array(episode.tasks)
    mean = measure.stats["mean"]
    some = [t for t in dict.fromkeys(episode.tasks) if not whole.is_pad[tasks == t].all()]
    inside = counts[:, 0]
    segments = [
        replace(_segment(whole, task, normalize, mean), n_frames=int(inside[tasks == task].sum()))
        for task in some
    ]
    return replace(Sums.nothing(measure), segments=measure.stacked(segments))


def _near(episode: ScoredEpisode, schema: ActionSchema) -> ScoredEpisode:
    """Angles that come round on the turn of the demonstration: from 359 to 1 it is 2 degrees."""
    if all(meaning.turn is None for meaning in schema.meanings):
        return episode

    def moved(chunks: NativeActions) -> NativeActions:
        target = episode.target.values[:, : chunks.values.shape[1]]
        return NativeActions(near(chunks.values, target, schema), chunks.units)

    return replace(
        episode,
        predicted=tuple(moved(p) for p in episode.predicted),
        baselines={name: moved(b) for name, b in episode.baselines.items()},
        executed=tuple(moved(e) for e in episode.executed),
    )


def _meanings(measure: Measure, episode: ScoredEpisode) -> tuple[MeaningSums, ...]:
    if not measure.schema.meanings:
        return ()
    who = {name: [b.values] for name, b in episode.baselines.items()}
    who[POLICY] = [p.values for p in episode.predicted]
    chunks = Chunks(
        who,
        episode.target.values,
        episode.is_pad,
        episode.frame_index,
        [e.values for e in episode.executed],
    )
    return (
        meaning_sums(
            chunks,
            measure.schema,
            stats=measure.stats,
            n_action_steps=measure.n_action_steps,
            fps=measure.fps,
        ),
    )


def _segment(
    episode: ScoredEpisode,
    task: str,
    normalize: Callable[[NativeActions], NormalizedActions],
    mean: FloatArray,
) -> Segment:
    at = np.array([t == task for t in episode.tasks])
    target, pad = _take(episode.target, at), episode.is_pad[at]
    baselines = {name: _take(b, at) for name, b in episode.baselines.items()}
    samples = [_take(p, at) for p in episode.predicted]
    scaled, w = normalize(target), episode.weight
    native = {name: error_sums(b, target, pad) for name, b in baselines.items()}
    normalized = {name: error_sums(normalize(b), scaled, pad) for name, b in baselines.items()}
    native[POLICY] = total([error_sums(p, target, pad) for p in samples]).mean_over(len(samples))
    ours = [error_sums(normalize(p), scaled, pad) for p in samples]
    normalized[POLICY] = total(ours).mean_over(len(samples))
    real = np.where(pad[..., None], 0.0, target.values - mean)
    first, second = real.sum(axis=0) * w, (real**2).sum(axis=0) * w
    native = {name: sums.times(w) for name, sums in native.items()}
    normalized = {name: sums.times(w) for name, sums in normalized.items()}
    return Segment(episode.index, task, int(at.sum()), native, normalized, first, second, weight=w)


def _shape(measure: Measure, episode: ScoredEpisode) -> EpisodeShape:
    delta = measure.moves

    def walk(values: FloatArray) -> FloatArray:
        return integrated(values, measure.schema, measure.action_kind)

    pair = (episode.predicted[0], episode.target)
    layout = (episode.is_pad, episode.frame_index, measure.n_action_steps)
    if measure.basis == "native":
        native = [NativeActions(walk(a.values), a.units) for a in pair]
        return episode_shape(native[0], native[1], *layout, seams=not delta)
    normalize = measure.normalizer().normalize
    root = np.sqrt(measure.included.sum())  # a norm grows with the number of dims
    moved = [
        NormalizedActions(walk(a.values)[..., measure.included] / root, a.stats_id)
        for a in map(normalize, pair)
    ]
    return episode_shape(moved[0], moved[1], *layout, seams=not delta)


def _take(actions: NativeActions, at: NDArray[np.bool_]) -> NativeActions:
    return NativeActions(actions.values[at], actions.units)
