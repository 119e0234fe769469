"""Whether the interval of a run that a time budget ended covers what all frames would have given.

    python benchmarks/time_budget.py

Errors are made up: episodes of 20 to 400 frames, each of its own difficulty, errors that rise and
fall slowly within an episode, noise of each frame, padding at the ends. For each seed the run is
broken off after some share of its frames; printed are how often the 95 % interval holds the value
of all frames, and how wide it is. Beside it, the width of the record's own interval, whose unit of
chance is the episode, over the frames of such a run and over as many of the first episodes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from policyscope.engine.spread import spread
from policyscope.metrics.intervals import Estimate, cluster_mean
from policyscope.metrics.partial import of_all_frames

HORIZON = 16

Frames = dict[int, NDArray[np.float64]]


def made_up(seed: int, smooth: float) -> tuple[Frames, Frames]:
    """Errors of each frame, summed over its chunk, and how many steps that are, by episode."""
    draw = np.random.default_rng(seed)
    errors, counts = {}, {}
    for episode in range(int(draw.integers(8, 80))):
        n = int(draw.integers(20, 400))
        count = np.minimum(HORIZON, n - np.arange(n)).astype(float)
        phase, waves = draw.uniform(0, 2 * np.pi), draw.uniform(1, 4)
        course = np.exp(smooth * np.sin(phase + waves * 2 * np.pi * np.arange(n) / n))
        hard = draw.lognormal(0, 0.5)
        errors[episode] = hard * course * draw.gamma(2, 0.5, n) * count
        counts[episode] = count
    return errors, counts


def broken_off(
    seed: int, share: float, smooth: float
) -> tuple[Estimate, float, Estimate, Estimate]:
    """What a part says of all, what all say, and what the episodes of it and of the first say."""
    errors, counts = made_up(seed, smooth)
    lengths: Mapping[int, int] = {e: len(values) for e, values in errors.items()}
    order = spread(lengths, seed=seed)
    n = max(2, round(share * len(order)))
    episode, frame = order[:n].T
    of = [np.array([table[e][f] for e, f in order[:n]]) for table in (errors, counts)]
    found = of_all_frames(episode, frame, *of, lengths)
    flat, steps = (np.concatenate(list(table.values())) for table in (errors, counts))
    where = np.repeat(list(lengths), list(lengths.values()))[:n]
    first = [np.bincount(where, weights=values[:n]) for values in (flat, steps)]
    weight = np.array([*lengths.values()]) / np.maximum(
        np.bincount(episode, minlength=len(lengths)), 1
    )
    ours = [np.bincount(episode, weights=v, minlength=len(lengths)) * weight for v in of]
    truth = float(flat.sum() / steps.sum())
    return found, truth, cluster_mean(*ours), cluster_mean(*first)


def width(estimate: Estimate) -> float | None:
    """Of an interval, over its value."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return None
    return (estimate.high - estimate.low) / estimate.value


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--budgets", type=int, default=200)
    args = parser.parse_args()
    print("errors   share  covers   width   by episode: spread   first episodes")
    for name, smooth in (("noise", 0.0), ("waves", 0.7)):
        for share in (0.002, 0.01, 0.03, 0.1, 0.3, 0.7, 0.95):
            runs = [broken_off(seed, share, smooth) for seed in range(args.budgets)]
            known = [(part, truth) for part, truth, _, _ in runs if part.low is not None]
            holds = [part.low <= truth <= part.high for part, truth in known]
            assert len(known) == len(runs), "an interval, however wide"
            widths = [_median([run[i] for run in runs]) for i in (0, 2, 3)]
            print(
                f"{name:8} {share:5.1%} {np.mean(holds):7.1%} {widths[0]:>7}"
                f" {widths[1]:>20} {widths[2]:>16}"
            )


def _median(estimates: list[Estimate]) -> str:
    widths = [width(estimate) for estimate in estimates]
    known = [w for w in widths if w is not None]
    return f"{np.median(known):.3f}" if 2 * len(known) > len(widths) else "none"


if __name__ == "__main__":
    main()
