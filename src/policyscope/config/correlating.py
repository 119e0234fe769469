"""What the command that holds offline numbers against success is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import tyro

from policyscope.config.options import require_at_least
from policyscope.config.parts import Language
from policyscope.errors import UsageError


@final
@dataclass(frozen=True)
class CorrelateConfig:
    """Which offline number foretells success? Over checkpoints that have both kinds of runs.

    policyscope correlate runs/eval-* runs/rollout-*

    policyscope correlate runs --format markdown --picture correlation.png

    policyscope correlate eval_a … rollout_a … --pairs eval_a=rollout_a
    """

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Run directories, offline and closed loop, or directories that hold some."""
    pairs: tuple[str, ...] = ()
    """OFFLINE=ROLLOUT, by the names of their directories, where the weights' hashes don't tell."""
    draws: int = 2000
    """Of the bootstrap."""
    seed: int = 0
    """Of the draws."""
    format: Literal["text", "json", "markdown"] = "text"
    """How the table is printed."""
    picture: str | None = None
    """Also draw the checkpoints, with both intervals, into this file (.png or .svg)."""
    lang: Language = "en"
    """Language of the text."""

    def __post_init__(self) -> None:
        require_at_least(("--draws", self.draws, 100, 10**5), ("--seed", self.seed, 0))
        if not self.runs:
            raise UsageError(
                "policyscope correlate",
                expected="run directories",
                found="none",
                fix="policyscope correlate runs/eval-* runs/rollout-*",
            )
        if self.picture is not None and not self.picture.endswith((".png", ".svg")):
            raise UsageError(
                "--picture",
                expected="a name that ends in .png or .svg",
                found=repr(self.picture),
                fix="--picture correlation.png",
            )
        for pair in self.pairs:
            if pair.count("=") != 1:
                raise UsageError(
                    "--pairs",
                    expected="OFFLINE=ROLLOUT",
                    found=repr(pair),
                    fix="--pairs eval_a=rollout_a",
                )
