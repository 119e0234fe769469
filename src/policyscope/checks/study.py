"""Offline numbers against success, over pairs of runs of the same checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.checks.paired_runs import Pair, Pairing
from policyscope.errors import UsageError
from policyscope.metrics.correlation import FEWEST, Correlation, Foretold, Trials, foretold
from policyscope.metrics.offline_numbers import OfflineNumber, offline_numbers
from policyscope.metrics.verdicts import ALPHA
from policyscope.runs.episodes import rollout_rows

OutcomeName = Literal["success", "max_reward"]
Word = Literal["foretells", "misleads", "undecided"]
ALL, WITHIN = "all", "within types"


@final
@dataclass(frozen=True, eq=False)
class Look:
    """One outcome in one group of checkpoints.

    Attributes:
        outcome: which.
        group: ``all``, ``within types``, or a policy type.
        n: checkpoints.
        found: coefficients, by number in the study's order.
        words: what may be said of each number.
    """

    outcome: OutcomeName
    group: str
    n: int
    found: Foretold
    words: tuple[Word, ...]


@final
@dataclass(frozen=True, eq=False)
class Study:
    """What offline numbers foretell.

    Attributes:
        pairing: which runs belong together.
        names: of the numbers that every checkpoint has.
        missing: numbers that some checkpoints lack.
        numbers: of each checkpoint, in the order of `names`.
        trials: outcome → what the episodes came to.
        looks: outcome by group.
        draws: of the bootstrap.
    """

    pairing: Pairing
    names: tuple[str, ...]
    missing: tuple[str, ...]
    numbers: tuple[tuple[OfflineNumber, ...], ...]
    trials: dict[OutcomeName, Trials]
    looks: tuple[Look, ...]
    draws: int

    def look(self, outcome: OutcomeName, group: str = ALL) -> Look | None:
        """One of them."""
        chosen = (k for k in self.looks if (k.outcome, k.group) == (outcome, group))
        return next(chosen, None)


def study(pairing: Pairing, *, draws: int = 2000, seed: int = 0) -> Study:
    """Hold the offline numbers of checkpoints against what they reach in closed loop.

    Args:
        pairing: the runs.
        draws: of the bootstrap.
        seed: of the draws.

    Raises:
        UsageError: fewer than four checkpoints with both kinds of runs.
    """
    pairs = pairing.pairs
    if len(pairs) < FEWEST:
        alone = f", and {len(pairing.alone)} runs without a partner" if pairing.alone else ""
        raise UsageError(
            "policyscope correlate",
            expected=f"at least {FEWEST} checkpoints with an offline run and a rollout",
            found=f"{len(pairs)}{alone}",
            fix="policyscope eval and policyscope rollout of more checkpoints, or --pairs",
        )
    each = [offline_numbers(pair.offline.record) for pair in pairs]
    names = tuple(name for name in each[0] if all(name in known for known in each))
    missing = sorted({name for known in each for name in known} - set(names))
    numbers = tuple(tuple(known[name] for name in names) for known in each)
    trials = _trials(pairs)
    looks = tuple(_looks(pairs, numbers, trials, draws, seed))
    return Study(pairing, names, tuple(missing), numbers, trials, looks, draws)


def _trials(pairs: Sequence[Pair]) -> dict[OutcomeName, Trials]:
    """Outcomes by seed, those that every rollout tells of."""
    rows = [
        sorted(
            (r for r in rollout_rows(p.rollout.path, p.rollout.record) if r.ended != "fault"),
            key=lambda row: (row.task_group, row.task_id, row.seed or 0, row.episode),
        )
        for p in pairs
    ]
    seeds = [[(r.task_group, r.task_id, r.seed) for r in of_one] for of_one in rows]
    shared = all(s == seeds[0] for s in seeds) and all(seed is not None for *_, seed in seeds[0])
    found: dict[OutcomeName, Trials] = {}
    columns: dict[OutcomeName, list[list[float | None]]] = {
        "success": [[None if r.success is None else float(r.success) for r in one] for one in rows],
        "max_reward": [[r.max_reward for r in one] for one in rows],
    }
    for outcome, values in columns.items():
        if all(one and None not in one for one in values):
            arrays = tuple(np.array(one, dtype=np.float64) for one in values)
            found[outcome] = Trials(arrays, shared)
    if not found:
        raise UsageError(
            "policyscope correlate",
            expected="rollouts that say whether they succeeded, or their rewards",
            found="neither in all of them",
            fix="leave those out that say nothing",
        )
    return found


def _looks(
    pairs: Sequence[Pair],
    numbers: Sequence[Sequence[OfflineNumber]],
    trials: dict[OutcomeName, Trials],
    draws: int,
    seed: int,
) -> Iterator[Look]:
    scores = np.array([[number.score for number in one] for one in numbers])
    kinds = [pair.kind for pair in pairs]
    for outcome, known in trials.items():
        yield _look(outcome, ALL, scores, known, None, draws, seed)
        several = {kind for kind in kinds if kinds.count(kind) >= FEWEST}
        if len(set(kinds)) > 1 and all(kinds.count(kind) > 1 for kind in kinds):
            yield _look(outcome, WITHIN, scores, known, kinds, draws, seed)
        for kind in sorted(several) if len(set(kinds)) > 1 else ():
            at = [i for i, k in enumerate(kinds) if k == kind]
            part = Trials(tuple(known.values[i] for i in at), known.shared)
            yield _look(outcome, kind, scores[at], part, None, draws, seed)


def _look(
    outcome: OutcomeName,
    group: str,
    scores: FloatArray,
    trials: Trials,
    groups: Sequence[str] | None,
    draws: int,
    seed: int,
) -> Look:
    found = foretold(scores, trials, groups=groups, draws=draws, seed=seed)
    words = tuple(_word(known) for known in found.spearman)
    return Look(outcome, group, len(scores), found, words)


def _word(known: Correlation) -> Word:
    """What may be said: only what both the interval and the test over all numbers allow."""
    if known.low is None or known.high is None or known.family is None or known.family >= ALPHA:
        return "undecided"
    return "foretells" if known.low > 0 else "misleads" if known.high < 0 else "undecided"
