"""openpi's websocket protocol, from the asking side.

The server speaks first: a message about itself. Then each binary message is an observation, and
each binary answer an action chunk; a text is an error. One question at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import socket
import ssl
import weakref
from typing import Any, final

from policyscope.errors import first_line
from policyscope.policies.remote.link import ATTEMPTS, FIRST_S, HANDSHAKE_S, Line, until_there
from policyscope.policies.remote.wire import MOST_BYTES, pack, require_extra, unpack

_CLOSE_S = 1.0
_TOO_BIG = 1009


@final
class OpenpiLink:
    """A connection that comes back when it breaks.

    Attributes:
        metadata: what the server says of itself.
        digest: of that: a server that comes back as another one is not asked.

    Raises:
        RemoteError: nobody is there, or it does not speak the protocol.
    """

    def __init__(self, line: Line) -> None:
        self._line, self._held = line, contextlib.ExitStack()
        self._connection: Any = None
        weakref.finalize(self, self._held.close)
        self.digest = ""
        self._connect(FIRST_S)

    def ask(self, observation: dict[str, Any]) -> dict[Any, Any]:
        """What the server answers to an observation.

        A question whose connection breaks, or that is not answered in time, is asked again on a
        new one: nothing but an answer follows from it.

        Raises:
            RemoteError: no answer, an error of the server's, or nonsense.
        """
        question, found = pack(observation, "openpi"), ""
        for _ in range(ATTEMPTS):
            if self._connection is None:
                self._connect(self._line.patience_s)
            try:
                self._connection.send(question)
                answer = self._connection.recv(timeout=self._line.timeout_s)
            except TimeoutError:
                found = f"none within {self._line.timeout_s:g} s (--policy.timeout_s)"
            except (OSError, require_extra("websockets").exceptions.WebSocketException) as error:
                self._require_small(error)
                found = f"a broken connection ({first_line(error)})"
            else:
                return self._read(answer)
            self._drop()
        raise self._line.fault(expected="an answer", found=f"{found}, {ATTEMPTS} times")

    def _read(self, answer: bytes | str) -> dict[Any, Any]:
        if isinstance(answer, str):
            self._drop()
            raise self._line.told(answer)
        known = unpack(answer, f"answer of {self._line.address.url}")
        if not isinstance(known, dict):
            raise self._line.fault(
                expected="a table with actions",
                found=type(known).__name__,
                fix="ask a server that speaks openpi's protocol",
            )
        return known

    def _require_small(self, error: Exception) -> None:
        sent = getattr(error, "sent", None)
        if sent is not None and sent.code == _TOO_BIG:
            raise self._line.fault(
                expected=f"an answer of at most {MOST_BYTES:,} bytes",
                found="a larger one",
                fix="ask a server that answers with chunks alone",
            ) from error

    def _drop(self) -> None:
        self._connection = None
        self._held.close()

    def _connect(self, patience_s: float) -> None:
        websockets = require_extra("websockets")
        try:
            said = until_there(self._reach, patience_s)
        except websockets.exceptions.InvalidStatus as error:
            status = error.response.status_code
            wrong_key = status in (401, 403)
            raise self._line.fault(
                expected="a websocket",
                found=f"HTTP status {status}" + (": the key is wrong" if wrong_key else ""),
                fix="POLICYSCOPE_API_KEY=… in the environment"
                if wrong_key
                else "the address of an openpi server, or of policyscope serve",
            ) from error
        except (OSError, websockets.exceptions.WebSocketException) as error:
            found = f"{type(error).__name__}: {first_line(error)}"
            if healthy(self._line):
                found += "; its /healthz answers, so the server itself is up"
            raise self._line.fault(
                expected=f"a policy server within {patience_s:g} s", found=found
            ) from error
        self._meet(said)

    def _meet(self, said: bytes | str) -> None:
        if isinstance(said, str):
            self._drop()
            raise self._line.told(said)
        digest = hashlib.sha256(said).hexdigest()
        if self.digest and digest != self.digest:
            self._drop()
            raise self._line.fault(
                expected="the server that the run began with",
                found="one that says something else of itself",
                fix="serve the same policy again, or begin a new run",
            )
        known = unpack(said, f"first message of {self._line.address.url}")
        self.digest, self.metadata = digest, known if isinstance(known, dict) else {}

    def _reach(self, within_s: float) -> bytes | str:
        """Connect once and hear what the server says of itself."""
        websockets = require_extra("websockets.sync.client")
        address, key = self._line.address, self._line.key
        secure = address.scheme == "wss"
        # a socket of our own: no redirect is followed, and no key is handed on
        plain = socket.create_connection((address.host, address.port), timeout=within_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._connection = self._held.enter_context(
                websockets.connect(
                    address.url,
                    sock=plain,
                    ssl=ssl.create_default_context() if secure else None,
                    compression=None,  # a small message can't become a large one
                    additional_headers={"Authorization": f"Api-Key {key}"} if key else None,
                    open_timeout=within_s,
                    ping_interval=None,  # openpi's server is deaf while its policy thinks
                    close_timeout=_CLOSE_S,
                    max_size=MOST_BYTES,
                )
            )
            said: bytes | str = self._connection.recv(timeout=max(within_s, HANDSHAKE_S))
        except BaseException as error:
            plain.close()
            self._drop()
            raise self._judged(error) from error
        return said

    def _judged(self, error: BaseException) -> BaseException:
        """OSError where trying again may help: a server on its way up or down."""
        exceptions = require_extra("websockets").exceptions
        if isinstance(error, ssl.SSLError):
            return self._line.fault(
                expected="TLS, with a certificate that this machine trusts",
                found=first_line(error),
                fix="SSL_CERT_FILE=FILE.pem in the environment names one's own authority",
            )
        status = error.response.status_code if isinstance(error, exceptions.InvalidStatus) else 0
        passing = isinstance(error, exceptions.ConnectionClosed | exceptions.InvalidMessage)
        return ConnectionResetError(first_line(error)) if passing or status >= 500 else error


def healthy(line: Line) -> bool:
    """Whether the server's ``/healthz`` says so."""
    address = line.address
    kind = http.client.HTTPSConnection if address.scheme == "wss" else http.client.HTTPConnection
    connection = kind(address.host, address.port, timeout=HANDSHAKE_S)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
