"""Preflight of a checkpoint alone: its type, its processors, and what it asks for in vain."""

from __future__ import annotations

from policyscope.actions.robots import Robot
from policyscope.actions.spaces import missing_stats
from policyscope.checks.statistics import IF_TRAINED, check_dataset_stats, held
from policyscope.config import PolicyOptions
from policyscope.data.facts import ACTION
from policyscope.errors import Finding
from policyscope.policies.checkpoint import POSTPROCESSOR, PREPROCESSOR, Checkpoint, find_step
from policyscope.policies.kinds import VOUCHED


def check_type(checkpoint: Checkpoint, config: PolicyOptions) -> list[Finding]:
    """Policies whose outputs may not come back in native units by the processors checked here."""
    findings = []
    if not checkpoint.kind.vouched:
        findings.append(
            Finding(
                "policy_type_untested",
                "error",
                f"expected a policy type whose native units are tested ({', '.join(VOUCHED)}); "
                f"found {checkpoint.type}.",
                "--force computes numbers all the same: compare them with lerobot's own",
            )
        )
    if checkpoint.adapter is not None:
        findings.append(
            Finding(
                "adapter_merged",
                "info",
                f"expected the weights of a whole policy; found a {checkpoint.adapter.line}, which "
                "is merged into it. The hash of the weights is of both.",
                "nothing: the numbers are those of the adapted policy",
            )
        )
    absolute = find_step(checkpoint.postprocessor, "absolute_actions_processor")
    kept = absolute is not None and absolute.config.get("enabled")
    if checkpoint.relative and (config.stats == "dataset" or not kept):
        findings.append(
            Finding(
                "relative_actions",
                "error",
                "expected statistics of displacements and a step that adds the state, since the "
                "policy predicts displacements; found "
                + ("the dataset's of whole actions." if kept else "no such step."),
                "copy the checkpoint again with its own processors, without --stats dataset",
                forceable=False,
            )
        )
    return findings


def check_processors(checkpoint: Checkpoint, robot: Robot, config: PolicyOptions) -> list[Finding]:
    """Whether the saved processors can bring actions back to native units."""
    if config.stats == "dataset":  # missing processors are made anew
        return _check_modes(checkpoint, remade=checkpoint.incomplete) + check_dataset_stats(
            checkpoint, robot
        )
    findings = []
    for steps, file in (
        (checkpoint.preprocessor, PREPROCESSOR),
        (checkpoint.postprocessor, POSTPROCESSOR),
    ):
        if steps is None:
            findings.append(
                Finding(
                    "processor_missing",
                    "error",
                    f"expected {file} in the checkpoint; found none, and no statistics in the "
                    "weights, where lerobot before 0.4 kept them.",
                    f"--stats dataset makes it anew, {IF_TRAINED}, or copy the file",
                    forceable=False,
                )
            )
    if checkpoint.recovered:
        findings.append(
            Finding(
                "stats_recovered",
                "info",
                f"expected {PREPROCESSOR} and {POSTPROCESSOR}; found neither, but statistics for "
                f"{held(checkpoint.recovered_stats)} in the weights, where lerobot before 0.4 "
                "kept them: the processors are made anew with these.",
                "python -m lerobot.processor.migrate_policy_normalization "
                f"--pretrained-path {checkpoint.path} writes them once and for all",
            )
        )
    return [*findings, *_check_modes(checkpoint, remade=False), *_check_unnormalizer(checkpoint)]


def _check_unnormalizer(checkpoint: Checkpoint) -> list[Finding]:
    """The step that brings actions back, with what it needs."""
    if checkpoint.postprocessor is None or checkpoint.action_mode == "IDENTITY":
        return []
    step = checkpoint.unnormalizer
    if step is None:
        return [
            Finding(
                "unnormalizer_missing",
                "error",
                f"expected an unnormalizer_processor in {POSTPROCESSOR}, since actions are "
                f"normalized with {checkpoint.action_mode}; found "
                f"{', '.join(s.name for s in checkpoint.postprocessor) or 'no step'}. "
                "Outputs would stay in normalized units.",
                f"--stats dataset makes it anew, {IF_TRAINED}, or save the processors again with "
                "lerobot's make_pre_post_processors",
            )
        ]
    lacking = missing_stats(step.stats, checkpoint.action_mode, ACTION)
    if not lacking:
        return []
    return [
        Finding(
            "action_stats_missing",
            "error",
            f"expected {' and '.join(lacking)} in the unnormalizer, for mode "
            f"{checkpoint.action_mode}; found statistics for {held(step.stats)}. lerobot "
            "would pass normalized outputs through unchanged.",
            f"--stats dataset takes the dataset's own statistics, {IF_TRAINED}",
        )
    ]


def _check_modes(checkpoint: Checkpoint, *, remade: bool) -> list[Finding]:
    """The saved steps' modes, which lerobot obeys, against each other and against config.json.

    Args:
        checkpoint: what is declared, and where.
        remade: whether processors are made anew, after config.json alone.
    """
    normalizer, unnormalizer = checkpoint.normalizer, checkpoint.unnormalizer
    wrong: list[str] = []
    overruled: list[str] = []
    if normalizer and unnormalizer and normalizer.mode("ACTION") != unnormalizer.mode("ACTION"):
        wrong.append(
            f"ACTION {normalizer.mode('ACTION')} in {PREPROCESSOR}, "
            f"{unnormalizer.mode('ACTION')} in {POSTPROCESSOR}"
        )
    declared = checkpoint.declared_modes
    if checkpoint.recovered or not (checkpoint.settings.names_modes or remade):
        declared = {}
    steps = {"ACTION": unnormalizer or normalizer}
    steps |= dict.fromkeys(sorted(set(checkpoint.inputs.values())), normalizer)
    for kind, step in steps.items():
        said = declared.get(kind)
        if step is None or said is None or step.mode(kind) == said:
            continue
        text = f"{kind} {said} in config.json, {step.mode(kind)} in the saved step"
        (overruled if said == "IDENTITY" and not remade else wrong).append(text)
    findings = []
    if wrong:
        findings.append(
            Finding(
                "normalization_mode_mismatch",
                "error",
                "expected one normalization mode for a feature, that of the training; found "
                f"{'; '.join(wrong)}.",
                "save the processors again from the config the policy was trained with",
            )
        )
    if overruled:
        findings.append(
            Finding(
                "normalization_mode_overruled",
                "warning",
                "expected config.json to name the modes of the saved steps; found "
                f"{'; '.join(overruled)}. lerobot obeys the steps, and so does this run.",
                "correct normalization_mapping in config.json, or save the processors again",
            )
        )
    return findings


def check_overruled(checkpoint: Checkpoint, config: PolicyOptions) -> list[Finding]:
    """What config.json asks for and an evaluation does not do."""
    findings = []
    chunking = checkpoint.settings.rtc_config
    if chunking is not None and chunking.get("enabled"):
        findings.append(
            Finding(
                "rtc_off",
                "info",
                "expected chunks that depend on nothing but what is observed; found real-time "
                "chunking enabled in config.json, which blends a chunk with what is left of the "
                "last one. It is off here.",
                "nothing to do: numbers and times are those of whole chunks",
            )
        )
    if checkpoint.ensembling is not None:
        findings.append(
            Finding(
                "temporal_ensembling",
                "info",
                "expected a robot to run the first steps of a chunk; found temporal ensembling "
                f"(coefficient {checkpoint.ensembling:g}) in config.json: it runs the mean of what "
                "all chunks so far say about a step. So does this run; what is called executed is "
                "that mean, step 1 and chunk are of single chunks.",
                "nothing to do",
            )
        )
    if checkpoint.settings.compile_model and not config.compile:
        findings.append(
            Finding(
                "compile_off",
                "info",
                "expected compilation to be this run's choice; found compile_model in "
                "config.json. The model is not compiled.",
                "--compile compiles it",
            )
        )
    return findings
