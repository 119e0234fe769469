"""What the commands that draw stored runs are asked to do, and the demo."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, final

import tyro

from policyscope.config.executions import parse_executions
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
    """Language of page, picture and terminal; Chinese files (report.zh.html) stand beside English
    ones."""
    model_card: str | None = None
    """Also write the results as a Hugging Face model card's block into this file."""


@final
@dataclass(frozen=True)
class ExecuteConfig:
    """One stored run, executed in many ways: few steps of each chunk or all, or an ensemble. Its
    chunks are stitched again; neither policy nor dataset is needed.

    policyscope execute out --execute 1,8,16,ensemble
    """

    run: tyro.conf.Positional[str]
    """Run directory of an evaluation."""
    execute: str = "auto"
    """Steps before the next chunk, and ensemble[:COEFFICIENT]; auto tries powers of two."""
    format: Literal["text", "json"] = "text"
    """How the table is printed."""
    lang: Language = "en"
    """Language of the table."""

    def __post_init__(self) -> None:
        parse_executions(self.execute)


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
