"""Scores of stochastic policies: K samples a frame.

A perfect sampler has twice the squared error of the conditional mean, so MSE alone would rank
mean-collapsed policies first. The fair energy score does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.metrics.intervals import cluster_mean, cluster_ratio
from policyscope.runs.values import SampleScores, Value


@final
@dataclass(frozen=True, eq=False)
class SampleSums:
    """Sums over the frames of one episode, in normalized units.

    Attributes:
        k: samples a frame (K).
        n_frames: frames.
        n_values: unpadded values a sample.
        squared_each: [K] summed squared errors of each sample.
        squared_mean: summed squared errors of the sample mean.
        squared_best: summed squared errors of each frame's best sample.
        variance: summed sample variance (ddof 1).
        energy: summed fair energy scores.
    """

    k: int
    n_frames: int
    n_values: int
    squared_each: FloatArray
    squared_mean: float
    squared_best: float
    variance: float
    energy: float


def sample_sums(predicted: FloatArray, target: FloatArray, is_pad: NDArray[np.bool_]) -> SampleSums:
    """Reduce one episode.

    Args:
        predicted: [K, T, H, A] normalized samples.
        target: [T, H, A] normalized demonstration.
        is_pad: [T, H].
    """
    k = len(predicted)
    real = ~is_pad[None, ..., None]
    error = (predicted - target) * real
    squared = (error**2).sum(axis=(2, 3))  # [K, T]
    spread = sum(
        np.sqrt((((predicted[i] - predicted[j]) * real[0]) ** 2).sum(axis=(1, 2)))
        for i in range(k)
        for j in range(i)
    )
    energy = np.sqrt(squared).mean(axis=0) - np.asarray(spread) / (k * (k - 1))
    return SampleSums(
        k=k,
        n_frames=len(target),
        n_values=int((~is_pad).sum()) * target.shape[-1],
        squared_each=squared.sum(axis=1),
        squared_mean=float((error.mean(axis=0) ** 2).sum()),
        squared_best=float(squared.min(axis=0).sum()),
        variance=float((predicted.var(axis=0, ddof=1) * real[0]).sum()),
        energy=float(energy.sum()),
    )


def sample_scores(episodes: Sequence[SampleSums]) -> SampleScores:
    """Scores over all episodes, in units of the dataset's standard deviation."""
    k = episodes[0].k
    values = np.array([e.n_values for e in episodes], dtype=np.float64)
    n = sum(e.n_frames for e in episodes)

    def mean(total: list[float], count: FloatArray) -> Value:
        return cluster_mean(np.array(total), count, n_frames=n).measured()

    each = np.sum([e.squared_each for e in episodes], axis=0) / values.sum()
    mean_mse = float(np.sum([e.squared_mean for e in episodes]) / values.sum())
    variance = float(np.sum([e.variance for e in episodes]) / values.sum())
    frames = np.array([e.n_frames for e in episodes], dtype=np.float64)
    within = np.array([e.variance for e in episodes]) * (1 + 1 / k)
    of_mean = np.array([e.squared_mean for e in episodes])
    return SampleScores(
        k=k,
        nmse_per_sample=mean([float(e.squared_each.mean()) for e in episodes], values),
        nmse_of_sample_mean=mean([e.squared_mean for e in episodes], values),
        energy_score=mean([e.energy for e in episodes], frames),
        spread_skill=((1 + 1 / k) * variance / mean_mse) ** 0.5 if mean_mse > 0 else None,
        nmse_best_of_k_oracle=mean([e.squared_best for e in episodes], values),
        between_seed_sd=float(each.std(ddof=1)),
        # a norm grows with the root of how many values it is of, padding left out
        energy_score_each=mean([e.energy for e in episodes], np.sqrt(frames * values)),
        spread=cluster_ratio(within, of_mean, n_frames=n).root().measured(),
    )
