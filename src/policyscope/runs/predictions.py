"""Predictions of a run: as they come, and as they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from policyscope.actions.spaces import ActionSchema, FloatArray, NativeActions
from policyscope.runs.tables import Stamped, lists


@final
@dataclass(frozen=True, eq=False)
class EpisodePredictions:
    """All predictions of one episode.

    Attributes:
        index: episode index.
        frame_index: [T], rising.
        predicted: K arrays of [T, H, A], one a sample.
        model_s: [T, K] seconds of the model call that made each prediction.
    """

    index: int
    frame_index: NDArray[np.int64]
    predicted: tuple[NativeActions, ...]
    model_s: FloatArray


@final
@dataclass(frozen=True, eq=False)
class RowPredictions:
    """Predictions of consecutive rows of the plan.

    Attributes:
        first: place in the plan of the first row.
        actions: [N, H, A].
        model_s: [N] seconds of the model call that made each.
    """

    first: int
    actions: NativeActions
    model_s: FloatArray

    @property
    def end(self) -> int:
        """Place in the plan after the last row."""
        return self.first + len(self.model_s)

    def __getitem__(self, rows: slice) -> RowPredictions:
        start = rows.indices(len(self.model_s))[0]
        actions = NativeActions(self.actions.values[rows], self.actions.units)
        return RowPredictions(self.first + start, actions, self.model_s[rows])


PREDICTIONS = "predictions.parquet"


@final
class StoredEpisode:
    """Predictions of one episode, read back as typed arrays.

    Attributes:
        index: episode index.
        frame_index: [T], rising.
        predicted: K arrays of [T, H, A].
        target: [T, H, A].
        is_pad: [T, H].
        names: action dim names.

    Raises:
        OutputError: the table is not what its stamp says.
    """

    def __init__(self, stored: Stamped) -> None:
        if stored.stamp.get("space") != "native":
            raise stored.refuse(
                expected="actions in native units", found=f"space {stored.stamp.get('space')!r}"
            )
        horizon, dim = stored.number("horizon"), stored.number("action_dim")
        units = stored.texts("units", dim)
        self.names = stored.texts("names", dim)
        self.index, samples = _index_and_samples(stored)
        self.frame_index: NDArray[np.int64] = stored.column("frame_index")[::samples]
        if (np.diff(self.frame_index) <= 0).any() or self.frame_index[0] < 0:
            raise stored.refuse(expected="frames that rise", found="others")
        predicted = stored.finite("predicted", horizon * dim).reshape(-1, samples, horizon, dim)
        self.predicted = tuple(NativeActions(predicted[:, k], units) for k in range(samples))
        target = stored.finite("target", horizon * dim).reshape(-1, samples, horizon, dim)[:, 0]
        self.target = NativeActions(target, units)
        pad = stored.matrix("is_pad", horizon).reshape(-1, samples, horizon)[:, 0]
        self.is_pad: NDArray[np.bool_] = pad.astype(bool)


def _index_and_samples(stored: Stamped) -> tuple[int, int]:
    """The episode of all rows, and the samples of each frame."""
    episode, sample = stored.column("episode_index"), stored.column("sample")
    if not len(episode) or (episode != episode[0]).any() or episode[0] < 0:
        raise stored.refuse(expected="rows of one episode", found=f"{len(set(episode))} episodes")
    samples = int(sample.max()) + 1
    rows = np.arange(len(sample))
    if samples < 1 or len(sample) % samples or (sample != rows % samples).any():
        raise stored.refuse(expected="samples 0, 1, ... of each frame", found="others")
    return int(episode[0]), samples


def predictions_table(
    predictions: EpisodePredictions, target: NativeActions, is_pad: NDArray[np.bool_]
) -> pa.Table:
    """One row per frame and sample (see `predictions_stamp`)."""
    k, n = len(predictions.predicted), len(predictions.frame_index)
    predicted = np.stack([p.values for p in predictions.predicted], axis=1)
    return pa.table(
        {
            "episode_index": np.full(n * k, predictions.index),
            "frame_index": np.repeat(predictions.frame_index, k),
            "sample": np.tile(np.arange(k), n),
            "predicted": lists(predicted.reshape(n * k, -1)),
            "target": lists(np.repeat(target.values, k, axis=0)),
            "is_pad": lists(np.repeat(is_pad, k, axis=0), pa.bool_()),
            "model_call_s": predictions.model_s.reshape(-1),
        }
    )


def predictions_stamp(schema: ActionSchema, stats_id: str, horizon: int) -> dict[str, Any]:
    """What the numbers of a table of predictions are."""
    return {
        "space": "native",
        "names": list(schema.names),
        "units": list(schema.units),
        "stats_id": stats_id,
        "horizon": horizon,
        "action_dim": schema.dim,
        "layout": "predicted and target are [horizon, action_dim], row-major",
    }


def rows_table(parts: list[RowPredictions]) -> tuple[pa.Table, dict[str, Any]]:
    """Rows of the plan whose episodes may not be complete yet, and their stamp."""
    values = np.concatenate([part.actions.values for part in parts])
    seconds = np.concatenate([part.model_s for part in parts])
    stamp = {
        "units": parts[0].actions.units,
        "horizon": values.shape[1],
        "action_dim": values.shape[2],
    }
    return pa.table({"predicted": lists(values), "model_call_s": seconds}), stamp


def stored_rows(stored: Stamped, start: int) -> RowPredictions:
    """Rows of the plan, read back.

    Args:
        stored: as `rows_table` made it.
        start: place in the plan of its first row.

    Raises:
        OutputError: the table is not what its stamp says.
    """
    horizon, dim = stored.number("horizon"), stored.number("action_dim")
    values = stored.finite("predicted", horizon * dim).reshape(-1, horizon, dim)
    actions = NativeActions(values, stored.texts("units", dim))
    return RowPredictions(start, actions, stored.column("model_call_s"))
