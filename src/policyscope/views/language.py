"""The languages of a page. English text is the key; a catalogue holds the other language."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Protocol

from policyscope.config import Language


class Say(Protocol):
    """Puts an English text, with its {values} filled in, into a language."""

    def __call__(self, text: str, /, **values: object) -> str:
        """The text in that language; English where the catalogue lacks it."""


def english(text: str, /, **values: object) -> str:
    """The text as it stands."""
    return text.format(**values) if values else text


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
