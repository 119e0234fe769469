"""What is said of a policy, and nothing that `metrics.standing` does not allow: the one place."""

from __future__ import annotations

from functools import reduce

from policyscope.metrics.standing import standing
from policyscope.runs.content import BlindScores, OfflineRecord
from policyscope.runs.values import Stand, Standing
from policyscope.views.language import Say, english
from policyscope.views.offline.words import BASELINE_NAMES, error_metric
from policyscope.views.words import interval, ratio, unit_name

BLIND_NAMES = {
    "ridge_state": "ridge regression on the state",
    "ridge_state_action": "ridge regression on state and previous action",
    "nearest_state": "the nearest frame by state",
    "nearest_state_action": "the nearest frame by state and previous action",
}


def main_baseline(record: OfflineRecord) -> str:
    """The baseline that tables lead with: the strongest trivial one on the executed steps."""
    return standing(record).strongest


def rivals(record: OfflineRecord) -> list[str]:
    """The trivial baselines that the policy is compared with: never itself."""
    itself = standing(record).itself
    return [name for name in record.baselines if name != itself]


def headline(record: OfflineRecord, say: Say = english) -> str:
    """Is this policy better than the best that needs no learning, how sure: one sentence."""
    if _replays(record):
        return say("Replay is the demonstration itself: {error}", error=_error(record, say))
    known = standing(record)
    if known.itself is not None:
        return _itself(record, known, say)
    gain = record.skill[known.strongest].executed
    words = {"against": say(BASELINE_NAMES[known.strongest]), "shown": interval(gain, ratio)}
    match known.trivial[known.strongest]:
        case "better":
            return say("Better than “{against}” on the executed steps: skill {shown}", **words)
        case "worse":
            return say("Worse than “{against}” on the executed steps: skill {shown}", **words)
        case "undecided":
            return say(
                "Not shown to be better than “{against}” on the executed steps: skill {shown}",
                **words,
            )
        case "no_interval":
            return say(
                "Skill {shown} against “{against}” on the executed steps: without an interval, "
                "nothing is shown",
                **words,
            )
        case "undefined":
            return say(
                "“{against}” makes no error on the executed steps: skill is undefined", **words
            )


def _itself(record: OfflineRecord, known: Standing, say: Say) -> str:
    """Of a trivial baseline: never praised against a weaker one, nor judged against itself."""
    name, error = say(BASELINE_NAMES[known.itself or ""]), _error(record, say)
    gain = record.skill[known.strongest].executed
    if gain.value is not None and gain.value < 0:
        return say(
            "“{name}” is no policy but a trivial baseline, and not the strongest here: {error}; "
            "skill {shown} against “{against}”",
            name=name,
            error=error,
            shown=interval(gain, ratio),
            against=say(BASELINE_NAMES[known.strongest]),
        )
    return say(
        "“{name}” is no policy but a trivial baseline, the strongest here: {error}",
        name=name,
        error=error,
    )


def _error(record: OfflineRecord, say: Say) -> str:
    metric, unit = error_metric(record)
    return say(
        "MAE {shown} {unit} on the executed steps",
        shown=interval(record.summary.executed.of(metric)),
        unit=unit_name(unit, say),
    )


def claims(record: OfflineRecord, say: Say = english) -> list[str]:
    """What it beats and what not, from which step on, and whether that takes looking."""
    known = standing(record)
    if known.itself is not None or _replays(record):
        return []
    lines = [_trivial(known, say)]
    if record.policy.chunk > 1 and "no_interval" not in known.trivial.values():
        lines.append(_along(known, record.policy.chunk, say))
    if record.blind is None:
        lines.append(say("Whether it beats a baseline that sees no picture was not measured."))
    else:
        lines += [_blind(name, stand, record.blind, say) for name, stand in known.blind.items()]
    return lines


def _replays(record: OfflineRecord) -> bool:
    return record.policy.sha256 is None and record.policy.type == "replay"


def _trivial(known: Standing, say: Say) -> str:
    """Verdicts against all of them, the strongest first."""
    parts = []
    for stand in dict.fromkeys(known.trivial.values()):
        named = [
            say("“{name}”", name=say(BASELINE_NAMES[name]))
            for name, s in known.trivial.items()
            if s == stand
        ]
        parts.append(_against(stand, reduce(lambda a, b: say("{a}, {b}", a=a, b=b), named), say))
    text = reduce(lambda a, b: say("{a}; {b}", a=a, b=b), parts)
    return say("Executed steps, the strongest trivial baseline first: {parts}.", parts=text)


def _against(stand: Stand, names: str, say: Say) -> str:
    match stand:
        case "better":
            return say("better than {names}", names=names)
        case "worse":
            return say("worse than {names}", names=names)
        case "undecided":
            return say("not shown to be better than {names}", names=names)
        case "no_interval":
            return say("nothing shown against {names}", names=names)
        case "undefined":
            return say("no skill against {names}, without error there", names=names)


def _along(known: Standing, n: int, say: Say) -> str:
    first, last = known.better_from, known.better_to
    if first is None or last is None:
        return say(
            "At step 1 it is not shown to be better than every trivial baseline, nor from any "
            "later step to the end of the chunk."
        )
    if (first, last) == (1, n):
        return say("Better than every trivial baseline at every step of the chunk.")
    if first == 1:
        return say(
            "Better than every trivial baseline from step 1 to {last} of {n}; not shown after it.",
            last=last,
            n=n,
        )
    return say(
        "Better than every trivial baseline from step {first} of {n} on; not shown before it.",
        first=first,
        n=n,
    )


def _blind(name: str, stand: Stand, known: BlindScores, say: Say) -> str:
    """Against a baseline that learns and sees no picture: the claim that looking must earn."""
    told = name.endswith("action")
    shown = interval(known.skill[name].executed, ratio)
    words = {"name": say(BLIND_NAMES[name]), "shown": shown, "how": _learnt(known, say)}
    match stand, told:
        case "better", False:
            return say("Better than blind: executed skill {shown} against {name} ({how}).", **words)
        case "worse", False:
            return say("Worse than blind: executed skill {shown} against {name} ({how}).", **words)
        case "undecided", False:
            return say(
                "Not shown to be better than blind: executed skill {shown} against {name} ({how}).",
                **words,
            )
        case "better", True:
            return say(
                "Better even than blind with the demonstrator's previous action: {shown} against "
                "{name}.",
                **words,
            )
        case "worse", True:
            return say(
                "Worse than blind with the demonstrator's previous action, which no policy gets: "
                "{shown} against {name}.",
                **words,
            )
        case "undecided", True:
            return say(
                "Not shown to be better than blind with the demonstrator's previous action, which "
                "no policy gets: {shown} against {name}.",
                **words,
            )
        case _:
            return say(
                "Nothing is shown against blind: executed skill {shown} against {name}.", **words
            )


def _learnt(known: BlindScores, say: Say) -> str:
    if known.learnt_on == "training":
        return say("fitted on {n} training episodes", n=known.n_episodes)
    return say("each of {n} episodes predicted from the others", n=known.n_episodes)


def sight_note(say: Say = english) -> str:
    """What must stand beside the baselines."""
    return say(
        "“{name}” sees the demonstrator's recorded action of the frame before, which no policy "
        "gets.",
        name=say(BASELINE_NAMES["repeat_last"]),
    )
