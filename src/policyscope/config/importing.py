"""What the command that takes in other people's runs is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, final

import tyro

from policyscope.config.options import require_at_least
from policyscope.config.parsing import is_count
from policyscope.config.parts import DatasetConfig, Language
from policyscope.errors import UsageError


@final
@dataclass(frozen=True)
class ImportedPolicy:
    """Who was evaluated elsewhere."""

    path: str | None = None
    """A checkpoint's folder, whose facts are read, or any name."""


@final
@dataclass(frozen=True)
class ImportedEnv:
    """Where it was evaluated."""

    name: str | None = None
    """As our rollouts call it, TYPE/TASK (pusht/PushT-v0), or a name for a robot and its scene.
    Without it the environment counts as unknown."""


@final
@dataclass(frozen=True)
class ImportConfig:
    """A run made elsewhere: lerobot-eval's results, or episodes of a real robot with labels.

    policyscope import outputs/eval/2026-11-02/eval_info.json --env.name pusht/PushT-v0

    policyscope import labels.csv --dataset.root recordings/eval_cube --policy.path my_act

    policyscope import recordings/eval_cube
    """

    source: tyro.conf.Positional[str]
    """eval_info.json or the directory that holds it; a CSV file with the columns episode, success
    and, where there are any, notes, task, seed; or a LeRobot dataset with next.success."""
    policy: ImportedPolicy = field(default_factory=ImportedPolicy)
    env: ImportedEnv = field(default_factory=ImportedEnv)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    """The recording that a CSV file labels; of a recording, which episodes."""
    output_dir: str | None = None
    """Run directory. Default: outputs/policyscope/DATE_TIME_SOURCE."""
    seed: int | None = None
    """--seed of that lerobot-eval (its default is 1000): newer files hold no seeds, and without
    seeds nothing is paired."""
    success: Literal["any", "end"] = "any"
    """When a recorded episode counts as solved: if next.success is true at any frame, or at the
    last one."""
    interval: Literal["wilson", "exact"] = "wilson"
    """95 % interval of the success rate: Wilson's, or the exact one of Clopper and Pearson."""
    video: str = "chosen"
    """Recorded episodes to show: chosen (first success, first failure, worst), all, none, or a
    number; at most six."""
    lang: Language = "en"
    """Language of page, picture and terminal; Chinese files (report.zh.html) stand beside English
    ones."""
    overwrite: bool = False
    """Replace the run in output_dir."""

    def __post_init__(self) -> None:
        require_at_least(("--seed", self.seed, 0, 2**32 - 1))
        if not self.source:
            raise UsageError(
                "policyscope import",
                expected="a file, a directory or a dataset",
                found="an empty text",
                fix="policyscope import eval_info.json",
            )
        if self.video not in ("chosen", "all", "none") and not is_count(self.video):
            raise UsageError(
                "--video",
                expected="chosen, all, none, or a number",
                found=repr(self.video),
                fix="--video chosen",
            )

    @property
    def resume(self) -> bool:
        """Never: an import is done in one go."""
        return False

    @property
    def force(self) -> bool:
        """Never: it has nothing to pass over."""
        return False
