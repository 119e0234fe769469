"""Predictions of a run: as they come, and as they are stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from policyscope.actions.spaces import ActionSchema, FloatArray, NativeActions
from policyscope.errors import OutputError


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
_META = b"policyscope"


@final
class StoredEpisode:
    """Predictions of one episode, read back as typed arrays.

    Attributes:
        index: episode index.
        frame_index: [T].
        predicted: K arrays of [T, H, A].
        target: [T, H, A].
        is_pad: [T, H].
        names: action dim names.
    """

    def __init__(self, table: pa.Table) -> None:
        meta = json.loads(table.schema.metadata[_META])
        if meta["space"] != "native":
            raise OutputError(
                PREDICTIONS,
                expected="actions in native units",
                found=f"space {meta['space']!r}",
                fix="evaluate again with this version",
            )
        horizon, dim = meta["horizon"], meta["action_dim"]
        units = tuple(meta["units"])
        self.names = tuple(meta["names"])
        samples = int(table.column("sample").to_numpy().max()) + 1
        self.index = int(table.column("episode_index")[0].as_py())
        self.frame_index: NDArray[np.int64] = table.column("frame_index").to_numpy()[::samples]
        predicted = _flat(table, "predicted").reshape(-1, samples, horizon, dim)
        self.predicted = tuple(NativeActions(predicted[:, k], units) for k in range(samples))
        target = _flat(table, "target").reshape(-1, samples, horizon, dim)[:, 0]
        self.target = NativeActions(target, units)
        self.is_pad: NDArray[np.bool_] = (
            _flat(table, "is_pad").reshape(-1, samples, horizon)[:, 0].astype(bool)
        )


def _flat(table: pa.Table, name: str) -> NDArray[Any]:
    values: NDArray[Any] = (
        table.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)
    )
    return values


def predictions_table(
    predictions: EpisodePredictions,
    target: NativeActions,
    is_pad: NDArray[np.bool_],
    schema: ActionSchema,
    stats_id: str,
) -> pa.Table:
    """One row per frame and sample; the schema's metadata says what the numbers are."""
    k, n = len(predictions.predicted), len(predictions.frame_index)
    horizon, dim = target.values.shape[1:]
    predicted = np.stack([p.values for p in predictions.predicted], axis=1)

    def lists(values: NDArray[Any], width: int, kind: pa.DataType) -> pa.Array:
        offsets = pa.array(np.arange(0, len(values) + 1, dtype=np.int32) * width)
        return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1), kind))

    meta = {
        "space": "native",
        "names": schema.names,
        "units": schema.units,
        "stats_id": stats_id,
        "horizon": horizon,
        "action_dim": dim,
        "layout": "predicted and target are [horizon, action_dim], row-major",
    }
    return pa.table(
        {
            "episode_index": np.full(n * k, predictions.index),
            "frame_index": np.repeat(predictions.frame_index, k),
            "sample": np.tile(np.arange(k), n),
            "predicted": lists(predicted.reshape(n * k, -1), horizon * dim, pa.float64()),
            "target": lists(
                np.repeat(target.values, k, axis=0).reshape(n * k, -1), horizon * dim, pa.float64()
            ),
            "is_pad": lists(np.repeat(is_pad, k, axis=0), horizon, pa.bool_()),
            "model_call_s": predictions.model_s.reshape(-1),
        }
    ).replace_schema_metadata({_META: json.dumps(meta).encode()})
