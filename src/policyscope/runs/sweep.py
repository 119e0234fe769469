"""sweep.json: the checkpoints of a training run, what each came to, and which cannot be told apart.

Each checkpoint has an ordinary run directory beside the record; this repeats of it what a page
over all of them shows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self, final

from pydantic import Field, model_validator

from policyscope.errors import OutputError
from policyscope.files import write_text
from policyscope.runs.content import DatasetFacts, Environment, Split
from policyscope.runs.parts import SCOPES, Flag, Part, Scope, Whole, first_problem
from policyscope.runs.tables import OURS
from policyscope.runs.values import Success, Value

SWEEP = "sweep.json"
SWEEP_PAGE = "sweep.html"
RUNS, ROLLOUTS = "runs", "rollouts"

SweepStatus = Literal["complete", "following", "interrupted"]
_Name = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"


@final
class SweepRow(Part):
    """One checkpoint."""

    name: str
    step: Whole | None
    """Of the training; null where nobody says."""
    path: str
    key: str | None
    """Hash of what determines the run: weights, processors, dataset and options."""
    status: Literal["complete", "refused", "failed"]
    message: str = ""
    """Why there are no numbers, or why they stand beside the others without a comparison."""
    split: Split = "unknown"
    run: Annotated[str, Field(pattern=rf"^{RUNS}/{_Name}$")] | None = None
    """The directory of its evaluation, beside this file."""
    rollout: Annotated[str, Field(pattern=rf"^{ROLLOUTS}/{_Name}$")] | None = None
    """The directory of its closed-loop run."""
    error: Mapping[Scope, Value] = {}
    skill: Mapping[Scope, Value] = {}
    """Against the baseline of the sweep."""
    success: Success | None = None
    errors: Sequence[str] = ()
    """Codes of findings of severity error: its numbers may mean nothing."""

    @model_validator(mode="after")
    def _has_its_numbers(self) -> Self:
        if self.status == "complete" and not self.error.keys() & self.skill.keys() >= set(SCOPES):
            raise ValueError(f"error and skill of a complete checkpoint: {', '.join(SCOPES)}")
        return self

    @property
    def compared(self) -> bool:
        """Whether its numbers stand beside the others'."""
        return self.status == "complete" and not self.message and not self.errors


@final
class Best(Part):
    """The best checkpoint by one measure, and those that no test tells apart from it."""

    measure: Literal[
        "executed.error",
        "executed.skill",
        "chunk.error",
        "chunk.skill",
        "step1.error",
        "step1.skill",
        "success",
    ]
    name: str
    """Of the checkpoint with the best number."""
    alike: Sequence[str]
    """All that no other beats, by pairwise tests that are adjusted together; it is among them."""
    test: str
    n: Whole
    """Episodes behind the tests."""
    able: Flag
    """Whether so many episodes could have told any two apart."""


@final
class SweepRecord(Part):
    """A sweep as it stands."""

    schema_version: Literal[1] = 1
    kind: Literal["sweep"] = "sweep"
    status: SweepStatus
    dataset: DatasetFacts
    metric: Literal["mae", "nmae"]
    """What the errors are: native where all dims share a unit, else normalized."""
    unit: str
    chunk_size: Whole
    n_action_steps: Whole
    against: Literal["hold_state", "zero", "repeat_last", "dataset_mean"]
    """The baseline of the skill."""
    env: str | None = None
    """The simulator of the closed loop."""
    checkpoints: Sequence[SweepRow]
    best: Sequence[Best]
    passed_over: Sequence[str] = ()
    """Links that lead elsewhere."""
    environment: Environment

    @property
    def by_step(self) -> bool:
        """Whether every checkpoint says its step; else they stand in the order of their names."""
        return all(row.step is not None for row in self.checkpoints)

    @property
    def whole(self) -> bool:
        """Whether every checkpoint has numbers, and none that may mean nothing."""
        return all(row.status == "complete" and not row.errors for row in self.checkpoints)

    @property
    def done(self) -> list[SweepRow]:
        """Checkpoints that have numbers."""
        return [row for row in self.checkpoints if row.status == "complete"]


def write_sweep(directory: Path, record: SweepRecord) -> None:
    """Write ``sweep.json`` whole."""
    text = json.dumps(record.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(directory / SWEEP, text + "\n")


def read_sweep(directory: Path) -> SweepRecord:
    """Read and check ``sweep.json``.

    Raises:
        OutputError: no sweep there, or none of this version.
    """
    path = directory / SWEEP
    if not os.path.lexists(path):
        raise OutputError(
            str(directory),
            expected=f"the directory of a sweep, with {SWEEP}",
            found=f"no {SWEEP}" if directory.is_dir() else "no such directory",
            fix="give the --output_dir of a sweep",
        )
    try:
        return SweepRecord.model_validate(OURS.object(path))
    except ValueError as error:
        raise OURS.refuse(path, expected="a sweep", found=first_problem(error)) from error
