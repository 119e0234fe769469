"""What each input of an evaluated policy is worth: some of its frames, asked again without it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policyscope.checks.ablation import inputs_of, measured
from policyscope.checks.detector.probe import against, in_rounds
from policyscope.checks.inputs import OfflineInputs
from policyscope.commands.check import ablator_of
from policyscope.commands.preparation import Prepared
from policyscope.config import EvalConfig
from policyscope.data.facts import ACTION
from policyscope.engine.offline import Frames
from policyscope.errors import UsageError
from policyscope.policies.base import Policy
from policyscope.runs.content import OfflineRecord
from policyscope.runs.directory import RunDirectory
from policyscope.runs.values import Ablation

_BATCH = 32


def require_ablatable(config: EvalConfig, policy: Policy, inputs: OfflineInputs) -> None:
    """Raise where --ablate has nothing to replace, or nothing to replace it by.

    Raises:
        UsageError: it has not.
    """
    if not config.ablate:
        return
    reads = inputs_of(policy.spec, inputs.source.facts.robot, language=False)
    if not reads or len(inputs.episodes) < 2:
        raise UsageError(
            "--ablate",
            expected="a policy that reads pictures or states, and at least two episodes",
            found=f"{policy.spec.type}, which reads {len(reads)}, and {len(inputs.episodes)}",
            fix="leave --ablate out" if not reads else "more --dataset.episodes",
        )


def require_ablated(config: EvalConfig, record: OfflineRecord) -> None:
    """Raise where a finished run that is to be continued was not asked what is asked now.

    Raises:
        UsageError: it was not.
    """
    if config.ablate and record.ablation is None:
        raise UsageError(
            "--ablate",
            expected="a run that began with it",
            found="one that is complete without",
            fix="--overwrite",
        )


def ablation(
    prepared: Prepared,
    frames: Sequence[Frames],
    policy: Policy,
    directory: RunDirectory,
    batch_size: int,
) -> Ablation | None:
    """Ask about frames spread over all episodes, and compare with what is stored of them.

    Args:
        prepared: the evaluation, which says whether and how many.
        frames: that were predicted.
        policy: what to ask.
        directory: of the run, with the predictions of every episode.
        batch_size: frames a model call, at most.
    """
    config, inputs = prepared.config, prepared.inputs
    if not config.ablate:
        return None
    source, spec, most = inputs.source, policy.spec, config.ablate_frames
    ablator = ablator_of(policy, inputs, most=most, batch_size=batch_size)
    known = [(episode, np.asarray(chosen)) for episode, chosen in frames]
    rows = in_rounds(known, -(-most // len(known)))[:most]
    for batch in source.batches(rows, batch_size=_BATCH, keys=spec.keys, steps=spec.steps):
        if ablator.willing:
            ablator.ask(batch)
        if policy.borrows:
            batch.release()
    rows = rows[: ablator.n_frames]
    own = np.empty((len(rows), spec.chunk_size, inputs.alignment.schema.dim))
    for stored in directory.parts(sorted({e for e, _, _ in rows})):
        at = [i for i, row in enumerate(rows) if row[0] == stored.index]
        places = np.searchsorted(stored.frame_index, [rows[i][1] for i in at])
        own[at] = stored.predicted[0].values[places]
    std = np.asarray(source.facts.robot.stats[ACTION]["std"], np.float64).reshape(-1)
    return measured(
        ablator.predictions(),
        against(source, inputs.alignment, rows, own),
        std[list(inputs.alignment.dataset_dims)],
        n_tasks=len(source.facts.robot.tasks),
    )
