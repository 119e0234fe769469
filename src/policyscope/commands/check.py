"""Preflight and probe: what would make the numbers meaningless, in seconds."""

from __future__ import annotations

from dataclasses import replace

from policyscope.checks.detector.findings import examine
from policyscope.checks.detector.hypotheses import Declared
from policyscope.checks.detector.probe import ask, declared
from policyscope.checks.inputs import OfflineInputs, read_offline
from policyscope.config import CheckConfig, OfflineOptions
from policyscope.errors import errors_in


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
    n_frames = config.frames if isinstance(config, CheckConfig) else 0
    if not n_frames or inputs.checkpoint is None or errors_in(inputs.findings):
        return inputs
    policy = inputs.open_policy(config)
    sample = ask(policy, inputs.source, inputs.alignment, inputs.episodes, n_frames)
    found = examine(sample, declared_of(config, inputs))
    return replace(inputs, findings=(*inputs.findings, *found))


def declared_of(config: OfflineOptions, inputs: OfflineInputs) -> Declared:
    """What the checkpoint says about its outputs, for the detector."""
    assert inputs.checkpoint is not None
    return declared(
        inputs.checkpoint,
        inputs.source.facts.robot,
        inputs.alignment,
        stats=config.stats,
        action_kind=config.action_kind,
    )
