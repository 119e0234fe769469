"""Numbers and findings in words, shared by every place that shows them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from policyscope.spaces import UNDECLARED_UNIT

CAVEAT = (
    "Open-loop error uses the demonstrator's states: it detects broken pipelines and gross "
    "regressions; it does not rank good policies."
)
BASELINE_NAMES = {
    "hold_state": "hold state",
    "repeat_last": "repeat last",
    "dataset_mean": "dataset mean",
    "zero": "no motion",
}
SPLIT_NAMES = {
    "held_out": "held-out episodes",
    "in_sample": "in-sample episodes",
    "unknown": "not known to be held out",
}


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits; a dash where there is none."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e5:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def ratio(value: float | None) -> str:
    """A dimensionless number of order one, such as skill."""
    return "–" if value is None else f"{value:.2f}"


def interval(estimate: dict[str, Any], show: Callable[[float | None], str] = number) -> str:
    """A value with its 95 % interval, where there is one."""
    if estimate["ci_low"] is None or estimate["ci_low"] == estimate["ci_high"]:
        return show(estimate["value"])
    low, high = (show(estimate[end]) for end in ("ci_low", "ci_high"))
    return f"{show(estimate['value'])} [{low}, {high}]"


def error_metric(record: dict[str, Any]) -> tuple[str, str]:
    """Which error to show, and its unit: native where all dims share one, else normalized."""
    units = list(dict.fromkeys(record["actions"]["units"]))
    if len(units) == 1:
        return "mae", unit_name(units[0])
    return "nmae", "std"


def main_baseline(record: dict[str, Any]) -> str:
    """The baseline that the headline names: doing nothing, where the dataset supports it."""
    known = record["skill"]
    return next(name for name in ("hold_state", "zero", "repeat_last") if name in known)


def headline(record: dict[str, Any]) -> str:
    """Is this policy better than doing nothing, by how much, how sure: one sentence."""
    name = main_baseline(record)
    gain = record["skill"][name]["chunk"]
    value, low, high = gain["value"], gain["ci_low"], gain["ci_high"]
    against = BASELINE_NAMES[name]
    if value is None:
        return f"Skill against {against} is undefined: the baseline makes no error"
    if low is None:
        verdict = f"{'Less' if value > 0 else 'More'} error than {against}"
        return f"{verdict} over the whole chunk: skill {ratio(value)}, no interval"
    if low > 0:
        verdict = f"Better than {against}"
    elif high < 0:
        verdict = f"Worse than {against}"
    else:
        verdict = f"Not clearly different from {against}"
    return f"{verdict} over the whole chunk: skill {interval(gain, ratio)}"


def shape_line(record: dict[str, Any]) -> str:
    """Similarity and smoothness of the predicted chunks in one sentence."""
    near, seams = record["similarity"], record["smoothness"]
    return (
        f"Predicted against demonstrated chunks: ADE {number(near['ade']['value'])}, FDE "
        f"{number(near['fde']['value'])} {unit_name(near['unit'])}; path-length ratio "
        f"{ratio(near['path_length_ratio']['value'])}. Jump where chunks meet over a step within: "
        f"{ratio(seams['boundary_jump'])} (demonstrations {ratio(seams['boundary_jump_demo'])})."
    )


def subject(record: dict[str, Any]) -> str:
    """Who was evaluated on what."""
    policy, data = record["policy"], record["dataset"]
    n_episodes = len(data["episodes"])
    who = (
        policy["type"] if policy["sha256"] is None else f"{policy['type']} ({tail(policy['path'])})"
    )
    seen = "" if policy["sha256"] is None else f", {SPLIT_NAMES[data['split']]}"
    return (
        f"{who} on {data['repo_id']}: {data['n_frames']} frames of "
        f"{n_episodes} episode{'s' if n_episodes != 1 else ''}{seen}"
    )


def scope_titles(record: dict[str, Any]) -> dict[str, str]:
    """What to call the scopes of a summary."""
    policy = record["policy"]
    return {
        "step1": "step 1",
        "chunk": f"chunk ({policy['chunk_size']})",
        "executed": f"executed ({policy['n_action_steps']})",
    }


def tail(path: str) -> str:
    """The telling end of a long path; the record holds all of it."""
    parts = path.rstrip("/").split("/")
    return path if len(parts) <= 3 else "…/" + "/".join(parts[-2:])


def unit_name(unit: str) -> str:
    """A unit as text."""
    return "native unit" if unit == UNDECLARED_UNIT else unit


def beside(right: dict[str, Any], wrong: dict[str, Any]) -> str:
    """A meaningless number beside the right one."""
    metric, unit = error_metric(right)
    values = [number(r["summary"]["step1"][metric]["value"]) for r in (right, wrong)]
    return (
        f"The same checkpoint on the same frames, step 1: MAE {values[0]} {unit} with its "
        f"unnormalizer, {values[1]} without: normalized outputs against native actions, a "
        "difference of scale and nothing else."
    )


def forced_notice(record: dict[str, Any]) -> str | None:
    """What must stand beside every number of a forced run."""
    if not record["forced"]:
        return None
    codes = ", ".join(f["code"] for f in record["findings"] if f["severity"] == "error")
    return f"FORCED in spite of {codes}: these numbers may mean nothing"
