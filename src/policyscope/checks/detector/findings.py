"""Verdicts as findings, with the severity that the measured false alarms allow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.checks.detector.decide import Verdict, judge
from policyscope.checks.detector.hypotheses import Declared, Sample
from policyscope.checks.detector.signals import signals
from policyscope.errors import Finding, Severity

ERRORS = (
    "suspect_not_unnormalized",
    "suspect_normalized_twice",
    "suspect_unnormalized_twice",
    "suspect_degrees",
    "suspect_radians",
)
"""Verdicts that are errors; docs/detector.md has their measured false alarms."""

_STILL = 0.05  # path length of a chunk against the demonstrations'
_AT_BOUND = 1e-3  # of the dataset's range
_SATURATED = 0.2  # share of values at a bound, above the demonstrations' own
_OUTSIDE = 0.05  # share of values
_MARGIN = 0.05  # of the dataset's range


def examine(sample: Sample, declared: Declared) -> tuple[Finding, ...]:
    """Everything that the predictions give away, the main suspicion first."""
    verdict = judge(sample, declared)
    if verdict.code not in ("clear", "too_little", "suspect_unexplained"):
        return (_suspicion(verdict),)
    known = [] if verdict.code == "too_little" else signals(sample, declared)
    if known or verdict.code == "suspect_unexplained":
        return tuple(known) or (_suspicion(verdict),)
    found = [_still(sample), _saturated(sample, declared), _outside(sample, declared)]
    hidden = [code for code in verdict.unchecked if code in ERRORS]
    if hidden:
        found.append(
            Finding(
                "predictions_not_checkable",
                "info",
                "expected actions that differ from what a mistake would make of them; found that "
                f"{', '.join(hidden)} would look right on this dataset.",
                "nothing to do: the statistics leave these numbers nearly as they are",
            )
        )
    if verdict.code == "too_little":
        found.append(
            Finding(
                "predictions_unexamined",
                "info",
                f"expected, to examine the predictions, {verdict.says}.",
                verdict.fix,
                evidence=verdict.evidence,
            )
        )
    return tuple(finding for finding in found if finding is not None)


def _suspicion(verdict: Verdict) -> Finding:
    severity: Severity = "error" if verdict.code in ERRORS else "warning"
    return Finding(
        verdict.code,
        severity,
        f"expected predictions in the dataset's units; found {verdict.says}. Suspect: no proof.",
        verdict.fix,
        evidence=verdict.evidence,
    )


def _still(sample: Sample) -> Finding | None:
    """Chunks that hold one action while the demonstrations move."""
    inside = ~sample.is_pad[:, 1:, None]
    paths = [
        (np.abs(np.diff(actions.values, axis=1)) * inside).sum(axis=(0, 1))
        for actions in (sample.predicted, sample.target)
    ]
    moving = paths[1] > 0
    if not moving.any():
        return None
    share = float(np.median(paths[0][moving] / paths[1][moving]))
    if share > _STILL:
        return None
    return Finding(
        "suspect_frozen",
        "warning",
        f"expected chunks that move; found {share:.2g} of the demonstrations' path length within "
        "a chunk. Suspect: the policy repeats one action.",
        "check that the policy was trained on chunks (delta_timestamps), and that it converged",
        evidence={"path_length_ratio": share},
    )


def _saturated(sample: Sample, declared: Declared) -> Finding | None:
    """Values pinned to the bounds of the statistics more often than the demonstrations'."""
    if declared.low is None or declared.high is None:
        return None
    near = _AT_BOUND * (declared.high - declared.low)
    shares = [
        ((np.abs(v - declared.low) <= near) | (np.abs(v - declared.high) <= near)).mean(axis=0)
        for v in (sample.predicted.values[:, 0], sample.target.values[:, 0])
    ]
    varies = (declared.high - declared.low) > 0
    extra = np.where(varies, shares[0] - shares[1], 0.0)
    if extra.max() <= _SATURATED:
        return None
    return Finding(
        "suspect_saturated",
        "warning",
        "expected values at the bounds as often as in the demonstrations; found "
        + _listed(declared, extra > _SATURATED, shares[0], " at a bound")
        + ". Suspect: outputs are clipped, or unnormalized with too small a range.",
        "check the bounds in the unnormalizer's statistics",
        evidence={"share": float(shares[0].max()), "share_demonstrations": float(shares[1].max())},
    )


def _outside(sample: Sample, declared: Declared) -> Finding | None:
    """Values outside the range of the dataset."""
    if declared.low is None or declared.high is None:
        return None
    margin = _MARGIN * (declared.high - declared.low)
    values = sample.predicted.values
    outside = (values < declared.low - margin) | (values > declared.high + margin)
    share = outside[~sample.is_pad].mean(axis=0)
    share = np.where(declared.high > declared.low, share, 0.0)
    if share.max() <= _OUTSIDE:
        return None
    return Finding(
        "out_of_range",
        "warning",
        "expected predictions within the dataset's range; found "
        + _listed(declared, share > _OUTSIDE, share, " outside it")
        + ".",
        "check the normalization statistics, and that this is the robot it was trained on",
        evidence={"share": float(share.max())},
    )


def _listed(declared: Declared, chosen: NDArray[np.bool_], share: FloatArray, what: str) -> str:
    names = [f"{declared.schema.names[i]} {share[i]:.0%}" for i in np.flatnonzero(chosen)[:4]]
    more = f" and {int(chosen.sum()) - 4} more" if chosen.sum() > 4 else ""
    return ", ".join(names) + more + what
