"""What may be said of a policy: which baselines it beats, and from which step on.

A claim is what an interval allows: better where the interval of the skill lies above 0. The
strongest baseline is the one with the least squared error, whatever the policy does, so that
choosing it favours nobody.

Where along the chunk the policy wins is read in an order that was fixed before: from step 1 on, as
far as each step is shown to be better; where step 1 is not, from the last step backwards. Stopping
at the first step that is not shown spends the error rate of one interval (2.5 % a side) on all
steps together; of two on both orders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from policyscope.runs.content import BlindScores, OfflineRecord
from policyscope.runs.parts import Metric
from policyscope.runs.rows import HorizonRow
from policyscope.runs.values import Scopes, Stand, Standing, Value

_WITHOUT_ACTION = ("ridge_state", "nearest_state")
_WITH_ACTION = ("ridge_state_action", "nearest_state_action")


def standing(record: OfflineRecord) -> Standing:
    """What the numbers of a run allow to say."""
    policy = record.policy
    itself = policy.type if policy.sha256 is None and policy.type in record.baselines else None
    order = _by_strength(record.baselines, record)
    rivals = [name for name in order if name != itself] or order
    first, last = _stretch([_wins(row, rivals) for row in record.by_horizon])
    return Standing(
        itself=itself,
        strongest=rivals[0],
        trivial={name: stand(record.skill[name].executed) for name in rivals},
        blind={} if record.blind is None else _blind(record.blind, record),
        better_from=first,
        better_to=last,
    )


def stand(skill: Value) -> Stand:
    """What one interval of skill allows to say."""
    if skill.value is None:
        return "undefined"
    if skill.ci_low is None or skill.ci_high is None:
        return "no_interval"
    if skill.ci_low > 0:
        return "better"
    return "worse" if skill.ci_high < 0 else "undecided"


def _by_strength(errors: Mapping[str, Scopes], record: OfflineRecord) -> list[str]:
    """Names by squared error on the executed steps, the least first."""
    metric: Metric = "mse" if record.basis == "native" else "nmse"
    return sorted(errors, key=lambda name: errors[name].executed.of(metric).value or 0.0)


def _blind(known: BlindScores, record: OfflineRecord) -> dict[str, Stand]:
    order = _by_strength(known.baselines, record)
    chosen = [next(n for n in order if n in some) for some in (_WITHOUT_ACTION, _WITH_ACTION)]
    return {name: stand(known.skill[name].executed) for name in chosen}


def _wins(row: HorizonRow, rivals: Iterable[str]) -> bool:
    """Whether a step is shown to be better than every trivial baseline."""
    lows = [row.ends(f"skill_{name}")[0] for name in rivals]
    return all(low is not None and low > 0 for low in lows)


def _stretch(wins: Sequence[bool]) -> tuple[int | None, int | None]:
    """First and last step of the stretch that is shown, counted from 1."""
    n = len(wins)
    if wins[0]:
        return 1, next((h for h, won in enumerate(wins) if not won), n)
    last = next((h for h, won in enumerate(reversed(wins)) if not won), n)
    return (n - last + 1, n) if last else (None, None)
