"""The languages of a page. English text is the key; a catalogue holds the other language."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from importlib.resources import files
from typing import Protocol

from policyscope.config import Language


class Say(Protocol):
    """Puts an English text, with its {values} filled in, into a language."""

    def __call__(self, text: str, /, **values: object) -> str:
        """The text in that language; English where the catalogue lacks it."""


_NOUNS = "episode|frame|step|checkpoint|sample|task|simulator|pair|demonstration|number|seed"
_COUNTED = re.compile(rf"\{{(\w+)\}}( \w+)? ({_NOUNS})s\b")


def english(text: str, /, **values: object) -> str:
    """The text as it stands; a noun that is counted once loses its plural's s."""

    def counted(match: re.Match[str]) -> str:
        return match[0][:-1] if str(values.get(match[1])) == "1" else match[0]

    return _COUNTED.sub(counted, text).format(**values) if values else text


@lru_cache
def catalogue(language: Language) -> dict[str, str]:
    """English text → text in that language; empty for English."""
    if language == "en":
        return {}
    path = files("policyscope.views") / "web" / f"{language}.json"
    known: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return known


def speaker(language: Language) -> Say:
    """What puts texts into that language."""
    known = catalogue(language)

    def say(text: str, /, **values: object) -> str:
        return english(known.get(text, text), **values)

    return say
