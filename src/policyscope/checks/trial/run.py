"""All looks at a dataset, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from policyscope.checks.dataset import check_dataset, check_demonstrations
from policyscope.checks.trial.clocks import (
    look_at_order,
    look_at_pictures,
    look_at_time,
    look_at_videos,
)
from policyscope.checks.trial.collection import (
    distances,
    look_at_copies,
    look_at_outliers,
    look_at_tasks,
)
from policyscope.checks.trial.looks import Look, Recordings, Trial
from policyscope.checks.trial.motion import (
    look_at_jumps,
    look_at_lag,
    look_at_limits,
    look_at_repeats,
    look_at_rest,
)
from policyscope.data.frames import Episode
from policyscope.data.source import FrameSource
from policyscope.errors import DatasetError, Finding, NonFiniteError

_OF_TIME = ("dataset_rate_contradicts", "dataset_frames_missing")
_OF_TASKS = ("dataset_tasks_contradict",)
_OF_COUNTS = ("dataset_counts_contradict",)
_MOST_NUMBERS = 40_000_000  # of the actions and states that are held in memory


def look(source: FrameSource, episodes: Sequence[int], action_kind: str) -> Trial:
    """Look at the demonstrations of a dataset.

    Args:
        source: the dataset.
        episodes: which of them.
        action_kind: ``absolute`` or ``delta``.

    Raises:
        DatasetError: a file is missing.
    """
    source.require(episodes)
    chosen = _spread(source, episodes)
    read, unread = _read(source, chosen)
    facts = source.facts
    told = check_dataset(facts, action_kind)
    if read:
        seen = {e.index: source.seen[e.index] for e in read}
        told += check_demonstrations(facts, seen)
    rest = [f for f in told if f.code not in (*_OF_TIME, *_OF_TASKS, *_OF_COUNTS)]
    looks = [
        _counts(source, chosen, _some(told, _OF_COUNTS)),
        _readable(len(chosen), unread),
        _statistics(source, rest),
    ]
    if not read:
        return Trial(source, None, tuple(looks))
    known = Recordings(source, tuple(read))
    jumps, of_actions = look_at_jumps(known)
    lag_look, lag = look_at_lag(known)
    apart, whose = distances(known)
    looks += [
        look_at_time(known, _some(told, _OF_TIME)),
        look_at_order(known),
        look_at_repeats(known),
        jumps,
        look_at_rest(known),
        look_at_limits(known),
        lag_look,
        look_at_copies(known, apart, whose),
        look_at_outliers(known, apart),
        _with(look_at_tasks(known), _some(told, _OF_TASKS)),
        look_at_videos(known),
        look_at_pictures(known),
    ]
    return Trial(source, known, tuple(looks), tuple(of_actions), lag, apart)


def _some(findings: Sequence[Finding], codes: tuple[str, ...]) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if finding.code in codes)


def _with(one: Look, findings: tuple[Finding, ...]) -> Look:
    return Look(one.title, one.said, one.values, (*findings, *one.findings), True, one.episodes)


def _spread(source: FrameSource, episodes: Sequence[int]) -> list[int]:
    """As many episodes as memory should hold, spread over all."""
    robot = source.facts.robot
    each = robot.actions.dim + len(robot.state_names)
    numbers = each * sum(source.facts.lengths[e] for e in episodes)
    stride = max(1, -(-numbers // _MOST_NUMBERS))
    return list(episodes[::stride])


def _read(
    source: FrameSource, episodes: Sequence[int]
) -> tuple[list[Episode], dict[int, DatasetError | NonFiniteError]]:
    read, unread = [], {}
    for index in episodes:
        try:
            read.append(source.episode(index))
        except (DatasetError, NonFiniteError) as error:
            unread[index] = error
    return read, unread


def _counts(source: FrameSource, chosen: Sequence[int], findings: tuple[Finding, ...]) -> Look:
    facts = source.facts
    return Look(
        "counts",
        "{looked} of {n} episodes looked at, {frames} frames in all",
        {"looked": len(chosen), "n": len(facts.lengths), "frames": sum(facts.lengths.values())},
        findings,
    )


def _readable(n: int, unread: dict[int, DatasetError | NonFiniteError]) -> Look:
    findings = []
    for kind, code in ((NonFiniteError, "not_finite"), (DatasetError, "episodes_unreadable")):
        errors = {e: error for e, error in unread.items() if isinstance(error, kind)}
        if errors:
            first = errors[min(errors)]
            more = f" {len(errors) - 1} more episodes have the like." if len(errors) > 1 else ""
            findings.append(
                Finding(
                    code,
                    "error",
                    f"{first.what}: expected {first.expected}; found {first.found}.{more}",
                    first.fix,
                )
            )
    return Look(
        "numbers",
        "{n} of {all} episodes can be read, their numbers finite",
        {"n": n - len(unread), "all": n},
        tuple(findings),
    )


def _statistics(source: FrameSource, findings: Sequence[Finding]) -> Look:
    return Look(
        "statistics",
        "mean, spread and range of {n} features against the frames; units",
        {"n": sum(key in source.facts.robot.stats for key in ("action", "observation.state"))},
        tuple(findings),
    )
