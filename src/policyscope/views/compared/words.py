"""What a comparison says, in words: the only place that words a verdict."""

from __future__ import annotations

import math

from policyscope.checks.comparable import UNKNOWN
from policyscope.checks.comparison import Compared, Comparison, Limit
from policyscope.metrics.paired import PairedErrors
from policyscope.metrics.proportions import RateDifference
from policyscope.metrics.verdicts import Decision, Verdict
from policyscope.views.language import Say, english
from policyscope.views.words import number, unit_name

NOTHING_SHOWN = "~"


def verdict_line(comparison: Comparison, compared: Compared, say: Say = english) -> str:
    """B is better, no worse, worse, or what is missing to say so: one sentence."""
    decision, run, base = compared.decision, name(compared.run.path), name(comparison.base.path)
    if decision.verdict is Verdict.BETTER:
        text = "{run} is better than {base}"
    elif decision.verdict is Verdict.NO_WORSE:
        text = "{run} is no worse than {base}, within {margin}"
    elif decision.verdict is Verdict.WORSE:
        text = "{run} is worse than {base}"
    elif decision.verdict is Verdict.NOT_COMPARABLE:
        text = "{run} and {base} are not comparable"
    else:
        text = "{run} against {base}: undecided"
    margin = "" if comparison.margin is None else margin_text(comparison.margin)
    return say(text, run=run, base=base, margin=margin)


def why(decision: Decision, say: Say = english) -> str:
    """What a verdict rests on."""
    test = say(decision.test.name) if decision.test else ""
    p = p_text(decision.p)
    if decision.reason == "rejected":
        return say("{test}: {p}", test=test, p=p)
    if decision.reason == "within_margin":
        return say("the interval lies within the margin; {test}: {p}", test=test, p=p)
    if decision.reason == "not_rejected":
        return say("no difference shown; {test}: {p}", test=test, p=p)
    if decision.reason == "could_not_reject":
        return say("so few episodes could not have shown any difference ({test})", test=test)
    if decision.reason == "no_test":
        return say("too few episodes for a test")
    return say("they answer different questions")


def numbers_line(comparison: Comparison, compared: Compared, say: Say = english) -> str:
    """The number that decides, of both, with what it rests on."""
    if compared.offline is not None:
        row = compared.offline.row(comparison.metric)
        assert row is not None, "the metric was checked"
        cell, unit = row.paired, unit_text(row.unit, say)
        return say(
            "{metric} {b} against {a} {unit}, {ratio}; less error on {k} of {n} episodes",
            metric=comparison.metric,
            b=number(float(cell.b)),
            a=number(float(cell.a)),
            unit=unit,
            ratio=ratio_text(cell, say),
            k=int(cell.n_b_better),
            n=int(cell.n_episodes),
        )
    if compared.closed_loop is not None:
        return success_line(compared.closed_loop.success, say)
    blocking = [d for d in compared.differences if d.blocking]
    return "; ".join(
        say("{what}: {base} against {run}", what=say(d.what), base=d.base, run=d.run)
        for d in blocking
    )


def success_line(known: RateDifference, say: Say = english) -> str:
    """Both success rates and their difference."""
    shared = (
        say("seeds that only one solves: {b} to {a}", b=known.pairs.only_b, a=known.pairs.only_a)
        if known.pairs
        else say("seeds of their own")
    )
    return say(
        "success {b} of {nb} against {a} of {na}, {gap} [{low}, {high}] points ({interval}); "
        "{shared}",
        b=known.b.k,
        nb=known.b.n,
        a=known.a.k,
        na=known.a.n,
        gap=f"{100 * known.value:+.0f}",
        low=f"{100 * known.low:+.0f}",
        high=f"{100 * known.high:+.0f}",
        interval=say(known.interval),
        shared=shared,
    )


def could_show(comparison: Comparison, compared: Compared, say: Say = english) -> str:
    """What difference so many episodes could have shown, by the test that was used."""
    if compared.offline is not None:
        row = compared.offline.row(comparison.metric)
        assert row is not None, "the metric was checked"
        ratio = row.paired.detectable()
        if ratio is None:
            return ""
        return say(
            "could have shown (power 80 %, {test}): an error {low} times as large, or {high} times",
            test=say("paired t over episodes"),
            low=f"{1 / ratio:.2f}",
            high=f"{ratio:.2f}",
        )
    if compared.closed_loop is None:
        return ""
    known = compared.closed_loop.detectable()
    low, high = (None if r is None else f"{100 * r:.0f}" for r in (known.lower, known.higher))
    if low is None and high is None:
        return say(
            "no rate could have been shown to differ (power 80 %, {test})", test=say(known.test)
        )
    if high is None:
        text = "could have shown (power 80 %, {test}): success of {low} % or less"
    elif low is None:
        text = "could have shown (power 80 %, {test}): success of {high} % or more"
    else:
        text = (
            "could have shown (power 80 %, {test}): success of {low} % or less, or of {high} % "
            "or more"
        )
    return say(text, test=say(known.test), low=low, high=high)


def reward_line(compared: Compared, say: Say = english) -> str:
    """B's mean max reward less A's, on shared seeds."""
    known = compared.closed_loop.reward if compared.closed_loop else None
    if known is None or known.value is None or known.low is None or known.high is None:
        return ""
    return say(
        "max reward {gap} [{low}, {high}] on the same seeds",
        gap=f"{known.value:+.2f}",
        low=f"{known.low:+.2f}",
        high=f"{known.high:+.2f}",
    )


def reasons(comparison: Comparison, compared: Compared, say: Say = english) -> list[str]:
    """What a verdict rests on, what it could have shown, and what the runs do not share."""
    lines = [
        why(compared.decision, say),
        reward_line(compared, say),
        could_show(comparison, compared, say),
        *said(compared, say),
    ]
    return [line for line in lines if line]


def ratio_text(cell: PairedErrors, say: Say = english) -> str:
    """B's error as a multiple of A's, with its interval where there is one."""
    if math.isnan(float(cell.ratio)):
        return say("no ratio")
    if math.isnan(float(cell.ratio_low)):
        return say("{ratio} times, no interval", ratio=f"{float(cell.ratio):.2f}")
    return say(
        "{ratio} times [{low}, {high}]",
        ratio=f"{float(cell.ratio):.2f}",
        low=f"{float(cell.ratio_low):.2f}",
        high=f"{float(cell.ratio_high):.2f}",
    )


def shown_ratio(cell: PairedErrors) -> str:
    """A ratio in a table: ``~`` where its interval holds 1, so that nothing is shown."""
    low, high = float(cell.ratio_low), float(cell.ratio_high)
    if math.isnan(low):
        return "–"
    if low <= 1 <= high:
        return NOTHING_SHOWN
    return f"{float(cell.ratio):.2f} [{low:.2f}, {high:.2f}]"


def shown_difference(cell: PairedErrors) -> str:
    """A difference in a table, with its interval; ``~`` where that holds 0."""
    low, high = float(cell.difference_low), float(cell.difference_high)
    if math.isnan(low):
        return "–"
    if low <= 0 <= high:
        return NOTHING_SHOWN
    return f"{float(cell.difference):+.3g} [{low:+.3g}, {high:+.3g}]"


def shown_points(known: RateDifference) -> str:
    """A difference of success rates in points; ``~`` where its interval holds 0."""
    low, high = 100 * known.low, 100 * known.high
    if low <= 0 <= high:
        return NOTHING_SHOWN
    return f"{100 * known.value:+.0f} [{low:+.0f}, {high:+.0f}]"


def unit_text(unit: str, say: Say = english) -> str:
    """A unit, or the square of one."""
    plain = unit.removesuffix("²")
    return unit_name(plain, say) + unit[len(plain) :]


def said(compared: Compared, say: Say = english) -> list[str]:
    """What the runs do not share and may differ in all the same."""
    told = [d for d in compared.differences if not d.blocking]
    unknown = [say(d.what) for d in told if d.base == d.run == UNKNOWN]
    lines = [
        say("{what}: {base} against {run}", what=say(d.what), base=d.base, run=d.run)
        for d in told
        if not d.base == d.run == UNKNOWN
    ]
    return lines + [say("unknown of both: {what}", what=", ".join(unknown))] * bool(unknown)


def gate_line(text: str, holds: bool | None, say: Say = english) -> str:
    """One condition of a gate."""
    if holds is None:
        return say("open: {condition} (a number that it needs is undefined)", condition=text)
    return (
        say("failed: {condition}", condition=text)
        if holds
        else say("passed: not {condition}", condition=text)
    )


def leading_line(comparison: Comparison, say: Say = english) -> str | None:
    """The runs that cannot be told apart from the best one."""
    if not comparison.leading:
        return None
    paths = [comparison.base.path, *(c.run.path for c in comparison.runs)]
    names = ", ".join(name(paths[i]) for i in comparison.leading)
    if len(comparison.leading) == 1:
        return say("The best of them: {names}", names=names)
    return say("Not to be told apart from the best: {names}", names=names)


def margin_text(margin: Limit) -> str:
    """A margin as it was given."""
    return f"{100 * margin.value:g} %" if margin.relative else f"{margin.value:g}"


def p_text(p: float | None) -> str:
    """A p value; never zero."""
    if p is None:
        return "p –"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def name(path: object) -> str:
    """What a run is called: the end of its path."""
    parts = str(path).rstrip("/").split("/")
    return "/".join(parts[-2:]) if len(parts) > 1 and len(parts[-1]) < 6 else parts[-1]
