"""What an offline run says, in words."""

from __future__ import annotations

from typing import Literal

from policyscope.runs.content import OfflineRecord
from policyscope.runs.parts import Scope
from policyscope.views.language import Say, english
from policyscope.views.words import number, ratio, share, unit_name, who

CAVEAT = (
    "Open-loop error uses the demonstrator's states: it detects broken pipelines and gross "
    "regressions; it does not rank good policies."
)


BASELINE_NAMES = {
    "hold_state": "hold state",
    "zero": "no motion",
    "repeat_last": "repeat last",
    "dataset_mean": "dataset mean",
}


SOURCE_NOTES = {
    "dataset": "statistics from the dataset (--stats dataset)",
    "weights": "statistics recovered from its weights",
}


SPLIT_NAMES = {
    "held_out": "held-out episodes",
    "in_sample": "in-sample episodes",
    "unknown": "not known to be held out",
}


def error_metric(record: OfflineRecord) -> tuple[Literal["mae", "nmae"], str]:
    """Which error to show, and its unit: native where all dims share one, else normalized."""
    units = list(dict.fromkeys(record.actions.units))
    if len(units) == 1:
        return "mae", unit_name(units[0])
    return "nmae", "std"


def shape_line(record: OfflineRecord, say: Say = english) -> str:
    """Similarity and smoothness of the predicted chunks in one sentence."""
    near, seams = record.similarity, record.smoothness
    return say(
        "Predicted against demonstrated chunks: ADE {ade}, FDE {fde} {unit}; path-length ratio "
        "{path}. Jump where chunks meet over a step within: {jump} (demonstrations {demo}).",
        ade=number(near.ade.value),
        fde=number(near.fde.value),
        unit=unit_name(near.unit, say),
        path=ratio(near.path_length_ratio.value),
        jump=ratio(seams.boundary_jump),
        demo=ratio(seams.boundary_jump_demo),
    )


def budget_line(record: OfflineRecord, say: Say = english) -> str:
    """Whether a robot would wait: of control steps from observation to action, not of calls."""
    latency, budget = record.latency, record.latency.budget
    return say(
        "First call {first} ms. A step at {fps} Hz lasts {step} ms: {misses} of the control steps "
        "that call the model take longer.",
        first=number(latency.first_call_ms),
        fps=f"{budget.fps:g}",
        step=number(budget.sync_ms),
        misses=share(budget.sync_miss_rate, latency.end_to_end.n if latency.end_to_end else 0, say),
    )


def subject(record: OfflineRecord, say: Say = english) -> str:
    """Who was evaluated on what."""
    policy, data = record.policy, record.dataset
    values = {
        "who": who(policy),
        "data": data.repo_id,
        "frames": data.n_frames,
        "n": len(data.episodes),
    }
    if len(data.episodes) == 1:
        text = say("{who} on {data}: {frames} frames of {n} episode", **values)
    else:
        text = say("{who} on {data}: {frames} frames of {n} episodes", **values)
    seen = "" if policy.sha256 is None else say(", {split}", split=say(SPLIT_NAMES[data.split]))
    source = SOURCE_NOTES.get(record.actions.normalization.source)
    return text + seen + (f"; {say(source)}" if source else "")


def scope_titles(record: OfflineRecord, say: Say = english) -> dict[Scope, str]:
    """What to call the scopes of a summary."""
    return {
        "step1": say("step 1"),
        "chunk": say("chunk ({n})", n=record.policy.chunk),
        "executed": say("executed ({n})", n=record.policy.executed),
    }


def beside(right: OfflineRecord, wrong: OfflineRecord) -> str:
    """A meaningless number beside the right one."""
    metric, unit = error_metric(right)
    values = [number(r.summary.step1.of(metric).value) for r in (right, wrong)]
    return (
        f"The same checkpoint on the same frames, step 1: MAE {values[0]} {unit} with its "
        f"unnormalizer, {values[1]} without: normalized outputs against native actions, a "
        "difference of scale and nothing else."
    )
