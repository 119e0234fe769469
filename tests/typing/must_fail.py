"""Mixed spaces: each line must fail the type checker (an unused ignore is an error)."""

import numpy as np

from policyscope.actions.spaces import NativeActions, NormalizedActions, Normalizer
from policyscope.metrics import error_sums, mae, mse

native = NativeActions(np.zeros((1, 2, 3)), ("px",) * 3)
normalized = NormalizedActions(np.zeros((1, 2, 3)), "stats")
bare = np.zeros((1, 2, 3))


def convert(door: Normalizer) -> None:
    door.normalize(normalized)  # type: ignore[arg-type]
    door.unnormalize(native)  # type: ignore[arg-type]


mae(normalized, native)  # type: ignore[type-var]
mse(native, normalized)  # type: ignore[type-var]
error_sums(native, normalized)  # type: ignore[type-var]
mae(bare, bare)  # type: ignore[type-var]
mae(normalized, bare)  # type: ignore[type-var]
