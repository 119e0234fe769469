"""Strictly typed use that must pass the type checker."""

import numpy as np

from policyscope.actions.spaces import NativeActions, NormalizedActions
from policyscope.metrics import mae, mse

native = NativeActions(np.zeros((1, 2, 3)), ("px",) * 3)
normalized = NormalizedActions(np.zeros((1, 2, 3)), "stats")
mae(native, native)
mse(normalized, normalized)
