"""The table by episode: ``by_episode.parquet`` beside the record, which keeps its summary.

A record must stay small, however many episodes a run has. Readers ask here, wherever the rows
are: beside the record, or in it, as a run of version 0.1 and a short closed-loop run have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pyarrow as pa
import pyarrow.compute as pc

from policyscope.runs.content import OfflineRecord, RolloutRecord
from policyscope.runs.directory import BY_EPISODE
from policyscope.runs.parts import SCOPES, Part, Scope, first_problem
from policyscope.runs.rows import (
    EpisodeRow,
    EpisodeTable,
    RolloutRow,
    RolloutTable,
    Spread,
    in_scope,
)
from policyscope.runs.tables import OURS, read_table, write_table

MOST_IN_RECORD = 500
"""Episodes of a closed-loop run that the record itself lists; more are beside it."""

_AT_ONCE = 1000  # rows whose texts and numbers are objects on their way into a table
_KINDS = {int: pa.int64(), bool: pa.bool_(), float: pa.float64(), str: pa.string()}


def write_episodes(
    directory: Path, rows: Callable[[Sequence[Scope]], Sequence[EpisodeRow]]
) -> EpisodeTable:
    """Write the table of an offline run, one scope after another.

    Args:
        directory: of the run.
        rows: gives those of some scopes; of one at a time they take little memory.

    Returns:
        What the record says of it.

    Raises:
        OutputError: it can't be written.
    """
    ends: dict[str, Spread] = {}

    def tables() -> Iterator[pa.Table]:
        for scope in SCOPES:
            some = rows([scope])
            ends[scope] = Spread.of(some)
            yield _table(some)
            del some  # before the next are made

    whole = pa.concat_tables(tables())
    write_table(directory / BY_EPISODE, whole, {"rows": EpisodeRow.__name__})
    return EpisodeTable(file=BY_EPISODE, n_episodes=len(whole) // len(SCOPES), **ends)


def episode_rows(
    directory: Path, record: OfflineRecord, scope: Scope = "chunk"
) -> list[EpisodeRow]:
    """Errors of each episode over the steps of one scope, in the order of the run.

    Raises:
        OutputError: the table is missing, broken, or another run's.
    """
    table = record.by_episode
    if table.rows is not None:
        return in_scope(table.rows, scope)
    rows = _read(directory, EpisodeRow, scope)
    _require(directory, table.n_episodes, len({row.episode_index for row in rows}))
    return rows


def beside_the_record(directory: Path, record: RolloutRecord) -> RolloutRecord:
    """The same record with few enough episodes in it; of a long run they go to their own table.

    Raises:
        OutputError: it can't be written.
    """
    if len(record.episodes) <= MOST_IN_RECORD:
        return record
    stamp = {"rows": RolloutRow.__name__}
    write_table(directory / BY_EPISODE, _table(record.episodes), stamp)
    table = RolloutTable(file=BY_EPISODE, n_episodes=len(record.episodes))
    return record.model_copy(update={"episodes": [], "by_episode": table})


def rollout_rows(directory: Path, record: RolloutRecord) -> Sequence[RolloutRow]:
    """The episodes of a closed-loop run, in order.

    Raises:
        OutputError: the table is missing, broken, or another run's.
    """
    if record.by_episode is None:
        return record.episodes
    rows = _read(directory, RolloutRow)
    _require(directory, record.by_episode.n_episodes, len(rows))
    return rows


def _table(rows: Sequence[Part]) -> pa.Table:
    first = rows[0].to_json()
    known = {name: _kind(field.annotation) for name, field in type(rows[0]).model_fields.items()}
    schema = pa.schema([(name, known.get(name, pa.float64())) for name in first])
    starts = range(0, len(rows), _AT_ONCE)
    parts = ([row.to_json() for row in rows[start : start + _AT_ONCE]] for start in starts)
    return pa.concat_tables(pa.Table.from_pylist(part, schema=schema) for part in parts)


def _kind(annotation: Any) -> pa.DataType:
    """The column that holds a field: of its type, not of the values that happen to be there."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        inner = annotation.model_fields.items()
        return pa.struct([(name, _kind(field.annotation)) for name, field in inner])
    if get_origin(annotation) is Sequence:
        return pa.list_(_kind(get_args(annotation)[0]))
    if get_origin(annotation) is Literal:
        return pa.string()
    if annotation in _KINDS:
        return _KINDS[annotation]
    return _kind(next(a for a in get_args(annotation) if a is not type(None)))


def _read[R: Part](directory: Path, kind: type[R], scope: Scope | None = None) -> list[R]:
    file = directory / BY_EPISODE
    table = read_table(file).table
    try:
        if scope is not None:
            table = table.filter(pc.field("scope") == scope)
        return [kind.model_validate(row) for row in table.to_pylist()]
    except (pa.ArrowException, ValueError) as error:
        raise OURS.refuse(
            file, expected="the episodes of a run", found=first_problem(error)
        ) from error


def _require(directory: Path, expected: int, found: int) -> None:
    if expected != found:
        raise OURS.refuse(
            directory / BY_EPISODE,
            expected=f"the {expected} episodes that {directory / 'run.json'} tells of",
            found=f"{found}",
        )
