"""What the numbers are: errors, skill, intervals, shape and latency. Pure numpy, no torch.

Arrays come in, sums, tables and intervals go out; nothing here knows a file, a policy or a
simulator. What is suspicious about finished numbers is said in `policyscope.checks.postflight`,
how they are written and drawn in `policyscope.runs` and `policyscope.views`.
"""

from policyscope.metrics.errors import ErrorSums, error_sums, mae, mse
from policyscope.metrics.intervals import Estimate, cluster_mean, cluster_ratio

__all__ = ["ErrorSums", "Estimate", "cluster_mean", "cluster_ratio", "error_sums", "mae", "mse"]
