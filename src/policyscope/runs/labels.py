"""A table of labels: a CSV file in which somebody wrote down how the episodes went."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from policyscope.errors import InputError, OutputError, visible
from policyscope.files import Door
from policyscope.runs.labelled import MOST_EPISODES, Labelled

_DOOR = Door(OutputError, "a CSV file with the columns episode, success and, if you like, notes")
_MOST_BYTES = 64 << 20
_MOST_LETTERS = 2000  # of a note
_MOST_COLUMNS = 200
_MOST_NUMBER = 2**53

_COLUMNS: Mapping[str, frozenset[str]] = {
    "episode": frozenset({"episode", "episode_index", "episode_id", "ep", "trial", "回合", "轮次"}),
    "success": frozenset(
        {"success", "successful", "succeeded", "is_success", "next.success", "outcome", "result"}
        | {"成功", "是否成功", "结果"}
    ),
    "notes": frozenset({"notes", "note", "comment", "comments", "remark", "remarks", "备注"}),
    "task": frozenset({"task", "instruction", "language_instruction", "任务"}),
    "seed": frozenset({"seed", "种子"}),
    "reward": frozenset({"reward", "max_reward"}),
}
_YES = frozenset({"true", "t", "1", "1.0", "yes", "y", "success", "pass", "是", "成功"})
_NO = frozenset({"false", "f", "0", "0.0", "no", "n", "failure", "fail", "否", "失败"})


def read_labels(file: Path) -> list[Labelled]:
    """The episodes of a table, in its order; tasks are numbered by their texts' order.

    Columns are found by their names, whatever their case: ``episode`` (or ``episode_index``,
    ``trial``), ``success`` (``succeeded``, ``outcome``), and optionally ``notes`` (``comment``),
    ``task`` (``instruction``), ``seed``, ``reward``. Separated by commas, semicolons or tabs;
    UTF-8, or UTF-16 with its mark.

    Raises:
        OutputError: no such file, too large, no text, no such columns, an episode twice, or a
            success that is neither yes nor no.
    """
    text = _decoded(file)
    try:
        listed = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
        header = next(listed, [])
        where = _columns(file, header)
        episodes = list(_episodes(file, listed, where, len(header)))
    except csv.Error as error:
        raise _DOOR.refuse(file, expected="a CSV file", found=str(error)) from error
    if not episodes:
        raise _DOOR.refuse(file, expected="at least one episode", found="a header alone")
    return episodes


def _decoded(file: Path) -> str:
    content = _DOOR.read(file, most=_MOST_BYTES)
    marked = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte {content[error.start]:#04x} at {error.start}, which is none"
        raise _DOOR.refuse(file, expected="text in UTF-8", found=found) from error
    if "\0" in text:
        raise _DOOR.refuse(file, expected="text in UTF-8", found="null characters")
    return text


def _separator(text: str) -> str:
    first = text.lstrip("\r\n").partition("\n")[0]
    return max(",;\t", key=first.count)


def _columns(file: Path, header: Sequence[str]) -> dict[str, int]:
    if len(header) > _MOST_COLUMNS:
        found = f"{len(header)} columns"
        raise _DOOR.refuse(file, expected=f"at most {_MOST_COLUMNS} columns", found=found)
    plain = [name.strip().lower().replace(" ", "_").replace("-", "_") for name in header]
    where: dict[str, int] = {}
    for what, names in _COLUMNS.items():
        found_at = [i for i, name in enumerate(plain) if name in names]
        if len(found_at) > 1:
            both = " and ".join(repr(header[i])[:40] for i in found_at[:2])
            raise _DOOR.refuse(file, expected=f"one column for {what}", found=both)
        if found_at:
            where[what] = found_at[0]
    for what in ("episode", "success"):
        if what not in where:
            found = ", ".join(name[:40] for name in header[:12]) or "an empty file"
            raise _DOOR.refuse(file, expected=f"a column {what}", found=found)
    return where


def _episodes(
    file: Path, rows: Iterator[list[str]], where: Mapping[str, int], n_columns: int
) -> Iterator[Labelled]:
    seen: set[tuple[str, int]] = set()
    pairs: set[tuple[str, int]] = set()
    for line, row in enumerate(rows, 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) > n_columns:
            raise _wrong(file, line, f"{n_columns} fields", f"{len(row)} (a comma in a note?)")
        cells = {what: row[i].strip() if i < len(row) else "" for what, i in where.items()}
        episode = _whole(file, line, "episode", cells["episode"])
        task = visible(cells.get("task", ""), most=_MOST_LETTERS)
        seed = _whole(file, line, "seed", cells["seed"]) if cells.get("seed") else None
        for what, known, key in (("episode", seen, episode), ("seed", pairs, seed)):
            if key is not None and (task, key) in known:
                raise _wrong(file, line, f"each {what} once", f"{what} {key} again")
            if key is not None:
                known.add((task, key))
        if len(seen) > MOST_EPISODES:
            raise _wrong(file, line, f"at most {MOST_EPISODES:,} episodes", "more")
        yield Labelled(
            _outcome(file, line, cells["success"]),
            task=task,
            seed=seed,
            max_reward=_number(file, line, cells["reward"]) if cells.get("reward") else None,
            note=visible(cells.get("notes", ""), keep="\n", most=_MOST_LETTERS),
            recorded=episode,
        )


def _outcome(file: Path, line: int, text: str) -> bool:
    plain = text.casefold()
    if plain in _YES or plain in _NO:
        return plain in _YES
    expected = "a success that is true or false, yes or no, 1 or 0"
    raise _wrong(file, line, expected, repr(text)[:60] if text else "none")


def _whole(file: Path, line: int, what: str, text: str) -> int:
    plain = text.removesuffix(".0")  # as spreadsheets write it
    if plain.isascii() and plain.isdigit() and len(plain) < 17 and int(plain) < _MOST_NUMBER:
        return int(plain)
    raise _wrong(file, line, f"a number from 0 on as {what}", repr(text)[:60] if text else "none")


def _number(file: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if abs(value) < float("inf"):
        return value
    raise _wrong(file, line, "a finite number as reward", repr(text)[:60])


def _wrong(file: Path, line: int, expected: str, found: str) -> InputError:
    return _DOOR.refuse(f"row {line} of {file}", expected=expected, found=found)
