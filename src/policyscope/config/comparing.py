"""What the commands that compare runs are asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, final

import tyro

from policyscope.config.parts import Language
from policyscope.errors import UsageError


@final
@dataclass(frozen=True)
class CompareConfig:
    """Is B better than A? Paired by episode or by seed, with the test that says so.

    policyscope compare out_a out_b

    policyscope compare out_main out_branch --margin 5% --format markdown

    policyscope compare out_a out_b --html comparison.html

    policyscope compare --baseline @main out_branch --fail_if 'executed.mae > base + 0.5'

    Exit status: 0 compared; with --margin or --fail_if: 0 passed, 1 failed, 3 undecided; 2 bad
    usage, or not comparable.
    """

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Run directories: the base first (unless --baseline names it), then what is compared."""
    baseline: str | None = None
    """The base: a run directory, or @name of one in policyscope.toml."""
    metric: str | None = None
    """The number that decides: executed.mae, chunk.nmae, step1.mse, success, ... Default:
    executed.mae where all action dims share a unit, else executed.nmae; success in closed loop."""
    margin: str | None = None
    """How much worse still counts as no worse: 5% of the base's error, or 0.5 in its unit;
    in closed loop 5% are five points of success rate."""
    fail_if: tuple[str, ...] = ()
    """Conditions of a gate, for example 'executed.mae.ci_high > base + 0.5'."""
    format: Literal["text", "json", "markdown"] = "text"
    """How the comparison is printed."""
    html: str | None = None
    """Also write a page: paired differences with their intervals, and one player in which all
    policies' chunks are drawn on the same episode."""
    junit: str | None = None
    """Also write a JUnit file for CI."""
    lang: Language = "en"
    """Language of the text."""

    def __post_init__(self) -> None:
        if len(self.runs) + (self.baseline is not None) < 2:
            raise UsageError(
                "policyscope compare",
                expected="a base and at least one run",
                found=f"{len(self.runs)} run directories" if self.runs else "no run directory",
                fix="policyscope compare BASE RUN, or --baseline @main RUN",
            )


@final
@dataclass(frozen=True)
class PlanConfig:
    """How many episodes does a difference in success rate need?

    policyscope plan --from 0.6 --to 0.8

    policyscope plan --from 0.8 --to 0.8 --margin 0.1
    """

    rate_from: Annotated[float, tyro.conf.arg(name="from")]
    """Success rate of A, or the rate to compare with."""
    rate_to: Annotated[float, tyro.conf.arg(name="to")]
    """Assumed success rate of B."""
    margin: float | None = None
    """Ask 'is B at most this much worse?' instead of 'is B different?'."""
    power: float = 0.8
    """Chance of an answer."""
    alpha: float = 0.05
    """Two-sided error rate."""
    correlation: float = 0.0
    """Of the outcomes on one seed, for paired runs; 0 is the cautious choice."""
    json: bool = False
    """Print the plan as JSON."""
