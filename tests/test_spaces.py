"""Action spaces: one door, no mixing, no missing statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from policyscope.actions.spaces import ActionSchema, NativeActions, NormalizedActions, Normalizer
from policyscope.errors import MissingStatsError, SpaceError
from policyscope.metrics import error_sums, mae, mse

STATS = {
    "action": {
        "mean": [1.0, -2.0, 3.0],
        "std": [0.5, 2.0, 1e-3],
        "min": [-1.0, -9.0, 3.0],
        "max": [4.0, 8.0, 3.0],  # the third dim is constant
        "q01": [-0.5, -7.0, 2.9],
        "q99": [3.0, 6.0, 3.1],
        "q10": [0.1, -5.0, 2.95],
        "q90": [2.0, 2.0, 3.05],
    }
}
UNITS = ("px", "px", "rad")
MODES = ("MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10", "IDENTITY")
chunks = arrays(np.float64, (2, 4, 3), elements=st.floats(-50, 50, width=32))


@pytest.mark.parametrize("mode", MODES)
@given(values=chunks)
def test_unnormalize_undoes_normalize(mode: str, values: np.ndarray) -> None:
    door = Normalizer.from_stats(STATS, mode=mode, units=UNITS)
    native = NativeActions(values, UNITS)
    back = door.unnormalize(door.normalize(native))
    np.testing.assert_allclose(back.values, values, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_agrees_with_lerobots_processors(mode: str) -> None:
    from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
    from lerobot.lerobot_types import TransitionKey
    from lerobot.processor import NormalizerProcessorStep, UnnormalizerProcessorStep

    values = np.random.default_rng(1).normal(size=(2, 4, 3)) * 3
    settings = {
        "features": {"action": PolicyFeature(FeatureType.ACTION, (3,))},
        "norm_map": {FeatureType.ACTION: NormalizationMode(mode)},
        "stats": {"action": {k: torch.tensor(v) for k, v in STATS["action"].items()}},
    }
    door = Normalizer.from_stats(STATS, mode=mode, units=UNITS)
    transition = {TransitionKey.ACTION: torch.tensor(values, dtype=torch.float32)}
    theirs = NormalizerProcessorStep(**settings)(transition)[TransitionKey.ACTION]
    ours = door.normalize(NativeActions(values, UNITS))
    np.testing.assert_allclose(ours.values[..., :2], theirs[..., :2], rtol=1e-4, atol=1e-5)
    theirs = UnnormalizerProcessorStep(**settings)(transition)[TransitionKey.ACTION]
    ours_native = door.unnormalize(NormalizedActions(values, door.stats_id))
    np.testing.assert_allclose(ours_native.values, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("stats", "named"),
    [
        ({}, "action.mean"),
        ({"observation.state": STATS["action"]}, "action.std"),
        ({"action": {"mean": [0.0] * 3}}, "action.std"),
        ({"so100.action": STATS["action"]}, "so100.action"),
    ],
)
def test_missing_statistics_raise_and_are_named(stats: dict, named: str) -> None:
    with pytest.raises(MissingStatsError, match=named):
        Normalizer.from_stats(stats, mode="MEAN_STD", units=UNITS)


def test_statistics_of_another_width_raise() -> None:
    with pytest.raises(SpaceError, match="one a dim"):
        Normalizer.from_stats(STATS, mode="MEAN_STD", units=("px", "px"))


def _native(units: tuple[str, ...] = UNITS) -> NativeActions:
    return NativeActions(np.ones((1, 2, 3)), units)


def _normalized(stats_id: str = "a") -> NormalizedActions:
    return NormalizedActions(np.ones((1, 2, 3)), stats_id)


@pytest.mark.parametrize(
    ("predicted", "target"),
    [
        (_normalized(), _native()),
        (_native(), _normalized()),
        (_normalized("a"), _normalized("b")),
        (_native(("px",) * 3), _native(("rad",) * 3)),
        (np.ones((1, 2, 3)), np.ones((1, 2, 3))),
        (np.ones((1, 2, 3)), _native()),
        (_native(), np.ones((1, 2, 3))),
        (_native(), NativeActions(np.ones((1, 1, 3)), UNITS)),
    ],
)
@pytest.mark.parametrize("metric", [mae, mse, error_sums])
def test_metrics_refuse_mixed_and_bare_actions(metric, predicted, target) -> None:
    with pytest.raises(SpaceError):
        metric(predicted, target)


def test_the_door_refuses_foreign_actions() -> None:
    door = Normalizer.from_stats(STATS, mode="MEAN_STD", units=UNITS)
    other = Normalizer.from_stats(STATS, mode="MIN_MAX", units=UNITS)
    with pytest.raises(SpaceError, match="statistics"):
        door.unnormalize(other.normalize(_native()))
    with pytest.raises(SpaceError, match="units"):
        door.normalize(_native(("m",) * 3))


def test_shapes_and_schemas_are_checked() -> None:
    with pytest.raises(SpaceError):
        NativeActions(np.ones((1, 2, 4)), UNITS)
    with pytest.raises(SpaceError):
        ActionSchema(("a", "b"), ("px",))
    schema = ActionSchema(("a", "b", "c"), UNITS)
    assert schema.single_unit is None
    assert schema.select((2, 0)) == ActionSchema(("c", "a"), ("rad", "px"))
