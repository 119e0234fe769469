"""Statistics against simulated truth: coverage, error rates, power, looking while a run goes on.

python benchmarks/simulated_truth.py                             # prints Markdown, minutes
python benchmarks/simulated_truth.py --quick                     # coarser, seconds; exit 1 if wrong
python benchmarks/simulated_truth.py --write docs/statistics.md  # between its two markers
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from policyscope.metrics.boschloo import binomial, rejected
from policyscope.metrics.bounded import between
from policyscope.metrics.intervals import Estimate, cluster_mean, skill
from policyscope.metrics.paired import paired_errors
from policyscope.metrics.power import plan
from policyscope.metrics.proportions import (
    clopper_pearson,
    macro_interval,
    mcnemar,
    newcombe,
    newcombe_paired,
    wilson,
)
from policyscope.metrics.sequential import log_wealth
from policyscope.metrics.verdicts import Test, leading

MARKERS = ("<!-- tables -->", "<!-- end of tables -->")
ALPHA = 0.05
SIZES = (5, 10, 20, 50)


@dataclass
class Page:
    """The tables so far, and what in them is not as promised.

    Attributes:
        draws: simulated runs a cell.
        random: the one source of chance.
        lines: of Markdown.
        broken: promises that were not kept.
    """

    draws: int
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    lines: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table."""
        self.lines += [f"### {title}", "", _row(head), _row(["---"] * len(head))]
        self.lines += [*(_row(row) for row in rows), ""]
        print("\n".join([f"### {title}", "", _row(head), *(_row(r) for r in rows), ""]), flush=True)

    def promise(self, what: str, share: float, low: float, high: float) -> None:
        """Note a share outside its promised range by more than three standard errors."""
        slack = 3 * math.sqrt(max(share * (1 - share), 0.01) / self.draws)
        if not low - slack <= share <= high + slack:
            self.broken.append(f"{what}: {share:.3f}, promised {low:g} to {high:g}")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


# ── success rates ─────────────────────────────────────────────────────


def success_rates(page: Page) -> None:
    """Coverage of one rate: exact, every outcome added up."""
    bands = {"0.01 – 0.1": (0.01, 0.1), "0.1 – 0.9": (0.1, 0.9), "0.9 – 0.99": (0.9, 0.99)}
    rows = []
    for n in SIZES:
        k = np.arange(n + 1)
        for name, ends in (
            ("Wilson", wilson(k, n)),
            ("Clopper–Pearson", clopper_pearson(k, n)),
        ):
            cells = []
            for low, high in bands.values():
                rates = np.linspace(low, high, 2000)
                inside = (ends[0][:, None] <= rates) & (rates <= ends[1][:, None])
                covered = (binomial(n, rates) * inside).sum(axis=0)
                cells.append(f"{_percent(covered.mean())} ({_percent(covered.min())})")
                if name == "Wilson":
                    page.promise(f"Wilson, n {n}, {low}-{high}", covered.mean(), 0.93, 0.975)
                else:
                    page.promise(f"exact, n {n}", covered.min(), 0.95, 1.0)
            rows.append([str(n), name, *cells])
    page.table(
        "Success rate: mean coverage over a band of rates (least), %, exact",
        ["n", "interval", *bands],
        rows,
    )


def mean_of_tasks(page: Page) -> None:
    """Coverage of the mean over tasks of their success rates."""
    draw, rows = np.random.default_rng(1), []
    draws = min(page.draws, 4000)
    for name, rates in {
        "2: 0.95, 0.5": (0.95, 0.5),
        "4: three always, 0.6": (1.0, 1.0, 1.0, 0.6),
        "10: 0.05 … 0.95": tuple(np.linspace(0.05, 0.95, 10)),
        "10: nine at 0.99, 0.3": (0.99,) * 9 + (0.3,),
        "10: 0.02": (0.02,) * 10,
        "40: 0.3 … 0.99": tuple(np.linspace(0.3, 0.99, 40)),
    }.items():
        cells = []
        for n in SIZES:
            k = draw.binomial(n, rates, size=(draws, len(rates)))
            ends = np.array([macro_interval(x, np.full(len(rates), n)) for x in k])
            truth = float(np.mean(rates))
            covered = float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean())
            cells.append(_percent(covered))
            page.promise(f"mean of tasks {name}, n {n}", covered, 0.92, 1.0)
        rows.append([name, *cells])
    page.table(
        "Mean success rate over tasks: coverage, %",
        ["tasks and their rates", *(f"n = {n} of each" for n in SIZES)],
        rows,
    )


# ── rewards in [0, 1] ─────────────────────────────────────────────────


def _rewards(
    draw: np.random.Generator, size: tuple[int, int]
) -> Iterator[tuple[str, float, NDArray]]:
    """Name, true mean and [S, n] draws."""
    yield "0 or 1, half", 0.5, (draw.random(size) < 0.5) * 1.0
    yield "0 or 1, one in ten", 0.1, (draw.random(size) < 0.1) * 1.0
    yield "0 or 1, 98 %", 0.98, (draw.random(size) < 0.98) * 1.0
    for share in (0.2, 0.6, 0.9):
        full = draw.random(size) < share
        rewards = np.where(full, 1.0, draw.beta(2, 2, size))
        yield f"{100 * share:.0f} % full, else anywhere", share + (1 - share) / 2, rewards
    full = draw.random(size) < 0.9
    yield "90 % full, else just below", 0.99, np.where(full, 1.0, draw.beta(18, 2, size))
    yield "near 1: β(50, 2)", 50 / 52, draw.beta(50, 2, size)
    yield "near 0: β(1, 20)", 1 / 21, draw.beta(1, 20, size)
    yield "anywhere: uniform", 0.5, draw.random(size)
    yield "in the middle: β(20, 20)", 0.5, draw.beta(20, 20, size)


def bounded_means(page: Page) -> None:
    """Coverage of the mean reward, beside Student's t."""
    known: dict[str, list[str]] = {}
    draws = page.draws // 4
    for n in SIZES:
        for name, truth, x in _rewards(page.random, (draws, n)):
            below = between(x, truth)
            covered = float(((below >= ALPHA / 2) & (below <= 1 - ALPHA / 2)).mean())
            half = stdtrit(n - 1, 1 - ALPHA / 2) * x.std(axis=1, ddof=1) / math.sqrt(n)
            student = float((np.abs(x.mean(axis=1) - truth) <= half).mean())
            known.setdefault(name, []).append(f"{_percent(covered)} ({_percent(student)})")
            slack = 3 * math.sqrt(0.07 * 0.93 / draws)
            page.promise(f"reward {name}, n {n}", covered + slack, 0.93, 2.0)
    page.table(
        "Mean reward in [0, 1]: coverage (Student's t), %",
        ["rewards", *(f"n = {n}" for n in SIZES)],
        [[name, *cells] for name, cells in known.items()],
    )


# ── offline errors ────────────────────────────────────────────────────

_POPULATIONS = {"alike (cv 0.35)": 8.0, "unlike (cv 0.7)": 2.0}


def _episodes(
    draw: np.random.Generator, n: int, draws: int, shape: float, ratio: float
) -> tuple[NDArray, NDArray, NDArray, float]:
    """[n, S] sums of A's and B's errors, counts, and A's true mean.

    Episodes are as hard as a gamma variable; hard ones are longer, as its root.
    """
    hard = draw.gamma(shape, 1 / shape, size=(n, draws))
    count = np.ceil(120 * np.sqrt(hard) * draw.uniform(0.6, 1.4, size=hard.shape))
    own_a, own_b = draw.gamma(40.0, 1 / 40, size=(2, n, draws))
    moments = math.gamma(shape + 1.5) / math.gamma(shape + 0.5) / shape
    return count * hard * own_a, count * hard * own_b * ratio, count, moments


def offline_errors(page: Page) -> None:
    """Coverage of one run's error, of the ratio of two runs, and of their difference."""
    rows = []
    for name, shape in _POPULATIONS.items():
        for n in SIZES:
            a, b, count, truth = _episodes(page.random, n, page.draws, shape, 0.9)
            alone = [cluster_mean(x, c) for x, c in zip(a.T[:4000], count.T[:4000], strict=True)]
            single, shown = _held(alone, truth)
            pair = paired_errors(a, b, count)
            gap = -0.1 * truth
            covered = [
                single,
                float(((pair.ratio_low <= 0.9) & (pair.ratio_high >= 0.9)).mean()),
                float(((pair.difference_low <= gap) & (pair.difference_high >= gap)).mean()),
            ]
            rows.append([name, str(n), shown, *(_percent(c) for c in covered[1:])])
            for what, share in zip(("error", "ratio", "difference"), covered, strict=True):
                page.promise(f"{what}, {name}, {n} episodes", share, 0.93, 0.98)
    page.table(
        "Offline errors: coverage (no interval given: one episode holds nearly all), %",
        ["episodes", "n", "error", "ratio of two runs", "difference of two runs"],
        rows,
    )


def _held(known: Sequence[Estimate], truth: float) -> tuple[float, str]:
    """Share of the intervals that hold the truth, and it as text with the share of none."""
    given = [e for e in known if e.low is not None and e.high is not None]
    held = float(np.mean([e.low <= truth <= e.high for e in given]))  # type: ignore[operator]
    none = 1 - len(given) / len(known)
    return held, _percent(held) + (f" ({100 * none:.2g})" if none else "")


_SKILLS = {
    "0": (1.0, 40.0),
    "0.4": (0.6, 8.0),
    "0.98, where its errors follow no baseline": (0.02, 2.0),
}
"""True skill → ratio of squared errors, and how alike both runs are within an episode."""


def skills(page: Page) -> None:
    """Coverage of skill, paired by episode: squared errors, which hard episodes rule."""
    draw, rows = np.random.default_rng(2), []
    draws = min(page.draws, 4000)
    for name, shape in _POPULATIONS.items():
        for truth, (ratio, own) in _SKILLS.items():
            cells = []
            for n in SIZES:
                hard = draw.gamma(shape, 1 / shape, size=(draws, n))
                count = np.ceil(120 * np.sqrt(hard) * draw.uniform(0.6, 1.4, hard.shape))
                a, b = draw.gamma(own, 1 / own, size=(2, draws, n))
                base, ours = count * hard**2 * a**2, ratio * count * hard**2 * b**2
                known = [skill(x, y) for x, y in zip(ours, base, strict=True)]
                held, shown = _held(known, 1 - ratio)
                cells.append(shown)
                page.promise(f"skill {truth}, {name}, {n} episodes", held, 0.93, 0.98)
            rows.append([name, truth, *cells])
    page.table(
        "Skill, paired by episode: coverage (no interval given: one holds nearly all), %",
        ["episodes", "true skill", *(f"n = {n}" for n in SIZES)],
        rows,
    )


# ── two success rates ─────────────────────────────────────────────────


def _pairs(
    draw: np.random.Generator, n: int, draws: int, a: float, b: float, correlation: float
) -> NDArray:
    """[4, S] counts: both, only A, only B, neither."""
    both = a * b + correlation * math.sqrt(a * (1 - a) * b * (1 - b))
    return draw.multinomial(n, [both, a - both, b - both, 1 - a - b + both], size=draws).T


def rate_differences(page: Page) -> None:
    """Coverage of Newcombe's two intervals."""
    cases = ((0.5, 0.7, 0.0), (0.5, 0.7, 0.5), (0.8, 0.9, 0.3), (0.9, 0.9, 0.5), (0.1, 0.15, 0.2))
    rows = []
    for a, b, correlation in cases:
        cells = []
        for n in (10, 20, 50, 200):
            low, high = newcombe_paired(*_pairs(page.random, n, page.draws, a, b, correlation))
            covered = float(((low <= b - a) & (b - a <= high)).mean())
            k_a, k_b = (page.random.binomial(n, rate, size=page.draws) for rate in (a, b))
            low, high = newcombe(k_a, n, k_b, n)
            apart = float(((low <= b - a) & (b - a <= high)).mean())
            cells.append(f"{_percent(covered)} ({_percent(apart)})")
            page.promise(f"Newcombe paired {a} {b} {correlation}, n {n}", covered, 0.93, 1.0)
            page.promise(f"Newcombe {a} {b}, n {n}", apart, 0.93, 1.0)
        rows.append([f"{a:g}, {b:g}", f"{correlation:g}", *cells])
    page.table(
        "Difference of two success rates: coverage on shared seeds (on seeds of their own), %",
        ["rates", "correlation", "n = 10", "20", "50", "200"],
        rows,
    )


def error_rates(page: Page) -> None:
    """How often tests reject where there is no difference."""
    rows = []
    rates = np.linspace(0.01, 0.99, 99)
    for n in (*SIZES, 200):
        boschloo = max(float(rejected(n, n).power(r, r)) for r in rates)
        given = [_rejected_by_mcnemar(m) for m in range(n + 1)]
        # over the shares of pairs that disagree
        exact = max(float(binomial(n, apart) @ given) for apart in rates)
        cells = [_percent(boschloo), _percent(exact)]
        for name, shape in _POPULATIONS.items():
            if n > 50:
                cells.append("–")
                continue
            a, b, count, _ = _episodes(page.random, n, page.draws, shape, 1.0)
            share = float((paired_errors(a, b, count).p <= ALPHA).mean())
            cells.append(_percent(share))
            page.promise(f"paired t, {name}, {n}", share, 0.02, 0.06)
        page.promise(f"Boschloo, n {n}", boschloo, 0.0, ALPHA)
        page.promise(f"McNemar, n {n}", exact, 0.0, ALPHA)
        rows.append([str(n), *cells])
    page.table(
        "Error rate of tests at 5 % where both runs are equal, % (exact: the worst of all rates)",
        ["n", "Boschloo, exact", "McNemar, exact", *(f"paired t, {name}" for name in _POPULATIONS)],
        rows,
    )


def _rejected_by_mcnemar(m: int) -> float:
    """Chance of a rejection where m pairs disagree."""
    only_b = np.arange(m + 1)
    return float(binomial(m, 0.5)[mcnemar(m - only_b, only_b) <= ALPHA].sum())


def several_runs(page: Page) -> None:
    """How often the best of five runs is left out of the leading ones."""
    draws, rows = max(200, page.draws // 10), []
    for name, rates in {
        "all 0.6": (0.6,) * 5,
        "0.5 … 0.6": (0.5, 0.525, 0.55, 0.575, 0.6),
        "0.2 … 0.8": (0.2, 0.35, 0.5, 0.65, 0.8),
    }.items():
        lost, size = 0, 0
        for _ in range(draws):
            x = page.random.random((5, 50)) < np.array(rates)[:, None]
            kept = leading(
                5, {(i, j): _mcnemar_test(x[i], x[j]) for j in range(5) for i in range(j)}
            )
            lost += 4 not in kept
            size += len(kept)
        rows.append([name, _percent(lost / draws), f"{size / draws:.1f}"])
        page.promise(f"leading, {name}", lost / draws, 0.0, ALPHA)
    page.table(
        "Five runs on 50 shared seeds: the best one left out, %; runs left in",
        ["rates", "best left out", "left in"],
        rows,
    )


def _mcnemar_test(a: NDArray, b: NDArray) -> Test:
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    sign = 0 if only_a == only_b else (1 if only_b > only_a else -1)
    return Test("exact McNemar", float(mcnemar(only_a, only_b)), 0.0, sign)  # type: ignore[arg-type]


# ── plans ─────────────────────────────────────────────────────────────


def plans(page: Page) -> None:
    """Whether the planned number of episodes has the power that was asked for."""
    draw, draws = page.random, 4 * page.draws
    rows = []
    for start, to, margin, correlation in (
        (0.6, 0.8, None, 0.0),
        (0.6, 0.8, None, 0.4),
        (0.9, 0.97, None, 0.0),
        (0.05, 0.2, None, 0.0),
        (0.8, 0.8, 0.1, 0.0),
        (0.9, 0.9, 0.1, 0.5),
    ):
        for design in ("one", "paired", "unpaired"):
            known = plan(start, to, design=design, margin=margin, correlation=correlation)  # type: ignore[arg-type]
            assert known.n is not None
            assert known.power is not None
            n = known.n
            if design == "one":
                k = draw.binomial(n, to, size=draws)
                low, high = clopper_pearson(k, n)
                found = (low > start) | (high < start) if margin is None else low >= start - margin
            elif design == "paired":
                cells = _pairs(draw, n, draws, start, to, correlation)
                if margin is None:
                    found = mcnemar(cells[1], cells[2]) <= ALPHA
                else:
                    found = newcombe_paired(*cells)[0] >= -margin
            else:
                k_a, k_b = (draw.binomial(n, rate, size=draws) for rate in (start, to))
                if margin is None:
                    region = rejected(n, n)
                    found = (k_b >= region.b_higher[k_a]) | (k_a >= region.a_higher[k_b])
                else:
                    found = newcombe(k_a, n, k_b, n)[0] >= -margin
            share = float(found.mean())
            rows.append(
                [
                    f"{start:g} → {to:g}",
                    "–" if margin is None else f"{margin:g}",
                    design if design != "paired" else f"paired, correlation {correlation:g}",
                    known.test,
                    str(n),
                    _percent(known.power),
                    _percent(share),
                ]
            )
            noise = 3 * math.sqrt(0.16 / draws)
            if abs(share - known.power) > 0.01 + noise or known.power < 0.8:
                page.broken.append(f"plan {start} {to} {design}: {share:.3f}, {known.power:.3f}")
    page.table(
        "Plans for a power of 80 %: exact power, and the share of simulated runs that found it, %",
        ["rates", "margin", "design", "test", "episodes", "power", "simulated"],
        rows,
    )


# ── looking while it runs ─────────────────────────────────────────────


def _first(reached: NDArray) -> NDArray:
    """[S] the first look that is true, or one more than there are."""
    return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, reached.shape[1] + 1)


def looking(page: Page) -> None:
    """Intervals looked at after each of 500 episodes: how often one of them misses."""
    draws, looks = page.draws // 8, 500
    n = np.arange(1, looks + 1)
    limit = math.log(2 / ALPHA)
    rows = []
    for rate in (0.05, 0.3, 0.5, 0.9):
        k = (page.random.random((draws, looks)) < rate).cumsum(axis=1)
        times = np.stack([n - k, k], axis=-1)
        x = np.array([0.0, 1.0])
        ours = (log_wealth(x, times, rate) >= limit) | (log_wealth(1 - x, times, 1 - rate) >= limit)
        low, high = wilson(k, n)
        naive = ((low > rate) | (rate > high))[:, 9:]
        missed = [float(m.any(axis=1).mean()) for m in (ours, naive)]
        rows.append([f"rate {rate:g}", *(_percent(m) for m in missed)])
        page.promise(f"looking at a rate of {rate}", missed[0], 0.0, ALPHA)
    for a, correlation in ((0.5, 0.0), (0.5, 0.6), (0.9, 0.3)):
        both = a * a + correlation * a * (1 - a)
        kind = page.random.choice(
            4, p=[both, a - both, a - both, 1 - 2 * a + both], size=(draws, looks)
        )
        only_a, only_b = ((kind == i).cumsum(axis=1) for i in (1, 2))
        times = np.stack([only_a, n - only_a - only_b, only_b], axis=-1)
        x = np.array([0.0, 0.5, 1.0])
        ours = (log_wealth(x, times, 0.5) >= limit) | (log_wealth(1 - x, times, 0.5) >= limit)
        naive = (mcnemar(only_a, only_b) <= ALPHA)[:, 9:]
        missed = [float(m.any(axis=1).mean()) for m in (ours, naive)]
        rows.append(
            [f"two equal runs at {a:g}, correlation {correlation:g}", *map(_percent, missed)]
        )
        page.promise(f"looking at pairs at {a}", missed[0], 0.0, ALPHA)
    page.table(
        "Looked at after each of 500 episodes: share of runs that are ever wrong, %",
        ["truth", "anytime interval", "Wilson's or McNemar's, from the tenth on"],
        rows,
    )
    _stops(page, draws, looks)


def _stops(page: Page, draws: int, looks: int) -> None:
    n, limit, rows = np.arange(1, looks + 1), math.log(2 / ALPHA), []
    for threshold, rate in ((0.5, 0.9), (0.6, 0.8), (0.5, 0.6)):
        k = (page.random.random((draws, looks)) < rate).cumsum(axis=1)
        won = log_wealth(np.array([0.0, 1.0]), np.stack([n - k, k], axis=-1), threshold) >= limit
        stop = _first(won)
        fixed = plan(threshold, rate, design="one").n
        ends = [float(np.quantile(stop, share)) for share in (0.5, 0.8)]
        shown = [f"{end:.0f}" if end <= looks else f"> {looks}" for end in ends]
        rows.append([f"{rate:g} against {threshold:g}", *shown, str(fixed)])
    page.table(
        "Episodes until the anytime interval has left a rate behind",
        ["true rate", "median", "80 % of runs", "fixed n for a power of 80 %"],
        rows,
    )


SECTIONS: tuple[Callable[[Page], None], ...] = (
    success_rates,
    mean_of_tasks,
    bounded_means,
    offline_errors,
    skills,
    rate_differences,
    error_rates,
    several_runs,
    plans,
    looking,
)


def main() -> int:
    """Print the tables; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer draws, for CI")
    parser.add_argument("--write", type=Path, help="a Markdown file with the two markers")
    args = parser.parse_args()
    page = Page(draws=2_000 if args.quick else 20_000)
    for section in SECTIONS:
        section(page)
    for line in page.broken:
        print(f"BROKEN {line}", file=sys.stderr)
    if args.write:
        before, rest = args.write.read_text(encoding="utf-8").split(MARKERS[0])
        after = rest.split(MARKERS[1])[1]
        text = "\n".join(page.lines)
        args.write.write_text(
            f"{before}{MARKERS[0]}\n\n{text}\n{MARKERS[1]}{after}", encoding="utf-8"
        )
    return 1 if page.broken else 0


if __name__ == "__main__":
    sys.exit(main())
