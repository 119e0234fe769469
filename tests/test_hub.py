"""The hub: a stand-in that answers, refuses, or never answers, and a cache of our own."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from policyscope.errors import CheckpointError
from policyscope.policies.hub import checkpoint_dir

JSON = {"Content-Type": "application/json"}
OLD, NEW = "a" * 40, "b" * 40


class Hub:
    """As much of the hub as a download needs: what a revision holds, and its files.

    Attributes:
        revisions: commit → folder.
        newest: the commit that `main` is at.
        asked: paths of all requests.
    """

    def __init__(self, folders: dict[str, Path]) -> None:
        self.revisions, self.newest, self.asked = folders, OLD, list[str]()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                hub.asked.append(self.path)
                head, content = hub.answer(self.path.split("?")[0])
                self.send_response(200 if content is not None else 404)
                for name, value in head.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                if body:
                    self.wfile.write(content or b"")

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str) -> tuple[dict[str, str], bytes | None]:
        parts = path.strip("/").split("/")
        if parts[:4] == ["api", "models", "someone", "policy"]:
            tree = parts[4:5] == ["tree"]
            commit = parts[5] if len(parts) > 5 else "main"
            commit = self.newest if commit == "main" else commit
            folder = self.revisions.get(commit)
            if folder is None:
                return {}, None
            files = [f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()]
            if tree:
                sizes = {f: (folder / f).stat().st_size for f in files}
                rows = [{"type": "file", "path": f, "size": n, "oid": f} for f, n in sizes.items()]
                return JSON, json.dumps(rows).encode()
            about: dict[str, object] = {
                "id": "someone/policy",
                "modelId": "someone/policy",
                "sha": commit,
            }
            about |= {"siblings": [{"rfilename": f} for f in files], "tags": [], "private": False}
            return JSON, json.dumps(about).encode()
        if parts[:2] == ["someone", "policy"] and parts[2] == "resolve":
            commit = self.newest if parts[3] == "main" else parts[3]
            file = self.revisions[commit].joinpath(*parts[4:])
            content = file.read_bytes()
            etag = hashlib.sha256(content).hexdigest()
            return {"ETag": f'"{etag}"', "X-Repo-Commit": commit}, content
        return {}, None


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return tmp_path / "cache"


def reach(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(act: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    assert not cache.exists()
    for commit in (OLD, NEW):
        shutil.copytree(act, tmp_path / commit)
        (tmp_path / commit / "train_config.json").write_text(json.dumps({"job_name": commit}))
        (tmp_path / commit / "evil.py").write_text("raise SystemExit")
        (tmp_path / commit / "pytorch_model.bin").write_bytes(b"pickle")
    hub = Hub({commit: tmp_path / commit for commit in (OLD, NEW)})
    reach(hub.url, monkeypatch)
    yield hub
    hub.server.shutdown()


def job(directory: Path) -> str:
    return str(json.loads((directory / "train_config.json").read_text())["job_name"])


def test_only_data_is_fetched(hub: Hub) -> None:
    directory = checkpoint_dir("someone/policy", None)
    assert job(directory) == OLD
    assert (directory / "model.safetensors").is_file()
    assert not list(directory.glob("*.py"))
    assert not list(directory.glob("*.bin"))
    assert not any(".py" in path or ".bin" in path for path in hub.asked)


def test_a_branch_that_moved_is_fetched_again(hub: Hub) -> None:
    assert job(checkpoint_dir("someone/policy", None)) == OLD
    fetched = len([p for p in hub.asked if "resolve" in p])
    assert job(checkpoint_dir("someone/policy", None)) == OLD
    assert len([p for p in hub.asked if "resolve" in p]) == fetched  # nothing again
    hub.newest = NEW
    assert job(checkpoint_dir("someone/policy", None)) == NEW
    assert job(checkpoint_dir("someone/policy", "main")) == NEW
    assert job(checkpoint_dir("someone/policy", OLD)) == OLD


def test_a_commit_needs_no_hub_once_it_is_cached(hub: Hub) -> None:
    checkpoint_dir("someone/policy", OLD)
    n = len(hub.asked)
    assert job(checkpoint_dir("someone/policy", OLD)) == OLD
    assert len(hub.asked) == n


@pytest.mark.usefixtures("hub")
def test_the_cache_serves_where_the_hub_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint_dir("someone/policy", None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    reach(f"http://127.0.0.1:{port}", monkeypatch)
    assert job(checkpoint_dir("someone/policy", None)) == OLD


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("lost", ["model.safetensors", "all but JSON"])
def test_a_cache_without_weights_does_not_block_the_hub(lost: str) -> None:
    """As after a look at config.json alone."""
    directory = checkpoint_dir("someone/policy", None)
    for file in directory.iterdir():
        if file.name == lost or (lost == "all but JSON" and file.suffix != ".json"):
            file.unlink()
    assert (checkpoint_dir("someone/policy", None) / "model.safetensors").is_file()


@pytest.mark.usefixtures("hub")
def test_a_cache_without_weights_and_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    (checkpoint_dir("someone/policy", None) / "model.safetensors").unlink()
    reach("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(CheckpointError, match=r"none of them|a cache without weights"):
        checkpoint_dir("someone/policy", None)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("cached", [False, True])
def test_a_hub_that_accepts_and_never_answers(
    cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cached:
        checkpoint_dir("someone/policy", None)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(64)
        reach(f"http://127.0.0.1:{mute.getsockname()[1]}", monkeypatch)
        begin = time.monotonic()
        if cached:
            assert job(checkpoint_dir("someone/policy", None)) == OLD
        else:
            with pytest.raises(CheckpointError, match="none of them"):
                checkpoint_dir("someone/policy", None)
        assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a b/c",
        "~nobody-here/x",
        "x" * 5000,
        "a/" + "x" * 300,
        "a\0b",
        "a/b/c",
        "../x",
        "a/..b;",
    ],
    ids=["empty", "blank", "home", "long", "long name", "null", "deep", "above", "odd"],
)
def test_what_is_no_name(path: str) -> None:
    with pytest.raises(CheckpointError, match="expected a pretrained directory or a hub repo id"):
        checkpoint_dir(path, None)
