"""What the numbers are: errors, skill, intervals, shape and latency. Pure numpy, no torch."""

from policyscope.metrics.errors import ErrorSums, error_sums, mae, mse
from policyscope.metrics.intervals import Estimate, cluster_mean, cluster_ratio

__all__ = ["ErrorSums", "Estimate", "cluster_mean", "cluster_ratio", "error_sums", "mae", "mse"]
