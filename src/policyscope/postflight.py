"""Postflight: what only the finished scores show."""

from __future__ import annotations

from policyscope.config import EvalConfig
from policyscope.findings import Finding
from policyscope.metrics.intervals import MIN_EPISODES
from policyscope.metrics.scorecard import Scorecard
from policyscope.policies.base import PolicySpec


def postflight(config: EvalConfig, scores: Scorecard, spec: PolicySpec) -> list[Finding]:
    """Findings that only the finished predictions show."""
    findings = []
    if scores.n_episodes < MIN_EPISODES:
        findings.append(
            Finding(
                "few_episodes",
                "info",
                f"expected at least {MIN_EPISODES} episodes for an interval; found "
                f"{scores.n_episodes}. Frames of one episode are not independent: none is given.",
                "more --dataset.episodes",
            )
        )
    if spec.draws == "seeded":
        findings.append(
            Finding(
                "seeded_one_by_one",
                "info",
                f"{spec.type} can't be given its noise; it ran one frame at a time under a "
                "seed for each, which is slower.",
                "nothing to do: the numbers are reproducible",
            )
        )
    excluded = [n for n, used in zip(scores.schema.names, scores.included, strict=True) if not used]
    if excluded:
        findings.append(
            Finding(
                "constant_dims",
                "info",
                f"expected dims that vary; found a standard deviation below 1e-6 in "
                f"{', '.join(excluded)}. They have no normalized error.",
                "nothing to do",
            )
        )
    if config.action_kind == "absolute" and "hold_state" in scores.baselines:
        hold = scores.summary("hold_state")["step1"]["nmse"]["value"]
        mean = scores.summary("dataset_mean")["step1"]["nmse"]["value"]
        if hold is not None and mean is not None and hold > mean:
            findings.append(
                Finding(
                    "hold_state_implausible",
                    "warning",
                    "expected the current state to be nearer to the next action than the dataset's "
                    f"mean is; found a squared error of {hold:.3g} against {mean:.3g} (std²). "
                    "Suspect: actions are displacements, or state and action differ in meaning.",
                    "--action_kind delta if actions are displacements",
                )
            )
    return findings
