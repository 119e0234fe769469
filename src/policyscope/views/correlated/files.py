"""Offline numbers against success as JSON, Markdown and text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from policyscope.checks.study import ALL, WITHIN, Look, Study
from policyscope.metrics.correlation import COEFFICIENTS
from policyscope.views.console import plain_table
from policyscope.views.correlated.words import (
    WORDS,
    chance,
    footing,
    gap,
    lines,
    pairing_lines,
    signed,
    title,
)
from policyscope.views.language import Say, english
from policyscope.views.words import code_span, number

VERSION = 1
_COLUMNS = ("number", "better", "Pearson", "Spearman", "p", "MMRV", "verdict")


def study_json(study: Study) -> str:
    """The study as versioned JSON."""
    content = {
        "schema_version": VERSION,
        "checkpoints": [
            {
                "name": pair.name,
                "type": pair.kind,
                "sha256": pair.offline.record.policy.sha256,
                "offline": str(pair.offline.path),
                "rollout": str(pair.rollout.path),
                "paired_by": pair.how,
                "numbers": {n.name: vars_of(n) for n in study.numbers[i]},
                "outcomes": {o: float(t.means()[i]) for o, t in study.trials.items()},
            }
            for i, pair in enumerate(study.pairing.pairs)
        ],
        "left_out": [{"path": str(path), "why": why} for path, why in study.pairing.alone],
        "not_in_every_run": list(study.missing),
        "draws": study.draws,
        "looks": [_look_json(study, look) for look in study.looks],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


def vars_of(known: Any) -> dict[str, Any]:
    """The fields of a small dataclass, without its name."""
    return {key: value for key, value in vars(known).items() if key != "name"}


def _look_json(study: Study, look: Look) -> dict[str, Any]:
    return {
        "outcome": look.outcome,
        "group": look.group,
        "n": look.n,
        "numbers": [
            {
                "name": name,
                "verdict": look.words[i],
                "behind_the_best": look.found.behind[i],
                **{c: vars_of(look.found.of(c)[i]) for c in COEFFICIENTS},
            }
            for i, name in enumerate(study.names)
        ],
    }


def _rows(study: Study, look: Look, say: Say) -> Iterator[tuple[str, ...]]:
    for i in _order(look):
        yield (
            study.names[i],
            say(study.numbers[0][i].better),
            signed(look.found.pearson[i]),
            signed(look.found.spearman[i]),
            chance(look.found.spearman[i]),
            gap(look.found.mmrv[i]),
            say(WORDS[look.words[i]]),
        )


def _order(look: Look) -> list[int]:
    """Numbers by their rank correlation, the highest first; undefined ones last."""
    known = [-2.0 if c.value is None else c.value for c in look.found.spearman]
    return sorted(range(len(known)), key=lambda i: -known[i])


def study_markdown(study: Study, say: Say = english) -> str:
    """The study as Markdown; types alone are in the JSON."""
    parts = [*(f"- {line}" for line in lines(study, say)), ""]
    for look in study.looks:
        if look.group not in (ALL, WITHIN):
            continue
        parts += [f"### {title(look, say)}", ""]
        parts += ["| " + " | ".join(say(c) for c in _COLUMNS) + " |"]
        parts += ["|" + "---|" * len(_COLUMNS)]
        for name, *others in _rows(study, look, say):
            parts.append("| " + " | ".join([code_span(name), *others]) + " |")
        parts.append("")
    parts += [f"### {say('Checkpoints')}", "", *_checkpoints(study, say), ""]
    parts += [*(f"- {line}" for line in pairing_lines(study, say)), f"- {footing(study, say)}"]
    return "\n".join(parts) + "\n"


def _checkpoints(study: Study, say: Say) -> Iterator[str]:
    shown = [i for i, name in enumerate(study.names) if name in _SHOWN]
    titles = [say("checkpoint"), say("type"), *(study.names[i] for i in shown)]
    titles += [say("success [95 %]"), say("average max reward")]
    yield "| " + " | ".join(titles) + " |"
    yield "|" + "---|" * len(titles)
    for i, pair in enumerate(study.pairing.pairs):
        record = pair.rollout.record
        success, reward = record.success, record.closed_loop.max_reward.value
        ends = (
            f" [{100 * success.ci_low:.0f}, {100 * success.ci_high:.0f}]"
            if success.ci_low is not None and success.ci_high is not None
            else ""
        )
        numbers = [number(study.numbers[i][k].value) for k in shown]
        cells = [code_span(pair.name), code_span(pair.kind), *numbers]
        yield "| " + " | ".join([*cells, f"{success.k}/{success.n}{ends}", number(reward)]) + " |"


_SHOWN = ("step1.nmae", "chunk.nmae", "executed.nmae", "executed.skill")


def study_text(study: Study, say: Say = english) -> RenderableType:
    """The study for a terminal: all checkpoints, and within types; types alone are in the JSON."""
    parts: list[RenderableType] = [Text(line, style="bold") for line in lines(study, say)]
    for look in study.looks:
        if look.group not in (ALL, WITHIN):
            continue
        table = plain_table(title(look, say))
        for column in ("number", "Pearson", "Spearman", "p", "MMRV", "verdict"):
            left = column in ("number", "verdict")
            table.add_column(say(column), justify="left" if left else "right", no_wrap=True)
        for i in _order(look):
            if look.found.spearman[i].value is not None:
                table.add_row(*_brief(study, look, i, say))
        parts.append(table)
    parts += [Text(line) for line in pairing_lines(study, say)]
    parts.append(Text(footing(study, say), style="dim"))
    return Group(*parts)


def _brief(study: Study, look: Look, i: int, say: Say) -> list[Text]:
    """A row that fits a terminal: one interval."""
    pearson, spearman, mmrv = (look.found.of(c)[i] for c in COEFFICIENTS)
    cells = (
        study.names[i],
        f"{pearson.value or 0:+.2f}",
        signed(spearman),
        chance(spearman),
        number(mmrv.value, 2),
        say(WORDS[look.words[i]]),
    )
    return [Text(cell) for cell in cells]
