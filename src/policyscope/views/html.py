"""One page from templates: escaped, self-contained, with its own policy against fetching."""

from __future__ import annotations

import base64
import hashlib
import shlex
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from policyscope.config import Language
from policyscope.runs.content import Environment, Head, PolicyFacts
from policyscope.views.language import Say, catalogue, speaker
from policyscope.views.offline.words import (
    BASELINE_NAMES,
    CAVEAT,
    SPLIT_NAMES,
)
from policyscope.views.words import between, interval, number, ratio, unit_name

if TYPE_CHECKING:
    import jinja2


_LIBRARIES = ("vendor/d3.min.js", "vendor/plot.min.js")


def fill(
    template: str,
    scripts: tuple[str, ...],
    data: dict[str, Any],
    language: Language,
    **values: Any,
) -> str:
    """A page with its style, its scripts and its data inside, and nothing outside it."""
    inside = [_asset(name) for name in (*_LIBRARIES, *scripts)]
    data = {**data, "lang": language, "text": catalogue(language)}
    say = speaker(language)
    return (
        environment()
        .get_template(template)
        .render(
            language=language,
            _=say,
            style=Markup(_asset("report.css")),
            scripts=[Markup(code) for code in inside],
            policy=" ".join(f"'sha256-{_sha256(code)}'" for code in inside),
            data=data,
            caveat=say(CAVEAT),
            baselines={name: say(text) for name, text in BASELINE_NAMES.items()},
            splits={name: say(text) for name, text in SPLIT_NAMES.items()},
            interval=interval,
            between=between,
            number=number,
            ratio=ratio,
            unit_name=lambda unit: unit_name(unit, say),
            **values,
        )
    )


@lru_cache
def environment() -> jinja2.Environment:
    """Templates; whatever they show is escaped: names, tasks and paths come from strangers."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("policyscope.views", "web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@lru_cache
def _asset(name: str) -> str:
    return (files("policyscope.views") / "web" / name).read_text(encoding="utf-8")


def _sha256(code: str) -> str:
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


def command(record: Head) -> str:
    """The command line that made a run, ready to be pasted."""
    return shlex.join(record.environment.command_line)


def policy_line(policy: PolicyFacts, say: Say) -> tuple[str, str]:
    """Who was evaluated."""
    text = say(
        "{path} ({type}, {n} parameters)",
        path=policy.path,
        type=policy.type,
        n=f"{policy.n_parameters or 0:,}",
    )
    return say("policy"), text


def machine_lines(where: Environment, say: Say) -> list[tuple[str, str]]:
    """On what a run was made."""
    versions = ", ".join(f"{k} {v}" for k, v in where.versions.items() if v)
    return [
        (say("device"), f"{where.device_name}, {where.dtype}"),
        (say("versions"), f"{versions}, Python {where.python}"),
    ]


def sampling_rows(policy: PolicyFacts, say: Say) -> list[tuple[str, str]]:
    """Whose code sampled, where it was not lerobot's own."""
    if policy.sampling != "faster":
        return []
    return [(say("sampling"), say("faster, with lerobot's actions to float tolerance"))]
