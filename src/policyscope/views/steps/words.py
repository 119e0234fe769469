"""Success by steps of each chunk, in words."""

from __future__ import annotations

from policyscope.checks.steps import StepRow, StepSweep
from policyscope.views.language import Say, english
from policyscope.views.rollout.words import rate
from policyscope.views.words import between, number, who

VERDICTS = {
    "better": "more",
    "worse": "less",
    "no_worse": "not shown",
    "undecided": "not shown",
    "not_comparable": "not comparable",
}


def headline(swept: StepSweep, say: Say = english) -> str:
    """Where success is largest, and whether that is more than chance."""
    most = swept.most
    if not most:
        return say("The environment says nothing of success.")
    line = say(
        "Most success with {n} steps of each chunk: {rate}",
        n=", ".join(str(row.steps) for row in most),
        rate=rate(most[0].record.success, say),
    )
    told = (
        say(
            "Shown to differ from {base} steps: {steps}.",
            base=swept.base,
            steps=", ".join(str(row.steps) for row in swept.apart),
        )
        if swept.apart
        else say("None is shown to differ from {base} steps.", base=swept.base)
    )
    return f"{line}. {told}"


def subject(swept: StepSweep, say: Say = english) -> str:
    """Who played what."""
    record = swept.rows[0].record
    return say(
        "{policy} in {env}: {n} episodes with each number of steps",
        policy=who(record.policy),
        env=record.env.name,
        n=record.n_episodes,
    )


def cells(row: StepRow, say: Say = english) -> list[str]:
    """A row of the table: steps, success, reward, calls, difference, p, verdict."""
    content = row.to_json()
    calls = content["model_calls"]
    reward = row.record.closed_loop.max_reward
    shown = [
        str(row.steps),
        rate(row.record.success, say),
        between(reward.value, reward.ci_low, reward.ci_high),
        "–" if calls is None else f"{calls}",
    ]
    known = content.get("against_first")
    if known is None:
        return [*shown, "–", "–", "–"]
    points = [f"{100 * known[key]:+.0f}" for key in ("difference", "low", "high")]
    gap = f"{points[0]} [{points[1]}, {points[2]}]"
    return [*shown, gap, number(known["p_holm"], 2), say(VERDICTS[known["verdict"]])]


def titles(swept: StepSweep, say: Say = english) -> list[str]:
    """Of the columns of `cells`."""
    return [
        say("steps"),
        say("success"),
        say("max reward"),
        say("model calls"),
        say("points against {base} steps", base=swept.base),
        "p",
        say("shown"),
    ]


def how_tested(say: Say = english) -> str:
    """What the verdicts rest on."""
    return say(
        "All ran the same seeds. Differences are paired by seed, with 95 % intervals of each "
        "alone; p values are of exact McNemar tests, adjusted for all of them together (Holm)."
    )
