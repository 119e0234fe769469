"""What a page draws beyond the record's tables, read from the stored predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.runs.clips import Clip
from policyscope.runs.content import OfflineRecord
from policyscope.runs.directory import RunDirectory
from policyscope.runs.predictions import StoredEpisode
from policyscope.runs.rows import EpisodeRow, ranked
from policyscope.views.language import Say
from policyscope.views.offline.words import error_metric
from policyscope.views.player import PlayerEpisode, fitting

_CELLS = 36
_PARTS = 20
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_PAGE_BYTES = 10_200_000  # as text 4/3 of it: with libraries and tables, less than 15 MB
_ACTION_BYTES = 3_000_000
_MOST_SAMPLES = 8
MOST_ROWS = 1000
"""Episodes whose errors a page lists and draws: the worst of more."""
_ROW_BYTES = 700  # of one of them, in table and data


@final
@dataclass(frozen=True, eq=False)
class Series:
    """What the stored predictions add to a page.

    Attributes:
        density: a row for each dim: edges of the plane, and [i, j, count] of each cell that holds
            predictions (i demonstrated, j predicted).
        progress: view → rows of quantiles of the error over the course of an episode.
        episodes: what the player plays, in the order of the run.
        without_actions: episodes that the page has no room for.
    """

    density: list[dict[str, Any]]
    progress: dict[str, list[dict[str, Any]]]
    episodes: list[PlayerEpisode]
    without_actions: list[int]


def collect(
    directory: RunDirectory,
    record: OfflineRecord,
    rows: Sequence[EpisodeRow],
    chosen: dict[int, str],
    clips: list[Clip],
    say: Say,
) -> Series:
    """Read the predictions of a run, episode by episode.

    Args:
        directory: of the run.
        record: its ``run.json``.
        rows: errors of each episode over whole chunks.
        chosen: episodes whose pictures the page plays, with their roles.
        clips: the pictures that the run keeps.
        say: the page's language.
    """
    scaled = _Scaled(record)
    low, high = _edges(directory, len(record.actions.names))
    counts = np.zeros((len(low), _CELLS, _CELLS), dtype=np.int64)
    played, left_out, used = _plan(record, rows, chosen)
    tasks = {row.episode_index: " → ".join(row.tasks or (row.task,)) for row in rows}
    shown, unseen = fitting(
        chosen, clips, _PAGE_BYTES - used - _ROW_BYTES * min(len(rows), MOST_ROWS)
    )
    progress: dict[str, list[tuple[FloatArray, FloatArray]]] = {}
    episodes = []
    for stored in directory.stored():
        _count(counts, stored, low, high)
        errors = scaled.errors(stored)
        for view, values in errors.items():
            place = np.arange(len(values)) / max(len(values) - 1, 1)
            progress.setdefault(view, []).append((place, values))
        if stored.index in played:
            role, pictures = chosen.get(stored.index, ""), shown.get(stored.index, ())
            why = "" if pictures else _why(stored.index, chosen, unseen, say)
            episodes.append(
                _played(
                    stored, tasks[stored.index], errors, role, pictures, why, played[stored.index]
                )
            )
    density = [
        {
            "dim": d,
            "low": float(low[d]),
            "high": float(high[d]),
            "n": _CELLS,
            "cells": [
                [int(i), int(j), int(counts[d, i, j])] for i, j in np.argwhere(counts[d] > 0)
            ],
        }
        for d in range(len(low))
    ]
    return Series(
        density,
        {view: _quantile_rows(parts) for view, parts in progress.items()},
        episodes,
        left_out,
    )


class _Scaled:
    """Errors of single frames in the views that the run supports."""

    def __init__(self, record: OfflineRecord) -> None:
        rows = record.dims()
        self._use = np.array([not row.excluded for row in rows])
        self._std = np.array([row.std for row in rows])[self._use]
        self._one_unit = error_metric(record)[0] == "mae"

    def errors(self, stored: StoredEpisode) -> dict[str, FloatArray]:
        """View → [T] mean absolute error of each frame's chunk over steps, dims and samples."""
        error = np.mean([np.abs(p.values - stored.target.values) for p in stored.predicted], axis=0)
        real = ~stored.is_pad
        views = {}
        if self._one_unit:
            views["native"] = _masked_mean(error.mean(axis=-1), real)
        if self._use.any():
            views["normalized"] = _masked_mean(
                (error[..., self._use] / self._std).mean(axis=-1), real
            )
        return views


def _masked_mean(values: FloatArray, real: NDArray[np.bool_]) -> FloatArray:
    mean: FloatArray = (values * real).sum(axis=1) / np.maximum(real.sum(axis=1), 1)
    return mean


def _edges(directory: RunDirectory, dim: int) -> tuple[FloatArray, FloatArray]:
    """A frame for each dim that holds all demonstrated and nearly all sensible predictions."""
    known = (target.reshape(-1, dim) for target in directory.targets())
    lows, highs = zip(*((t.min(axis=0), t.max(axis=0)) for t in known), strict=True)
    low, high = np.min(lows, axis=0), np.max(highs, axis=0)
    margin = np.where(high > low, 0.08 * (high - low), 0.5)
    return low - margin, high + margin


def _count(
    counts: NDArray[np.int64], stored: StoredEpisode, low: FloatArray, high: FloatArray
) -> None:
    real = ~stored.is_pad
    y = _cell(stored.target.values[real], low, high)
    for sample in stored.predicted:
        x = _cell(sample.values[real], low, high)
        for d in range(len(counts)):
            cells = np.bincount(y[:, d] * _CELLS + x[:, d], minlength=_CELLS**2)
            counts[d] += cells.reshape(_CELLS, _CELLS)


def _cell(values: FloatArray, low: FloatArray, high: FloatArray) -> NDArray[np.int64]:
    place = np.floor((values - low) / (high - low) * _CELLS)
    return np.asarray(np.clip(np.nan_to_num(place), 0, _CELLS - 1), dtype=np.int64)


def _quantile_rows(parts: list[tuple[FloatArray, FloatArray]]) -> list[dict[str, Any]]:
    place = np.concatenate([p for p, _ in parts])
    values = np.concatenate([v for _, v in parts])
    at = np.minimum((place * _PARTS).astype(int), _PARTS - 1)
    rows = []
    for part in range(_PARTS):
        found = values[at == part]
        if len(found):
            marks = np.quantile(found, _QUANTILES)
            row = {f"p{q * 100:.0f}": float(m) for q, m in zip(_QUANTILES, marks, strict=True)}
            rows.append({"x": (part + 0.5) / _PARTS, "n": len(found), **row})
    return rows


def _plan(
    record: OfflineRecord, rows: Sequence[EpisodeRow], chosen: dict[int, str]
) -> tuple[dict[int, int], list[int], int]:
    """Episodes whose actions fit the page → samples of each; those left out; bytes they take."""
    horizon, dim = record.policy.chunk, len(record.actions.names)
    samples = min(record.policy.samples, _MOST_SAMPLES)
    frames = {row.episode_index: row.n_frames for row in ranked(rows)}
    order = [*chosen, *(e for e in reversed(frames) if e not in chosen)]
    room, left_out = _ACTION_BYTES, []
    played: dict[int, int] = {}
    for episode in order:
        one = frames[episode] * horizon * dim * 2
        k = max(1, min(samples, _ACTION_BYTES // (4 * one)))
        if one * k <= room:
            played[episode] = k
            room -= one * k
        else:
            left_out.append(episode)
    return played, sorted(left_out), _ACTION_BYTES - room


def _why(episode: int, chosen: dict[int, str], unseen: list[int], say: Say) -> str:
    if episode in unseen:
        return say("No pictures: with them the page would be larger than 15 MB.")
    if episode in chosen:
        return say("No pictures: the run keeps none of this episode.")
    return say(
        "No pictures of this episode in the page. To add them: policyscope report RUN "
        "--report.episodes {episode}",
        episode=episode,
    )


def _played(
    stored: StoredEpisode,
    task: str,
    errors: dict[str, FloatArray],
    role: str,
    clips: tuple[Clip, ...],
    left_out: str,
    samples: int,
) -> PlayerEpisode:
    chunks = np.stack([p.values for p in stored.predicted[:samples]], axis=1)
    asked = stored.frame_index
    n = int(asked[-1]) + 1
    demonstrated = np.full((n, chunks.shape[-1]), np.nan)
    for h in range(chunks.shape[2]):  # a strided run knows the frames between from its chunks
        there = (asked + h < n) & ~stored.is_pad[:, h]
        demonstrated[asked[there] + h] = stored.target.values[there, h]
    spread = {name: np.full(n, np.nan) for name in errors}
    for name, values in errors.items():
        spread[name][asked] = values
    return PlayerEpisode(
        index=stored.index,
        title=str(stored.index),
        task=task,
        role=role,
        n_frames=n,
        asked=asked,
        chunks=np.where(stored.is_pad[:, None, :, None], np.nan, chunks),
        demonstrated=demonstrated,
        errors=spread,
        clips=clips,
        left_out=left_out,
    )
