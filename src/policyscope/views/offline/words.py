"""What an offline run says, in words."""

from __future__ import annotations

from statistics import median
from typing import Literal

from policyscope.actions.meanings import UNDECLARED_UNIT, one_unit
from policyscope.runs.content import OfflineRecord
from policyscope.runs.parts import Scope
from policyscope.runs.rows import DimRow
from policyscope.runs.values import Value
from policyscope.views.language import Say, english
from policyscope.views.words import interval, number, ratio, share, unit_name, who

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
    unit = one_unit(record.actions.units)
    return ("nmae", "std") if unit is None else ("mae", unit_name(unit))


def worst_dims(record: OfflineRecord) -> list[DimRow]:
    """Dims over the chunk, the largest error in std first.

    A dim that rests has a tiny standard deviation, so that a tenth of a degree would be a large
    error: here it counts at least a tenth of what dims of its unit have as a rule, and an error
    below the dataset's own noise comes last.
    """
    rows = record.dims()

    def error(row: DimRow) -> float:
        if row.noise_floor is not None and row.mae <= row.noise_floor:
            return 0.0
        others = [r.std for r in rows if r.unit == row.unit and r.unit != UNDECLARED_UNIT]
        scale = max(row.std, 0.1 * median(others or [0.0]))
        return row.mae / scale if not row.excluded and scale > 0 else 0.0

    return sorted(rows, key=lambda row: (-error(row), row.dim))


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


def sample_lines(record: OfflineRecord, say: Say = english) -> list[str]:
    """What K samples a frame tell: how good they are together, and how sure."""
    known = record.samples
    if known is None:
        return []
    lines = []
    if known.energy_score_each is not None and known.spread is not None:
        lines.append(
            say(
                "{k} samples a frame: energy score {energy} std a value (less is better, it "
                "rewards honest spread). Spread over skill {spread}: {sure}.",
                k=known.k,
                energy=interval(known.energy_score_each),
                spread=interval(known.spread, ratio),
                sure=_sure(known.spread, say),
            )
        )
    return [
        *lines,
        say(
            "Squared error in std²: of one sample {one}, of their mean {mean}; of the best of {k}, "
            "which only who knows the answer can pick, {best} (it falls with K).",
            one=interval(known.nmse_per_sample),
            mean=interval(known.nmse_of_sample_mean),
            best=interval(known.nmse_best_of_k_oracle),
            k=known.k,
        ),
    ]


def _sure(spread: Value, say: Say) -> str:
    """Whether samples differ as much as their mean errs, as far as the interval tells."""
    if spread.ci_low is None or spread.ci_high is None:
        return say("too few episodes to say whether that is 1")
    if spread.ci_high < 1:
        return say("too sure, the samples differ less than their mean errs")
    if spread.ci_low > 1:
        return say("too unsure, the samples differ more than their mean errs")
    return say("not shown to be too sure or too unsure")


def rate_of_samples(record: OfflineRecord, say: Say = english) -> str:
    """What must stand beside frames a second where a frame is asked several times."""
    return (
        "" if record.policy.samples == 1 else say(" of {k} samples each", k=record.policy.samples)
    )


def budget_line(record: OfflineRecord, say: Say = english) -> str:
    """Whether a robot would wait: of control steps from observation to action, not of calls."""
    latency, budget = record.latency, record.latency.budget
    return say(
        "First call {first} ms. A step at {fps} Hz lasts {step} ms; a control step that calls the "
        "model takes longer in {misses}.",
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
    text = say("{who} on {data}: {frames} frames of {n} episodes", **values)
    seen = "" if policy.sha256 is None else say(", {split}", split=say(SPLIT_NAMES[data.split]))
    source = SOURCE_NOTES.get(record.actions.normalization.source)
    return text + seen + (f"; {say(source)}" if source else "")


def within_line(record: OfflineRecord, say: Say = english) -> str:
    """What the frames that a time budget allowed say of all; empty where all were asked."""
    within = record.within
    if within is None:
        return ""
    return say(
        "In time: {n} of {all} frames, spread over {episodes} of {every} episodes. Over all of "
        "these frames the error of the chunk would be {error} {unit}.",
        n=within.n_frames,
        all=within.of_frames,
        episodes=len(record.dataset.episodes),
        every=within.of_episodes,
        error=interval(within.all_frames["chunk"]),
        unit=unit_name(within.unit, say),
    )


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
