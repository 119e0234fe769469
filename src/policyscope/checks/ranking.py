"""Many runs on the same frames or seeds: the best by each measure, and who is not told apart.

A smallest number among several is no finding: every pair is tested on the same episodes, all p
values are adjusted together, and only a run that another beats drops out (`verdicts.leading`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.checks.comparable import differences
from policyscope.metrics.packed import unpack
from policyscope.metrics.paired import paired_errors
from policyscope.metrics.proportions import Pairs, paired_rates
from policyscope.metrics.sums import POLICY, Sums
from policyscope.metrics.verdicts import ALPHA, Test, leading
from policyscope.runs.arrays import read_arrays
from policyscope.runs.content import Complete
from policyscope.runs.directory import SUMS
from policyscope.runs.parts import Scope
from policyscope.runs.rows import RolloutRow
from policyscope.runs.sweep import Best

_OFFLINE: tuple[tuple[Literal["executed", "chunk", "step1"], Literal["error", "skill"]], ...] = (
    ("executed", "error"),
    ("executed", "skill"),
    ("chunk", "error"),
    ("chunk", "skill"),
    ("step1", "error"),
    ("step1", "skill"),
)


def unlike(first: Complete, other: Complete) -> str:
    """Why a run's numbers answer another question than the first one's; "" where they do not."""
    found = next((d for d in differences(first, other) if d.blocking), None)
    return "" if found is None else f"{found.what} {found.run}; the first one has {found.base}"


def rank_offline(runs: Mapping[str, Path], *, normalized: bool) -> list[Best]:
    """The best of runs on the same frames, by error and by skill.

    On the same frames the baseline is the same, too: skill falls as the squared error rises, so
    that the test of the squared error is the test of the skill.

    Args:
        runs: name → directory of a complete run.
        normalized: whether errors are in units of the dataset's standard deviation.

    Raises:
        OutputError: sums that are missing or broken.
    """
    if not runs:
        return []
    sums = {name: unpack(*read_arrays(path / SUMS)) for name, path in runs.items()}
    found = []
    for scope, what in _OFFLINE:
        tables = {
            name: _by_episode(known, scope, squared=what == "skill", normalized=normalized)
            for name, known in sums.items()
        }

        def test(a: str, b: str, tables: Mapping[str, _Table] = tables) -> Test:
            return paired_errors(tables[a][0], tables[b][0], tables[a][1]).test()

        means = {name: float(s.sum() / n.sum()) for name, (s, n) in tables.items()}
        n = int((next(iter(tables.values()))[1] > 0).sum())
        best = min(means, key=lambda name: means[name])
        found.append(_best(f"{scope}.{what}", best, list(runs), test, n))
    return found


def rank_success(episodes: Mapping[str, Sequence[RolloutRow]]) -> list[Best]:
    """The best of closed-loop runs from the same seeds, by success.

    Args:
        episodes: name of a run → its episodes; those that a simulator lost anywhere are left out.
    """
    won = {
        name: {(r.task_group, r.task_id, r.seed): r.success for r in rows if r.success is not None}
        for name, rows in episodes.items()
    }
    shared = sorted(set.intersection(*(set(known) for known in won.values()))) if won else []
    if not shared:
        return []
    arrays = {name: np.array([bool(known[s]) for s in shared]) for name, known in won.items()}
    best = max(arrays, key=lambda name: int(arrays[name].sum()))
    return [
        _best(
            "success",
            best,
            list(arrays),
            lambda a, b: paired_rates(Pairs.of(arrays[a], arrays[b])).test,
            len(shared),
        )
    ]


type _Table = tuple[FloatArray, FloatArray]
"""[G] sums of errors, and [G] how many steps each is of."""


def _by_episode(sums: Sums, scope: Scope, *, squared: bool, normalized: bool) -> _Table:
    errors = sums.by_episode(POLICY, space="normalized" if normalized else "native")
    values = (errors.squared if squared else errors.absolute)[:, sums.measure.steps(scope)]
    dims = sums.measure.included if normalized else np.full(values.shape[-1], True)
    counts = errors.count[:, sums.measure.steps(scope)].sum(axis=1)
    return values[..., dims].mean(axis=-1).sum(axis=1), counts


def _best(
    measure: Any, best: str, names: Sequence[str], test: Callable[[str, str], Test], n: int
) -> Best:
    pairs = {(i, j): test(a, b) for (i, a), (j, b) in combinations(list(enumerate(names)), 2)}
    tests = list(pairs.values())
    alike = [names[i] for i in leading(len(names), pairs)]
    return Best(
        measure=measure,
        name=best,
        alike=alike,
        test=tests[0].name if tests else "",
        n=n,
        able=any(t.smallest_p * len(tests) <= ALPHA for t in tests),
    )
