"""Mistakes that leave predictions in their units: in time, in one dim, or in what was asked.

Each is named only where all episodes agree, or the interval over five or more of them does.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.checks.detector.hypotheses import Declared, Sample
from policyscope.errors import Finding
from policyscope.metrics.intervals import Estimate, cluster_ratio, skill
from policyscope.metrics.sums import MIN_STD

_BACKWARDS = -0.25  # correlation of the chunks' motion with the demonstrations'
_LAG = 5  # frames, below which a policy is lazy, not late
_LAG_ERROR = 0.3  # of the error of the same predictions against their own frames
_FROZEN = 0.1  # of the demonstrations' spread
_SHIFT = 0.6  # standard deviations
_SHIFT_SHARE = 0.6  # of a dim's squared error that a constant explains
_FOLLOWS = 0.85  # correlation of a dim whose scale is judged
_WIDE = 1.5  # spread over the demonstrations'
_NARROW = 0.55  # spread over what the correlation leaves a cautious policy
_MOVES = 0.3  # standard deviations that a dim varies in the sample, to be judged
_WEAK = -0.5  # skill below which a policy is wrong everywhere, not in single dims
_WORSE = -0.2  # skill that most of three or four episodes must agree on


def signals(sample: Sample, declared: Declared) -> list[Finding]:
    """What the predictions give away beyond units, order and signs."""
    return [*_in_time(sample, declared), *_in_one_dim(sample, declared)]


def standing(sample: Sample, declared: Declared) -> list[Finding]:
    """How good the predictions of this sample are at all, against what needs no policy."""
    use = declared.std >= MIN_STD
    if not sample.trivial or not use.any():
        return []
    ours, count = _by_episode(sample, sample.predicted.values, declared, use)
    known = {
        name: _by_episode(sample, held[:, None, :], declared, use)[0]
        for name, held in sample.trivial.items()
    }

    def gain(name: str) -> Estimate:
        return skill(ours, known[name], count, n_frames=len(sample.episode))

    best = min(known, key=lambda name: float(known[name].sum()))
    if "dataset_mean" in known and _worse(gain("dataset_mean"), ours, known["dataset_mean"]):
        return [_unrelated(gain("dataset_mean"))]
    return [(_below if _worse(gain(best), ours, known[best]) else _sampled)(gain(best), best)]


def _in_time(sample: Sample, declared: Declared) -> Iterator[Finding]:
    backwards = _backwards(sample, declared)
    yield from backwards
    if not backwards:
        yield from _late(sample, declared)


def _backwards(sample: Sample, declared: Declared) -> list[Finding]:
    """Whole chunks whose motion runs against the demonstrated one."""
    use = declared.std >= MIN_STD
    rows = ~sample.is_pad.any(axis=1)
    if not rows.any() or sample.is_pad.shape[1] < 2:
        return []
    ours, theirs = (
        (a.values[rows, -1] - a.values[rows, 0])[:, use] / declared.std[use]
        for a in (sample.predicted, sample.target)
    )
    size = np.sqrt((ours**2).sum() * (theirs**2).sum())
    if not size > 0:
        return []
    products = (ours * theirs).sum(axis=1)
    by_episode = _sums(sample.episode[rows], products)
    correlation = float(products.sum() / size)
    if correlation > _BACKWARDS or not (by_episode < 0).mean() >= 0.75:
        return []
    return [
        Finding(
            "suspect_reversed",
            "warning",
            "expected chunks that move as the demonstrations do; found motion from first to last "
            f"step that runs against them (correlation {correlation:.2f}, in "
            f"{int((by_episode < 0).sum())} of {len(by_episode)} episodes). Suspect: the steps of "
            "a chunk are in reverse order.",
            "reverse the chunk's time axis where it is made or stored",
            evidence={"motion_correlation": correlation},
        )
    ]


def _late(sample: Sample, declared: Declared) -> list[Finding]:
    """First steps that fit the demonstration of another moment far better than their own."""
    if sample.around is None:
        return []
    use, horizon = declared.std >= MIN_STD, sample.is_pad.shape[1]
    first = sample.predicted.values[:, 0]
    errors: dict[int, tuple[FloatArray, FloatArray]] = {}
    for lag in range(-horizon, horizon + 1):
        then = sample.around[:, horizon + lag]
        inside = np.asarray(np.isfinite(then).all(axis=1))
        gaps = [
            (((first - y)[:, use] / declared.std[use]) ** 2).mean(axis=1)
            for y in (np.where(inside[:, None], then, 0.0), sample.target.values[:, 0])
        ]
        errors[lag] = (
            _sums(sample.episode, np.where(inside, gaps[0], 0.0)),
            _sums(sample.episode, np.where(inside, gaps[1], 0.0)),
        )
    share = {lag: _of(a.sum(), b.sum()) for lag, (a, b) in errors.items()}
    best = min(share, key=lambda lag: share[lag])
    found = cluster_ratio(*errors[best], count=errors[best][1])
    agreed = found.high is None or found.high < 2 * _LAG_ERROR
    each = errors[best][0] <= errors[best][1]
    if abs(best) < _LAG or share[best] > _LAG_ERROR or not agreed or each.mean() < 0.75:
        return []
    when = f"{abs(best)} frames {'earlier' if best < 0 else 'later'}"
    return [
        Finding(
            "suspect_late",
            "warning",
            f"expected a first step that fits its own moment; found that it fits the demonstration "
            f"{when}, with {share[best]:.2f} times the squared error. Suspect: predictions of "
            "other frames, old observations, or a chunk of which the beginning is cut off.",
            "check which observation each prediction was made from, and at which step of the "
            "chunk it starts (n_obs_steps, delays, queues)",
            evidence={"lag_frames": best, "error_ratio": share[best]},
        )
    ]


def _in_one_dim(sample: Sample, declared: Declared) -> Iterator[Finding]:
    """Dims that stand still, or stand elsewhere, while the others are right."""
    ours, theirs = (
        a.values[:, 0] / np.maximum(declared.std, MIN_STD)
        for a in (sample.predicted, sample.target)
    )
    moves = (declared.std >= MIN_STD) & (theirs.std(axis=0) > _MOVES)
    spread = ours.std(axis=0) / np.maximum(theirs.std(axis=0), MIN_STD)
    still = moves & (spread < _FROZEN)
    if still.any() and 2 * still.sum() <= moves.sum():
        yield Finding(
            "suspect_frozen_dim",
            "warning",
            f"expected dims that vary as in the demonstrations; found {_named(declared, still)} at "
            f"{float(spread[still].max()):.2g} of their spread, while the others vary. Suspect: a "
            "dim that is masked, clipped or never learnt.",
            "check this dim's statistics in the unnormalizer, and whether it varied in training",
            evidence={"spread_ratio": float(spread[still].max())},
        )
    gap = ours - theirs
    shift, square = gap.mean(axis=0), (gap**2).mean(axis=0)
    same = _same_sign(sample.episode, gap)
    off = moves & (np.abs(shift) > _SHIFT) & (shift**2 > _SHIFT_SHARE * square) & same
    rho = _correlation(ours, theirs)
    follows = moves & (rho > _FOLLOWS)
    scaled = follows & ((spread > _WIDE) | (spread < _NARROW * rho)) & ~still
    if (off.any() or scaled.any()) and _others_are_right(sample, declared, moves & ~off & ~scaled):
        told = [f"{declared.schema.names[i]} by {shift[i]:+.2g} std" for i in np.flatnonzero(off)]
        told += [
            f"{declared.schema.names[i]} {spread[i]:.2g} times as wide"
            for i in np.flatnonzero(scaled & ~off)
        ]
        yield Finding(
            "suspect_stats",
            "warning",
            f"expected dims at the demonstrations' place and scale; found off: "
            f"{', '.join(told[:4])}{', ...' if len(told) > 4 else ''}. Suspect: this dim was "
            "unnormalized with other statistics, or calibrated otherwise, or the state that the "
            "policy reads was normalized with other ones.",
            "compare the unnormalizer's statistics of this dim with meta/stats.json; --stats "
            "dataset takes the dataset's",
            evidence={"n_dims": int((off | scaled).sum()), "shift_std": float(np.abs(shift).max())},
        )


def _others_are_right(sample: Sample, declared: Declared, others: NDArray[np.bool_]) -> bool:
    """Whether a dim that is off stands out: not where all others are far worse than no policy."""
    if not sample.trivial or not others.any():
        return True
    ours = _by_episode(sample, sample.predicted.values, declared, others)[0].sum()
    best = min(
        _by_episode(sample, held[:, None, :], declared, others)[0].sum()
        for held in sample.trivial.values()
    )
    return bool(ours <= (1 - _WEAK) * best)


def _unrelated(gain: Estimate) -> Finding:
    return Finding(
        "suspect_unrelated",
        "warning",
        "expected less error than the dataset's mean action makes; found more: skill "
        f"{_told(gain)}. Suspect: predictions of other episodes or frames, or inputs that are not "
        "those of the training (pictures black, upside down or another camera's; state of another "
        "frame, or normalized otherwise).",
        "check that observations and predictions belong to the same frames, then what reaches the "
        "policy; a policy that was trained on another task deserves this, too",
        evidence={"skill_dataset_mean": gain.value or 0.0},
    )


def _below(gain: Estimate, best: str) -> Finding:
    return Finding(
        "below_trivial",
        "warning",
        f"expected less error over the chunk than {_NAMES.get(best, best)} makes; found more: "
        f"skill {_told(gain)}. A weak policy, or inputs that are not those of the training "
        "(pictures black, upside down or another camera's; state of another frame, or normalized "
        "otherwise), or predictions of other frames, late, reversed or at another rate.",
        "look at what reaches the policy, and at report.html of an evaluation; train longer if all "
        "of it is right",
        evidence={f"skill_{best}": gain.value or 0.0},
    )


def _sampled(gain: Estimate, best: str) -> Finding:
    shown = "that it makes" if gain.low is not None and gain.low > 0 else "it not shown to make"
    return Finding(
        "sample_skill",
        "info",
        f"expected less error over the chunk than {_NAMES.get(best, best)}, the best of what needs "
        f"no policy; found {shown} less: skill {_told(gain)} on {gain.n_frames} frames of "
        f"{gain.n_episodes} episodes.",
        "nothing to do; policyscope eval measures it on all frames",
        evidence={f"skill_{best}": gain.value or 0.0},
    )


_NAMES = {"hold_state": "holding the state", "zero": "no motion", "dataset_mean": "the mean action"}


def _told(gain: Estimate) -> str:
    if gain.value is None:
        return "undefined"
    ends = f" [{gain.low:.2f}, {gain.high:.2f}]" if gain.low is not None else ""
    return f"{gain.value:.2f}{ends}"


def _worse(gain: Estimate, ours: FloatArray, theirs: FloatArray) -> bool:
    """By the interval; of three or four episodes most must agree, on more than a little."""
    if gain.value is None:
        return False
    if gain.high is not None:
        return gain.high < 0
    return gain.value < _WORSE and bool((ours > theirs).mean() > 0.5)


def _by_episode(
    sample: Sample, values: FloatArray, declared: Declared, use: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Sums of squared errors over unpadded steps, in standard deviations, and their counts."""
    gap = (values - sample.target.values)[..., use] / declared.std[use]
    inside = ~sample.is_pad
    squared = (gap**2).mean(axis=-1) * inside
    return (
        _sums(sample.episode, squared.sum(axis=1)),
        _sums(sample.episode, inside.sum(axis=1).astype(np.float64)),
    )


def _sums(episode: NDArray[np.int64], values: FloatArray) -> FloatArray:
    _, place = np.unique(episode, return_inverse=True)
    return np.bincount(place, weights=values).astype(np.float64)


def _same_sign(episode: NDArray[np.int64], gap: FloatArray) -> NDArray[np.bool_]:
    """[A] whether the mean gap of every episode has the same sign."""
    signs = np.stack([np.sign(gap[episode == e].mean(axis=0)) for e in np.unique(episode)])
    return np.asarray((signs == signs[0]).all(axis=0))


def _correlation(a: FloatArray, b: FloatArray) -> FloatArray:
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    size = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.asarray((a * b).sum(axis=0) / np.where(size > 0, size, np.inf))


def _of(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else 1.0


def _named(declared: Declared, chosen: NDArray[np.bool_]) -> str:
    names = [declared.schema.names[i] for i in np.flatnonzero(chosen)]
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
