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
from policyscope.views.language import Say, catalogue, speaker
from policyscope.views.offline.words import (
    BASELINE_NAMES,
    CAVEAT,
    SPLIT_NAMES,
)
from policyscope.views.words import interval, number, ratio, unit_name

if TYPE_CHECKING:
    from jinja2 import Environment


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
            number=number,
            ratio=ratio,
            unit_name=lambda unit: unit_name(unit, say),
            **values,
        )
    )


@lru_cache
def environment() -> Environment:
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


def command(record: dict[str, Any]) -> str:
    """The command line that made a run, ready to be pasted."""
    return shlex.join(record["environment"]["command_line"])


def sampling_rows(policy: dict[str, Any], say: Say) -> list[tuple[str, str]]:
    """Whose code sampled, where it was not lerobot's own."""
    if policy.get("sampling") != "faster":
        return []
    return [(say("sampling"), say("faster, with lerobot's actions to float tolerance"))]


def _ranges(episodes: list[int]) -> str:
    """Episode indices as the slices that ``--dataset.episodes`` takes."""
    parts: list[list[int]] = []
    for e in episodes:
        if parts and parts[-1][1] == e:
            parts[-1][1] = e + 1
        else:
            parts.append([e, e + 1])
    return ",".join(str(a) if b == a + 1 else f"{a}:{b}" for a, b in parts)
