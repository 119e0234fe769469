"""The files of a run: written whole or not at all, so that an interrupted run can go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from policyscope.actions.spaces import ActionSchema, NativeActions
from policyscope.errors import OutputError
from policyscope.runs.predictions import (
    PREDICTIONS,
    EpisodePredictions,
    RowPredictions,
    StoredEpisode,
    predictions_table,
)

RECORD = "run.json"
CLIPS = "clips.parquet"
RECORDING = "live.rrd"
PICTURE = "report.png"
PAGE = "report.html"
STEPS = "steps.parquet"
EVAL_INFO = "eval_info.json"
FRAMES = "frames"
VIDEOS = "videos"
_PARTS = "parts"
_PLAN = "plan.json"
_BATCH = "batch_size.json"


@final
class RunDirectory:
    """A run directory.

    Finished episodes wait in ``parts/`` until all are there; then they become one
    ``predictions.parquet``. Every file appears under its name only when it is whole.

    Attributes:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    # ── beginning ─────────────────────────────────────────────────────

    def prepare(self, plan: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
        """Make the directory ready for a run.

        Args:
            plan: what determines the predictions; a resumed run must agree on all of it.
            resume: continue what is there.
            overwrite: remove the run that is there (its own files only).

        Raises:
            OutputError: it already holds a run, or one with another plan, or can't be written.
        """
        self.require_free(resume=resume, overwrite=overwrite)
        held = self.path / _PARTS / _PLAN
        if resume and held.is_file():
            require_same_plan(json.loads(held.read_text(encoding="utf-8")), plan, self.path)
            return
        if resume and self.holds_predictions():
            raise OutputError(
                f"--resume of {self.path}",
                expected="an unfinished run, with its plan",
                found="predictions without one",
                fix="--overwrite to start again, or another --output_dir",
            )
        try:
            self._clear()
            (self.path / _PARTS).mkdir(parents=True)
            write_whole(held, lambda tmp: tmp.write_text(json.dumps(plan, indent=1)))
        except OSError as error:
            raise OutputError(
                f"--output_dir {self.path}",
                expected="a directory that can be written",
                found=str(error),
                fix="choose another --output_dir, or make room",
            ) from error

    def require_free(self, *, resume: bool, overwrite: bool) -> None:
        """Raise where a run would be lost: one with predictions, finished or not.

        Raises:
            OutputError: it holds a run, and neither `resume` nor `overwrite` was asked for.
        """
        if self.path.exists() and not self.path.is_dir():
            found, fix = "a file", "another --output_dir"
        elif resume or overwrite:
            return
        elif (self.path / PREDICTIONS).exists():
            found, fix = "a finished run", "another --output_dir, or --overwrite to start again"
        elif self.finished():
            found = f"an unfinished run of {len(self.finished())} episodes"
            fix = "--resume to go on, another --output_dir, or --overwrite to start again"
        else:
            return
        raise OutputError(
            f"--output_dir {self.path}", expected="a directory without a run", found=found, fix=fix
        )

    def holds_predictions(self) -> bool:
        """Whether predictions are there, of a finished or an unfinished run."""
        return (self.path / PREDICTIONS).exists() or bool(self.finished())

    def _clear(self) -> None:
        for name in (_PARTS, FRAMES, VIDEOS):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in (RECORD, PREDICTIONS, CLIPS, RECORDING, STEPS, EVAL_INFO, PICTURE, PAGE):
            (self.path / name).unlink(missing_ok=True)

    # ── predictions ───────────────────────────────────────────────────

    def finished(self) -> set[int]:
        """Episodes whose predictions are on disk."""
        files = (self.path / _PARTS).glob("episode-*.parquet")
        return {int(file.stem.removeprefix("episode-")) for file in files}

    def add(
        self,
        predictions: EpisodePredictions,
        target: NativeActions,
        is_pad: NDArray[np.bool_],
        schema: ActionSchema,
        stats_id: str,
    ) -> None:
        """Store the predictions of one episode."""
        table = predictions_table(predictions, target, is_pad, schema, stats_id)
        write_whole(
            self._part(predictions.index),
            lambda tmp: pq.write_table(table, tmp, compression="zstd"),
        )

    def _part(self, episode: int) -> Path:
        return self.path / _PARTS / f"episode-{episode:06d}.parquet"

    def part(self, episode: int) -> StoredEpisode:
        """The stored predictions of a finished episode."""
        return StoredEpisode(pq.read_table(self._part(episode)))

    def hold(self, parts: list[RowPredictions]) -> None:
        """Store rows whose episodes may not be complete yet."""
        values = np.concatenate([part.actions.values for part in parts])
        seconds = np.concatenate([part.model_s for part in parts])
        units = np.array(parts[0].actions.units)

        def write(tmp: Path) -> None:
            with tmp.open("wb") as file:
                np.savez(file, values=values, seconds=seconds, units=units)

        write_whole(self.path / _PARTS / f"rows-{parts[0].first:09d}.npz", write)

    def held(self, first: int) -> Iterator[RowPredictions]:
        """The stored rows from a place in the plan on, without a gap."""
        for start, path in self._held():
            with np.load(path, allow_pickle=False) as stored:
                values, seconds, units = stored["values"], stored["seconds"], stored["units"]
            if start <= first < start + len(values):
                skip = first - start
                actions = NativeActions(values[skip:], tuple(str(unit) for unit in units))
                yield RowPredictions(first, actions, seconds[skip:])
                first = start + len(values)

    def release(self, end: int) -> None:
        """Forget stored rows that lie before a place in the plan: their episodes are whole."""
        held = self._held()
        for (_, path), (after, _) in pairwise(held):
            if after <= end:
                path.unlink(missing_ok=True)

    def batch_size(self, choose: Callable[[], int]) -> int:
        """What the run began with, or what is chosen now: it decides which rows share a call."""
        path = self.path / _PARTS / _BATCH
        if not path.is_file():
            chosen = choose()
            write_whole(path, lambda tmp: tmp.write_text(json.dumps(chosen)))
        return int(json.loads(path.read_text(encoding="utf-8")))

    def _held(self) -> list[tuple[int, Path]]:
        files = sorted((self.path / _PARTS).glob("rows-*.npz"))
        return [(int(file.stem.removeprefix("rows-")), file) for file in files]

    def merge(self, episodes: list[int]) -> None:
        """Turn the finished episodes into ``predictions.parquet``, one row group each."""

        def write(tmp: Path) -> None:
            schema = pq.read_schema(self._part(episodes[0]))
            with pq.ParquetWriter(tmp, schema, compression="zstd") as writer:
                for episode in episodes:
                    writer.write_table(pq.read_table(self._part(episode)))

        write_whole(self.path / PREDICTIONS, write)

    def close(self) -> None:
        """Remove what only an unfinished run needs."""
        shutil.rmtree(self.path / _PARTS, ignore_errors=True)

    def stored(self) -> Iterator[StoredEpisode]:
        """The episodes of ``predictions.parquet``.

        Raises:
            OutputError: there are no predictions, or the file is broken.
        """
        try:
            with pq.ParquetFile(self.path / PREDICTIONS) as file:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group)
                    yield StoredEpisode(table.replace_schema_metadata(file.schema_arrow.metadata))
        except (OSError, pa.ArrowException) as error:
            raise OutputError(
                str(self.path / PREDICTIONS),
                expected="the predictions of a finished run",
                found=str(error).splitlines()[0],
                fix="run the evaluation again",
            ) from error

    def write_text(self, name: str, text: str) -> None:
        """Write a text file whole."""
        write_whole(self.path / name, lambda tmp: tmp.write_text(text, encoding="utf-8"))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, then move it there: it is whole, or it is not.

    Raises:
        OutputError: it can't be written.
    """
    tmp = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(tmp)
        tmp.replace(path)
    except OSError as error:
        raise OutputError(
            str(path),
            expected="a place that can be written",
            found=str(error),
            fix="make room, then the same command with --resume; or another --output_dir",
        ) from error
    finally:
        tmp.unlink(missing_ok=True)


def require_same_plan(held: dict[str, Any], plan: dict[str, Any], path: Path) -> None:
    """Raise unless a run that began with one plan goes on with the same.

    Raises:
        OutputError: they differ; the message names where.
    """
    differing = sorted(k for k in held.keys() | plan.keys() if held.get(k) != plan.get(k))
    if differing:
        key = differing[0]
        raise OutputError(
            f"--resume of {path}",
            expected=f"the same {key} as when it began ({str(held.get(key))[:80]})",
            found=str(plan.get(key))[:80],
            fix="repeat the first command line with --resume, or use --overwrite",
        )
