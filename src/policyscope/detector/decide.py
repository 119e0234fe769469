"""Which mistake fits the predictions: decided in order, by thresholds tuned on real networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from policyscope.detector.hypotheses import Declared, Hypothesis, Sample, hypotheses
from policyscope.detector.statistics import Fit, fit, free_cost, spearman
from policyscope.spaces import FloatArray

MIN_EPISODES = 3
MIN_FRAMES = 30

_EXACT_GAIN = 2.0  # C(raw) - C(h)
_EXACT_COST = 4.5  # C(h)
_EXACT_OVER_FREE = 2.5  # C(h) - C(free)
_CORRELATED = 0.3
_TELLING = 4.0  # the hypothesis's own cost against right actions: else not checkable here
_MOVED_RHO = 0.5
_MOVED_GAIN = 0.35
_MOVED_COST = 4.0
_FLIPPED_RHO = -0.5
_UPRIGHT_RHO = 0.4
_AFFINE_COST = 5.0
_AFFINE_GAIN = 4.0
_DIM_COST = 10.0
_DIM_FREE = 2.0
_DIM_RHO = 0.6
_UNEXPLAINED = 6.0
_COLLAPSED = 0.1
_DISTINCT = 8


@final
@dataclass(frozen=True, eq=False)
class Verdict:
    """What the predictions look like.

    Attributes:
        code: of the mistake that fits, or ``clear``, or ``too_little`` to tell.
        says: the evidence in words.
        fix: what to do.
        evidence: the numbers behind it.
        unchecked: codes of mistakes that can't be told from right predictions on this dataset.
    """

    code: str
    says: str
    fix: str
    evidence: dict[str, float]
    unchecked: tuple[str, ...] = ()


@final
@dataclass(frozen=True, eq=False)
class _Facts:
    """Everything the decision looks at: [N, M] arrays of the M dims that vary."""

    predicted: FloatArray
    target: FloatArray
    names: tuple[str, ...]
    raw: Fit
    rho: FloatArray  # [M, M]
    free: FloatArray  # [M]

    @property
    def own(self) -> FloatArray:
        """[M] rank correlation of each dim with its own target."""
        return np.diag(self.rho)


@final
@dataclass(frozen=True, eq=False)
class _Trial:
    """[N, M] predictions, right actions, and what the hypothesis makes of these."""

    hypothesis: Hypothesis
    predicted: FloatArray
    target: FloatArray
    turned: FloatArray


def judge(sample: Sample, declared: Declared) -> Verdict:
    """Name the mistake that the first step of the predicted chunks looks like."""
    predicted, target = sample.predicted.values[:, 0], sample.target.values[:, 0]
    dims = np.array([_varies(column) for column in target.T])
    n_episodes = len(np.unique(sample.episode))
    if n_episodes < MIN_EPISODES or len(predicted) < MIN_FRAMES or not dims.any():
        return Verdict(
            "too_little",
            f"at least {MIN_EPISODES} episodes, {MIN_FRAMES} frames and a dim that varies; found "
            f"{n_episodes}, {len(predicted)} and {int(dims.sum())}",
            "more --dataset.episodes",
            {"n_episodes": n_episodes, "n_frames": len(predicted), "n_dims": int(dims.sum())},
        )
    p, y = predicted[:, dims], target[:, dims]
    names = tuple(n for n, used in zip(declared.schema.names, dims, strict=True) if used)
    facts = _Facts(p, y, names, fit(p, y), spearman(p, y), free_cost(p, y))
    telling, unchecked = [], []
    for h in hypotheses(declared, has_state=sample.state is not None):
        trial = _trial(h, sample, dims)
        if fit(trial.turned, trial.target).cost.mean() > _TELLING:
            telling.append(trial)
        else:
            unchecked.append(h.code)
    verdict = (
        _exact(facts, telling)
        or _permuted(facts)
        or _flipped(facts)
        or _affine(facts)
        or _collapsed(facts)
        or _unexplained(facts)
        or Verdict("clear", "", "", _numbers(facts))
    )
    return Verdict(verdict.code, verdict.says, verdict.fix, verdict.evidence, tuple(unchecked))


def _trial(hypothesis: Hypothesis, sample: Sample, dims: NDArray[np.bool_]) -> _Trial:
    step = sample.target.values.shape[1] // 2 if hypothesis.late else 0
    rows = ~sample.is_pad[:, step]
    target = sample.target.values[rows, step]
    state = None if sample.state is None else sample.state[rows]
    turned = hypothesis.turns_into(target, state)
    predicted = sample.predicted.values[rows, step]
    return _Trial(hypothesis, predicted[:, dims], target[:, dims], turned[:, dims])


def _varies(values: FloatArray) -> bool:
    return len(np.unique(values)) > _DISTINCT and float(values.std()) > 1e-6


def _numbers(facts: _Facts) -> dict[str, float]:
    return {
        "cost": float(facts.raw.cost.mean()),
        "cost_free": float(facts.free.mean()),
        "rank_correlation": float(np.median(facts.own)),
        "shift": float(np.median(np.abs(facts.raw.shift))),
        "scale": float(np.exp(np.median(facts.raw.log_scale))),
    }


def _exact(facts: _Facts, trials: list[_Trial]) -> Verdict | None:
    best: tuple[float, float, float, Hypothesis] | None = None
    for trial in trials:
        raw = float(fit(trial.predicted, trial.target).cost.mean())
        cost = float(fit(trial.predicted, trial.turned).cost.mean())
        free = float(free_cost(trial.predicted, trial.turned).mean())
        rho = float(np.median(np.diag(spearman(trial.predicted, trial.turned))))
        if (
            raw - cost > _EXACT_GAIN
            and cost < _EXACT_COST
            and cost - free < _EXACT_OVER_FREE
            and rho > _CORRELATED
            and (best is None or cost < best[0])
        ):
            best = (cost, raw, rho, trial.hypothesis)
    if best is None:
        return None
    cost, raw, rho, h = best
    return Verdict(
        h.code,
        f"predictions that look like {h.says} (misfit {cost:.1f} against {raw:.1f} for right ones, "
        f"rank correlation {rho:.2f})",
        h.fix,
        {**_numbers(facts), "cost_hypothesis": cost, "rank_correlation": rho},
    )


def _permuted(facts: _Facts) -> Verdict | None:
    n = facts.predicted.shape[1]
    if n < 2:
        return None
    native = np.stack(
        [
            fit(np.repeat(facts.predicted[:, i : i + 1], n, axis=1), facts.target).cost
            for i in range(n)
        ]
    )
    for by, cost in (("native", native - 2 * facts.rho), ("rank", -2 * facts.rho)):
        rows, to = linear_sum_assignment(cost)
        moved = rows[rows != to]
        if not len(moved):
            continue
        there, here = facts.rho[moved, to[moved]], facts.rho[moved, moved]
        gain = float((there - here).mean())
        before, after = native[moved, moved].mean(), native[moved, to[moved]].mean()
        if by == "native":
            found = before - after > _AFFINE_GAIN and after < _MOVED_COST
            found = found and bool(np.median(there) > _MOVED_RHO)
        else:
            found = gain > _MOVED_GAIN and bool((there > _MOVED_RHO).all())
        if found:
            pairs = [f"{facts.names[i]} like {facts.names[to[i]]}" for i in moved[:4]]
            more = ", ..." if len(moved) > 4 else ""
            return Verdict(
                "suspect_permuted",
                f"{len(moved)} of {n} dims that follow another dim's demonstrations "
                f"({', '.join(pairs)}{more}; rank correlation {here.mean():.2f} with their own, "
                f"{there.mean():.2f} with the other's)",
                "the checkpoint's dims are in another order than the dataset's: reorder the "
                "dataset's action, or take the dataset of the training",
                {
                    **_numbers(facts),
                    "n_dims": len(moved),
                    "rank_gain": gain,
                    "cost_gain": float(before - after),
                },
            )
    return None


def _flipped(facts: _Facts) -> Verdict | None:
    own = facts.own
    flipped = own < _FLIPPED_RHO
    rest = own[~flipped]
    if not flipped.any() or 2 * flipped.sum() > len(own) or np.median(rest) < _UPRIGHT_RHO:
        return None
    names = [f"{facts.names[i]} ({own[i]:.2f})" for i in np.flatnonzero(flipped)[:4]]
    return Verdict(
        "suspect_sign_flip",
        f"{flipped.sum()} of {len(own)} dims that move against the demonstrations (rank "
        f"correlation {', '.join(names)}{', ...' if flipped.sum() > 4 else ''}; "
        f"{np.median(rest):.2f} elsewhere)",
        "the sign convention of these dims differs between training and this dataset: flip them in "
        "one of the two",
        {**_numbers(facts), "n_dims": int(flipped.sum())},
    )


def _affine(facts: _Facts) -> Verdict | None:
    cost, free, own = facts.raw.cost, facts.free, facts.own
    whole = (
        np.median(own) >= _CORRELATED
        and cost.mean() - free.mean() > _AFFINE_GAIN
        and cost.mean() > _AFFINE_COST
    )
    off = (cost > _DIM_COST) & (free < _DIM_FREE) & (own > _DIM_RHO)
    if not whole and not off.any():
        return None
    shown = np.argsort(-cost)[:3] if whole else np.flatnonzero(off)[:3]
    named = "; ".join(
        f"{facts.names[i]}: shifted by {facts.raw.shift[i]:.2g} spreads, scale "
        f"{np.exp(facts.raw.log_scale[i]):.2g}"
        for i in shown
    )
    return Verdict(
        "suspect_stats",
        f"predictions that follow the demonstrations (rank correlation {np.median(own):.2f}) at "
        f"another place or scale ({named}). Likely, in this order: unnormalized with another "
        "dataset's statistics, with another mode's, or trained on another robot's calibration",
        "compare the unnormalizer's statistics with the dataset's meta/stats.json; --stats dataset "
        "takes the dataset's",
        {**_numbers(facts), "n_dims": int(off.sum())},
    )


def _collapsed(facts: _Facts) -> Verdict | None:
    scale = np.exp(facts.raw.log_scale)
    if np.median(scale) > _COLLAPSED or np.median(np.abs(facts.own)) > _CORRELATED:
        return None
    return Verdict(
        "suspect_collapsed",
        f"predictions that hardly vary from frame to frame ({np.median(scale):.2g} of the "
        f"demonstrations' spread, rank correlation {np.median(facts.own):.2f})",
        "the network ignores its inputs: check that pictures and state reach it as in training, "
        "and that the training converged",
        _numbers(facts),
    )


def _unexplained(facts: _Facts) -> Verdict | None:
    cost = facts.raw.cost.mean()
    if cost <= _UNEXPLAINED:
        return None
    return Verdict(
        "suspect_unexplained",
        f"predictions far from the demonstrations (misfit {cost:.1f}, rank correlation "
        f"{np.median(facts.own):.2f}) in a way that no known mistake explains",
        "an untrained or diverged policy, another task or robot, or inputs it was not trained "
        "with: look at report.html",
        _numbers(facts),
    )
