"""Many checkpoints on the same frames, decoded once: runs, the record over them, and its page."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, final

from policyscope.checks.ranking import rank_offline, rank_success, unlike
from policyscope.commands.evaluate import carry_out
from policyscope.commands.preparation import Prepared, prepare
from policyscope.commands.report import render
from policyscope.commands.rollout import rollout
from policyscope.commands.session import Run, output_dir, session
from policyscope.config import ReportConfig, SweepConfig
from policyscope.data.kept import KeptPictures
from policyscope.data.source import FrameSource
from policyscope.engine.progress import Watch
from policyscope.engine.ray import require_workers
from policyscope.errors import (
    DatasetError,
    InputError,
    OtherPlanError,
    OutputError,
    PolicyscopeError,
    RefusedError,
    UsageError,
    first_line,
)
from policyscope.policies.series import Found, Look, Saved, find, in_order
from policyscope.runs.carried import shown
from policyscope.runs.claim import claimed
from policyscope.runs.content import OfflineRecord, RolloutRecord
from policyscope.runs.directory import PAGE, plan_id
from policyscope.runs.episodes import rollout_rows
from policyscope.runs.parts import SCOPES, spans
from policyscope.runs.record import environment
from policyscope.runs.rows import RolloutRow
from policyscope.runs.sweep import (
    ROLLOUTS,
    RUNS,
    SweepRecord,
    SweepRow,
    SweepStatus,
    read_sweep,
    write_sweep,
)
from policyscope.sim.cluster import joined
from policyscope.views.offline.claims import main_baseline
from policyscope.views.offline.words import error_metric
from policyscope.views.sweep.page import write_sweep_page
from policyscope.views.trackers import Tracker, numbers_of, open_tracker

_GIB = 2**30
_OF_ALL = (DatasetError, OutputError)  # what no other checkpoint would do better


@final
@dataclass(frozen=True)
class Sweep:
    """A sweep on disk.

    Attributes:
        directory: where it lies.
        record: the content of its ``sweep.json``.
        reached: whether the step that it was to wait for has come.
    """

    directory: Path
    record: SweepRecord
    reached: bool = True


def sweep(
    config: SweepConfig, progress: Watch | None = None, *, tracker: Tracker | None = None
) -> Sweep:
    """Evaluate the checkpoints of a training run, and say which cannot be told from the best.

    Args:
        config: what to do.
        progress: told while it runs.
        tracker: takes the numbers of each checkpoint, instead of the one that the config names.

    Returns:
        The sweep; where some checkpoints were refused or broken, it says so of them.

    Raises:
        InputError: something can't be read or makes no sense, or no checkpoint could be opened.
        RefusedError: all checkpoints were refused.
        KeyboardInterrupt: interrupted; the page is drawn, and the same call goes on.
    """
    path = output_dir(config.output_dir, "sweep")
    require_workers(config, None)
    find(config.checkpoints, patient=config.follow)  # a slip of the finger leaves nothing behind
    try:
        with claimed(path), _engine(config):
            kind, project = config.tracker, config.tracker_project
            tracker = tracker or open_tracker(kind, path, project=project, name=path.name)
            try:
                return _Sweep(config, path, progress or Watch(), tracker).run()
            finally:
                if tracker is not None:
                    tracker.close()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(shown(path)) from None


def _engine(config: SweepConfig) -> contextlib.AbstractContextManager[Any]:
    """One Ray for all checkpoints."""
    return joined(config.ray) if config.engine == "ray" else contextlib.nullcontext()


@final
@dataclass
class _Taken:
    """A checkpoint at work."""

    saved: Saved
    prepared: Prepared
    key: str


@final
class _Sweep:
    def __init__(
        self, config: SweepConfig, path: Path, watch: Watch, tracker: Tracker | None
    ) -> None:
        self._config, self._path, self._watch, self._tracker = config, path, watch, tracker
        self._kept = KeptPictures(int(config.memory_gb * _GIB))
        self._source: FrameSource | None = None
        self._episodes: tuple[int, ...] | None = None
        self._batch_size = config.batch_size
        self._rows: dict[str, SweepRow] = {}
        self._errors: list[PolicyscopeError] = []
        self._first: OfflineRecord | None = None
        self._played: dict[str, Sequence[RolloutRow]] = {}
        self._looks: dict[str, tuple[Look, bool]] = {}
        self._found = Found((), ())

    def run(self) -> Sweep:
        """Everything that is asked for."""
        try:
            reached = self._follow() if self._config.follow else self._once()
        except KeyboardInterrupt:
            self._save("interrupted")
            raise
        record = self._save("complete")
        if record is None:
            raise self._errors[0]
        return Sweep(self._path, record, reached)

    def _once(self) -> bool:
        self._watch.stage("looking for checkpoints")
        self._found = find(self._config.checkpoints)
        self._take(self._found.saved)
        return True

    # ── while a training writes ───────────────────────────────────────

    def _follow(self) -> bool:
        """Take what comes until told to end; whether the step that was waited for came."""
        wanted, patience = self._config.until_step, self._config.timeout
        waited = time.monotonic()
        while True:
            self._found = find(self._config.checkpoints, patient=True)
            fresh = self._fresh()
            if fresh:
                self._take(fresh)
                waited = time.monotonic()
            done = [row for row in self._rows.values() if row.status == "complete"]
            if wanted is not None and any((row.step or 0) >= wanted for row in done):
                return True
            if patience is not None and time.monotonic() - waited > patience:
                self._require_some(patience)
                return wanted is None
            self._save("following")
            self._watch.stage(f"waiting for the next checkpoint ({len(done)} done)")
            time.sleep(self._config.poll)

    def _fresh(self) -> list[Saved]:
        """Checkpoints that are whole and have not been taken as they are now."""
        fresh = []
        for saved in self._found.saved:
            seen = saved.look()
            if seen is None:
                continue
            before, taken = self._looks.get(saved.name, (None, False))
            if taken and before == seen:
                continue
            whole = saved.settled(seen, before)
            self._looks[saved.name] = (seen, whole)
            if whole:
                fresh.append(saved)
        return fresh

    def _require_some(self, patience: float) -> None:
        if not self._rows:
            raise UsageError(
                "policyscope sweep --follow",
                expected=f"a whole checkpoint within {patience:g} s (--timeout)",
                found=f"{len(self._found.saved)} that are not whole, in "
                + " ".join(self._config.checkpoints),
                fix="check the pattern, or give --timeout more seconds",
            )

    # ── checkpoints ───────────────────────────────────────────────────

    def _take(self, chosen: Sequence[Saved]) -> None:
        """Evaluate checkpoints; the frames in the outer loop where they do not fit in memory."""
        pending = []
        for saved in chosen:
            taken = self._spare(saved, None, partial(self._prepared, saved))
            pending += [] if taken is None else [taken]
        for until in self._passes(pending):
            went = []
            for place, taken in enumerate(pending):
                self._watch.checkpoint(taken.saved.name, place + 1, len(pending))
                work = partial(self._advance, taken, until)
                if self._spare(taken.saved, taken.key, work):
                    went.append(taken)
            pending = went

    def _advance(self, taken: _Taken, until: int | None) -> bool:
        """Predict up to a row of the plan, or to the end, with all that comes after it."""
        run = self._evaluated(taken, until)
        if run is not None:
            self._finish(taken, run)
        return True

    def _prepared(self, saved: Saved) -> _Taken:
        """A checkpoint's files and the dataset, matched; weights are hashed, not loaded."""
        config = self._config.offline(str(saved.path), str(self._path), self._batch_size)
        if self._source is None:
            self._watch.stage("reading the dataset")
            name = config.dataset_name
            self._source = FrameSource(config.dataset, repo_id=name, kept=self._kept)
        prepared = prepare(config, source=self._source)
        episodes = prepared.inputs.episodes
        if self._episodes is not None and episodes != self._episodes:
            raise UsageError(
                f"episodes of {saved.path}",
                expected=f"those of the first checkpoint, {spans(self._episodes)[:80]}",
                found=f"{spans(episodes)[:80]}, which its train_config.json holds out",
                fix=f"--dataset.episodes {spans(self._episodes)[:200]}",
            )
        self._episodes = episodes
        return _Taken(saved, prepared, plan_id(prepared.plan.to_json()))

    def _passes(self, pending: Sequence[_Taken]) -> list[int | None]:
        """Rows of the plan at which all checkpoints pause, so that pictures fit in memory."""
        if not pending:
            return []
        if self._config.engine == "ray":  # whose workers keep no pictures
            return [None]
        inputs = [taken.prepared.inputs for taken in pending]
        cameras = inputs[0].source.facts.robot.cameras
        used = {key for one in inputs for key in one.alignment.feeds.values() if key in cameras}
        size = sum(c * h * w for c, h, w in (cameras[key] for key in used))
        frames = sum(len(some) for _, some in pending[0].prepared.frames)
        fitting = max(1, self._kept.most * 7 // 8 // max(1, size))  # the rest: batches that overlap
        samples = self._config.samples
        return [*(at * samples for at in range(fitting, frames, fitting)), None]

    def _evaluated(self, taken: _Taken, until: int | None) -> Run[OfflineRecord] | None:
        """The run of a checkpoint, in its directory; None where it pauses."""
        for place in self._places(RUNS, taken):
            try:
                with session(place, taken.prepared.config) as held:
                    return carry_out(taken.prepared, held, self._watch, until=until)
            except OtherPlanError:
                continue  # of other weights or options under the same name: it stays as it is
        raise _occupied(self._path / RUNS / taken.saved.name)

    def _rolled_out(self, taken: _Taken) -> Run[RolloutRecord]:
        for place in self._places(ROLLOUTS, taken):
            try:
                config = self._config.in_simulation(str(taken.saved.path), str(place))
                return rollout(config, self._watch)
            except OtherPlanError:
                continue
        raise _occupied(self._path / ROLLOUTS / taken.saved.name)

    def _places(self, kind: str, taken: _Taken) -> Iterator[Path]:
        """Where a run may lie: under its checkpoint's name, else under what determines it, too."""
        for name in (taken.saved.name, f"{taken.saved.name}-{taken.key[:8]}"):
            place = self._path / kind / name
            if not place.is_symlink():
                yield place

    def _finish(self, taken: _Taken, run: Run[OfflineRecord]) -> None:
        """Have the pages and the record say what a checkpoint came to."""
        played = self._rolled_out(taken) if self._config.closed_loop else None
        for directory in (run.directory, *([played.directory] if played else [])):
            if not (directory / PAGE).exists():
                self._watch.stage("drawing the report")
                render(ReportConfig(str(directory), lang=self._config.lang))
        if self._first is None:
            self._first = run.record
            if self._config.batch_size == "auto":  # the others need not search
                self._batch_size = str(run.record.throughput.batch_size)
        if played is not None:
            self._played[taken.saved.name] = rollout_rows(played.directory, played.record)
        self._keep(_row(taken, run, played, self._first))

    def _spare[T](self, saved: Saved, key: str | None, work: Callable[[], T]) -> T | None:
        """What the work returns; None where the checkpoint is broken or refused.

        It costs no other checkpoint its numbers.
        """
        try:
            return work()
        except _OF_ALL:
            raise
        except RefusedError as error:
            self._errors.append(error)
            self._keep(_without(saved, key, "refused", ", ".join(f.code for f in error.findings)))
        except InputError as error:
            self._errors.append(error)
            self._keep(_without(saved, key, "failed", str(error)))
        return None

    # ── the record ────────────────────────────────────────────────────

    def _keep(self, row: SweepRow) -> None:
        self._rows[row.name] = row
        self._watch.finished(row)
        self._log(row)
        self._save("following" if self._config.follow else "interrupted")  # if it ends here

    def _log(self, row: SweepRow) -> None:
        """Tell the tracker, whose failure costs nobody a number."""
        numbers = numbers_of(row)
        if self._tracker is None or not numbers:
            return
        try:
            self._tracker.log(len(self._rows) if row.step is None else row.step, numbers)
        except Exception as error:  # whatever a tracker raises
            self._watch.stage(f"the tracker failed and is left out: {first_line(error)}")
            self._tracker = None

    def _save(self, status: SweepStatus) -> SweepRecord | None:
        """Write the record and the page as they stand; None where nothing is known yet."""
        first = self._first
        if first is None:
            return None
        rows = in_order(self._rows.values())
        compared = {row.name: row for row in rows if row.compared}
        metric, unit = error_metric(first)
        best = rank_offline(
            {name: self._path / str(row.run) for name, row in compared.items()},
            normalized=metric == "nmae",
        )
        if self._config.closed_loop:
            best += rank_success({name: self._played[name] for name in compared})
        record = SweepRecord(
            status=status,
            dataset=first.dataset,
            metric=metric,
            unit=unit,
            chunk_size=first.policy.chunk,
            n_action_steps=first.policy.executed,
            against=main_baseline(first),
            env=self._config.env.type if self._config.closed_loop else None,
            checkpoints=rows,
            best=best,
            passed_over=self._found.passed_over,
            environment=environment(
                device=first.environment.device,
                dtype=str(first.environment.dtype),
                seed=self._config.seed,
            ),
        )
        write_sweep(self._path, record)
        write_sweep_page(self._path, record, self._config.lang)
        return read_sweep(self._path)


def _without(
    saved: Saved, key: str | None, status: Literal["refused", "failed"], why: str
) -> SweepRow:
    """A checkpoint that has no numbers."""
    return SweepRow(
        name=saved.name,
        step=saved.step,
        path=str(saved.path),
        key=key,
        status=status,
        message=why,
    )


def _row(
    taken: _Taken, run: Run[OfflineRecord], played: Run[RolloutRecord] | None, first: OfflineRecord
) -> SweepRow:
    """What a checkpoint came to."""
    record, saved = run.record, taken.saved
    metric, against = error_metric(first)[0], main_baseline(first)
    errors = [*record.errors, *(played.record.errors if played else ())]
    return SweepRow(
        name=saved.name,
        step=saved.step,
        path=str(saved.path),
        key=taken.key,
        status="complete",
        message=unlike(first, record),
        split=record.dataset.split,
        run=f"{RUNS}/{run.directory.name}",
        rollout=None if played is None else f"{ROLLOUTS}/{played.directory.name}",
        error={scope: record.summary.of(scope).of(metric) for scope in SCOPES},
        skill={scope: record.skill[against].of(scope) for scope in SCOPES},
        success=None if played is None else played.record.success,
        errors=sorted({finding.code for finding in errors}),
    )


def _occupied(place: Path) -> OutputError:
    return OutputError(
        str(place),
        expected="a place for the run of this checkpoint",
        found="other runs under both of its names",
        fix="another --output_dir",
    )
