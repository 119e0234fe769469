"""Runs made elsewhere: lerobot-eval's results and labelled recordings become closed-loop runs.

What the source does not say stays unknown in the record, which lists it; nothing is made up.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal, final

from policyscope.actions.spaces import ActionSchema
from policyscope.commands.session import Run, Session, output_dir, session
from policyscope.config import DatasetConfig, ImportConfig, PolicyConfig
from policyscope.engine.recorded import Recording, labels_of, open_recording
from policyscope.errors import Finding, OutputError, UsageError
from policyscope.metrics.tally import action_statistics, eval_info, tally
from policyscope.policies.checkpoint import Checkpoint
from policyscope.policies.reading import read_checkpoint
from policyscope.runs.content import (
    SCHEMA_VERSION,
    DatasetFacts,
    Environment,
    FindingRow,
    Imported,
    PolicyFacts,
    RolloutHead,
    RolloutRecord,
)
from policyscope.runs.directory import EVAL_INFO, RECORD
from policyscope.runs.eval_info import eval_info_file, read_episodes, without_seeds
from policyscope.runs.facts import ActionFacts, EnvFacts, NormalizationFacts, TaskFacts
from policyscope.runs.labelled import Labelled, seeds_known
from policyscope.runs.labels import read_labels
from policyscope.runs.record import plain_json
from policyscope.runs.rollouts import StoredRollout, outcome_alone
from policyscope.runs.rows import RolloutRow

UNKNOWN: Literal["unknown"] = "unknown"
_ALWAYS = ("environment settings", "time limits", "model calls", "latency")


@final
@dataclass(frozen=True)
class _Source:
    """What is imported.

    Attributes:
        form: of the source.
        name: as the record tells it.
        sha256: of what was read.
        episodes: with what was noted about them.
        recording: the dataset of these episodes, or None.
        findings: what is odd about it.
    """

    form: Literal["eval_info", "labels", "recording"]
    name: str
    sha256: str
    episodes: Sequence[Labelled]
    recording: Recording | None = None
    findings: Sequence[Finding] = ()


def import_run(config: ImportConfig) -> Run[RolloutRecord]:
    """Make a closed-loop run of what somebody else evaluated.

    Returns:
        The run, which `render` draws and `policyscope compare` compares: paired where both sides
        have seeds.

    Raises:
        InputError: the source can't be read, says nothing of success, or contradicts itself.
    """
    source = _read(config)
    checkpoint = _checkpoint(config.policy.path)
    path = output_dir(config.output_dir, Path(source.name).stem)
    with session(path, config) as held:
        if (path / RECORD).exists() and not config.overwrite:
            raise OutputError(
                f"--output_dir {path}",
                expected="a directory without a run",
                found="a finished run",
                fix="another --output_dir, or --overwrite to replace it",
            )
        return _imported(config, source, checkpoint, held)


def _imported(
    config: ImportConfig, source: _Source, checkpoint: Checkpoint | None, held: Session
) -> Run[RolloutRecord]:
    directory, recording = held.directory, source.recording
    plan = {"source": source.sha256}
    directory.prepare(plan, resume=False, overwrite=config.overwrite)
    try:
        rows = _rows(config, source)
        stored: list[StoredRollout]
        if recording is None:
            stored = [outcome_alone(row) for row in rows]
        else:
            stored = recording.store(directory, rows, source.episodes, rule=config.success)
            recording.show(directory, [episode.row for episode in stored], config.video)
        return held.finish(_record(config, source, checkpoint, stored, held))
    except BaseException:
        directory.close()
        raise


def _record(
    config: ImportConfig,
    source: _Source,
    checkpoint: Checkpoint | None,
    stored: Sequence[StoredRollout],
    held: Session,
) -> RolloutRecord:
    recording = source.recording
    names = recording.schema.names if recording else ()
    nowhere = [float("nan")] * len(names)
    actions = action_statistics(stored, names, {}, (nowhere, nowhere))  # type: ignore[arg-type]
    scores = tally(
        stored,
        fps=recording.fps if recording else None,
        method=config.interval,
        action_kind=UNKNOWN,
        reward_range=None,
        units=recording.schema.units if recording else (),
    )
    rows = [episode.row for episode in stored]
    held.directory.write_text(EVAL_INFO, plain_json(eval_info(rows, wall_s=None)))
    return RolloutRecord.of(
        _head(config, source, checkpoint, rows),
        scores,
        plan=None,
        episodes=rows,
        executed_actions=[row.model_copy(update={"out_of_bounds_share": None}) for row in actions],
        latency=None,
        throughput=None,
    )


# ── reading ───────────────────────────────────────────────────────────


def _read(config: ImportConfig) -> _Source:
    path = Path(config.source).expanduser()
    if path.is_dir():
        return _read_folder(config, path)
    if path.suffix.lower() == ".json":
        return _eval_info(config, path)
    if path.exists() or path.suffix or config.source.count("/") != 1:
        return _labels(config, path)
    return _recording(config, DatasetConfig(repo_id=config.source), config.source)


def _read_folder(config: ImportConfig, path: Path) -> _Source:
    known: tuple[tuple[str, Callable[[], _Source]], ...] = (
        ("meta/info.json", lambda: _recording(config, DatasetConfig(root=str(path)), path.name)),
        (RECORD, lambda: _ours(path)),
        (EVAL_INFO, lambda: _eval_info(config, path)),
    )
    for name, read in known:
        if (path / name).exists():
            return read()
    raise OutputError(
        str(path),
        expected=f"a LeRobot dataset, or a directory with {EVAL_INFO}",
        found="neither",
        fix="name the file: eval_info.json, or a CSV with the columns episode and success",
    )


def _ours(path: Path) -> _Source:
    raise OutputError(
        str(path),
        expected="a run made elsewhere",
        found=f"one of policyscope's own ({RECORD})",
        fix=f"policyscope report {path}",
    )


def _eval_info(config: ImportConfig, path: Path) -> _Source:
    _require_no_dataset(config)
    file = eval_info_file(path)
    episodes = read_episodes(file, start_seed=config.seed)
    if not seeds_known(episodes):
        episodes = without_seeds(episodes)
    return _Source("eval_info", str(file), _digest([file.read_bytes()]), episodes)


def _labels(config: ImportConfig, file: Path) -> _Source:
    episodes = read_labels(file)
    if not seeds_known(episodes):
        episodes = without_seeds(episodes)
    digest = _digest([file.read_bytes()])
    if config.dataset.root is None and config.dataset.repo_id is None:
        return _Source("labels", str(file), digest, episodes)
    wanted = [e.recorded for e in episodes if e.recorded is not None]
    recording = open_recording(config.dataset, _dataset_name(config.dataset), wanted)
    episodes, findings = recording.labelled(episodes, rule=config.success)
    return _Source("labels", str(file), digest, episodes, recording, findings)


def _recording(config: ImportConfig, where: DatasetConfig, name: str) -> _Source:
    _require_no_dataset(config)
    asked = config.dataset
    where = DatasetConfig(
        repo_id=where.repo_id,
        root=where.root,
        episodes=asked.episodes,
        revision=asked.revision,
        video_backend=asked.video_backend,
        action_units=asked.action_units,
    )
    recording = open_recording(where, name, None)
    episodes = labels_of(recording, rule=config.success)
    said = [f"{e.recorded}:{e.success}".encode() for e in episodes]
    digest = _digest([recording.revision.encode(), *said])
    return _Source("recording", config.source, digest, episodes, recording)


def _dataset_name(dataset: DatasetConfig) -> str:
    return dataset.repo_id or Path(dataset.root or ".").name


def _require_no_dataset(config: ImportConfig) -> None:
    if config.dataset.root is not None or config.dataset.repo_id is not None:
        raise UsageError(
            f"policyscope import {config.source} --dataset",
            expected="--dataset beside a CSV file that labels it",
            found="another kind of source",
            fix="leave --dataset.root and --dataset.repo_id out",
        )


def _digest(parts: Sequence[bytes]) -> str:
    return hashlib.sha256(b"\n".join(parts)).hexdigest()


def _checkpoint(path: str | None) -> Checkpoint | None:
    """The checkpoint that a name is the folder of, if it is one."""
    if path is None or not Path(path).expanduser().is_dir():
        return None
    return read_checkpoint(PolicyConfig(path=path))


# ── the record ────────────────────────────────────────────────────────


def _rows(config: ImportConfig, source: _Source) -> list[RolloutRow]:
    """Rows whose steps nobody has counted yet; tasks by the order of their texts."""
    group = (config.env.name or UNKNOWN).partition("/")[0]
    texts = sorted({e.task for e in source.episodes})
    return [
        RolloutRow(
            episode=place,
            seed=known.seed,
            task_group=known.task_group or group,
            task_id=known.task_id if known.task_group else texts.index(known.task),
            task=known.task,
            success=known.success,
            max_reward=known.max_reward,
            sum_reward=known.sum_reward,
            demonstration=None,
            max_coverage=None,
            steps=None,
            ended=UNKNOWN,
            detail="",
            n_calls=None,
            attempts=1,
            faults=[],
            sim_s=None,
            video=None,
            recorded=known.recorded,
            note=known.note,
        )
        for place, known in enumerate(source.episodes)
    ]


def _unknown(config: ImportConfig, source: _Source) -> list[str]:
    """What the source does not say."""
    lacking = [
        ("environment", config.env.name is None),
        ("seeds", not seeds_known(source.episodes)),
        ("control rate", source.recording is None),
        ("actions", source.recording is None),
        ("tasks", not any(e.task or e.task_group for e in source.episodes)),
        ("policy", config.policy.path is None),
        ("steps", source.recording is None),
        ("rewards", all(e.max_reward is None for e in source.episodes)),
    ]
    return [what for what, lacks in lacking if lacks] + list(_ALWAYS)


def _head(
    config: ImportConfig,
    source: _Source,
    checkpoint: Checkpoint | None,
    rows: Sequence[RolloutRow],
) -> RolloutHead:
    recording = source.recording
    schema = recording.schema if recording else ActionSchema((), ())
    fps = recording.fps if recording else 1.0
    seeds = sorted({row.seed for row in rows if row.seed is not None})
    episodes = sorted(row.recorded for row in rows if row.recorded is not None)
    return RolloutHead(
        schema_version=SCHEMA_VERSION,
        kind="rollout",
        status="complete",
        forced=False,
        policy=_policy(config, checkpoint),
        dataset=DatasetFacts(
            repo_id=recording.name if recording else config.env.name or UNKNOWN,
            root=recording.place if recording else "",
            revision=recording.revision if recording else None,
            episodes=episodes if recording else seeds,
            n_frames=sum(row.steps or 0 for row in rows),
            fps=fps,
            robot_type=recording.robot_type if recording else None,
            tasks=sorted({row.task for row in rows if row.task}),
            split=UNKNOWN,
        ),
        actions=ActionFacts(
            names=schema.names,
            units=schema.units,
            space="native",
            normalization=NormalizationFacts(
                mode=checkpoint.action_mode if checkpoint else UNKNOWN,
                stats_id=None,
                source="none",
            ),
            kind=UNKNOWN,
        ),
        findings=[FindingRow.of(finding) for finding in source.findings],
        environment=Environment(
            versions={"policyscope": version("policyscope")},
            device=UNKNOWN,
            device_name=UNKNOWN,
            dtype=UNKNOWN,
            seed=None,
            command_line=[Path(sys.argv[0]).name, *sys.argv[1:]],
        ),
        env=_env(config, source, rows, fps),
        imported=Imported(
            form=source.form,
            source=source.name,
            sha256=source.sha256,
            unknown=_unknown(config, source),
        ),
    )


def _policy(config: ImportConfig, checkpoint: Checkpoint | None) -> PolicyFacts:
    path = config.policy.path or UNKNOWN
    if checkpoint is None:
        return PolicyFacts(
            path=path,
            type=path,
            sha256=None,
            n_parameters=None,
            chunk_size=None,
            n_action_steps=None,
        )
    return PolicyFacts(
        path=path,
        type=checkpoint.type,
        sha256=checkpoint.sha256,
        n_parameters=checkpoint.n_parameters,
        chunk_size=checkpoint.chunk_size,
        n_action_steps=checkpoint.n_action_steps,
    )


def _env(config: ImportConfig, source: _Source, rows: Sequence[RolloutRow], fps: float) -> EnvFacts:
    name, recording = config.env.name or UNKNOWN, source.recording
    tasks = sorted({(row.task_group, row.task_id, row.task) for row in rows})
    return EnvFacts(
        type=name.partition("/")[0],
        task=name.partition("/")[2] or None,
        name=name,
        tasks=[
            TaskFacts(task_group=group, task_id=number, task=task, max_steps=None)
            for group, number, task in tasks
        ],
        fps=fps,
        fps_known=recording is not None,
        success=config.success if source.form == "recording" else "any",
        first_seed=min((row.seed for row in rows if row.seed is not None), default=None),
        init_from="seed" if source.form == "eval_info" else UNKNOWN,
        cameras=recording.cameras if recording else {},
    )
