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
from typing import Any, Protocol, final

from policyscope.actions.spaces import ActionSchema
from policyscope.config.parts import PolicyConfig
from policyscope.errors import Finding, RefusedError, errors_in
from policyscope.policies.base import PolicySpec
from policyscope.policies.checkpoint import Checkpoint
from policyscope.runs.claim import claimed
from policyscope.runs.directory import RECORD, RunDirectory, require_same_plan
from policyscope.runs.record import SCHEMA_VERSION, dump_record, environment, read_record


@final
@dataclass(frozen=True)
class Run:
    """A run on disk.

    Attributes:
        directory: where it lies.
        record: the content of its ``run.json``.
    """

    directory: Path
    record: dict[str, Any]


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

    def refuse(self, findings: Sequence[Finding], record: Callable[[str], dict[str, Any]]) -> None:
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

    def finished(self, plan: dict[str, Any]) -> Run | None:
        """The complete run that is there already, if it is the one that is to be continued.

        Raises:
            OutputError: it is complete, and had another plan.
        """
        if not self._wishes.resume or not (self.directory.path / RECORD).exists():
            return None
        record = read_record(self.directory.path)
        if record["status"] != "complete":
            return None
        require_same_plan(record["plan"], plan, self.directory.path)
        self.directory.close()  # a run killed at its very end may have left its parts
        return Run(self.directory.path, record)

    @contextmanager
    def running(
        self, plan: dict[str, Any], record: Callable[[str], dict[str, Any]]
    ) -> Iterator[None]:
        """Within it, episodes are stored; an interruption leaves what can be continued.

        Args:
            plan: what determines the predictions.
            record: makes the record of a status.

        Raises:
            OutputError: the directory can't be written, or holds a run with another plan.
        """
        self.directory.prepare(plan, resume=self._wishes.resume, overwrite=self._wishes.overwrite)
        try:
            yield
        except KeyboardInterrupt:
            self._write(record("partial"))
            raise

    def finish(self, record: dict[str, Any]) -> Run:
        """Write the record of a complete run and remove what only an unfinished one needs."""
        self._write(record)
        self.directory.close()
        return Run(self.directory.path, read_record(self.directory.path))

    def _write(self, record: dict[str, Any]) -> None:
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
        raise KeyboardInterrupt(str(path)) from None


def head(
    *,
    kind: str,
    status: str,
    force: bool,
    policy: PolicyConfig,
    checkpoint: Checkpoint | None,
    spec: PolicySpec | None,
    schema: ActionSchema,
    action_kind: str,
    feeds: Mapping[str, str],
    findings: Sequence[Finding],
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """What the records of both kinds of runs begin with.

    Args:
        kind: ``offline`` or ``rollout``.
        status: ``complete``, ``partial`` or ``refused``.
        force: whether findings of severity error are passed over.
        policy: as it was asked for.
        checkpoint: None for a policy without one.
        spec: of the opened policy; None where it was not opened.
        schema: names and units of the action dims.
        action_kind: ``absolute`` or ``delta``.
        feeds: which key feeds which.
        findings: so far.
        samples: predictions a frame.
        seed: of the policy's noise.
    """
    declared = checkpoint.action_mode if checkpoint else "IDENTITY"
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "status": status,
        "forced": bool(force and errors_in(tuple(findings))),
        "policy": {
            "path": spec.path if spec else (policy.path or str(policy.type)),
            "type": spec.type if spec else (checkpoint.type if checkpoint else policy.type),
            "sha256": checkpoint.sha256 if checkpoint else None,
            "n_parameters": checkpoint.n_parameters if checkpoint else 0,
            "chunk_size": spec.chunk_size if spec else None,
            "n_action_steps": spec.n_action_steps if spec else None,
            "sampling": spec.sampling if spec else None,
            "draws": spec.draws if spec else None,
            "compiled": spec.compiled if spec else None,
            "ensembling": spec.ensembling if spec else None,
            "samples": samples,
        },
        "actions": {
            "names": schema.names,
            "units": schema.units,
            "space": "native",
            "normalization": {
                "mode": spec.normalization.mode if spec else declared,
                "stats_id": spec.normalization.stats_id if spec else None,
                "source": spec.normalization.source if spec else "none",
            },
            "kind": action_kind,
        },
        "inputs": dict(feeds),
        "findings": [f.to_json() for f in findings],
        "environment": environment(
            device=spec.device if spec else "none",
            dtype=spec.dtype if spec else "none",
            seed=seed,
        ),
    }


def output_dir(given: str | None, name: str) -> Path:
    """Where a run goes: as given, or a dated directory of that name."""
    if given is not None:
        return Path(given).expanduser()
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return Path("outputs") / "policyscope" / f"{now}_{_plain_name(name)}"


def policy_name(policy: PolicyConfig) -> str:
    """What a dated directory calls a policy."""
    return Path(policy.path).name if policy.path else str(policy.type)


def _plain_name(name: str) -> str:
    """A name that any file system takes and no terminal acts on."""
    return re.sub(r"[^\w.-]+", "-", name)[:80]
