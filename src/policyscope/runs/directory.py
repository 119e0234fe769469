"""The files of a run: written whole or not at all, so that an interrupted run can go on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from policyscope.actions.spaces import ActionSchema, FloatArray, NativeActions
from policyscope.errors import OtherPlanError, OutputError
from policyscope.files import remove, write_text
from policyscope.runs.claim import remove_halves, remove_own, remove_parts
from policyscope.runs.predictions import (
    PREDICTIONS,
    EpisodePredictions,
    RowPredictions,
    StoredEpisode,
    predictions_stamp,
    predictions_table,
    rows_table,
    stored_rows,
)
from policyscope.runs.tables import (
    OURS,
    Stamped,
    merge_tables,
    read_groups,
    read_stamp,
    read_table,
    write_groups,
    write_table,
)

RECORD = "run.json"
LOG = "run.log"
CLIPS = "clips.parquet"
SUMS = "sums.safetensors"
RECORDING = "live.rrd"
PICTURE = "report.png"
PAGE = "report.html"
STEPS = "steps.parquet"
BY_EPISODE: Literal["by_episode.parquet"] = "by_episode.parquet"
EVAL_INFO = "eval_info.json"
FRAMES = "frames"
VIDEOS = "videos"
PARTS = "parts"
PLAN = "plan.json"
BATCH = "batch_size.json"


def in_language(name: str, language: str) -> str:
    """The name of a file in another language than English: beside it, ``report.zh.html``."""
    stem, _, ending = name.rpartition(".")
    return name if language == "en" else f"{stem}.{language}.{ending}"


@final
class RunDirectory:
    """A run directory, claimed by whoever writes into it (see `policyscope.runs.claim`).

    Finished episodes wait in ``parts/`` until all are there; then they become one
    ``predictions.parquet``. Every file appears under its name only when it is whole; each part
    says of which plan and which episode it is. Episodes that are complete at the same time share
    a part, which bears the number of the first; each lies whole in one of its row groups.

    Attributes:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._plan_id = ""
        self._members: dict[Path, Sequence[int]] = {}

    # ── beginning ─────────────────────────────────────────────────────

    def prepare(self, plan: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        """Make the directory ready for a run.

        Args:
            plan: what determines the predictions; a resumed run must agree on all of it.
            resume: continue what is there.
            overwrite: remove the run that is there (its own files only).

        Raises:
            OutputError: it already holds a run, one with another plan, parts of another run, or
                can't be written.
        """
        self.require_free(resume=resume, overwrite=overwrite)
        plan = json.loads(json.dumps(dict(plan)))
        self._plan_id = plan_id(plan)
        held = self.path / PARTS / PLAN
        if resume and os.path.lexists(held):
            require_same_plan(OURS.object(held), plan, self.path)
            remove_halves(self.path)
            self._require_own_parts()
            return
        if resume and self.holds_predictions():
            raise OutputError(
                f"--resume of {self.path}",
                expected="an unfinished run, with its plan",
                found="predictions without one",
                fix="--overwrite to start again, or another --output_dir",
            )
        try:
            remove_own(self.path)
            self._members.clear()
            (self.path / PARTS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"--output_dir {self.path}",
                expected="a directory that can be written",
                found=str(error),
                fix="choose another --output_dir, or make room",
            ) from error
        write_text(held, json.dumps(plan, indent=1))

    def require_free(self, *, resume: bool, overwrite: bool) -> None:
        """Raise where a run would be lost: one with predictions, finished or not.

        Raises:
            OutputError: it holds a run, and neither `resume` nor `overwrite` was asked for.
        """
        if resume or overwrite:
            return
        if (self.path / PREDICTIONS).exists():
            found, fix = "a finished run", "another --output_dir, or --overwrite to start again"
        elif self.finished() or self._numbered("rows"):
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

    def finished(self) -> set[int]:
        """Episodes whose predictions are on disk."""
        return set(self._places())

    def _places(self) -> dict[int, Path]:
        """Finished episode → its part, in the order of the parts."""
        places: dict[int, Path] = {}
        for number, file in self._numbered("episode").items():
            if file not in self._members:
                listed = read_stamp(file).get("episodes")
                several = isinstance(listed, list) and all(isinstance(e, int) for e in listed)
                self._members[file] = listed if several and listed else [number]
            places |= dict.fromkeys(self._members[file], file)
        return places

    # ── parts ─────────────────────────────────────────────────────────

    def part_file(self, kind: str, number: int) -> Path:
        """Where a part lies: an episode, its calls, or rows of the plan."""
        return self.path / PARTS / f"{kind}-{number:0{9 if kind == 'rows' else 6}d}.parquet"

    def write_part(self, kind: str, number: int, table: pa.Table, stamp: Mapping[str, Any]) -> None:
        """Store a part, stamped with its plan and its number."""
        own = {**stamp, "plan": self._plan_id, "part": number}
        write_table(self.part_file(kind, number), table, own)

    def read_part(self, kind: str, number: int) -> Stamped:
        """A stored part.

        Raises:
            OutputError: it is broken, or not that of this plan and this number.
        """
        stored = read_table(self.part_file(kind, number))
        self._require_own(stored.file, number, stored.stamp)
        return stored

    def _require_own_parts(self) -> None:
        for kind in ("episode", "calls", "rows"):
            for number, file in self._numbered(kind).items():
                self._require_own(file, number, read_stamp(file))

    def _require_own(self, file: Path, number: int, stamp: Mapping[str, Any]) -> None:
        if stamp.get("plan") != self._plan_id or stamp.get("part") != number:
            found = "of another run" if stamp.get("part") == number else "under another's name"
            raise OURS.refuse(file, expected="a part of this run", found=f"one {found}")

    def _numbered(self, kind: str) -> dict[int, Path]:
        """Number → part, rising; what has no number is no part."""
        files = (self.path / PARTS).glob(f"{kind}-*.parquet")
        known = ((file.stem.removeprefix(f"{kind}-"), file) for file in sorted(files))
        return {int(name): file for name, file in known if name.isascii() and name.isdigit()}

    # ── predictions ───────────────────────────────────────────────────

    def add(
        self,
        episodes: Sequence[tuple[EpisodePredictions, NativeActions, NDArray[np.bool_]]],
        schema: ActionSchema,
        stats_id: str,
    ) -> list[StoredEpisode]:
        """Store the predictions of some episodes, and return them as they are stored.

        Args:
            episodes: of each its predictions, [T, H, A] targets, and [T, H] what is past its end.
            schema: names and units of the dims.
            stats_id: of the policy's statistics.
        """
        indices = [predictions.index for predictions, _, _ in episodes]
        file = self.part_file("episode", indices[0])
        stamp = predictions_stamp(schema, stats_id, episodes[0][1].values.shape[1])
        stamp |= {"plan": self._plan_id, "part": indices[0], "episodes": indices}
        tables = [predictions_table(*episode) for episode in episodes]
        write_groups(file, tables, stamp)
        self._members[file] = indices
        return [StoredEpisode(Stamped(file, table, stamp)) for table in tables]

    def parts(self, episodes: Sequence[int]) -> Iterator[StoredEpisode]:
        """The stored predictions of finished episodes, part by part, in the order of these.

        Raises:
            OutputError: they are broken, another's, or not there.
        """
        places, wanted = self._places(), dict[Path, set[int]]()
        for episode in episodes:
            file = places.get(episode, self.part_file("episode", episode))
            wanted.setdefault(file, set()).add(episode)
        for file, some in wanted.items():
            for piece in _pieces(file):
                self._require_own(file, int(file.stem.removeprefix("episode-")), piece.stamp)
                stored = StoredEpisode(piece)
                if stored.index in some:
                    some.remove(stored.index)
                    yield stored
            if some:
                raise OURS.refuse(file, expected=f"episode {min(some)}", found="others")

    def forget_episodes(self) -> None:
        """Remove episodes that will be put together again from the rows that are held."""
        for file in self._numbered("episode").values():
            remove(file)
        self._members.clear()

    def hold(self, parts: list[RowPredictions]) -> None:
        """Store rows whose episodes may not be complete yet."""
        table, stamp = rows_table(parts)
        self.write_part("rows", parts[0].first, table, stamp)

    def held(self, first: int) -> Iterator[RowPredictions]:
        """The stored rows from a place in the plan on, without a gap."""
        for start in self._numbered("rows"):
            rows = stored_rows(self.read_part("rows", start), start)
            if start <= first < rows.end:
                skip = first - start
                values = NativeActions(rows.actions.values[skip:], rows.actions.units)
                yield RowPredictions(first, values, rows.model_s[skip:])
                first = rows.end

    def release(self, end: int) -> None:
        """Forget stored rows that lie before a place in the plan: their episodes are whole."""
        for (_, file), (after, _) in pairwise(self._numbered("rows").items()):
            if after <= end:
                remove(file)

    def batch_size(self, choose: Callable[[], int]) -> int:
        """What the run began with, or what is chosen now: it decides which rows share a call.

        Raises:
            OutputError: what it began with is no number.
        """
        file = self.path / PARTS / BATCH
        if not os.path.lexists(file):
            write_text(file, json.dumps(choose()))
        size = OURS.json(file)
        if not isinstance(size, int) or not 0 < size < 2**31:
            raise OURS.refuse(file, expected="a batch size", found=repr(size)[:80])
        return size

    def merge(self, episodes: list[int]) -> None:
        """Turn the finished episodes into ``predictions.parquet``."""
        places = self._places()
        parts = list(dict.fromkeys(places[episode] for episode in episodes))
        merge_tables(self.path / PREDICTIONS, parts, drop=("part", "episodes"))

    def close(self) -> None:
        """Remove what only an unfinished run needs."""
        remove_halves(self.path)
        remove_parts(self.path)

    def stored(self) -> Iterator[StoredEpisode]:
        """The episodes of ``predictions.parquet``.

        Raises:
            OutputError: there are no predictions, or the file is broken.
        """
        return map(StoredEpisode, _pieces(self.path / PREDICTIONS))

    def targets(self) -> Iterator[FloatArray]:
        """[T, H·A] what was demonstrated, of each of these episodes (errors as in `stored`)."""
        groups = read_groups(self.path / PREDICTIONS, columns=["target"])
        for group in groups:
            width = group.number("horizon") * group.number("action_dim")
            yield group.finite("target", width)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file whole."""
        write_text(self.path / name, text)


def _pieces(file: Path) -> Iterator[Stamped]:
    """The rows of each episode; earlier versions gave each a row group of its own."""
    for group in read_groups(file):
        yield from group.runs("episode_index")


def plan_id(plan: Mapping[str, Any]) -> str:
    """A short hash of what determines a run."""
    text = json.dumps(plan, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def require_same_plan(held: Mapping[str, Any], plan: Mapping[str, Any], path: Path) -> None:
    """Raise unless a run that began with one plan goes on with the same.

    Raises:
        OtherPlanError: they differ; the message names where.
    """
    differing = sorted(k for k in held.keys() | plan.keys() if held.get(k) != plan.get(k))
    if differing:
        key = differing[0]
        raise OtherPlanError(
            f"--resume of {path}",
            expected=f"the same {key} as when it began ({str(held.get(key))[:80]})",
            found=str(plan.get(key))[:80],
            fix="repeat the first command line with --resume, or use --overwrite",
        )
