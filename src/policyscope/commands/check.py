"""Preflight and probe: what would make the numbers meaningless, in seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from policyscope.checks.ablation import (
    Ablator,
    ablation_findings,
    inputs_of,
    inputs_used,
    inputs_without_use,
    measured,
)
from policyscope.checks.detector.findings import examine
from policyscope.checks.detector.hypotheses import Declared, Sample
from policyscope.checks.detector.probe import ask, declared
from policyscope.checks.detector.signals import standing
from policyscope.checks.inputs import OfflineInputs, read_offline
from policyscope.config import CheckConfig, OfflineOptions
from policyscope.errors import Finding, errors_in
from policyscope.policies.base import Policy
from policyscope.policies.conformance import conformance
from policyscope.runs.values import Ablation

_ABLATED = 96  # frames: three batches of the sample, over all of its episodes
_PATIENCE_S = 6.0
_TRIED = 5  # frames on which a class of the user's is tried


def check(config: OfflineOptions) -> OfflineInputs:
    """Everything that can be known in seconds, without a whole evaluation.

    Args:
        config: what to check. A `CheckConfig` also asks the policy about some frames, unless its
            files alone forbid the run; other options read files alone.

    Returns:
        Policy and dataset, read and matched; all findings in ``findings``.

    Raises:
        InputError: something can't be read, opened or called, or makes no sense.
    """
    inputs = read_offline(config)
    if not isinstance(config, CheckConfig) or not config.frames:
        return inputs
    nobody = inputs.checkpoint is None and inputs.opened is None
    if nobody or errors_in(inputs.findings):
        return inputs
    policy = inputs.open_policy(config)
    if config.policy.own and (broken := _conformance(policy, inputs)):
        inputs = replace(inputs, findings=(*inputs.findings, *broken))
        if errors_in(inputs.findings):
            return inputs
    ablator = None
    if config.ablate:
        ablator = ablator_of(policy, inputs, most=_ABLATED, patience_s=_PATIENCE_S)
    sample = ask(
        policy,
        inputs.source,
        inputs.alignment,
        inputs.episodes,
        config.frames,
        ablator,
        action_kind=config.action_kind,
    )
    ablation = None
    known = declared_of(config, inputs)
    if ablator is not None:
        n_tasks = len(inputs.source.facts.robot.tasks)
        ablation = measured(ablator.predictions(), sample, known.std, n_tasks=n_tasks)
    found = looked_at(sample, known, ablation)
    return replace(inputs, findings=(*inputs.findings, *found), asked=len(sample.predicted.values))


def _conformance(policy: Policy, inputs: OfflineInputs) -> list[Finding]:
    """What of a class of the user's breaks the contract, tried on a few frames."""
    first = inputs.episodes[0]
    n = min(_TRIED, inputs.source.facts.lengths[first])
    rows = [(first, int(f), 0) for f in np.unique(np.linspace(0, n - 1, _TRIED).astype(int))]
    batch = inputs.source.batch(rows, keys=policy.spec.keys, steps=policy.spec.steps)
    return conformance(policy, inputs.source.facts.robot, batch)


def looked_at(sample: Sample, known: Declared, ablation: Ablation | None) -> list[Finding]:
    """What a sample of predictions gives away, how good they are, and what they depend on."""
    found = list(examine(sample, known))
    if not errors_in(found):
        found += standing(sample, known)
    if ablation is not None:
        ignored = ablation_findings(ablation)
        poor = any(finding.severity != "info" for finding in found)
        found += [*ignored, *(inputs_without_use(ablation) if poor else ())]
        found.append(inputs_used(ablation))
    return found


def ablator_of(
    policy: Policy,
    inputs: OfflineInputs,
    *,
    most: int,
    patience_s: float = float("inf"),
    batch_size: int = 32,
) -> Ablator:
    """What asks a policy again about its inputs; its arguments are those of `Ablator`."""
    robot, checkpoint = inputs.source.facts.robot, inputs.checkpoint
    reads = checkpoint is None or checkpoint.kind.language  # of a policy object nobody knows
    return Ablator(
        policy,
        inputs_of(policy.spec, robot, language=reads),
        robot.tasks,
        most=most,
        patience_s=patience_s,
        batch_size=batch_size,
    )


def declared_of(config: OfflineOptions, inputs: OfflineInputs) -> Declared:
    """What the checkpoint says about its outputs, for the detector."""
    return declared(
        inputs.checkpoint,
        inputs.source.facts.robot,
        inputs.alignment,
        stats=config.stats,
        action_kind=inputs.alignment.action_kind,
    )
