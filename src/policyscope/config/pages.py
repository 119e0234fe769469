"""What the commands that draw stored runs are asked to do, and the demo."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from policyscope.config.parts import Language, PageConfig


@final
@dataclass(frozen=True)
class ReportConfig:
    """What to render."""

    run: str
    """Run directory."""
    page: PageConfig = field(default_factory=PageConfig)
    """What the page shows."""
    lang: Language = "en"
    """Language of the page."""
    model_card: str | None = None
    """Also write the results as a Hugging Face model card's block into this file."""


@final
@dataclass(frozen=True)
class DemoConfig:
    """The main job on what the package ships: no network, no other set-up.

    policyscope demo

    policyscope demo --broken --force
    """

    output_dir: str = "outputs/policyscope/demo"
    """Run directory; replaced at each demo."""
    broken: bool = False
    """Show the bug that this project exists to end: the same checkpoint, its unnormalizer
    removed. It is refused; with --force the meaningless number stands beside the right one."""
    force: bool = False
    """With --broken: compute the number all the same."""
