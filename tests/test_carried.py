"""Run directories in object stores: what is there goes on, whatever ended it, on any machine."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("s3fs")
pytest.importorskip("moto")

import fakes
from hostile.zygote import Zygote, zygote
from policyscope import files
from policyscope.commands.cli import main
from policyscope.commands.compare import compare
from policyscope.commands.evaluate import evaluate
from policyscope.commands.mixture import evaluate_mixture
from policyscope.commands.report import render
from policyscope.config import CompareConfig, EvalConfig, PageConfig, ReportConfig
from policyscope.data.buckets import Bucket
from policyscope.engine import offline
from policyscope.errors import OutputError, UsageError
from policyscope.runs import lease
from policyscope.runs.carried import brought, carried, place, shown
from policyscope.runs.names import is_whole
from stores import BUCKET, Store, endpoint, environment, store
from test_kill import closed_loop, done, same
from test_kill import offline as eval_words

__all__ = ["endpoint", "store"]  # fixtures


class Killed(BaseException):
    """What nothing in the program may catch."""


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of the dead end in moments."""
    monkeypatch.setattr(lease, "RENEW_S", 0.05)
    monkeypatch.setattr(lease, "DEAD_S", 0.4)


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = evaluate(config(data, str(tmp_path_factory.mktemp("run") / "o")))
    render(ReportConfig(str(run.directory)))
    return run.directory


def config(data: Path, out: str, **settings: Any) -> EvalConfig:
    settings = {"samples": 2, "batch_size": "4", **settings}
    return fakes.config_for(data, "hold_state", out, **settings)  # type: ignore[arg-type]


def lying(folder: Path) -> set[str]:
    names = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    return names - {".policyscope.lock"}


def test_a_run_there_is_one_here(data: Path, unbroken: Path, store: Store, tmp_path: Path) -> None:
    url = f"s3://{BUCKET}/runs/one"
    run = evaluate(config(data, url))
    render(ReportConfig(url))
    assert store.names("runs/one") == lying(unbroken) == lying(run.directory)
    taken = store.take("runs/one", tmp_path / "taken")
    same(taken, unbroken)
    assert shown(run.directory / "report.html") == f"{url}/report.html"
    assert "secret" not in (taken / "run.json").read_text()


def test_what_is_there_already(data: Path, store: Store) -> None:
    url = f"s3://{BUCKET}/runs/there"
    evaluate(config(data, url))
    with pytest.raises(OutputError, match="a finished run"):
        evaluate(config(data, url))
    before = store.get("runs/there/predictions.parquet")
    assert evaluate(config(data, url, resume=True)).record.status == "complete"
    assert store.get("runs/there/predictions.parquet") == before
    evaluate(config(data, url, overwrite=True, samples=1))
    assert store.get("runs/there/predictions.parquet") != before


def test_another_machine_reads_and_compares(
    data: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [f"s3://{BUCKET}/runs/{name}" for name in "ab"]
    for url, who in zip(urls, ("hold_state", "repeat_last"), strict=True):
        evaluate(fakes.config_for(data, who, url))  # type: ignore[arg-type]
    monkeypatch.setenv("POLICYSCOPE_CACHE", str(tmp_path / "elsewhere"))
    found = compare(CompareConfig(runs=tuple(urls)))
    assert [shown(found.base.path), shown(found.runs[0].run.path)] == urls
    assert not store.names("runs/a") & {"report.html"}
    render(ReportConfig(urls[0]))
    assert "report.html" in store.names("runs/a")


def test_only_what_changed_is_fetched(
    data: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"s3://{BUCKET}/runs/again"
    evaluate(config(data, url))

    def fetched() -> list[str]:
        lines = [r.getMessage().split() for r in caplog.records if r.name == "werkzeug"]
        gets = [words[6] for words in lines if words[5] == '"GET']
        return [path for path in gets if "list-type" not in path and "claim" not in path]

    caplog.clear()
    brought(url)
    assert fetched() == []
    store.put("runs/again/report.html", b"another")
    assert (brought(url) / "report.html").read_bytes() == b"another"
    assert fetched() == ["/lab/runs/again/report.html"]
    store.client.delete_object(Bucket=BUCKET, Key="runs/again/report.html")
    assert not (brought(url) / "report.html").exists()


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_killed_at_any_write(
    seed: int,
    data: Path,
    unbroken: Path,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before or after a file has its name here, before or after the store holds it."""
    url, draw = f"s3://{BUCKET}/runs/killed-{seed}", random.Random(seed)
    monkeypatch.setattr(offline, "_FLUSH_S", 0.0)
    plain, put, left = files.sync, Bucket.put, [0]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    def sync(path: Path) -> None:
        count()
        plain(path)

    def carried_there(self: Bucket, file: Path, name: str) -> None:
        count()
        put(self, file, name)
        count()

    # A process that is killed neither settles nor lets its claim go.
    monkeypatch.setattr("policyscope.runs.carried._Copy.settle", lambda _: None)
    monkeypatch.setattr(lease.Lease, "release", lambda self: self._over.set())
    monkeypatch.setattr(files, "sync", sync)
    monkeypatch.setattr(Bucket, "put", carried_there)
    kills = 0
    while True:
        if kills % 2:  # on another machine
            monkeypatch.setenv("POLICYSCOPE_CACHE", str(tmp_path / f"machine-{kills}"))
        left[0] = draw.randint(10, 60) if kills < (5 if seed else 2) else 10**6
        try:
            evaluate(config(data, url, resume=True))
            break
        except Killed:
            kills += 1
    left[0] = 10**6
    assert kills >= 2
    monkeypatch.setenv("POLICYSCOPE_CACHE", str(tmp_path / "last"))
    render(ReportConfig(url))
    same(store.take(f"runs/killed-{seed}", tmp_path / "taken"), unbroken)


@pytest.fixture(scope="module")
def lines(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    scratch = tmp_path_factory.mktemp("zygote")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(endpoint, scratch / "cache").items():
            patch.setenv(name, value)
        with zygote(scratch) as started:
            started.cache = scratch / "cache"  # type: ignore[attr-defined]
            yield started


def killed_there(lines: Zygote, store: Store, words: list[str], prefix: str) -> int:
    """Run a command line that is killed once the store has more of it.

    Returns:
        How many parts the store holds.
    """
    before, run = store.names(f"{prefix}/parts"), lines.run(*words)
    while not store.names(f"{prefix}/parts") - before:
        assert run.poll() is None, run.text()
        time.sleep(0.01)
    run.kill()
    assert run.wait() == -signal.SIGKILL, run.text()
    return len(store.names(f"{prefix}/parts"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["eval", "rollout"])
def test_sigkill_then_the_same_machine_then_an_empty_one(
    kind: str, lines: Zygote, store: Store, tmp_path: Path
) -> None:
    prefix, near = f"runs/sigkill-{kind}", tmp_path / "near"
    url, words = f"s3://{BUCKET}/{prefix}", {}
    root = fakes.write_dataset(tmp_path / "d", lengths=(120,) * 8, size=16)
    for out in (url, near):
        words[out] = closed_loop(out, n=8) if kind == "rollout" else eval_words(root, out)  # type: ignore[arg-type]
    done(lines.run(*words[near]))
    first = killed_there(lines, store, words[url], prefix)
    assert killed_there(lines, store, [*words[url], "--resume"], prefix) > first > 0
    shutil.rmtree(lines.cache / "runs")  # type: ignore[attr-defined]
    assert "run.json" not in store.names(prefix)
    last = lines.run(*words[url], "--resume")
    done(last)
    assert "is claimed" in last.text()
    same(store.take(prefix, tmp_path / "taken"), near)
    assert store.names(prefix) == lying(near)


# ── two writers ───────────────────────────────────────────────────────


def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, url: str) -> Path:
    """The working copy of an address on a machine of this name."""
    monkeypatch.setenv("POLICYSCOPE_CACHE", str(tmp_path / name))
    path = place(url)
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_a_living_writer_is_left_alone_and_a_dead_one_is_not(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://{BUCKET}/runs/two"
    first, second = (machine(monkeypatch, tmp_path, name, url) for name in "ab")
    with carried(first):
        files.write_text(first / "run.json", "{}")
        with pytest.raises(OutputError, match=f"{url}.*being written"), carried(second):
            raise AssertionError("two writers")
    assert store.names("runs/two") == {"run.json"}  # and no claim
    store.put("runs/two/.policyscope.claim", b'{"policyscope": "of a dead machine"}')
    with carried(second):
        assert (second / "run.json").read_text() == "{}"
    assert store.names("runs/two") == {"run.json"}


def test_a_writer_that_was_given_up_stops(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://{BUCKET}/runs/late"
    path = machine(monkeypatch, tmp_path, "a", url)

    def go_on() -> None:
        with carried(path):
            store.put("runs/late/.policyscope.claim", b'{"policyscope": "another"}')
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                files.write_text(path / "run.json", "{}")
                time.sleep(0.05)

    with pytest.raises(OutputError, match="taken it over"):
        go_on()
    assert store.get("runs/late/.policyscope.claim") == b'{"policyscope": "another"}'


# ── what goes wrong is one line ───────────────────────────────────────


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("thesis.tex",), r"not policyscope's \(thesis.tex\)"),
        (("meta/info.json", ".policyscope"), "a dataset"),
        (("model.safetensors", "config.json"), "a checkpoint"),
        (("run.json",), "only look like"),
    ],
)
def test_what_is_not_ours_stays(
    names: tuple[str, ...], found: str, data: Path, store: Store
) -> None:
    prefix = f"foreign/{random.random()}"
    for name in names:
        store.put(f"{prefix}/{name}", b"theirs")
    with pytest.raises(OutputError, match=found):
        evaluate(config(data, f"s3://{BUCKET}/{prefix}", overwrite=True))
    assert {store.get(f"{prefix}/{name}") for name in names} == {b"theirs"}
    assert store.names(prefix) == set(names)


def test_files_beside_ours_are_neither_fetched_nor_removed(data: Path, store: Store) -> None:
    url = f"s3://{BUCKET}/runs/beside"
    run = evaluate(config(data, url))
    store.put("runs/beside/notes.txt", b"mine")
    store.put("runs/beside/../../escaped", b"x")
    evaluate(config(data, url, overwrite=True))
    assert store.get("runs/beside/notes.txt") == b"mine"
    assert "notes.txt" not in lying(run.directory)


def test_a_run_that_wrote_nothing_leaves_nothing(data: Path, store: Store) -> None:
    with pytest.raises(UsageError):
        evaluate(config(data, f"s3://{BUCKET}/runs/nothing", episodes="99"))
    assert store.names("runs/nothing") == set()


def test_a_full_bucket_loses_nothing(
    data: Path, unbroken: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, plain, room = f"s3://{BUCKET}/runs/full", Bucket.put, [6]
    monkeypatch.setattr(offline, "_FLUSH_S", 0.0)

    def put(self: Bucket, file: Path, name: str) -> None:
        room[0] -= 1
        if room[0] <= 0:
            with self._asked("is written"):
                raise OSError(5, "QuotaExceeded")
        plain(self, file, name)

    monkeypatch.setattr(Bucket, "put", put)
    with pytest.raises(OutputError, match=r"QuotaExceeded.*--resume.*stays in") as caught:
        evaluate(config(data, url))
    assert "\n" not in str(caught.value)
    assert any("parts/" in name for name in lying(place(url)))
    room[0] = 10**6
    evaluate(config(data, url, resume=True))
    render(ReportConfig(url))
    same(store.take("runs/full", tmp_path / "taken"), unbroken)


@pytest.mark.usefixtures("store")
def test_a_store_without_that_bucket(data: Path) -> None:
    with pytest.raises(OutputError, match="bucket does not exist"):
        evaluate(config(data, "s3://no-such-bucket/x"))
    with pytest.raises(OutputError, match=r"no run\.json"):
        render(ReportConfig(f"s3://{BUCKET}/runs/none"))


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("run.json", True),
        ("parts/episode-000001.parquet", True),
        ("runs/step-100/run.json", True),
        ("rollouts/a b/videos/000001.mp4", True),
        ("runs/../run.json", False),
        ("runs/.hidden/run.json", False),
        ("runs/a/b/run.json", False),
        ("parts/../run.json", False),
        (".run.json.0123456789ab.tmp.json", False),
        (".policyscope.lock", False),
        (".policyscope.claim", False),
        ("notes.txt", False),
    ],
)
def test_only_our_names_are_carried(name: str, ours: bool) -> None:
    assert is_whole(name) is ours


# ── where addresses come from ─────────────────────────────────────────


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that a command ends with."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2
    return line


def test_a_file_can_t_name_an_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = tmp_path / "flags.yaml"
    for name in ("dataset.root", "output_dir"):
        flags.write_text(f"{name}: s3://lab/x\npolicy.type: hold_state\n")
        line = refused(capsys, "eval", "--config", str(flags))
        assert "names no address in a store" in line
        assert f"--{name} s3://lab/x, if you trust it" in line


def test_what_stays_on_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["compare", "a", "b", "--html", "s3://lab/x.html"],
        ["rollout", "--policy.type", "hold_state", "--record", "s3://lab/x"],
    ):
        assert "a path of this machine; found an address" in refused(capsys, *words)
    config = fakes.config_for(tmp_path, "hold_state", "s3://lab/x")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="several runs go there"):
        evaluate_mixture([config, config], lambda *_: pytest.fail("it ran"))


def test_a_report_opens_no_address_that_a_run_names(
    data: Path, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = store.put_folder(data, "data/named")
    settings = {"report": PageConfig(episodes="0")}
    run = evaluate(fakes.config_for(url, "hold_state", tmp_path / "o", **settings))  # type: ignore[arg-type]
    caplog.clear()
    render(ReportConfig(str(run.directory), PageConfig(episodes="0,3")))
    assert not [r for r in caplog.records if r.name == "werkzeug"]
