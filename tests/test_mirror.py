"""Datasets in object stores: fetched as they are read, never twice, never out of their folder."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

pytest.importorskip("s3fs")
pytest.importorskip("moto")

import fakes
from policyscope.commands.evaluate import evaluate
from policyscope.config import DatasetConfig
from policyscope.data import buckets
from policyscope.data.source import FrameSource
from policyscope.errors import DatasetError, UsageError
from policyscope.runs.record import read_record
from stores import BUCKET, Store, answering, endpoint, environment, error_xml, store

__all__ = ["endpoint", "store"]  # fixtures


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four episodes in two data files and two videos each."""
    root = fakes.write_dataset(tmp_path_factory.mktemp("v") / "d", lengths=(9, 8, 7, 6), video=True)
    return split_in_two(root)


def split_in_two(root: Path) -> Path:
    """Have episodes 2 and 3 lie in files of their own, as large datasets have them."""
    data = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(data)
    late = [e >= 2 for e in table.column("episode_index").to_pylist()]
    pq.write_table(table.filter([not x for x in late]), data)
    pq.write_table(table.filter(late), data.with_name("file-001.parquet"))
    index = root / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(index).to_pylist()
    video = next((root / "videos").rglob("*.mp4"))
    shutil.copy(video, video.with_name("file-001.mp4"))
    for row in rows[2:]:
        for key in row:
            if key.endswith("/file_index") and not key.startswith("meta"):
                row[key] = 1
    import pyarrow as pa

    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(index)), index)
    return root


def brought(tmp_path: Path) -> set[str]:
    """What of a dataset is in the cache, without its metadata."""
    snapshots = tmp_path.glob("cache/datasets/*/snapshots/*")
    found = {f.relative_to(s).as_posix() for s in snapshots for f in s.rglob("*") if f.is_file()}
    return {name for name in found if not name.startswith("meta/")}


def opened(url: str, **settings: Any) -> FrameSource:
    return FrameSource(DatasetConfig(root=url, action_units="px", **settings), repo_id="fake/data")


def test_what_is_read_is_fetched_and_nothing_else(
    videos: Path, store: Store, tmp_path: Path
) -> None:
    url = store.put_folder(videos, "data/what")
    source, local = opened(url), opened(str(videos))
    assert brought(tmp_path) == set()
    assert source.facts.place == url
    assert source.facts.lengths == local.facts.lengths
    source.load([3])
    assert brought(tmp_path) == {"data/chunk-000/file-001.parquet"}
    keys = frozenset(source.facts.robot.cameras)
    mine, theirs = (s.batch([(3, 2, 0), (3, 5, 0)], keys=keys) for s in (source, local))
    assert brought(tmp_path) == {
        "data/chunk-000/file-001.parquet",
        f"videos/{fakes.IMAGE}/chunk-000/file-001.mp4",
    }
    for key in keys:
        assert (mine.observations[0][key] == theirs.observations[0][key]).all()


def asked(caplog: pytest.LogCaptureFixture, verb: str) -> list[str]:
    """Objects that the server was asked for, by its own log."""
    lines = [r.getMessage() for r in caplog.records if r.name == "werkzeug"]
    return [line.split()[6] for line in lines if f'"{verb} /' in line]


def test_what_did_not_change_is_not_fetched_again(
    videos: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    url = store.put_folder(videos, "data/again")
    first = opened(url)
    first.load([0])
    caplog.clear()
    again = opened(url)
    again.load([0])
    assert [path for path in asked(caplog, "GET") if "list-type" not in path] == []
    assert (again.episode(0).actions.values == first.episode(0).actions.values).all()


def test_what_changed_is_fetched_anew_and_a_reader_keeps_what_it_began_with(
    videos: Path, store: Store
) -> None:
    url = store.put_folder(videos, "data/changed")
    before = opened(url)
    before.load([0])
    name = "data/chunk-000/file-000.parquet"
    table = pq.read_table(videos / name)
    actions = [[2 * v for v in row] for row in table.column("action").to_pylist()]
    at = table.column_names.index("action")
    import pyarrow as pa

    changed = table.set_column(at, table.field(at), pa.array(actions, table.field(at).type))
    sink = pa.BufferOutputStream()
    pq.write_table(changed, sink)
    store.put(f"data/changed/{name}", sink.getvalue().to_pybytes())
    after = opened(url)
    assert (after.episode(0).actions.values == 2 * before.episode(0).actions.values).all()
    kept = before.episode(1).actions.values  # a file that it has read already
    assert (after.episode(1).actions.values == 2 * kept).all()


def test_many_files_are_not_looked_at_when_a_dataset_is_opened(
    videos: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    url = store.put_folder(videos, "data/many")
    for i in range(2, 202):
        store.put(f"data/many/data/chunk-000/file-{i:03d}.parquet", b"never read")
    caplog.clear()
    opened(url).load([0])
    assert not [path for path in asked(caplog, "GET") if "chunk-000/file-1" in path]
    assert len(asked(caplog, "GET")) + len(asked(caplog, "HEAD")) < 20


def test_an_evaluation_there_is_one_here(videos: Path, store: Store, tmp_path: Path) -> None:
    url = store.put_folder(videos, "data/evaluated")
    runs = []
    for root in (url, str(videos)):
        config = fakes.config_for(root, "repeat_last", tmp_path / f"o{len(runs)}")  # type: ignore[arg-type]
        runs.append(evaluate(config).directory)
    far, near = (read_record(run).to_json() for run in runs)
    assert far["dataset"].pop("root") == url
    assert near["dataset"].pop("root") == str(videos)
    for record in (far, near):
        for key in ("latency", "throughput", "environment"):
            del record[key]
    assert far == near
    tables = [pq.read_table(run / "predictions.parquet") for run in runs]
    assert tables[0].drop_columns("model_call_s").equals(tables[1].drop_columns("model_call_s"))


# ── what goes wrong is one line ───────────────────────────────────────


def refusal(url: str, kind: type[Exception] = DatasetError) -> str:
    with pytest.raises(kind) as caught:
        opened(url).load([0])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_not_there(videos: Path, store: Store) -> None:
    assert "bucket does not exist" in refusal("s3://no-such-bucket/x")
    assert "none below it among 0 objects" in refusal(f"s3://{BUCKET}/nothing")
    url = store.put_folder(videos, "data/lacking")
    store.client.delete_object(Bucket=BUCKET, Key="data/lacking/data/chunk-000/file-000.parquet")
    said = refusal(url)
    assert "file-000.parquet" in said
    assert "no such file" in said
    source = opened(url)
    video = f"videos/{fakes.IMAGE}/chunk-000/file-001.mp4"
    store.client.delete_object(Bucket=BUCKET, Key=f"data/lacking/{video}")
    with pytest.raises(DatasetError, match="no such file"):  # before anything is predicted
        source.load([2])


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://key:secret@lab/x", "without password"),
        ("s3://lab/x?X-Amz-Signature=secret", "without password, query"),
        ("s3://", "a bucket and a path"),
        ("s3://lab/../x", "a bucket and a path"),
        ("simplecache::s3://lab/x", "begins with s3"),
        ("reference://x", "begins with s3"),
        ("file:///etc", "begins with s3"),
        ("http://169.254.169.254/latest", "begins with s3"),
    ],
)
def test_addresses_that_are_none(url: str, said: str) -> None:
    text = refusal(url, UsageError)
    assert said in text
    assert "secret" not in text


def test_a_store_that_refuses_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(lambda _: (403, error_xml("AccessDenied", "Access Denied"))) as address:
        for name, value in environment(address, tmp_path).items():
            monkeypatch.setenv(name, value)
        said = refusal("s3://lab/x")
    assert "PermissionError: Access Denied" in said
    assert "AWS_PROFILE" in said
    assert "secret" not in said


def test_a_store_that_is_not_there_or_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    quick = {"connect_timeout": 0.2, "read_timeout": 0.2, "retries": {"total_max_attempts": 1}}
    monkeypatch.setitem(buckets._OPTIONS, "s3", {"config_kwargs": quick})  # type: ignore[index]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for name, value in environment(address, tmp_path).items():
            monkeypatch.setenv(name, value)
        assert "Timeout" in refusal("s3://lab/x")
    assert "Could not connect" in refusal("s3://lab/x")


def test_a_disk_without_room(
    videos: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = store.put_folder(videos, "data/room")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(buckets.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert "POLICYSCOPE_CACHE" in refusal(url)
    files = [f for f in (tmp_path / "cache").rglob("*") if f.is_file()]
    assert not [f for f in files if f.suffix != ".lock"]


def test_half_a_file_is_none(
    videos: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = store.put_folder(videos, "data/half")
    source, plain = opened(url), Path.replace

    def killed(*_: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        source.load([0])
    monkeypatch.setattr(Path, "replace", plain)
    assert brought(tmp_path) == set()
    opened(url).load([0])


def test_what_changes_while_it_is_fetched_is_fetched_again(
    videos: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = store.put_folder(videos, "data/moving")
    plain, name = buckets.Bucket.fetch, "meta/info.json"
    left = [2]

    def fetch(self: buckets.Bucket, what: str, stored: buckets.Stored, to: Path) -> None:
        plain(self, what, stored, to)
        if what == name and left[0]:
            left[0] -= 1
            text = (videos / name).read_text().replace('"fps": 10', f'"fps": {20 + left[0]}')
            store.put(f"data/moving/{name}", text.encode())

    monkeypatch.setattr(buckets.Bucket, "fetch", fetch)
    assert opened(url).facts.robot.fps == 20
    left[0] = 99
    store.put(f"data/moving/{name}", (videos / name).read_bytes())  # which is not in the cache
    assert "changed" in refusal(url)


def test_a_large_file_is_announced(
    videos: Path, store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "_LONG", 100)
    caplog.set_level(logging.INFO, "policyscope")
    url = store.put_folder(videos, "data/large")
    opened(url).load([0])
    said = [r.getMessage() for r in caplog.records if r.name == "policyscope"]
    assert any(f"fetching {url}/data/chunk-000/file-000.parquet" in line for line in said)


def test_names_that_lead_elsewhere_are_not_asked_for(
    videos: Path, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = store.put_folder(videos, "data/hostile/inner")
    store.put("data/hostile/secret.txt", b"not of this dataset")
    store.put("data/hostile/inner/meta/../../../escaped", b"x")
    store.put("data/hostile/inner/meta/\\windows", b"x")
    source = opened(url)
    caplog.clear()
    for name in ("../secret.txt", "/etc/passwd", "s3://lab/data/hostile/secret.txt", "a\0b"):
        with pytest.raises(DatasetError):
            source._folder.file(name)
    assert not [path for path in asked(caplog, "GET") if "secret" in path and "inner" not in path]
    assert not list(tmp_path.rglob("escaped"))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "s3fs", None)
    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, "s3", raising=False)
    said: Any = refusal("s3://lab/x")
    assert "pip install 'policyscope[s3]'" in said
    assert "gcsfs" in refusal("gs://lab/x")
