"""Two runs on the same frames or seeds: every number of one beside that of the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.meanings import one_unit
from policyscope.actions.spaces import FloatArray
from policyscope.errors import OutputError
from policyscope.metrics.bounded import bounded_mean
from policyscope.metrics.intervals import Estimate
from policyscope.metrics.paired import PairedErrors, paired_errors
from policyscope.metrics.power import Detectable, detectable, detectable_paired
from policyscope.metrics.proportions import Pairs, RateDifference, paired_rates, unpaired_rates
from policyscope.metrics.verdicts import ALPHA
from policyscope.runs.predictions import StoredEpisode

SCOPES: tuple[Literal["step1", "chunk", "executed"], ...] = ("step1", "chunk", "executed")
METRICS: tuple[Literal["mae", "mse", "nmae", "nmse"], ...] = ("mae", "mse", "nmae", "nmse")

Table = Literal["scope", "horizon", "dim", "task", "episode"]


@final
@dataclass(frozen=True)
class Row:
    """One number of run B beside that of run A.

    Attributes:
        table: which table it stands in.
        name: ``executed.mae``; ``chunk.mae`` of a dim; ``mae`` of a horizon step.
        label: the dim, horizon step, task or episode, else "".
        unit: native, or ``std``; of squared errors its square.
        paired: both numbers, ratio, difference, intervals and p value; arrays of shape [].
    """

    table: Table
    name: str
    label: str
    unit: str
    paired: PairedErrors


@final
@dataclass(frozen=True)
class OfflineComparison:
    """Run B against run A on the same frames.

    Attributes:
        rows: of every table.
        n_action_steps: of the scope ``executed``: the smaller of the two.
    """

    rows: tuple[Row, ...]
    n_action_steps: int

    def row(self, name: str) -> Row | None:
        """The row of all dims and steps of a scope, by name."""
        return next((r for r in self.rows if r.table == "scope" and r.name == name), None)

    def of(self, table: Table) -> list[Row]:
        """The rows of one table."""
        return [row for row in self.rows if row.table == table]


@final
@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums of one episode: [2, D] by metric kind (absolute, squared) for each table."""

    scope: FloatArray  # [S, 2, A]
    horizon: FloatArray  # [H, 2, A]
    counts: FloatArray  # [H] unpadded frames at each step


def compare_offline(
    base: Iterable[StoredEpisode],
    run: Iterable[StoredEpisode],
    *,
    names: Sequence[str],
    units: Sequence[str],
    std: FloatArray,
    varies: NDArray[np.bool_],
    n_action_steps: int,
    metric: str = "",
    tasks: Mapping[int, str] | None = None,
    alpha: float = ALPHA,
) -> OfflineComparison:
    """Paired errors of two runs, read episode by episode.

    Args:
        base: run A's predictions.
        run: run B's, of the same episodes in the same order.
        names: of the compared dims.
        units: of the compared dims.
        std: [A] the dataset's standard deviations.
        varies: [A] dims that have normalized errors.
        n_action_steps: steps of the scope ``executed``.
        metric: ``executed.mae``, …: the one that is also given by task and by episode.
        tasks: of each episode; where there are several they are compared one by one.
        alpha: one minus the level of the intervals.

    Raises:
        OutputError: the runs do not hold the same frames with the same demonstrations.
    """
    episodes, theirs, ours = _read(base, run, n_action_steps)
    tables: list[Row] = []
    counts = np.stack([s.counts for s in ours])  # [G, H]
    scopes = _scope_steps(counts.shape[1], n_action_steps)
    per_scope = np.stack([counts[:, steps].sum(axis=1) for steps in scopes], axis=1)  # [G, S]

    def add(
        table: Table, of: Literal["scope", "horizon"], things: FloatArray, labels: Sequence[str]
    ) -> None:
        for name in _meaning(units, varies):
            sums = [_weighed(side, of, name, std, varies) for side in (theirs, ours)]
            paired = paired_errors(sums[0], sums[1], things, alpha=alpha)
            for i, label in enumerate(labels):
                full = f"{label}.{name}" if table == "scope" else name
                shown = "" if table == "scope" else label
                tables.append(Row(table, full, shown, _unit(name, units), _cell(paired, i)))
            if table == "scope" and (metric.partition(".")[2] == name):
                at = labels.index(metric.partition(".")[0])
                chosen = (sums[0][:, at], sums[1][:, at], things[:, at])
                tables.extend(_by_group(metric, _unit(name, units), chosen, episodes, tasks, alpha))

    add("scope", "scope", per_scope, SCOPES)
    add("horizon", "horizon", counts, [str(h + 1) for h in range(counts.shape[1])])
    chunk_a, chunk_b = (np.stack([s.scope[1, 0] for s in side]) for side in (theirs, ours))
    paired = paired_errors(chunk_a, chunk_b, per_scope[:, 1], alpha=alpha)
    tables += [
        Row("dim", "chunk.mae", name, unit, _cell(paired, d))
        for d, (name, unit) in enumerate(zip(names, units, strict=True))
    ]
    return OfflineComparison(tuple(tables), n_action_steps)


def _read(
    base: Iterable[StoredEpisode], run: Iterable[StoredEpisode], n_action_steps: int
) -> tuple[list[int], list[_Sums], list[_Sums]]:
    """Episodes, and the sums of A and of B on each."""
    episodes: list[int] = []
    theirs: list[_Sums] = []
    ours: list[_Sums] = []
    for a, b in _together(base, run):
        episodes.append(a.index)
        theirs.append(_sums(a, n_action_steps))
        ours.append(_sums(b, n_action_steps))
    return episodes, theirs, ours


def _weighed(
    side: Sequence[_Sums],
    of: Literal["scope", "horizon"],
    metric: str,
    std: FloatArray,
    varies: NDArray[np.bool_],
) -> FloatArray:
    """[G, S or H] sums of one metric, a mean over dims."""
    kind = 0 if metric.endswith("mae") else 1
    sums: FloatArray = np.stack([getattr(s, of) for s in side])[:, :, kind]
    weighed: FloatArray = sums @ _weights(metric, std, varies)
    return weighed


def _unit(metric: str, units: Sequence[str]) -> str:
    return ("std" if metric.startswith("n") else units[0]) + ("²" if metric.endswith("mse") else "")


def _by_group(
    metric: str,
    unit: str,
    sums: tuple[FloatArray, FloatArray, FloatArray],
    episodes: Sequence[int],
    tasks: Mapping[int, str] | None,
    alpha: float,
) -> Iterator[Row]:
    """One metric by task, where there are several, and by episode (which has no interval)."""
    names = np.array([(tasks or {}).get(e, "") for e in episodes])
    several = sorted(set(names)) if len(set(names)) > 1 else []
    for task in several:
        a, b, count = (x[names == task, None] for x in sums)
        yield Row("task", metric, task, unit, _cell(paired_errors(a, b, count, alpha=alpha), 0))
    a, b, count = (x[None] for x in sums)
    each = paired_errors(a, b, count, alpha=alpha)
    for i, episode in enumerate(episodes):
        yield Row("episode", metric, str(episode), unit, _cell(each, i))


def _meaning(
    units: Sequence[str], varies: NDArray[np.bool_]
) -> list[Literal["mae", "mse", "nmae", "nmse"]]:
    """Metrics that mean something: native ones of one unit, normalized ones of dims that vary."""
    native, normalized = one_unit(units) is not None, bool(varies.any())
    return [m for m in METRICS if (normalized if m.startswith("n") else native)]


def _together(
    base: Iterable[StoredEpisode], run: Iterable[StoredEpisode]
) -> Iterator[tuple[StoredEpisode, StoredEpisode]]:
    for a, b in zip_longest(base, run):
        if a is None or b is None or a.index != b.index:
            raise _other_frames(f"episode {(a or b).index} in one of them alone")
        if not np.array_equal(a.frame_index, b.frame_index):
            raise _other_frames(f"other frames of episode {a.index}")
        if a.target.values.shape != b.target.values.shape or not (
            np.array_equal(a.is_pad, b.is_pad)
            and np.array_equal(a.target.values[~a.is_pad], b.target.values[~b.is_pad])
        ):
            raise _other_frames(f"another demonstration of episode {a.index}")
        yield a, b


def _other_frames(found: str) -> OutputError:
    return OutputError(
        "policyscope compare",
        expected="two runs on the same frames with the same demonstrations",
        found=found,
        fix="evaluate both on the same dataset, episodes and stride",
    )


def _scope_steps(horizon: int, n_action_steps: int) -> tuple[slice, slice, slice]:
    return slice(0, 1), slice(0, horizon), slice(0, n_action_steps)


def _sums(episode: StoredEpisode, n_action_steps: int) -> _Sums:
    """Errors of an episode, the mean over samples where there are several."""
    real = ~episode.is_pad
    horizon, dim = episode.target.values.shape[1:]
    by_step = np.zeros((horizon, 2, dim))
    for predicted in episode.predicted:
        error = np.where(real[..., None], predicted.values - episode.target.values, 0.0)
        by_step[:, 0] += np.abs(error).sum(axis=0)
        by_step[:, 1] += (error**2).sum(axis=0)
    by_step /= len(episode.predicted)
    scopes = _scope_steps(horizon, n_action_steps)
    return _Sums(
        scope=np.stack([by_step[steps].sum(axis=0) for steps in scopes]),
        horizon=by_step,
        counts=real.sum(axis=0).astype(np.float64),
    )


def _weights(metric: str, std: FloatArray, varies: NDArray[np.bool_]) -> FloatArray:
    """[A] what turns sums by dim into a mean over dims."""
    if not metric.startswith("n"):
        return np.full(len(std), 1 / len(std))
    scale = np.where(varies, std, np.inf)
    power = 1 if metric == "nmae" else 2
    weights: FloatArray = 1 / scale**power / varies.sum()
    return weights


def _cell(paired: PairedErrors, at: int) -> PairedErrors:
    """One cell of a table."""
    cell: dict[str, Any] = {
        k: np.asarray(v[at]) for k, v in vars(paired).items() if isinstance(v, np.ndarray)
    }
    return replace(paired, **cell)


@final
@dataclass(frozen=True)
class Outcome:
    """One episode of a closed-loop run.

    Attributes:
        task: its suite, number and text.
        seed: of the environment; None where nobody noted it.
        success: whether it succeeded.
        max_reward: the highest reward, or None.
    """

    task: tuple[str, int]
    seed: int | None
    success: bool
    max_reward: float | None


@final
@dataclass(frozen=True)
class ClosedLoopComparison:
    """Run B against run A in the same environment.

    Attributes:
        success: both rates, their difference, its interval and test.
        by_task: the same for each task; empty where there is one.
        reward: B's mean max reward less A's, with its interval (bounded to [-1, 1]) where both
            ran the same seeds and rewards lie in [0, 1]; else None.
        n_b_better: seeds on which B alone succeeded.
        n_a_better: seeds on which A alone succeeded.
        episodes: outcomes of A and of B on each seed that both ran; empty where none is shared.
    """

    success: RateDifference
    by_task: tuple[tuple[str, RateDifference], ...]
    reward: Estimate | None
    n_b_better: int | None
    n_a_better: int | None
    episodes: tuple[tuple[Outcome, Outcome], ...] = ()

    def detectable(self) -> Detectable:
        """The rates of B that so many episodes would have told apart from A's, by this test."""
        a, b, pairs = self.success.a, self.success.b, self.success.pairs
        assert a.rate is not None, "of one episode at least"
        if pairs is None:
            return detectable(a.rate, a.n, b.n)
        return detectable_paired(a.rate, pairs.n, pairs.correlation)


def compare_closed_loop(
    base: Sequence[Outcome], run: Sequence[Outcome], *, alpha: float = ALPHA
) -> ClosedLoopComparison:
    """Compare success: by seed where both ran the same seeds, else as two independent runs.

    Raises:
        OutputError: one run lacks some of the other's seeds: a comparison on the rest would
            compare what is left, not what was asked.
    """
    a, b = _keyed(base, -1), _keyed(run, -2)
    shared = a.keys() & b.keys()
    if shared and a.keys() != b.keys():
        lacking = sorted(a.keys() ^ b.keys())[0]
        raise OutputError(
            "policyscope compare",
            expected="the same seeds in both runs, or none in common",
            found=f"{len(shared)} shared, {len(a.keys() ^ b.keys())} in one alone (seed "
            f"{lacking[1]} of {lacking[0][0]})",
            fix="run both with the same --seed and --n_episodes",
        )
    tasks = sorted({o.task for o in base})
    by_task = [
        (f"{task[0]}/{task[1]}", _rates(a, b, [task], bool(shared), alpha)) for task in tasks
    ]
    success = _rates(a, b, tasks, bool(shared), alpha)
    pairs = success.pairs
    return ClosedLoopComparison(
        success=success,
        by_task=tuple(by_task) if len(tasks) > 1 else (),
        reward=_reward(a, b, alpha) if shared else None,
        n_b_better=pairs.only_b if pairs else None,
        n_a_better=pairs.only_a if pairs else None,
        episodes=tuple((a[key], b[key]) for key in a) if shared else (),
    )


type _Outcomes = dict[tuple[tuple[str, int], int], Outcome]


def _keyed(side: Sequence[Outcome], first: int) -> _Outcomes:
    """Episodes by task and seed; by numbers that no seed is where one has none."""
    if any(o.seed is None for o in side):
        return {(o.task, first - 2 * i): o for i, o in enumerate(side)}
    return {(o.task, o.seed): o for o in side if o.seed is not None}


def _rates(
    a: _Outcomes, b: _Outcomes, tasks: Sequence[tuple[str, int]], paired: bool, alpha: float
) -> RateDifference:
    chosen = [key for key in a if key[0] in tasks]
    of_a = np.array([a[key].success for key in chosen], dtype=bool)
    if paired:
        of_b = np.array([b[key].success for key in chosen], dtype=bool)
        return paired_rates(Pairs.of(of_a, of_b), alpha=alpha)
    of_b = np.array([o.success for key, o in b.items() if key[0] in tasks], dtype=bool)
    return unpaired_rates(int(of_a.sum()), len(of_a), int(of_b.sum()), len(of_b), alpha=alpha)


def _reward(a: _Outcomes, b: _Outcomes, alpha: float) -> Estimate | None:
    known = [(a[key].max_reward, b[key].max_reward) for key in a]
    if any(x is None or y is None for x, y in known):
        return None
    values = np.array(known, dtype=np.float64)
    if values.min() < 0 or values.max() > 1:
        return None
    gap = values[:, 1] - values[:, 0]
    return bounded_mean(gap.tolist(), low=-1.0, high=1.0, alpha=alpha)
