"""Errors of what the dims of an action are: degrees of rotations and joints, millimetres of points,
grippers that close, limb by limb. Sums by episode that add up, and the table of all of them.

Displacements are added up over the chunk before they are compared, so that what is measured is
where they lead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.meanings import Meaning
from policyscope.actions.spaces import ActionSchema, FloatArray
from policyscope.metrics.geometry import degrees_apart, wrapped
from policyscope.metrics.grippers import (
    EVENTS,
    OUTCOMES,
    balanced_accuracy,
    events,
    f1,
    is_closed,
    outcomes,
)
from policyscope.metrics.intervals import Estimate, cluster_mean
from policyscope.metrics.stitched import stitches
from policyscope.runs.rows import GripperScores, MeaningRow
from policyscope.runs.values import Value

_WINDOW_S = 1.0


@final
@dataclass(frozen=True, eq=False)
class MeaningSums:
    """Sums over the frames of one episode, for each of P meanings.

    Attributes:
        n_frames: frames.
        count: [S] unpadded frames at each step.
        error: [W, P, S] summed errors, of the policy and each baseline (W); 0 for grippers.
        ends: [P, 2] of the policy: summed means over a chunk, and errors at its last step.
        outcomes: [W, P, S, 4] of grippers (`grippers.OUTCOMES`).
        events: [P, 5] of the policy's grippers, as a robot would run it (`grippers.EVENTS`).
    """

    n_frames: int
    count: FloatArray
    error: FloatArray
    ends: FloatArray
    outcomes: FloatArray
    events: FloatArray

    def __add__(self, other: MeaningSums) -> MeaningSums:
        return MeaningSums(
            *(getattr(self, f.name) + getattr(other, f.name) for f in fields(MeaningSums))
        )


@final
@dataclass(frozen=True, eq=False)
class Chunks:
    """What one episode is measured from.

    Attributes:
        who: name → K arrays of [T, H, A]; the policy is the last.
        target: [T, H, A].
        is_pad: [T, H].
        frame_index: [T], rising.
        executed: K arrays of [T, 1, A] where a robot runs others than the first steps of chunks.
    """

    who: Mapping[str, Sequence[FloatArray]]
    target: FloatArray
    is_pad: NDArray[np.bool_]
    frame_index: NDArray[np.int64]
    executed: Sequence[FloatArray] = ()


def meaning_sums(
    chunks: Chunks,
    schema: ActionSchema,
    *,
    stats: Mapping[str, FloatArray],
    n_action_steps: int,
    fps: float,
) -> MeaningSums:
    """Measure one episode.

    Args:
        chunks: of the episode.
        schema: with meanings.
        stats: of the compared dims; the middle of a gripper's range where its ends are unknown.
        n_action_steps: steps that a robot runs of each chunk.
        fps: frames a second.
    """
    real, n = ~chunks.is_pad, len(chunks.target)
    counted = real.sum(axis=0).astype(np.float64)
    if chunks.executed:
        counted = np.append(counted, counted[0])
    shape = (len(chunks.who), len(schema.meanings), len(counted))
    found = MeaningSums(
        n,
        counted,
        np.zeros(shape),
        np.zeros((shape[1], 2)),
        np.zeros((*shape, len(OUTCOMES))),
        np.zeros((shape[1], len(EVENTS))),
    )
    for p, meaning in enumerate(schema.meanings):
        if meaning.kind == "gripper":
            _gripper(found, p, chunks, meaning, middle_of(meaning, stats), n_action_steps, fps)
        else:
            _distances(found, p, chunks, meaning)
    return found


def _distances(found: MeaningSums, p: int, chunks: Chunks, meaning: Meaning) -> None:
    dims, real = list(meaning.dims), ~chunks.is_pad
    target, horizon = chunks.target[..., dims], real.shape[1]
    last = real.sum(axis=1) - 1
    for w, samples in enumerate(chunks.who.values()):
        apart = np.mean([distance(s[..., dims], target, meaning) for s in samples], axis=0) * real
        found.error[w, p, :horizon] = apart.sum(axis=0)
        if chunks.executed:
            found.error[w, p, horizon] = apart[:, 0].sum()
    found.ends[p, 0] = (apart.sum(axis=1) / real.sum(axis=1)).sum()
    found.ends[p, 1] = apart[np.arange(len(apart)), last].sum()
    if chunks.executed:
        first = target[:, :1]
        run = [distance(e[..., dims], first, meaning) for e in chunks.executed]
        found.error[-1, p, horizon] = (np.mean(run, axis=0) * real[:, :1]).sum()


def distance(values: FloatArray, target: FloatArray, meaning: Meaning) -> FloatArray:
    """[…, H] how far two chunks are apart, in `Meaning.shown_unit`.

    Of points it is the distance, of a rotation the angle; of joints and others the mean over dims
    of the absolute difference.

    Args:
        values: […, H, k] native.
        target: […, H, k] native.
        meaning: of the k dims; no gripper.
    """
    if meaning.is_rotation:
        return degrees_apart(values, target, meaning)
    difference = values - target
    if meaning.delta:
        difference = difference.cumsum(axis=-2)
    if meaning.turn is not None:
        difference = wrapped(difference, meaning.turn)
    if meaning.kind == "position":
        length: FloatArray = np.linalg.norm(difference, axis=-1)
        return length * meaning.shown_scale
    scale = 1.0 if meaning.kind == "rotation" else meaning.shown_scale
    mean: FloatArray = np.abs(difference).mean(axis=-1)
    return mean * scale


def middle_of(meaning: Meaning, stats: Mapping[str, FloatArray]) -> float:
    """The value that divides a gripper's two states: of its range where its ends are unknown."""
    if meaning.middle is not None:
        return meaning.middle
    low, high = stats.get("min"), stats.get("max")
    dim = meaning.dims[0]
    if low is None or high is None:
        return float(stats["mean"][dim])
    return float(low[dim] + high[dim]) / 2


def _gripper(
    found: MeaningSums,
    p: int,
    chunks: Chunks,
    meaning: Meaning,
    middle: float,
    n_action_steps: int,
    fps: float,
) -> None:
    dim, real = meaning.dims[0], ~chunks.is_pad
    target, horizon = is_closed(chunks.target[..., dim], meaning, middle), real.shape[1]
    states = [[is_closed(s[..., dim], meaning, middle) for s in k] for k in chunks.who.values()]
    for w, samples in enumerate(states):
        counts = np.mean([outcomes(s, target, real) for s in samples], axis=0)
        found.outcomes[w, p, :horizon] = counts
        if chunks.executed:
            found.outcomes[w, p, horizon] = counts[0]
    run = [is_closed(e[..., dim], meaning, middle) for e in chunks.executed]
    if run:
        first, shown = target[:, :1], real[:, :1]
        counts = np.mean([outcomes(s, first, shown) for s in run], axis=0)
        found.outcomes[-1, p, horizon] = counts[0]
    at = stitches(chunks.frame_index, chunks.is_pad, 1 if run else n_action_steps)
    if at.whole:
        window = max(1, round(_WINDOW_S * fps))
        courses = [s[at.row, at.step] for s in (run or states[-1])]
        wanted = target[at.row, at.step]
        found.events[p] = np.mean([events(c, wanted, window) for c in courses], axis=0)


# ── the table ─────────────────────────────────────────────────────────


def meaning_rows(
    sums: Sequence[MeaningSums],
    who: Sequence[str],
    schema: ActionSchema,
    *,
    steps: Mapping[str, slice],
    fps: float,
) -> list[MeaningRow]:
    """A row for each meaning, with intervals whose unit of chance is the episode.

    Args:
        sums: one an episode.
        who: whose errors the sums hold; the policy is the last.
        schema: with meanings.
        steps: scope → its steps.
        fps: frames a second.
    """
    if not sums:
        return []
    count = np.stack([s.count for s in sums])
    frames = np.array([s.n_frames for s in sums], dtype=np.float64)
    n = int(frames.sum())
    rows = []
    for p, meaning in enumerate(schema.meanings):
        grips = meaning.kind == "gripper"
        error = np.stack([s.error[:, p] for s in sums])  # [G, W, S]
        ends = np.stack([s.ends[p] for s in sums])

        def mean(w: int, which: slice, error: FloatArray = error) -> Estimate:
            seen = int(count[:, which][:, 0].sum())
            total = error[:, w, which].sum(axis=1)
            return cluster_mean(total, count[:, which].sum(axis=1), n_frames=seen)

        def ended(i: int, ends: FloatArray = ends) -> Value:
            return cluster_mean(ends[:, i], frames, n_frames=n).measured()

        rows.append(
            MeaningRow(
                kind=meaning.kind,
                group=meaning.group,
                names=meaning.names,
                dims=meaning.dims,
                unit=meaning.shown_unit,
                delta=meaning.delta,
                **{
                    scope: None if grips else mean(len(who) - 1, which).measured()
                    for scope, which in steps.items()
                },
                ade=None if grips else ended(0),
                fde=None if grips else ended(1),
                baselines={}
                if grips
                else {name: mean(w, steps["executed"]).value for w, name in enumerate(who[:-1])},
                gripper=_grips(sums, p, who, meaning, steps["executed"], fps) if grips else None,
            )
        )
    return rows


def _grips(
    sums: Sequence[MeaningSums],
    p: int,
    who: Sequence[str],
    meaning: Meaning,
    executed: slice,
    fps: float,
) -> GripperScores:
    counts = np.sum([s.outcomes[:, p, executed].sum(axis=1) for s in sums], axis=0)  # [W, 4]
    wanted, met, late, off, spurious = np.sum([s.events[p] for s in sums], axis=0)
    known = meaning.middle is not None
    return GripperScores(
        ends_declared=known,
        f1=f1(counts[-1]) if known else None,
        balanced_accuracy=balanced_accuracy(counts[-1]),
        baselines={name: balanced_accuracy(counts[w]) for w, name in enumerate(who[:-1])},
        n_events=float(wanted),
        met=float(met),
        spurious=float(spurious),
        late_frames=float(late / met) if met else None,
        late_ms=float(late / met / fps * 1000) if met else None,
        off_frames=float(off / met) if met else None,
        off_ms=float(off / met / fps * 1000) if met else None,
    )
