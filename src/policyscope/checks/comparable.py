"""Whether two runs answer the same question: what differs is named, never passed over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

from policyscope.runs.content import Complete, OfflineRecord, RolloutRecord

type _Of = Callable[[Any], Any]

UNKNOWN = "unknown"
"""What an imported run does not say: named as a difference, and no reason to refuse."""

_HEAD: tuple[tuple[str, _Of], ...] = (
    ("kind of run", lambda r: r.kind),
    ("control rate", lambda r: said(r, "control rate", r.dataset.fps)),
    ("names of the action dims", lambda r: said(r, "actions", tuple(r.actions.names))),
    ("units of the action dims", lambda r: said(r, "actions", tuple(r.actions.units))),
    ("kind of actions", lambda r: r.actions.kind),
)
_OFFLINE: tuple[tuple[str, _Of], ...] = (
    ("dataset revision", lambda r: r.dataset.revision or r.dataset.repo_id),
    ("episodes", lambda r: tuple(r.dataset.episodes)),
    ("number of frames", lambda r: r.dataset.n_frames),
    ("order of frames", lambda r: f"drawn by seed {r.plan.seed}" if r.plan.spread else "rising"),
    ("chunk length", lambda r: r.policy.chunk_size),
    ("stride", lambda r: r.plan.stride),
)
_ROLLOUT: tuple[tuple[str, _Of], ...] = (
    ("environment", lambda r: said(r, "environment", r.env.name)),
    ("environment settings", lambda r: said(r, "environment", r.env.settings)),
    ("tasks", lambda r: said(r, "tasks", tasks(r))),
    ("time limits", lambda r: said(r, "time limits", tuple(t.max_steps for t in r.env.tasks))),
    ("where episodes start", lambda r: r.env.init_from),
)
_SAID: tuple[tuple[str, _Of], ...] = (
    ("seed of the noise", lambda r: r.environment.seed),
    ("executed steps", lambda r: r.policy.n_action_steps),
    ("predictions a frame", lambda r: r.policy.samples),
    ("held out or not", lambda r: r.dataset.split),
    ("device", lambda r: r.environment.device),
    ("dtype", lambda r: r.environment.dtype),
    ("version of lerobot", lambda r: r.environment.versions.get("lerobot")),
)


def said(record: Complete, what: str, value: Any) -> Any:
    """A value of a record, or `UNKNOWN` where it was imported from something that has none."""
    made = record.imported if isinstance(record, RolloutRecord) else None
    return UNKNOWN if made is not None and what in made.unknown else value


def tasks(record: RolloutRecord) -> tuple[Any, ...]:
    """The tasks of a closed-loop run; recordings and tables of labels have texts, no suites."""
    texts = record.imported is not None and record.imported.form != "eval_info"
    return tuple(t.task if texts else (t.task_group, t.task_id) for t in record.env.tasks)


@final
@dataclass(frozen=True)
class Difference:
    """One thing that two runs do not share.

    Attributes:
        what: its name.
        base: what the base has.
        run: what the other run has.
        blocking: whether numbers of the two answer different questions.
    """

    what: str
    base: str
    run: str
    blocking: bool


def differences(base: Complete, run: Complete) -> tuple[Difference, ...]:
    """What two runs do not share, blocking differences first."""
    return (*_found(base, run, _blocking(base, run), True), *_found(base, run, _SAID, False))


def same_run(base: Complete, run: Complete) -> bool:
    """Whether both did the very same thing: same policy, same plan, same head."""
    if isinstance(base, RolloutRecord) and isinstance(run, RolloutRecord):
        a, b = base.imported, run.imported
        if a is not None or b is not None:
            return a is not None and b is not None and a.sha256 == b.sha256
    return base.kind == run.kind and base.plan == run.plan and base.policy == run.policy


def _blocking(base: Complete, run: Complete) -> tuple[tuple[str, _Of], ...]:
    if base.kind != run.kind:
        return _HEAD[:1]
    return (*_HEAD, *(_OFFLINE if isinstance(base, OfflineRecord) else _ROLLOUT))


def _found(
    base: Complete, run: Complete, checks: tuple[tuple[str, _Of], ...], blocking: bool
) -> Iterator[Difference]:
    for what, of in checks:
        a, b = of(base), of(run)
        if a != b or (blocking and UNKNOWN in (a, b)):
            yield Difference(what, *_shown(a, b), blocking and UNKNOWN not in (a, b))


def _shown(a: Any, b: Any) -> tuple[str, str]:
    """Both values as text, short, and cut where they begin to differ."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        only_a, only_b = ([x for x in one if x not in set(two)] for one, two in ((a, b), (b, a)))
        if only_a or only_b:
            return tuple(_listed(one, only) for one, only in ((a, only_a), (b, only_b)))  # type: ignore[return-value]
    return str(a)[:80], str(b)[:80]


def _listed(all_of_it: tuple[Any, ...], only: list[Any]) -> str:
    shown = ", ".join(map(str, only[:4])) + (", …" if len(only) > 4 else "")
    return f"{len(all_of_it)}" + (f" ({shown} only here)" if only else "")


__all__ = ["UNKNOWN", "Difference", "RolloutRecord", "differences", "said", "same_run", "tasks"]
