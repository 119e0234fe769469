"""Stand-in policy servers: the public wire formats, written down a second time, for tests.

`Openpi` and `Groot` listen on a free port of this machine, hold the state that they are shown, and
can be told to die, to hang, or to answer nonsense.
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import numpy as np
import zmq
from websockets.sync.server import ServerConnection, serve

Answer = Callable[[dict[Any, Any]], Any]
HORIZON = 6


def array(values: Any, dtype: str = "<f4") -> dict[bytes, Any]:
    known = np.asarray(values, dtype=dtype)
    return {
        b"__ndarray__": True,
        b"data": known.tobytes(),
        b"dtype": known.dtype.str,
        b"shape": list(known.shape),
    }


def plain(message: bytes) -> Any:
    """A message as numpy arrays, by openpi's form."""

    def hook(table: dict[Any, Any]) -> Any:
        if b"__ndarray__" not in table:
            return table
        return np.frombuffer(table[b"data"], table[b"dtype"]).reshape(table[b"shape"])

    return msgpack.unpackb(message, object_hook=hook)


def held(key: str = "observation.state", add: float = 0.0) -> Answer:
    """Holds the state over the chunk, as the built-in policy does."""
    return lambda seen: {"actions": array(np.tile(seen[key] + np.float32(add), (HORIZON, 1)))}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Openpi:
    """A websocket server; `seen` holds what it was asked, `calls` how often."""

    def __init__(
        self,
        answer: Answer | None = None,
        *,
        metadata: dict[str, Any] | bytes | None = None,
        key: str | None = None,
        dies_after: int | None = None,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self._answer, self._metadata, self._key = answer or held(), metadata or {}, key
        self.dies_after, self.calls, self.seen = dies_after, 0, list[Any]()
        self.keys: list[str | None] = []
        self._server = serve(
            self._handle,
            "127.0.0.1",
            port,
            ssl=tls,
            compression=None,
            max_size=None,
            process_request=self._look,
        )
        self.port: int = self._server.socket.getsockname()[1]
        self.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _look(self, connection: ServerConnection, request: Any) -> Any:
        if request.path == "/healthz":
            return connection.respond(200, "OK\n")
        self.keys.append(request.headers.get("Authorization"))
        if self._key is not None and self.keys[-1] != f"Api-Key {self._key}":
            return connection.respond(401, "no\n")
        return None

    def _handle(self, connection: ServerConnection) -> None:
        hello = self._metadata
        connection.send(hello if isinstance(hello, bytes) else msgpack.packb(hello))
        for message in connection:
            self.calls += 1
            self.seen.append(plain(message))
            if self.dies_after is not None and self.calls > self.dies_after:
                self.dies_after = None
                connection.socket.shutdown(socket.SHUT_RDWR)  # as a process that is killed
                return
            answer = self._answer(self.seen[-1])
            connection.send(answer if isinstance(answer, bytes | str) else msgpack.packb(answer))

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()


@contextlib.contextmanager
def openpi(*args: Any, **kwargs: Any) -> Iterator[Openpi]:
    server = Openpi(*args, **kwargs)
    try:
        yield server
    finally:
        server.stop()


def npy(values: Any, dtype: str = "<f4") -> dict[str, Any]:
    file = io.BytesIO()
    np.save(file, np.asarray(values, dtype=dtype), allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": file.getvalue()}


class Groot:
    """A REP socket in a thread; modalities in the form of N1.6, or of N1.5 with `flat`."""

    def __init__(
        self,
        modalities: dict[str, Any],
        answer: Callable[[dict[str, Any]], Any],
        *,
        token: str | None = None,
        flat: bool = False,
        hangs_at: int | None = None,
        dies_at: int | None = None,
        port: int | None = None,
    ) -> None:
        self._modalities, self._answer, self._token, self._flat = modalities, answer, token, flat
        self._hangs_at, self._dies_at = hangs_at, dies_at
        self.calls, self.seen = 0, list[Any]()
        self.port = port or free_port()
        self.url = f"zmq://127.0.0.1:{self.port}"
        self._end = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self) -> None:
        context = zmq.Context()
        rep = context.socket(zmq.REP)
        rep.setsockopt(zmq.LINGER, 0)
        for _ in range(100):
            with contextlib.suppress(zmq.ZMQError):
                rep.bind(f"tcp://127.0.0.1:{self.port}")
                break
            time.sleep(0.05)
        self._ready.set()
        while not self._end.is_set():
            if not rep.poll(20):
                continue
            request = msgpack.unpackb(rep.recv(), object_hook=self._array)
            answer = self._respond(request)
            if answer is None:  # no answer: as a process that is killed, or one that hangs
                rep.close()
                if self._dies_at is not None:
                    break
                rep = context.socket(zmq.REP)
                rep.setsockopt(zmq.LINGER, 0)
                time.sleep(0.1)
                rep.bind(f"tcp://127.0.0.1:{self.port}")
                continue
            rep.send(answer if isinstance(answer, bytes) else msgpack.packb(answer))
        rep.close()
        context.destroy(linger=0)

    @staticmethod
    def _array(table: dict[str, Any]) -> Any:
        if "__ndarray_class__" not in table:
            return table
        return np.load(io.BytesIO(table["as_npy"]), allow_pickle=False)

    def _respond(self, request: dict[str, Any]) -> Any:
        if self._token is not None and request.get("api_token") != self._token:
            return {"error": "Unauthorized: Invalid API token"}
        endpoint = request["endpoint"]
        if endpoint == "ping":
            return {"status": "ok", "message": "Server is running"}
        if endpoint == "get_modality_config":
            return self._modalities
        assert endpoint == "get_action"
        self.calls += 1
        if self.calls in (self._hangs_at, self._dies_at):
            return None
        data = request["data"]
        self.seen.append(data if self._flat else data["observation"])
        return self._answer(self.seen[-1])

    def stop(self) -> None:
        self._end.set()
        self._thread.join()


@contextlib.contextmanager
def groot(*args: Any, **kwargs: Any) -> Iterator[Groot]:
    server = Groot(*args, **kwargs)
    try:
        yield server
    finally:
        server.stop()
