"""Offline runs and rollouts of the same checkpoints, and whether they can be put into one study."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from policyscope.checks.comparable import UNKNOWN, said, tasks
from policyscope.errors import UsageError
from policyscope.runs.content import Complete, OfflineRecord, RolloutRecord

_KIND = re.compile(r"(?:^|(?<=[-_.]))(?:eval|offline|rollout|closed|loop)(?:[-_.]|$)")
_ONE_STUDY: tuple[tuple[str, Any], ...] = (
    ("dataset", lambda r: r.dataset.revision or r.dataset.repo_id),
    ("episodes", lambda r: tuple(r.dataset.episodes)),
    ("stride", lambda r: r.plan.stride),
    ("units of the action dims", lambda r: tuple(r.actions.units)),
)
_ONE_ENVIRONMENT: tuple[tuple[str, Any], ...] = (
    ("environment", lambda r: said(r, "environment", r.env.name)),
    ("tasks", lambda r: said(r, "tasks", tasks(r))),
    ("time limits", lambda r: said(r, "time limits", tuple(t.max_steps for t in r.env.tasks))),
    ("rule of success", lambda r: r.env.success),
)


@final
@dataclass(frozen=True)
class Run[R: (OfflineRecord, RolloutRecord)]:
    """A finished run on disk.

    Attributes:
        path: its directory.
        record: what it says.
    """

    path: Path
    record: R


@final
@dataclass(frozen=True)
class Pair:
    """One checkpoint with both kinds of runs.

    Attributes:
        name: what to call it.
        kind: its policy type.
        offline: on demonstrations.
        rollout: in closed loop.
        how: what says that both are of one checkpoint.
    """

    name: str
    kind: str
    offline: Run[OfflineRecord]
    rollout: Run[RolloutRecord]
    how: str


@final
@dataclass(frozen=True)
class Pairing:
    """Which runs belong together.

    Attributes:
        pairs: by name.
        alone: runs that nothing could be paired with, and why.
    """

    pairs: tuple[Pair, ...]
    alone: tuple[tuple[Path, str], ...]


def pair_runs(
    runs: Iterable[tuple[Path, Complete]], asked: Sequence[tuple[str, str]] = ()
) -> Pairing:
    """Put the runs of each checkpoint together: as asked, by their weights' hash, or by name.

    Names of directories are compared without the words eval, offline and rollout. A hash that both
    have overrules a name.

    Args:
        runs: paths and records.
        asked: names of directories, offline and rollout.

    Raises:
        UsageError: two runs of one kind of one checkpoint, or a pair that was asked for is not
            there.
    """
    listed = list(runs)
    offline = [Run(path, r) for path, r in listed if isinstance(r, OfflineRecord)]
    rollouts = [Run(path, r) for path, r in listed if isinstance(r, RolloutRecord)]
    pairs: list[Pair] = []
    for a, b in asked:
        first, second = _named(a, offline), _named(b, rollouts)
        pairs.append(_pair(first, second, "as asked"))
        offline.remove(first)
        rollouts.remove(second)
    for how, key in (("weights", _hash), ("name", _bare)):
        known = _each_once(rollouts, key)
        for name, run in _each_once(offline, key).items():
            other = known.get(name)
            if other is None or (how == "name" and _hash(run) and _hash(other)):
                continue
            pairs.append(_pair(run, other, how))
            offline.remove(run)
            rollouts.remove(other)
    alone = [(run.path, "no rollout of this checkpoint") for run in offline]
    alone += [(run.path, "no offline run of this checkpoint") for run in rollouts]
    pairs.sort(key=lambda pair: pair.name)
    _require_one_study(pairs)
    return Pairing(tuple(pairs), tuple(alone))


def _pair(offline: Run[OfflineRecord], rollout: Run[RolloutRecord], how: str) -> Pair:
    kind = offline.record.policy.type
    return Pair(_bare(offline) or offline.path.name, kind, offline, rollout, how)


def _hash(run: Run[Any]) -> str:
    return run.record.policy.sha256 or ""


def _bare(run: Run[Any]) -> str:
    """The name of a run's directory without the words for its kind."""
    return _KIND.sub("", run.path.resolve().name).strip("-_.")


def _named[R: (OfflineRecord, RolloutRecord)](name: str, runs: Sequence[Run[R]]) -> Run[R]:
    found = [run for run in runs if run.path.resolve().name == Path(name).name]
    if len(found) == 1:
        return found[0]
    raise UsageError(
        "--pairs",
        expected="names of directories, an offline run's and a rollout's, each once",
        found=f"{len(found)} of {name}",
        fix="--pairs eval_a=rollout_a",
    )


def _each_once[R: (OfflineRecord, RolloutRecord)](
    runs: Sequence[Run[R]], key: Any
) -> dict[str, Run[R]]:
    known: dict[str, Run[R]] = {}
    for run in runs:
        name = key(run)
        if not name:
            continue
        if name in known:
            raise UsageError(
                "policyscope correlate",
                expected=f"one {run.record.kind} run of each checkpoint",
                found=f"two: {known[name].path} and {run.path}",
                fix="leave one of them out",
            )
        known[name] = run
    return known


def _require_one_study(pairs: Sequence[Pair]) -> None:
    """Raise unless all offline runs saw the same frames, and all rollouts the same task.

    Chunks may differ in length and in executed steps: that is the policies' own.
    """
    for runs, checks in (
        ([p.offline for p in pairs], _ONE_STUDY),
        ([p.rollout for p in pairs], _ONE_ENVIRONMENT),
    ):
        for what, of in checks:
            for run in runs[1:]:
                first, other = of(runs[0].record), of(run.record)
                if first != other and UNKNOWN not in (first, other):
                    raise UsageError(
                        f"policyscope correlate {run.path}",
                        expected=f"the {what} of {runs[0].path} ({str(first)[:60]})",
                        found=str(other)[:60],
                        fix="evaluate all checkpoints alike, or leave that one out",
                    )
