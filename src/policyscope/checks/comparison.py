"""Runs against a base: comparable or not, what the numbers show, and what a gate makes of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Literal, final

import numpy as np

from policyscope.checks.comparable import UNKNOWN, Difference, differences, same_run
from policyscope.errors import UsageError
from policyscope.metrics.compared import (
    METRICS,
    SCOPES,
    ClosedLoopComparison,
    OfflineComparison,
    Outcome,
    compare_closed_loop,
    compare_offline,
)
from policyscope.metrics.gates import Condition
from policyscope.metrics.verdicts import (
    ALPHA,
    Decision,
    Margin,
    Test,
    Verdict,
    decide,
    holm,
    leading,
    not_comparable,
)
from policyscope.runs.content import Complete, OfflineRecord, RolloutRecord
from policyscope.runs.directory import RunDirectory
from policyscope.runs.episodes import episode_rows, rollout_rows

SUCCESS = "success"


class Exit(IntEnum):
    """What a comparison makes the command end with."""

    PASSED = 0
    FAILED = 1
    NOT_COMPARABLE = 2
    UNDECIDED = 3


@final
@dataclass(frozen=True)
class StoredRun:
    """A finished run on disk.

    Attributes:
        path: as it was given.
        record: its record.
        sha256: of its ``run.json``.
    """

    path: Path
    record: Complete
    sha256: str


@final
@dataclass(frozen=True)
class Limit:
    """A margin: how much worse still counts as no worse.

    Attributes:
        value: the limit.
        relative: whether it is a share of the base's number.
    """

    value: float
    relative: bool


@final
@dataclass(frozen=True)
class Compared:
    """One run against the base.

    Attributes:
        run: which.
        differences: what the two do not share.
        offline: the numbers of offline runs, or None.
        closed_loop: the numbers of closed-loop runs, or None.
        decision: what is known of it.
        gates: condition and whether it holds; None where it is open.
    """

    run: StoredRun
    differences: tuple[Difference, ...]
    offline: OfflineComparison | None
    closed_loop: ClosedLoopComparison | None
    decision: Decision
    gates: tuple[tuple[str, bool | None], ...] = ()


@final
@dataclass(frozen=True)
class Comparison:
    """Runs against a base.

    Attributes:
        base: what they are compared with.
        runs: each against it, in the order given.
        metric: the number that decides.
        margin: or None.
        leading: the runs (0 is the base) that cannot be told apart from the best; empty where
            there are only two.
        exit: what the gate makes of it; `Exit.PASSED` where none was asked for.
    """

    base: StoredRun
    runs: tuple[Compared, ...]
    metric: str
    margin: Limit | None
    leading: tuple[int, ...]
    exit: Exit


def compare(
    base: StoredRun,
    runs: Sequence[StoredRun],
    *,
    metric: str | None = None,
    margin: Limit | None = None,
    conditions: Sequence[Condition] = (),
    undecided: Literal["block", "pass"] = "block",
    alpha: float = ALPHA,
) -> Comparison:
    """Compare runs with a base.

    Args:
        base: run A.
        runs: runs B, C, …
        metric: the number that decides; None takes the default of the kind of runs.
        margin: how much worse still counts as no worse.
        conditions: of a gate; one that holds fails it.
        undecided: whether an open question fails the gate.
        alpha: error rate of all claims together.

    Raises:
        UsageError: a run against itself, or a metric or a condition that does not exist here.
        OutputError: episodes or seeds that one side lacks, or predictions that can't be read.
    """
    metric = metric or default_metric(base.record)
    _require_known(metric, base.record)
    for run in runs:
        _require_another(base, run)
    asked = _Asked(metric, _fewest_executed(base, runs))
    found = [_measured(base, run, asked) for run in runs]
    tests = [None if m is None else _test(m, metric) for m in found]
    adjusted = iter(holm([_p(t) for t in tests if t is not None]))
    strict = _stricter(base, runs, found, asked, alpha)
    compared = []
    for run, measured, tight, test in zip(runs, found, strict, tests, strict=True):
        told = differences(base.record, run.record)
        if measured is None or tight is None or test is None:
            compared.append(Compared(run, told, None, None, not_comparable()))
            continue
        p = next(adjusted)
        decision = decide(
            test,
            margin=None if margin is None else _margin(tight, metric, margin),
            adjusted_p=None if test.p is None else p,
            alpha=alpha,
        )
        gates = _gates(conditions, dict(_numbers(measured, base.record, run.record)))
        offline = measured if isinstance(measured, OfflineComparison) else None
        closed = measured if isinstance(measured, ClosedLoopComparison) else None
        compared.append(Compared(run, told, offline, closed, decision, gates))
    gated = margin is not None or bool(conditions)
    return Comparison(
        base,
        tuple(compared),
        metric,
        margin,
        _leading([base, *runs], tests, asked, alpha) if len(runs) > 1 else (),
        _exit(compared, margin is not None, gated, undecided),
    )


def default_metric(record: Complete) -> str:
    """The number that decides unless another is asked for."""
    if isinstance(record, RolloutRecord):
        return SUCCESS
    return "executed.mae" if len(set(record.actions.units)) == 1 else "executed.nmae"


def _require_known(metric: str, record: Complete) -> None:
    known = [f"{s}.{m}" for s in SCOPES for m in METRICS]
    if isinstance(record, RolloutRecord):
        known = [SUCCESS]
    elif len(set(record.actions.units)) > 1:
        known = [name for name in known if ".n" in name]
    if metric not in known:
        raise UsageError(
            "--metric",
            expected=f"one of {', '.join(known)}",
            found=metric,
            fix=f"--metric {default_metric(record)}",
        )


def _require_another(base: StoredRun, run: StoredRun) -> None:
    same_place = base.path.resolve() == run.path.resolve()
    if same_place or base.sha256 == run.sha256 or same_run(base.record, run.record):
        raise UsageError(
            f"policyscope compare {base.path} {run.path}",
            expected="two different runs",
            found="the same directory twice"
            if same_place
            else "the same policy with the same options twice",
            fix="name a run of another policy, or of the same one with another --seed",
        )


type _Measured = OfflineComparison | ClosedLoopComparison


@final
@dataclass(frozen=True)
class _Asked:
    """What is measured of every pair: the metric, and the steps of the scope ``executed``."""

    metric: str
    n_action_steps: int


def _fewest_executed(base: StoredRun, runs: Sequence[StoredRun]) -> int:
    """The executed steps that all comparable runs have, so that all are judged on the same."""
    known = [base.record] + [r.record for r in runs]
    kept = [r for r in known if not any(d.blocking for d in differences(base.record, r))]
    return min(record.policy.n_action_steps or 1 for record in kept)  # unknown in an imported run


def _measured(
    base: StoredRun, run: StoredRun, asked: _Asked, *, alpha: float = ALPHA
) -> _Measured | None:
    """The numbers of both; None where they answer different questions."""
    a, b = base.record, run.record
    if any(d.blocking for d in differences(a, b)):
        return None
    if isinstance(a, RolloutRecord) and isinstance(b, RolloutRecord):
        apart = all(d.what != "tasks" or UNKNOWN not in (d.base, d.run) for d in differences(a, b))
        sides = (_outcomes(side, by_task=apart) for side in (base, run))
        return compare_closed_loop(*sides, alpha=alpha)
    assert isinstance(a, OfflineRecord)
    assert isinstance(b, OfflineRecord)
    dims = a.dims("chunk")
    return compare_offline(
        RunDirectory(base.path).stored(),
        RunDirectory(run.path).stored(),
        names=a.actions.names,
        units=a.actions.units,
        std=np.array([row.std for row in dims]),
        varies=np.array([not row.excluded for row in dims]),
        n_action_steps=asked.n_action_steps,
        metric=asked.metric,
        tasks={row.episode_index: row.task for row in episode_rows(base.path, a)},
        alpha=alpha,
    )


def _stricter(
    base: StoredRun,
    runs: Sequence[StoredRun],
    found: Sequence[_Measured | None],
    asked: _Asked,
    alpha: float,
) -> list[_Measured | None]:
    """The same numbers with intervals so wide that the margins of several runs hold together."""
    level = alpha / max(1, len(runs))
    return [
        _measured(base, run, asked, alpha=level) if m is not None and len(runs) > 1 else m
        for run, m in zip(runs, found, strict=True)
    ]


def _outcomes(run: StoredRun, *, by_task: bool) -> list[Outcome]:
    """The episodes of a run; those of all tasks together where one side does not name its tasks.

    Raises:
        UsageError: some did not run.
    """
    assert isinstance(run.record, RolloutRecord)
    rows = rollout_rows(run.path, run.record)
    lost = [row for row in rows if row.success is None]
    if lost:
        raise UsageError(
            f"policyscope compare {run.path}",
            expected="episodes that all ran",
            found=f"{len(lost)} whose simulator failed (seed {lost[0].seed})",
            fix="run it again with --overwrite",
        )
    if run.record.success.stopped is not None:
        raise UsageError(
            f"policyscope compare {run.path}",
            expected="runs whose number of episodes was fixed beforehand",
            found=f"one that --until stopped after {len(rows)}, by its outcomes",
            fix="run it again without --until: the tests here hold for a fixed number",
        )
    mixed = not by_task and len({(row.task_group, row.task_id) for row in rows}) > 1
    return [
        Outcome(
            (row.task_group, row.task_id) if by_task else ("", 0),
            None if mixed else row.seed,
            bool(row.success),
            row.max_reward,
        )
        for row in rows
    ]


def _test(measured: _Measured, metric: str) -> Test:
    if isinstance(measured, ClosedLoopComparison):
        return measured.success.test
    row = measured.row(metric)
    assert row is not None, "the metric was checked"
    return row.paired.test()


def _p(test: Test) -> float:
    return 1.0 if test.p is None else test.p


def _margin(measured: _Measured, metric: str, limit: Limit) -> Margin:
    if isinstance(measured, ClosedLoopComparison):
        return measured.success.within(limit.value)
    row = measured.row(metric)
    assert row is not None, "the metric was checked"
    return row.paired.within(limit.value, relative=limit.relative)


def _leading(
    runs: Sequence[StoredRun], tests: Sequence[Test | None], asked: _Asked, alpha: float
) -> tuple[int, ...]:
    """The runs that cannot be told apart from the best, of all that are comparable."""
    kept = [0, *(i + 1 for i, test in enumerate(tests) if test is not None)]
    pairs: dict[tuple[int, int], Test] = {}
    for x, i in enumerate(kept):
        for y, j in enumerate(kept[x + 1 :], x + 1):
            if i == 0:
                test = tests[j - 1]
                assert test is not None
                pairs[x, y] = test
            elif (measured := _measured(runs[i], runs[j], asked)) is not None:
                pairs[x, y] = _test(measured, asked.metric)
    return tuple(kept[i] for i in leading(len(kept), pairs, alpha=alpha))


def _gates(
    conditions: Sequence[Condition], numbers: Mapping[str, float | None]
) -> tuple[tuple[str, bool | None], ...]:
    return tuple((c.text, c.holds(numbers)) for c in conditions)


def _numbers(measured: _Measured, a: Complete, b: Complete) -> Iterator[tuple[str, float | None]]:
    """Every number that a gate can name."""
    if isinstance(measured, ClosedLoopComparison):
        known = measured.success
        for prefix, rate in (("", known.b), ("base.", known.a)):
            yield f"{prefix}success", rate.rate
            yield f"{prefix}success.ci_low", rate.low
            yield f"{prefix}success.ci_high", rate.high
        yield "difference.success", known.value
        yield "difference.success.ci_low", known.low
        yield "difference.success.ci_high", known.high
        return
    for row in measured.of("scope"):
        cell = row.paired
        values: Mapping[str, object] = {
            row.name: cell.b,
            f"base.{row.name}": cell.a,
            f"ratio.{row.name}": cell.ratio,
            f"ratio.{row.name}.ci_low": cell.ratio_low,
            f"ratio.{row.name}.ci_high": cell.ratio_high,
            f"difference.{row.name}": cell.difference,
            f"difference.{row.name}.ci_low": cell.difference_low,
            f"difference.{row.name}.ci_high": cell.difference_high,
        }
        for name, value in values.items():
            number = float(value)  # type: ignore[arg-type]
            yield name, None if math.isnan(number) else number
        yield from _own_intervals(row.name, a, "base.", measured.n_action_steps)
        yield from _own_intervals(row.name, b, "", measured.n_action_steps)


def _own_intervals(
    name: str, record: Complete, prefix: str, n_action_steps: int
) -> Iterator[tuple[str, float | None]]:
    """Ends of a run's own interval, where its record is about the same steps."""
    assert isinstance(record, OfflineRecord)
    scope, metric = name.split(".")
    same = scope != "executed" or record.policy.executed == n_action_steps
    value = record.summary.of(scope).of(metric)  # type: ignore[arg-type]  # names were made here
    yield f"{prefix}{name}.ci_low", value.ci_low if same else None
    yield f"{prefix}{name}.ci_high", value.ci_high if same else None


def _exit(
    compared: Sequence[Compared],
    with_margin: bool,
    asked: bool,
    undecided: Literal["block", "pass"],
) -> Exit:
    if any(c.decision.verdict is Verdict.NOT_COMPARABLE for c in compared):
        return Exit.NOT_COMPARABLE
    if not asked:
        return Exit.PASSED
    held = [holds for c in compared for _, holds in c.gates]
    verdicts = [c.decision.verdict for c in compared] if with_margin else []
    if any(held) or Verdict.WORSE in verdicts:
        return Exit.FAILED
    if undecided == "block" and (None in held or Verdict.UNDECIDED in verdicts):
        return Exit.UNDECIDED
    return Exit.PASSED
