"""The life of a run: begun, refused, resumed, interrupted, finished.

Both kinds of runs live it, offline and closed loop: they differ in what they do in between.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

from policyscope.actions.spaces import ActionSchema
from policyscope.config.addresses import is_url
from policyscope.config.parts import PolicyConfig
from policyscope.errors import Finding, RefusedError, UsageError, errors_in
from policyscope.policies.base import PolicySpec
from policyscope.policies.checkpoint import Checkpoint
from policyscope.runs.carried import place, shown
from policyscope.runs.claim import claimed
from policyscope.runs.content import (
    AnyRecord,
    Environment,
    OfflineRecord,
    PolicyFacts,
    RolloutRecord,
    Unfinished,
)
from policyscope.runs.directory import RECORD, RunDirectory, require_same_plan
from policyscope.runs.episodes import beside_the_record
from policyscope.runs.facts import ActionFacts, ActionKind, NormalizationFacts, Plane
from policyscope.runs.plans import RunPlan
from policyscope.runs.record import dump_record, environment, read_record


@final
@dataclass(frozen=True)
class Run[R: (OfflineRecord, RolloutRecord)]:
    """A run on disk.

    Attributes:
        directory: where it lies; of a run in an object store, its working copy.
        record: the content of its ``run.json``.
    """

    directory: Path
    record: R


class Wishes(Protocol):
    """What the flags say about a run directory."""

    @property
    def resume(self) -> bool:
        """Whether to continue what is there."""

    @property
    def overwrite(self) -> bool:
        """Whether to replace it."""

    @property
    def force(self) -> bool:
        """Whether to pass over findings of severity error."""


@final
class Session:
    """A run in its directory, from the first look at it to the last file (see `session`).

    Args:
        path: of the run directory, which is claimed.
        wishes: ``--resume``, ``--overwrite``, ``--force``.

    Attributes:
        directory: where the run lies.

    Raises:
        OutputError: a run is there, and neither to be continued nor to be replaced.
    """

    def __init__(self, path: Path, wishes: Wishes) -> None:
        self.directory = RunDirectory(path)
        self._wishes = wishes
        self.directory.require_free(resume=wishes.resume, overwrite=wishes.overwrite)

    def refuse(
        self, findings: Sequence[Finding], record: Callable[[Unfinished], AnyRecord]
    ) -> None:
        """Raise where findings forbid the run.

        Args:
            findings: of the preflight.
            record: makes the record of a status.

        Raises:
            RefusedError: some are of severity error, and not to be passed over.
        """
        force = self._wishes.force
        blocking = [f for f in errors_in(tuple(findings)) if not (force and f.forceable)]
        if not blocking:
            return
        if not self.directory.holds_predictions():  # an earlier run is worth more than a refusal
            self._write(record("refused"))
        raise RefusedError(tuple(blocking))

    def finished[R: (OfflineRecord, RolloutRecord)](
        self, plan: RunPlan, kind: type[R]
    ) -> Run[R] | None:
        """The complete run that is there already, if it is the one that is to be continued.

        Raises:
            OutputError: it is complete, and had another plan.
        """
        if not self._wishes.resume or not (self.directory.path / RECORD).exists():
            return None
        record = read_record(self.directory.path)
        if not isinstance(record, OfflineRecord | RolloutRecord):
            return None
        held = {} if record.plan is None else record.plan.to_json()
        require_same_plan(held, plan.to_json(), self.directory.path)
        assert isinstance(record, kind), "plans of two kinds differ"
        self.directory.close()  # a run killed at its very end may have left its parts
        return Run(self.directory.path, record)

    @contextmanager
    def running(self, plan: RunPlan, record: Callable[[Unfinished], AnyRecord]) -> Iterator[None]:
        """Within it, episodes are stored; an interruption leaves what can be continued.

        Args:
            plan: what determines the predictions.
            record: makes the record of a status.

        Raises:
            OutputError: the directory can't be written, or holds a run with another plan.
        """
        wishes = self._wishes
        self.directory.prepare(plan.to_json(), resume=wishes.resume, overwrite=wishes.overwrite)
        try:
            yield
        except KeyboardInterrupt:
            self._write(record("partial"))
            raise

    def finish[R: (OfflineRecord, RolloutRecord)](self, record: R) -> Run[R]:
        """Write the record of a complete run and remove what only an unfinished one needs."""
        if isinstance(record, RolloutRecord):
            record = beside_the_record(self.directory.path, record)
        self._write(record)
        self.directory.close()
        written = read_record(self.directory.path)
        assert isinstance(written, type(record)), "it was written a moment ago"
        return Run(self.directory.path, written)

    def _write(self, record: AnyRecord) -> None:
        self.directory.write_text(RECORD, dump_record(record))


@contextmanager
def session(path: Path, wishes: Wishes) -> Iterator[Session]:
    """Claim a run directory and live in it.

    Args:
        path: of the run directory.
        wishes: ``--resume``, ``--overwrite``, ``--force``.

    Raises:
        OutputError: the directory is not ours, another run is writing it, or a run is there that
            is neither to be continued nor to be replaced.
        KeyboardInterrupt: interrupted, at whatever moment; it names the directory.
    """
    try:
        with claimed(path):
            yield Session(path, wishes)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(shown(path)) from None


@final
@dataclass(frozen=True)
class Evaluated:
    """Who is evaluated, as far as it is known: before it is opened, what its files declare.

    Attributes:
        asked: as the flags name it.
        checkpoint: None for a policy without one.
        spec: of the opened policy; None where it was not opened.
    """

    asked: PolicyConfig
    checkpoint: Checkpoint | None
    spec: PolicySpec | None

    def facts(self, samples: int) -> PolicyFacts:
        """What the record says of it, with so many predictions a frame."""
        spec, checkpoint = self.spec, self.checkpoint
        known = checkpoint or spec
        declared = checkpoint.type if checkpoint else self.asked.name
        return PolicyFacts(
            path=spec.path if spec else self.asked.name,
            type=spec.type if spec else declared,
            sha256=known.sha256 if known else None,
            n_parameters=known.n_parameters if known else 0,
            chunk_size=spec.chunk_size if spec else None,
            n_action_steps=spec.n_action_steps if spec else None,
            sampling=spec.sampling if spec else None,
            draws=spec.draws if spec else None,
            compiled=spec.compiled if spec else None,
            ensembling=spec.ensembling if spec else None,
            samples=samples,
        )

    def actions(
        self,
        schema: ActionSchema,
        kind: ActionKind,
        *,
        policy_dims: Sequence[int] | None = None,
        dataset_dims: Sequence[int] | None = None,
        plane: Mapping[str, int] | None = None,
    ) -> ActionFacts:
        """What the record says of its actions.

        Args:
            schema: names and units of the dims.
            kind: ``absolute`` or ``delta``.
            policy_dims: those that were compared, of the policy.
            dataset_dims: those that were compared, of the dataset.
            plane: two of them that are a place in the picture.
        """
        spec, checkpoint = self.spec, self.checkpoint
        declared = checkpoint.action_mode if checkpoint else "IDENTITY"
        return ActionFacts(
            names=schema.names,
            units=schema.units,
            space="native",
            normalization=NormalizationFacts(
                mode=spec.normalization.mode if spec else declared,
                stats_id=spec.normalization.stats_id if spec else None,
                source=spec.normalization.source if spec else "none",
            ),
            kind=kind,
            policy_dims=policy_dims,
            dataset_dims=dataset_dims,
            image_plane=None if plane is None else Plane.model_validate(plane),
            labels=schema.labels if schema.meanings else (),
        )

    def environment(self, seed: int) -> Environment:
        """Where it ran."""
        spec = self.spec
        return environment(
            device=spec.device if spec else "none", dtype=spec.dtype if spec else "none", seed=seed
        )


def output_dir(given: str | None, name: str, *, several: bool = False) -> Path:
    """Where a run goes: as given, or a dated directory of that name.

    Args:
        given: ``--output_dir``; of one in an object store, the working copy is returned.
        name: of the dated directory.
        several: directories of runs will lie in it.

    Raises:
        UsageError: an address that is of no store, or for several runs.
    """
    if given is not None:
        if several and is_url(given):
            raise UsageError(
                "--output_dir",
                expected="a directory of this machine, since several runs go there",
                found="an address",
                fix="a command for each run, with an address of its own",
            )
        return place(given)
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return Path("outputs") / "policyscope" / f"{now}_{_plain_name(name)}"


def policy_name(policy: PolicyConfig) -> str:
    """What a dated directory calls a policy."""
    return Path(policy.path).name if policy.path else policy.name


def _plain_name(name: str) -> str:
    """A name that any file system takes and no terminal acts on."""
    return re.sub(r"[^\w.-]+", "-", name)[:80]
