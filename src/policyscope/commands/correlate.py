"""Offline numbers against success, over stored runs of the same checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from policyscope.checks.paired_runs import pair_runs
from policyscope.checks.study import Study, study
from policyscope.config.correlating import CorrelateConfig
from policyscope.errors import OutputError
from policyscope.runs.carried import brought
from policyscope.runs.content import Complete
from policyscope.runs.directory import RECORD
from policyscope.runs.record import read_complete
from policyscope.views.correlated.picture import draw_study


def correlate(config: CorrelateConfig) -> Study:
    """Hold the offline numbers of checkpoints against what they reach in closed loop.

    ``--picture`` is drawn, too.

    Raises:
        InputError: no finished runs, runs of different questions, or fewer than four checkpoints
            with both kinds.
    """
    asked = [(a.strip(), b.strip()) for a, _, b in (p.partition("=") for p in config.pairs)]
    found = study(pair_runs(_read(config.runs), asked), draws=config.draws, seed=config.seed)
    if config.picture is not None:
        draw_study(found, Path(config.picture).expanduser())
    return found


def _read(runs: Sequence[str]) -> Iterator[tuple[Path, Complete]]:
    """The runs that are named, and those in named directories that are none themselves."""
    seen = set()
    for name in runs:
        path = brought(name)
        inside = [path]
        if path.is_dir() and not (path / RECORD).exists():
            inside = sorted(p.parent for p in path.glob(f"*/{RECORD}"))
        if not inside:
            raise OutputError(
                str(path),
                expected="a run directory, or one that holds some",
                found=f"no {RECORD}",
                fix="give the --output_dir of runs",
            )
        for place in inside:
            if (known := place.resolve()) not in seen:
                seen.add(known)
                yield place, read_complete(place)
