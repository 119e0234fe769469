"""What a sweep says, in words: the best number, and who is not told apart from it."""

from __future__ import annotations

from policyscope.runs.parts import Scope
from policyscope.runs.sweep import Best, SweepRecord, SweepRow
from policyscope.runs.values import Success, Value
from policyscope.views.language import Say, english
from policyscope.views.rollout.words import rate
from policyscope.views.words import interval, ratio, unit_name

MEASURES = {
    "executed.error": "Error of the executed steps",
    "executed.skill": "Skill of the executed steps",
    "chunk.error": "Error over the chunk",
    "chunk.skill": "Skill over the chunk",
    "step1.error": "Error of step 1",
    "step1.skill": "Skill of step 1",
    "success": "Success",
}

SAID = ("executed.error", "executed.skill", "chunk.error", "success")
"""Measures that have a sentence; of the others the tables tell."""

STATUS = {
    "complete": "all checkpoints that were found are done",
    "following": "waiting for further checkpoints",
    "interrupted": "stopped before its end: the same command goes on",
}


def label(row: SweepRow, say: Say = english) -> str:
    """What to call a checkpoint: its step, else its folder."""
    return row.name if row.step is None else say("step {n}", n=f"{row.step:,}")


def scope_names(record: SweepRecord, say: Say = english) -> dict[Scope, str]:
    """What to call the scopes."""
    return {
        "executed": say("executed ({n})", n=record.n_action_steps),
        "chunk": say("chunk ({n})", n=record.chunk_size),
        "step1": say("step 1"),
    }


def measured(row: SweepRow, measure: str) -> str:
    """A checkpoint's number by one measure, with its interval."""
    known = value_of(row, measure)
    if isinstance(known, Success):
        return rate(known)
    if known is None:
        return "–"
    return interval(known, ratio) if measure.endswith("skill") else interval(known)


def value_of(row: SweepRow, measure: str) -> Value | Success | None:
    """A checkpoint's number by one measure."""
    if measure == "success":
        return row.success
    scope, _, what = measure.partition(".")
    return (row.skill if what == "skill" else row.error).get(scope)  # type: ignore[call-overload, no-any-return]


def best_line(record: SweepRecord, best: Best, say: Say = english) -> str:
    """Which checkpoint has the best number, and which cannot be told apart from it."""
    rows = {row.name: row for row in record.checkpoints}
    n = sum(row.compared for row in record.checkpoints)
    unit = f" {unit_name(record.unit, say)}" if best.measure.endswith("error") else ""
    others = [label(rows[name], say) for name in best.alike if name != best.name]
    if n < 2:
        text = "{measure}: {value} at {best}, the only checkpoint with numbers."
    elif not best.able:
        text = (
            "{measure}: the best number is {value} at {best}; {episodes} episodes are too few to "
            "tell any two of {n} checkpoints apart."
        )
    elif not others:
        text = "{measure}: {best} is best with {value}; every other checkpoint is told apart."
    elif len(others) == n - 1:
        text = (
            "{measure}: the best number is {value} at {best}; no other checkpoint can be told "
            "apart from it."
        )
    else:
        text = (
            "{measure}: the best number is {value} at {best}; cannot be told apart from it: "
            "{others}."
        )
    return say(
        text,
        measure=say(MEASURES[best.measure]),
        value=f"{measured(rows[best.name], best.measure)}{unit}",
        best=label(rows[best.name], say),
        others=", ".join(others),
        episodes=best.n,
        n=n,
    )


def best_lines(record: SweepRecord, say: Say = english) -> list[str]:
    """A sentence for each of the main measures."""
    return [best_line(record, best, say) for best in record.best if best.measure in SAID]


def how_tested(record: SweepRecord, say: Say = english) -> str:
    """By which test checkpoints are told apart."""
    n = sum(row.compared for row in record.checkpoints)
    tests = list(dict.fromkeys(best.test for best in record.best if best.test))
    if not tests:
        return ""
    return say(
        "Told apart: every pair is tested on the same episodes ({tests}), {pairs} pairs at 5 % "
        "together (Holm); a checkpoint drops out where another beats it.",
        tests=", ".join(say(test) for test in tests),
        pairs=n * (n - 1) // 2,
    )


def why_apart(row: SweepRow, say: Say = english) -> str:
    """Why a checkpoint's numbers are missing, or stand beside the others without comparison."""
    if row.errors:
        return say("{codes}: these numbers may mean nothing", codes=", ".join(row.errors).upper())
    if row.status == "complete":
        return say("not compared: {why}", why=row.message) if row.message else ""
    return f"{say(row.status)}: {row.message}"
