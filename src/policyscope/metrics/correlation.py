"""Does an offline number foretell success? Coefficients over checkpoints, and what chance gives.

Scores and outcomes are both turned so that higher is better: +1 says that whatever looks better
offline does better in closed loop. Intervals are percentiles of a bootstrap over checkpoints and,
within them, over seeds; where all checkpoints ran the same seeds, these are drawn once for all.
Those of Pearson's and Spearman's are widened to Fisher's. The test permutes outcomes among
checkpoints: it says what would come of numbers that foretell nothing. Within types, values are
centred by type, and only checkpoints of one type are exchanged.

MMRV, the mean maximum rank violation of SIMPLER (arXiv 2405.05941): for each checkpoint, the
largest gap of success to one that the score puts on the wrong side of it; 0 is perfect.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from policyscope.actions.spaces import FloatArray

FEWEST = 4
"""Checkpoints below which there is nothing to say."""

FEWEST_FOR_INTERVAL = 8
"""Below it no interval keeps its promise: that of a perfect order of a few has no width."""

Coefficient = Literal["pearson", "spearman", "mmrv"]
COEFFICIENTS: tuple[Coefficient, ...] = ("pearson", "spearman", "mmrv")

_ALL = 5040  # permutations that are counted out; more are drawn
_DRAWN = 4000
_DEFINED = 0.5  # share of bootstrap draws that must have a coefficient


@final
@dataclass(frozen=True, eq=False)
class Trials:
    """What the episodes of each checkpoint came to.

    Attributes:
        values: [n] arrays, one value a seed: 1 or 0 for success, or a reward.
        shared: whether all checkpoints ran the same seeds, in the same order.
    """

    values: tuple[FloatArray, ...]
    shared: bool

    def means(self) -> FloatArray:
        """[n] mean over the seeds of each checkpoint."""
        return np.array([v.mean() for v in self.values])

    def drawn(self, chosen: NDArray[np.int64], draw: np.random.Generator) -> FloatArray:
        """Means over seeds drawn with replacement, of the chosen checkpoints."""
        if self.shared:
            n = len(self.values[0])
            seeds = draw.integers(0, n, n)
            return np.array([self.values[i][seeds].mean() for i in chosen])
        return np.array(
            [self.values[i][draw.integers(0, n, n)].mean() for i in chosen for n in [_n(self, i)]]
        )


def _n(trials: Trials, i: int) -> int:
    return len(trials.values[i])


@final
@dataclass(frozen=True)
class Correlation:
    """One coefficient between an offline number and an outcome; None where it is undefined.

    Attributes:
        value: of the coefficient.
        low: lower end of its 95 % interval.
        high: upper end.
        p: chance of one as strong by permutation; for MMRV, of one as low.
        chance: what 95 % of the permutations stay below in size; for MMRV, above.
        family: as `p`, that any of all numbers is as strong: what a claim must hold to.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    chance: float | None = None
    family: float | None = None


@final
@dataclass(frozen=True, eq=False)
class Foretold:
    """How well each of N numbers foretells an outcome.

    Attributes:
        pearson: [N]
        spearman: [N]
        mmrv: [N]
        behind: [N] whether its Spearman coefficient is below that of the best by the 95 % interval
            of their difference.
    """

    pearson: tuple[Correlation, ...]
    spearman: tuple[Correlation, ...]
    mmrv: tuple[Correlation, ...]
    behind: tuple[bool, ...]

    def of(self, coefficient: Coefficient) -> tuple[Correlation, ...]:
        """One of them."""
        found: tuple[Correlation, ...] = getattr(self, coefficient)
        return found


def mean_max_rank_violation(score: FloatArray, outcome: FloatArray) -> float:
    """MMRV of a score, both higher for better.

    Args:
        score: [n]
        outcome: [n]
    """
    return float(_mmrv(score[:, None], outcome, np.zeros(len(score), dtype=np.int64))[0])


def foretold(
    scores: FloatArray,
    trials: Trials,
    *,
    groups: Sequence[str] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Foretold:
    """Coefficients of N numbers with an outcome.

    Args:
        scores: [n, N] higher for better, finite.
        trials: the outcomes of the n checkpoints.
        groups: [n] types within which is looked; None looks across all.
        draws: of the bootstrap.
        seed: of the draws.

    Raises:
        ValueError: fewer than `FEWEST` checkpoints.
    """
    n = len(scores)
    if n < FEWEST:
        raise ValueError(f"expected at least {FEWEST} checkpoints, found {n}")
    names = sorted(set(groups or [""]))
    group = np.array([names.index(g) for g in groups or [""] * n])
    outcome = trials.means()
    value = {c: _coefficient(c, scores, outcome, group) for c in COEFFICIENTS}
    spread = _bootstrap(scores, trials, group, draws, np.random.default_rng(seed))
    chance = _permuted(scores, outcome, group, np.random.default_rng(seed + 1))
    n_free = n - len(names) + 1  # a mean of each further type is fitted
    best = {c: _best(c, chance[c]) for c in COEFFICIENTS}
    pearson, spearman, mmrv = (
        tuple(
            _correlation(c, value[c][k], spread[c][:, k], chance[c][:, k], best[c], n_free)
            for k in range(scores.shape[1])
        )
        for c in COEFFICIENTS
    )
    return Foretold(pearson, spearman, mmrv, _behind(value["spearman"], spread["spearman"]))


def _correlation(
    coefficient: Coefficient,
    value: float,
    spread: FloatArray,
    chance: FloatArray,
    best: FloatArray,
    n_free: int,
) -> Correlation:
    if not math.isfinite(value):
        return Correlation(None)
    defined = spread[np.isfinite(spread)]
    low = high = None
    if n_free >= FEWEST_FOR_INTERVAL and len(defined) >= _DEFINED * len(spread):
        low, high = (float(end) for end in np.quantile(defined, [0.025, 0.975]))
        if coefficient != "mmrv":
            low, high = _widened(value, low, high, n_free, coefficient)
    if coefficient == "mmrv":
        p, family = (_share(known <= value + 1e-12) for known in (chance, best))
        return Correlation(value, low, high, p, float(np.quantile(chance, 0.05)), family)
    size = np.abs(chance)
    p, family = (_share(known >= abs(value) - 1e-12) for known in (size, best))
    return Correlation(value, low, high, p, float(np.quantile(size, 0.95)), family)


def _widened(
    value: float, low: float, high: float, n: int, coefficient: Coefficient
) -> tuple[float, float]:
    """The bootstrap's ends or Fisher's, whichever lie further out: percentiles alone are narrow."""
    se = math.sqrt((1.06 if coefficient == "spearman" else 1.0) / (n - 3))
    most = 1 - 12 / (n**3 - n)  # one exchange of neighbours away from a perfect order
    z = math.atanh(min(max(value, -most), most))
    return min(low, math.tanh(z - 1.96 * se)), max(high, math.tanh(z + 1.96 * se))


def _best(coefficient: Coefficient, chance: FloatArray) -> FloatArray:
    """[K] the strongest of all numbers in each permutation (Westfall and Young's max T)."""
    known = chance if coefficient == "mmrv" else -np.nan_to_num(np.abs(chance))
    best: FloatArray = np.abs(known.min(axis=1))
    return best


def _share(hit: NDArray[np.bool_]) -> float:
    """A permutation p value; the first one is what was observed, so it is never 0."""
    return float(hit.mean())


def _behind(value: FloatArray, spread: FloatArray) -> tuple[bool, ...]:
    """Whether each number's coefficient is below the best one's in 97.5 % of the draws."""
    if not np.isfinite(value).any():
        return (False,) * len(value)
    gap = spread[:, [int(np.nanargmax(value))]] - spread
    found = []
    for k in range(len(value)):
        known = gap[:, k][np.isfinite(gap[:, k])]
        found.append(len(known) > 0 and float(np.quantile(known, 0.025)) > 0)
    return tuple(found)


# ── coefficients of all numbers at once ───────────────────────────────


def _coefficient(
    coefficient: Coefficient, scores: FloatArray, outcome: FloatArray, group: NDArray[np.int64]
) -> FloatArray:
    """[N]; NaN where a score or the outcome does not vary."""
    if coefficient == "mmrv":
        found = _mmrv(scores, outcome, group)
        return np.where(_varies(scores) & _varies(outcome), found, np.nan)
    if coefficient == "spearman":
        scores, outcome = stats.rankdata(scores, axis=0), stats.rankdata(outcome)
    if (group == group[0]).all():
        return _by_scipy(scores, outcome)
    return _pearson(_centred(scores, group), _centred(outcome[:, None], group))[:, 0]


def _by_scipy(scores: FloatArray, outcome: FloatArray) -> FloatArray:
    return np.array(
        [
            stats.pearsonr(score, outcome).statistic
            if _varies(score) and _varies(outcome)
            else np.nan
            for score in scores.T
        ]
    )


def _varies(values: FloatArray) -> NDArray[np.bool_]:
    varies: NDArray[np.bool_] = np.ptp(values, axis=0) > 0
    return varies


def _centred(values: FloatArray, group: NDArray[np.int64]) -> FloatArray:
    """[n, …] less the mean of each row's group."""
    centred = values.astype(np.float64)
    for g in np.unique(group):
        centred[group == g] -= centred[group == g].mean(axis=0)
    return centred


def _pearson(x: FloatArray, y: FloatArray) -> FloatArray:
    """[N, K] of the columns of centred x [n, N] and y [n, K]; NaN where one does not vary."""
    norm = np.linalg.norm(x, axis=0)[:, None] * np.linalg.norm(y, axis=0)[None, :]
    top = x.T @ y
    tiny = 1e-12 * max(1.0, float(np.abs(norm).max(initial=0.0)))
    return np.where(norm > tiny, top / np.where(norm > tiny, norm, 1.0), np.nan)


def _mmrv(scores: FloatArray, outcome: FloatArray, group: NDArray[np.int64]) -> FloatArray:
    """[N] mean maximum rank violation, among checkpoints of one group."""
    gap = np.where(group[:, None] == group[None, :], np.abs(outcome[:, None] - outcome), 0.0)
    above = outcome[:, None] > outcome
    wrong = (scores[:, None, :] > scores[None, :, :]) != above[..., None]
    worst: FloatArray = np.where(wrong, gap[..., None], 0.0).max(axis=1)
    mean: FloatArray = worst.mean(axis=0)
    return mean


# ── chance ────────────────────────────────────────────────────────────


def _bootstrap(
    scores: FloatArray,
    trials: Trials,
    group: NDArray[np.int64],
    draws: int,
    draw: np.random.Generator,
) -> dict[Coefficient, FloatArray]:
    """[draws, N] of each coefficient; checkpoints are drawn within their group."""
    places = [np.flatnonzero(group == g) for g in np.unique(group)]
    found: dict[Coefficient, list[FloatArray]] = {c: [] for c in COEFFICIENTS}
    for _ in range(draws):
        chosen = np.concatenate([p[draw.integers(0, len(p), len(p))] for p in places])
        x, y, g = scores[chosen], trials.drawn(chosen, draw), group[chosen]
        ranks = stats.rankdata(x, axis=0), stats.rankdata(y)
        found["pearson"].append(_pearson(_centred(x, g), _centred(y[:, None], g))[:, 0])
        found["spearman"].append(
            _pearson(_centred(ranks[0], g), _centred(ranks[1][:, None], g))[:, 0]
        )
        found["mmrv"].append(_mmrv(x, y, g))
    return {c: np.array(rows) for c, rows in found.items()}


def _permuted(
    scores: FloatArray,
    outcome: FloatArray,
    group: NDArray[np.int64],
    draw: np.random.Generator,
) -> dict[Coefficient, FloatArray]:
    """[K, N] of each coefficient with outcomes exchanged, what was observed first."""
    orders = np.array(list(_orders(group, draw)))
    y, ranks = outcome[orders].T, stats.rankdata(outcome)[orders].T  # [n, K]
    x = _centred(scores, group), _centred(stats.rankdata(scores, axis=0), group)
    return {
        "pearson": _pearson(x[0], _centred(y, group)).T,
        "spearman": _pearson(x[1], _centred(ranks, group)).T,
        "mmrv": np.array([_mmrv(scores, column, group) for column in y.T]),
    }


def _orders(group: NDArray[np.int64], draw: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """All orders that exchange members of a group, or many; the first changes nothing."""
    places = [np.flatnonzero(group == g) for g in np.unique(group)]
    same = np.arange(len(group))
    if math.prod(math.factorial(len(p)) for p in places) <= _ALL:
        for orders in product(*(permutations(p) for p in places)):
            order = same.copy()
            for place, members in zip(places, orders, strict=True):
                order[place] = members
            yield order
        return
    yield same
    for _ in range(_DRAWN):
        order = same.copy()
        for place in places:
            order[place] = draw.permutation(place)
        yield order
