"""What a dataset on trial says, in words."""

from __future__ import annotations

from policyscope.checks.trial.looks import Trial
from policyscope.views.language import Say, english


def subject(trial: Trial, say: Say = english) -> str:
    """Which dataset, and how much of it."""
    known = trial.recordings
    return say(
        "{data}: {episodes} episodes, {frames} frames, {fps} frames a second",
        data=trial.source.facts.robot.name,
        episodes=len(known.episodes) if known else 0,
        frames=known.n_frames if known else 0,
        fps=f"{trial.source.facts.robot.fps:g}",
    )


def headline(trial: Trial, say: Say = english) -> str:
    """How many things were looked at, and what came of it."""
    n = {
        name: sum(finding.severity == severity for finding in trial.findings)
        for name, severity in (("errors", "error"), ("warnings", "warning"), ("hints", "info"))
    }
    looked = sum(look.outcome != "absent" for look in trial.looks)
    counted = say("errors: {errors}, warnings: {warnings}, hints: {hints}", **n)
    if not n["errors"] and not n["warnings"]:
        counted = say("nothing wrong, hints: {hints}", hints=n["hints"])
    return say("{looked} things looked at; {counted}", looked=looked, counted=counted)
