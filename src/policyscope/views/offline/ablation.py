"""What each input is worth, in words and as a table."""

from __future__ import annotations

from rich.console import Group
from rich.text import Text

from policyscope.runs.values import AblatedInput, Ablation
from policyscope.views.console import plain_table
from policyscope.views.language import Say, english
from policyscope.views.words import interval, ratio


def ablation_note(known: Ablation, say: Say = english) -> str:
    """How it was measured, and the error that the rest is compared with."""
    return say(
        "{frames} frames of {n} episodes, asked again with one input taken from another episode, "
        "under the same noise. Error with their own inputs: {error} std. Ignored means that the "
        "prediction changes by less than {limit} std, interval included.",
        frames=known.n_frames,
        n=known.n_episodes,
        error=interval(known.error),
        limit=f"{known.ignored_below:g}",
    )


def ablation_rows(known: Ablation, say: Say = english) -> list[tuple[str, str, str, str]]:
    """For each input: its name, what follows in words, the change of the prediction in std, the
    ratio of errors."""
    return [
        (_name(row, say), _said(row, say), interval(row.change), interval(row.error_ratio, ratio))
        for row in known.inputs
    ]


def ablation_table(known: Ablation, say: Say = english) -> Group:
    """For the terminal."""
    table = plain_table(say("What the policy uses"))
    table.add_column(say("input"))
    table.add_column("")
    table.add_column(say("prediction moves by (std)"), justify="right", no_wrap=True)
    table.add_column(say("error, times"), justify="right", no_wrap=True)
    for row in ablation_rows(known, say):
        table.add_row(*(Text(cell) for cell in row))
    return Group(table, Text(ablation_note(known, say), style="dim"))


def _name(row: AblatedInput, say: Say) -> str:
    if row.kind != "instruction":
        return row.key
    if row.text is None:
        return say("instruction (another task's)")
    return say("instruction (“{text}”)", text=row.text)


def _said(row: AblatedInput, say: Say) -> str:
    if row.use == "ignored":
        return say("ignored")
    if row.replaced_by == "neutral_text":
        return say("one task in the dataset: its error can't tell")
    if row.change.ci_low is None:
        return say("too few episodes for an interval")
    if row.use == "needed":
        return say("needed: the error grows without it")
    if row.use == "harmful":
        return say("in the way: the error falls without it")
    return say("no effect on the error shown")
