"""Which mistake fits the predictions: decided in order, by thresholds tuned on real networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.checks.detector.hypotheses import Declared, Hypothesis, Sample, hypotheses
from policyscope.checks.detector.statistics import Fit, fit, free_cost, location, spearman, spread

MIN_EPISODES = 3
MIN_FRAMES = 30

_EXACT_GAIN = 2.0  # C(raw) - C(h)
_EXACT_COST = 4.5  # C(h)
_EXACT_OVER_FREE = 2.5  # C(h) - C(free)
_CORRELATED = 0.3
_SURE_GAIN = 8.0  # so much better than right predictions that a weak policy may be ...
_SURE_COST = 6.5  # ... this far off, whether it follows the demonstrations or not
_RESTING = -1.5  # log-scale of displacements below which they are no more than rest
_TELLING = 4.0  # the hypothesis's own cost against right actions: else not checkable here
_MOVED_RHO = 0.4  # with the other dim's demonstrations
_MOVED_GAIN = 0.35  # of rank correlation
_MOVED_COST = 5.0  # of a dim, once it is moved or mirrored
_MOVED_COST_GAIN = 4.0  # of a moved dim
_FLIPPED_FAR = 8.0  # gain of a dim that lies where its mirror image should be
_FLIPPED_NEAR = 1.0  # gain of a dim that only moves against its demonstrations ...
_FLIPPED_RHO = -0.4  # ... with this rank correlation
_UPRIGHT_RHO = 0.2  # of the other dims
_RANKS_WIN = 0.2  # by which another order must explain more than signs do
_AFFINE_COST = 5.0
_AFFINE_GAIN = 4.0  # C(raw) - C(free)
_AFFINE_RATIO = 4.0  # C(raw) / C(free): a weak policy is off in shape as well as in place
_DIM_COST = 10.0  # of a single dim elsewhere, ...
_DIM_FREE = 2.0  # ... that fits once shifted and scaled ...
_DIM_RHO = 0.6  # ... and follows
_UNEXPLAINED = 6.0
_COLLAPSED = 0.1  # of the demonstrations' spread
_DISTINCT = 8  # values of a dim that counts
_AWAKE = 0.3  # of the dataset's standard deviation


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
    floor: FloatArray  # [M]
    awake: NDArray[np.bool_]  # [M] dims that move in this sample as in the whole dataset

    @property
    def own(self) -> FloatArray:
        """[M] rank correlation of each dim with its own target."""
        return np.diag(self.rho)

    @property
    def follows(self) -> float:
        """Median rank correlation of the dims that move."""
        return float(np.median(self.own[self.awake]))


@final
@dataclass(frozen=True, eq=False)
class _Trial:
    """[N, M] predictions, right actions, and what the hypothesis makes of these."""

    hypothesis: Hypothesis
    predicted: FloatArray
    target: FloatArray
    turned: FloatArray
    floors: tuple[FloatArray, FloatArray]  # [M] of the right actions, of the turned ones


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
    floor = declared.std[dims]
    awake = spread(y) > _AWAKE * floor
    facts = _Facts(
        p,
        y,
        names,
        fit(p, y, floor),
        spearman(p, y),
        free_cost(p, y),
        floor,
        awake if awake.any() else np.ones_like(awake),
    )
    telling, unchecked = [], []
    for h in hypotheses(declared, has_state=sample.state is not None):
        trial = _trial(h, sample, declared, dims)
        if trial and fit(trial.turned, trial.target, trial.floors[0]).cost.mean() > _TELLING:
            telling.append(trial)
        else:
            unchecked.append(h.code)
    verdict = (
        _exact(facts, telling)
        or _displaced(facts, sample, declared, dims)
        or _rearranged(facts)
        or _affine(facts)
        or _collapsed(facts)
        or _unexplained(facts)
        or Verdict("clear", "", "", _numbers(facts))
    )
    return Verdict(verdict.code, verdict.says, verdict.fix, verdict.evidence, tuple(unchecked))


def _trial(
    hypothesis: Hypothesis, sample: Sample, declared: Declared, dims: NDArray[np.bool_]
) -> _Trial | None:
    step = sample.target.values.shape[1] // 2 if hypothesis.late else 0
    rows = ~sample.is_pad[:, step]
    if rows.sum() < MIN_FRAMES:
        return None
    target = sample.target.values[rows, step]
    state = None if sample.state is None else sample.state[rows]
    turned = hypothesis.turns_into(target, state)
    predicted = sample.predicted.values[rows, step]
    ends = hypothesis.turns_into(np.stack([0 * declared.std, declared.std]), None)
    keep = 0.0 if hypothesis.late else 1.0  # displacements are small against the dataset's spread
    floors = keep * declared.std[dims], keep * np.abs(ends[1] - ends[0])[dims]
    return _Trial(hypothesis, predicted[:, dims], target[:, dims], turned[:, dims], floors)


def _varies(values: FloatArray) -> bool:
    return len(np.unique(values)) > _DISTINCT and float(values.std()) > 1e-6


def _numbers(facts: _Facts) -> dict[str, float]:
    return {
        "cost": float(facts.raw.cost.mean()),
        "cost_free": float(facts.free.mean()),
        "rank_correlation": facts.follows,
        "shift": float(np.median(np.abs(facts.raw.shift))),
        "scale": float(np.exp(np.median(facts.raw.log_scale))),
    }


def _exact(facts: _Facts, trials: list[_Trial]) -> Verdict | None:
    best: tuple[float, float, float, Hypothesis] | None = None
    for trial in trials:
        raw = float(fit(trial.predicted, trial.target, trial.floors[0]).cost.mean())
        cost = float(fit(trial.predicted, trial.turned, trial.floors[1]).cost.mean())
        free = float(free_cost(trial.predicted, trial.turned).mean())
        own = np.diag(spearman(trial.predicted, trial.turned))
        rho = float(np.median(own[facts.awake]))
        near = raw - cost > _EXACT_GAIN and cost < _EXACT_COST
        near = near and cost - free < _EXACT_OVER_FREE and rho > _CORRELATED
        sure = raw - cost > _SURE_GAIN and cost < _SURE_COST and not trial.hypothesis.late
        if (near or sure) and (best is None or cost < best[0]):
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


def _displaced(
    facts: _Facts, sample: Sample, declared: Declared, dims: NDArray[np.bool_]
) -> Verdict | None:
    """Displacements too small to be recognized, that make right actions with the state added."""
    found = [h for h in hypotheses(declared, has_state=sample.state is not None) if h.late]
    trial = _trial(found[0], sample, declared, dims) if found else None
    if trial is None or declared.kind != "absolute":
        return None
    floor = declared.std[dims]
    raw = float(fit(trial.predicted, trial.target, floor).cost.mean())
    restored = trial.predicted + (trial.target - trial.turned)
    cost = float(fit(restored, trial.target, floor).cost.mean())
    moves = float(np.median(fit(trial.predicted, trial.turned).log_scale))
    if raw - cost < _AFFINE_GAIN or cost > min(_EXACT_COST, raw / 2) or moves < _RESTING:
        return None
    return Verdict(
        trial.hypothesis.code,
        f"predictions that look like {trial.hypothesis.says} (misfit {raw:.1f} as they are, "
        f"{cost:.1f} with the state added)",
        trial.hypothesis.fix,
        {**_numbers(facts), "cost_hypothesis": cost},
    )


def _rearranged(facts: _Facts) -> Verdict | None:
    """Dims in another order, or with another sign: whichever explains more."""
    permuted, flipped, ranks = _permuted(facts), _flipped(facts), _permuted_ranks(facts)
    if permuted and flipped:
        return min(permuted, flipped, key=lambda found: found[0])[1]
    if permuted:
        return permuted[1]
    if ranks and (flipped is None or ranks[0] > flipped[1].evidence["rank_upright"] + _RANKS_WIN):
        return ranks[1]
    return flipped[1] if flipped else None


def _permuted(facts: _Facts) -> tuple[float, Verdict] | None:
    """Each dim against each other dim's demonstrations, in native units."""
    n = facts.predicted.shape[1]
    cost = np.stack(
        [
            fit(np.repeat(facts.predicted[:, i : i + 1], n, axis=1), facts.target, facts.floor).cost
            for i in range(n)
        ]
    )
    from scipy.optimize import linear_sum_assignment

    rows, to = linear_sum_assignment(cost - 2 * facts.rho)
    moved = rows[rows != to]
    if not len(moved):
        return None
    there, here = facts.rho[moved, to[moved]].mean(), facts.rho[moved, moved].mean()
    before, after = cost[moved, moved].mean(), cost[moved, to[moved]].mean()
    if before - after < _MOVED_COST_GAIN or after > _MOVED_COST or there < max(here, _CORRELATED):
        return None
    return float(cost[rows, to].mean()), _permutation(facts, moved, to, float(before - after))


def _permuted_ranks(facts: _Facts) -> tuple[float, Verdict] | None:
    """The same by rank correlation alone, for dims swapped before they were unnormalized."""
    alive = np.flatnonzero(facts.awake)
    rho = facts.rho[np.ix_(alive, alive)]
    from scipy.optimize import linear_sum_assignment

    rows, to = linear_sum_assignment(-rho)
    moved = rows[rows != to]
    if not len(moved):
        return None
    there, here = rho[moved, to[moved]].mean(), rho[moved, moved].mean()
    if there - here < _MOVED_GAIN or there < _MOVED_RHO:
        return None
    order = np.arange(len(facts.awake))
    order[alive] = alive[to]
    return float(rho[rows, to].mean()), _permutation(facts, alive[moved], order, 0.0)


def _permutation(
    facts: _Facts, moved: NDArray[np.int64], to: NDArray[np.int64], gain: float
) -> Verdict:
    there, here = facts.rho[moved, to[moved]].mean(), facts.rho[moved, moved].mean()
    pairs = [f"{facts.names[i]} like {facts.names[to[i]]}" for i in moved[:4]]
    more = ", ..." if len(moved) > 4 else ""
    return Verdict(
        "suspect_permuted",
        f"{len(moved)} of {len(to)} dims that follow another dim's demonstrations "
        f"({', '.join(pairs)}{more}; rank correlation {here:.2f} with their own, {there:.2f} with "
        "the other's)",
        "the checkpoint's dims are in another order than the dataset's: reorder the dataset's "
        "action, or take the dataset of the training",
        {
            **_numbers(facts),
            "n_dims": len(moved),
            "rank_gain": float(there - here),
            "cost_gain": gain,
        },
    )


def _flipped(facts: _Facts) -> tuple[float, Verdict] | None:
    """Dims that run against their demonstrations, mirrored about zero or about their mean."""
    own, raw = facts.own, facts.raw.cost
    middle = location(facts.target)
    mirrored = np.minimum(
        *(
            fit(facts.predicted, turned, facts.floor).cost
            for turned in (-facts.target, 2 * middle - facts.target)
        )
    )
    far = (raw - mirrored > _FLIPPED_FAR) & (mirrored < _MOVED_COST) & (own < _UPRIGHT_RHO)
    near = (raw - mirrored > _FLIPPED_NEAR) & facts.awake & (own < _FLIPPED_RHO)
    flipped = far | near
    rest = own[~flipped & facts.awake]
    if not flipped.any() or 2 * flipped.sum() > len(own):
        return None
    if len(rest) and np.median(rest) < _UPRIGHT_RHO:
        return None
    names = [f"{facts.names[i]} ({own[i]:.2f})" for i in np.flatnonzero(flipped)[:4]]
    upright = float(np.where(flipped, np.abs(own), own)[facts.awake].mean())
    elsewhere = f"; {np.median(rest):.2f} elsewhere" if len(rest) else ""
    return float(np.where(flipped, mirrored, raw).mean()), Verdict(
        "suspect_sign_flip",
        f"{flipped.sum()} of {len(own)} dims that move against the demonstrations (rank "
        f"correlation {', '.join(names)}{', ...' if flipped.sum() > 4 else ''}{elsewhere})",
        "the sign convention of these dims differs between training and this dataset: flip them in "
        "one of the two",
        {**_numbers(facts), "n_dims": int(flipped.sum()), "rank_upright": upright},
    )


def _affine(facts: _Facts) -> Verdict | None:
    cost, free, own = facts.raw.cost, facts.free, facts.own
    whole = (
        facts.follows >= _CORRELATED
        and cost.mean() - free.mean() > _AFFINE_GAIN
        and cost.mean() > max(_AFFINE_COST, _AFFINE_RATIO * free.mean())
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
        f"predictions that follow the demonstrations (rank correlation {facts.follows:.2f}) at "
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
        f"demonstrations' spread, rank correlation {facts.follows:.2f})",
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
        f"{facts.follows:.2f}) in a way that no known mistake explains",
        "an untrained or diverged policy, another task or robot, or inputs it was not trained "
        "with: look at report.html",
        _numbers(facts),
    )
