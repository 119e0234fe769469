"""Offline numbers against success in words, only as strong as the intervals."""

from __future__ import annotations

import re
from collections.abc import Iterator

from policyscope.checks.study import ALL, WITHIN, Look, OutcomeName, Study, Word
from policyscope.metrics.correlation import Correlation
from policyscope.views.language import Say, english
from policyscope.views.words import number

OUTCOMES: dict[OutcomeName, str] = {
    "success": "success rate",
    "max_reward": "average max reward",
}
WORDS: dict[Word, str] = {
    "foretells": "foretells it",
    "misleads": "misleads",
    "undecided": "undecided",
}


def signed(known: Correlation) -> str:
    """A coefficient with its interval."""
    if known.value is None:
        return "–"
    if known.low is None or known.high is None:
        return f"{known.value:+.2f}"
    return f"{known.value:+.2f} [{known.low:+.2f}, {known.high:+.2f}]"


def gap(known: Correlation) -> str:
    """An MMRV with its interval."""
    return re.sub(r"\+", "", signed(known))


def chance(known: Correlation) -> str:
    """The p value that holds over all numbers; a dash where there is none."""
    if known.family is None:
        return "–"
    return "< 0.001" if known.family < 0.001 else f"{known.family:.3f}"


def title(look: Look, say: Say = english) -> str:
    """What a table is about."""
    outcome = say(OUTCOMES[look.outcome])
    if look.group == ALL:
        return say("{outcome}, all {n} checkpoints", outcome=outcome, n=look.n)
    if look.group == WITHIN:
        return say("{outcome}, within policy types ({n} checkpoints)", outcome=outcome, n=look.n)
    return say(
        "{outcome}, {kind} alone ({n} checkpoints)", outcome=outcome, kind=look.group, n=look.n
    )


def lines(study: Study, say: Say = english) -> Iterator[str]:
    """What was found, a sentence each."""
    for outcome in study.trials:
        look = study.look(outcome)
        if look is not None:
            yield from _found(study, look, say)
        within = study.look(outcome, WITHIN)
        if within is not None:
            yield from _found(study, within, say)


def _found(study: Study, look: Look, say: Say) -> Iterator[str]:
    where = title(look, say)
    strong = [i for i, word in enumerate(look.words) if word == "foretells"]
    wrong = [study.names[i] for i, word in enumerate(look.words) if word == "misleads"]
    if not strong and not wrong:
        limit = next((c.chance for c in look.found.spearman if c.chance is not None), None)
        yield say(
            "{where}: no offline number is shown to foretell it; so few checkpoints give rank "
            "correlations up to {limit} by chance.",
            where=where,
            limit=number(limit, 2),
        )
        return
    if strong:
        best = max(strong, key=lambda i: look.found.spearman[i].value or 0.0)
        yield say(
            "{where}: {k} of {n} numbers foretell it; the highest rank correlation has {best}, "
            "{value}.",
            where=where,
            k=len(strong),
            n=len(study.names),
            best=study.names[best],
            value=signed(look.found.spearman[best]),
        )
        behind = [study.names[i] for i in range(len(study.names)) if look.found.behind[i]]
        yield (
            say("Shown to be behind it: {names}.", names=", ".join(behind))
            if behind
            else say("No other number is shown to be behind it.")
        )
    if wrong:
        yield say("{where}: {names} mislead.", where=where, names=", ".join(wrong))


def pairing_lines(study: Study, say: Say = english) -> Iterator[str]:
    """How runs were paired, and what could not be."""
    by = {
        "weights": say("by the hash of their weights"),
        "name": say("by the names of their directories"),
        "as asked": say("as asked"),
    }
    hows = [pair.how for pair in study.pairing.pairs]
    for how, text in by.items():
        if how in hows:
            yield say("{n} checkpoints paired {how}.", n=hows.count(how), how=text)
    for path, why in study.pairing.alone:
        yield say("Left out: {path}, {why}.", path=path.name, why=say(why))
    chunks = sorted({pair.offline.record.policy.chunk for pair in study.pairing.pairs})
    if len(chunks) > 1:
        yield say(
            "Chunks of {chunks} steps: numbers of whole chunks are about different horizons.",
            chunks=", ".join(map(str, chunks)),
        )
    if study.missing:
        yield say("Not in every run: {names}.", names=", ".join(study.missing))


def footing(study: Study, say: Say = english) -> str:
    """What the columns mean."""
    return say(
        "Coefficients are turned so that +1 means: better offline, better in closed loop. "
        "Intervals: 95 %, {draws} draws of checkpoints and seeds. p: share of permutations in "
        "which any number's rank correlation is as strong; a verdict needs p below 0.05 and an "
        "interval on one side of 0. MMRV: 0 is perfect.",
        draws=study.draws,
    )
