"""A real S3 server on this machine (moto's), and one that answers whatever it is told to."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

BUCKET = "lab"


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The address of a fresh S3 server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


def environment(endpoint: str, cache: Path) -> dict[str, str]:
    """Variables that lead a process there, with a cache of its own."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key-of-nobody",
        "AWS_SECRET_ACCESS_KEY": "secret-of-nobody",
        "AWS_DEFAULT_REGION": "us-east-1",
        "POLICYSCOPE_CACHE": str(cache),
    }


class Store:
    """What lies in a bucket, looked at by boto3: neither fsspec nor our own code."""

    def __init__(self, endpoint: str) -> None:
        known = {"aws_access_key_id": "k", "aws_secret_access_key": "s"}
        self.client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **known)

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def put_folder(self, folder: Path, prefix: str) -> str:
        """Copy a folder there; its address."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.put(f"{prefix}/{file.relative_to(folder).as_posix()}", file.read_bytes())
        return f"s3://{BUCKET}/{prefix}"

    def names(self, prefix: str) -> set[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        found = (entry["Key"] for page in pages for entry in page.get("Contents", ()))
        return {key.removeprefix(prefix).lstrip("/") for key in found}

    def get(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    def take(self, prefix: str, folder: Path) -> Path:
        """Copy what lies there to a folder of this machine."""
        for name in self.names(f"{prefix}/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(self.get(f"{prefix}/{name}"))
        return folder


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with serving() as address:
        Store(address).client.create_bucket(Bucket=BUCKET)
        yield address


@pytest.fixture
def store(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The bucket, to which this process is led, too; its cache is empty."""
    for name, value in environment(endpoint, tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    return Store(endpoint)


def error_xml(code: str, message: str) -> bytes:
    """What S3 says of an error."""
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


@contextlib.contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], tuple[int, bytes]]) -> Iterator[str]:
    """The address of a server that answers each request as it is told to."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content = answer(self)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
