"""Files at the door: what is no regular, bounded, well-formed file is refused in one line."""

from __future__ import annotations

import json
import os
import platform
import socket
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyscope.errors import CheckpointError, OutputError
from policyscope.files import Door, give_back_memory, parse_json, sync, write_text, write_whole
from policyscope.sim.pool import resident

DOOR = Door(CheckpointError, "copy it again")


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / "socket"))
        for name, found in (
            ("fifo", "a FIFO"),
            ("zero", "a device"),
            (".", "a directory"),
            ("loop", "Too many levels"),
            ("socket", "No such device or address"),
            ("nothing", "No such file"),
            ("x" * 5000, "File name too long"),
            ("a\0b", "null"),
        ):
            for read in (DOOR.read, DOOR.json):
                with pytest.raises(CheckpointError, match=found):
                    read(tmp_path / name)
            with pytest.raises(CheckpointError, match=found), DOOR.parquet(tmp_path / name):
                pass


def test_a_file_has_at_most_so_many_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    assert DOOR.read(tmp_path / "f", most=5) == b"12345"
    with pytest.raises(CheckpointError, match="at most 4 bytes; found 5"):
        DOOR.read(tmp_path / "f", most=4)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "Expecting value"),
        ('{"a": 1, "b": {"c": 2, "c": 2}}', "key 'c' twice"),
        ("[" * 10_000 + "]" * 10_000, "nested deeper than 64"),
        ("[" * 65 + "]" * 65, "nested deeper than 64"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "-Infinity"),
        ('{"a": 1e400}', "beyond any float"),
        ('{"a": 18446744073709551616}', "20 digits"),
        ('{"a": ' + "9" * 100_000 + "}", "100000 digits"),
        ("{} {}", "Extra data"),
    ],
)
def test_json_that_is_refused(text: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=found):
        parse_json(text)
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(CheckpointError, match=found):
        DOOR.json(tmp_path / "f.json")


def test_whole_numbers_beyond_64_bits_on_request() -> None:
    assert parse_json('{"model_max_length": 1' + "0" * 30 + "}", narrow=False) == {
        "model_max_length": 10**30
    }
    with pytest.raises(ValueError, match="digits"):
        parse_json("9" * 100_000, narrow=False)


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_VALUES)
@settings(max_examples=200, deadline=None)
def test_other_json_comes_in_as_it_is(value: object) -> None:
    assert parse_json(json.dumps(value)) == value


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_any_other_text_is_a_value_error(text: str) -> None:
    try:
        parse_json(text)
    except ValueError:
        return
    json.loads(text)


def test_an_object_is_an_object(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="a JSON object; found list"):
        DOOR.object(tmp_path / "f.json")
    (tmp_path / "f.json").write_bytes(b"\xff{}")
    with pytest.raises(CheckpointError, match="utf-8"):
        DOOR.object(tmp_path / "f.json")


@pytest.mark.parametrize(
    "column",
    [
        pa.DictionaryArray.from_arrays(pa.array([0] * 2**20, pa.int32()), pa.array([7.0])).cast(
            pa.float64()
        ),
        pa.array([None] * 2**20, pa.float64()),
        pa.array(["x" * 2**10] * 2**13),
    ],
)
def test_a_table_that_is_small_on_disk_alone(column: pa.Array, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": column}), tmp_path / "t.parquet", compression="zstd")
    assert (tmp_path / "t.parquet").stat().st_size < 2**17
    with (
        pytest.raises(CheckpointError, match="bytes in memory"),
        DOOR.parquet(tmp_path / "t.parquet", most=2**22),
    ):
        pass
    with DOOR.parquet(tmp_path / "t.parquet", most=2**40, whole=True) as table:
        assert len(table.read()) == len(column)
    pq.write_table(pa.table({"a": column}), tmp_path / "t.parquet", row_group_size=2**10)
    with DOOR.parquet(tmp_path / "t.parquet", most=2**22):  # each group alone is small
        pass
    with (
        pytest.raises(CheckpointError, match="bytes in memory"),
        DOOR.parquet(tmp_path / "t.parquet", most=2**22, whole=True),
    ):
        pass


def test_a_broken_table(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(1000))}), tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    for spoiled in (b"", whole[:-1], whole[:100], whole[100:], bytes(len(whole))):
        (tmp_path / "t.parquet").write_bytes(spoiled)
        with (
            pytest.raises(CheckpointError, match="a whole Parquet file"),
            DOOR.parquet(tmp_path / "t.parquet") as table,
        ):
            table.read()


def test_no_byte_of_a_tables_footer_ends_the_process(tmp_path: Path) -> None:
    """Arrow aborts on some broken metadata of columns: an exception that nothing there catches."""
    columns = {"a": [1, 4], "b": [0.5, 0.25], "name": ["a", "b"], "list": [[1.0, 2.0], [3.0]]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet", compression="zstd")
    whole = (tmp_path / "t.parquet").read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    refused = 0
    for place in range(footer, len(whole) - 8):
        for bit in (1, 4, 32):
            spoiled = bytearray(whole)
            spoiled[place] ^= bit
            (tmp_path / "t.parquet").write_bytes(spoiled)
            try:
                with DOOR.parquet(tmp_path / "t.parquet"):
                    pass
            except CheckpointError:
                refused += 1
    assert refused > 100


# ── writing ───────────────────────────────────────────────────────────


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.json", "one")

    def full(tmp: Path) -> None:
        tmp.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        write_whole(tmp_path / "new" / "a.json", full)
    assert [p.read_text() for p in (tmp_path / "new").iterdir()] == ["one"]


def test_two_writers_share_no_name(tmp_path: Path) -> None:
    names = []

    def first(tmp: Path) -> None:
        tmp.write_text("first")
        write_whole(tmp_path / "a", second)
        names.append(tmp)

    def second(tmp: Path) -> None:
        tmp.write_text("second")
        names.append(tmp)

    write_whole(tmp_path / "a", first)
    assert len(set(names)) == 2
    assert (tmp_path / "a").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    replace, fsync = Path.replace, os.fsync

    def noted(self: Path, target: Path) -> Path:
        order.append("named")
        return replace(self, target)

    def synced(number: int) -> None:
        order.append("folder" if Path(f"/proc/self/fd/{number}").is_dir() else "file")
        fsync(number)

    monkeypatch.setattr(Path, "replace", noted)
    monkeypatch.setattr(os, "fsync", synced)
    write_text(tmp_path / "a", "text")
    assert order == ["file", "named", "folder"]
    sync(tmp_path)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_was_freed_goes_back_to_the_system() -> None:
    pieces = [bytearray(100_000) for _ in range(2000)]
    del pieces[:-1]  # the last one holds what lies below it
    before = resident(os.getpid())
    give_back_memory()
    assert resident(os.getpid()) < before - 100_000_000
