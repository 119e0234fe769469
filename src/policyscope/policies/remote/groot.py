"""GR00T's ZMQ protocol, from the asking side.

A request names an endpoint (``ping``, ``get_modality_config``, ``get_action``) and may carry a
token. A REQ socket that got no answer can't be used again: it is built anew.
"""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Mapping
from typing import Annotated, Any, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from policyscope.config.addresses import Address
from policyscope.errors import first_line
from policyscope.policies.remote.link import ATTEMPTS, FIRST_S, Line, until_there
from policyscope.policies.remote.wire import MOST_BYTES, pack, require_extra, unpack

_SPEAKS = "ask a server that speaks GR00T's protocol"

Key = Annotated[str, Field(min_length=1, max_length=200)]
Lag = Annotated[int, Field(strict=True, ge=-1000, le=1000)]


@final
class Modality(BaseModel):
    """What a server says of one of its modalities: what it reads or gives, and of which steps."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    modality_keys: Annotated[tuple[Key, ...], Field(max_length=100)]
    delta_indices: Annotated[tuple[Lag, ...], Field(min_length=1, max_length=1000)]


@final
class GrootLink:
    """A line to a server, which is built anew when it breaks.

    Attributes:
        modalities: by their names: ``video``, ``state``, ``action``, ``language``.
        flat: whether observations are one table with dotted keys, as before N1.6.
        digest: of what the server says of itself.

    Raises:
        RemoteError: nobody is there, or it does not speak the protocol.
    """

    def __init__(self, line: Line) -> None:
        self._line, self._wire = line, _Wire(line.address)
        weakref.finalize(self, self._wire.close)
        self._reach(FIRST_S)
        said = self.call("get_modality_config")
        self.flat, self.modalities = self._typed(said)
        whole = {name: modality.model_dump() for name, modality in self.modalities.items()}
        self.digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

    def call(self, endpoint: str, data: Mapping[str, Any] | None = None) -> Any:
        """What an endpoint answers; a question that gets lost is asked again.

        Raises:
            RemoteError: no answer, an error of the server's, or nonsense.
        """
        found = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._reach(self._line.patience_s)
            try:
                answer = self._exchange(endpoint, data, self._line.timeout_s)
            except OSError as error:
                found = first_line(error)
                continue
            known = unpack(answer, f"answer of {self._line.address.url}")
            if isinstance(known, dict) and "error" in known:
                raise self._line.told(str(known["error"]))
            return known
        raise self._line.fault(expected="an answer", found=f"{found}, {ATTEMPTS} times")

    def _reach(self, patience_s: float) -> None:
        """Wait until the server answers ``ping``."""

        def ping(within_s: float) -> bytes:
            return self._exchange("ping", None, within_s)

        try:
            answer = until_there(ping, patience_s)
        except OSError as error:
            raise self._line.fault(
                expected=f"a policy server within {patience_s:g} s", found=first_line(error)
            ) from error
        known = unpack(answer, f"answer of {self._line.address.url}")
        if isinstance(known, dict) and "error" in known:
            raise self._line.fault(
                expected="a server that lets this client in",
                found=f"its error: {str(known['error'])[:200]}",
                fix="POLICYSCOPE_API_KEY=TOKEN in the environment",
            )

    def _exchange(self, endpoint: str, data: Mapping[str, Any] | None, within_s: float) -> bytes:
        """One question and its answer.

        Raises:
            OSError: the connection broke, or no answer came in time.
        """
        request: dict[str, Any] = {"endpoint": endpoint}
        if data is not None:
            request["data"] = data
        if self._line.key:
            request["api_token"] = self._line.key
        return self._wire.exchange(pack(request, "groot"), within_s)

    def _typed(self, said: Any) -> tuple[bool, dict[str, Modality]]:
        """What ``get_modality_config`` says; a JSON text in it is the older form."""
        flat, known = False, {}
        try:
            if not isinstance(said, dict) or not {"action", "video", "state"} & said.keys():
                raise TypeError("no table of modalities")
            for name, table in said.items():
                inner = table.get("as_json", table)
                flat = flat or isinstance(inner, str)
                read = Modality.model_validate_json if isinstance(inner, str) else None
                known[str(name)] = read(inner) if read else Modality.model_validate(inner)
            if "action" not in known:
                raise TypeError("no action")
        except (TypeError, ValueError, AttributeError, ValidationError) as error:
            raise self._line.fault(
                expected="modalities with modality_keys and delta_indices, and an action",
                found=" ".join(str(error).split())[:200],
                fix=_SPEAKS,
            ) from error
        return flat, known


@final
class _Wire:
    """A REQ socket, and one that tells when its connection breaks."""

    def __init__(self, address: Address) -> None:
        self._zmq, self._address = require_extra("zmq"), address
        self._socket: Any = None
        self._monitor: Any = None

    def exchange(self, question: bytes, within_s: float) -> bytes:
        """The answer to a question; after an error, the sockets are gone.

        Raises:
            OSError: the connection broke, or no answer came in time.
        """
        zmq = self._zmq
        try:
            self._open()
            self._socket.send(question, zmq.NOBLOCK)
            poller = zmq.Poller()
            poller.register(self._socket, zmq.POLLIN)
            poller.register(self._monitor, zmq.POLLIN)
            ready = dict(poller.poll(within_s * 1e3))
            if self._socket in ready:
                answer: bytes = self._socket.recv(zmq.NOBLOCK)
                return answer
        except zmq.ZMQError as error:
            self.close()
            raise ConnectionError(first_line(error)) from error
        self.close()
        if ready:
            raise ConnectionResetError(
                f"a connection that broke (or an answer of more than {MOST_BYTES:,} bytes)"
            )
        raise TimeoutError(f"no answer within {within_s:g} s")

    def _open(self) -> None:
        zmq = self._zmq
        if self._socket is not None and not self._monitor.poll(0):
            return
        self.close()
        self._socket = zmq.Context.instance().socket(zmq.REQ)
        for option, value in ((zmq.LINGER, 0), (zmq.MAXMSGSIZE, MOST_BYTES)):
            self._socket.setsockopt(option, value)
        if ":" in self._address.host:
            self._socket.setsockopt(zmq.IPV6, 1)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._socket.connect("tcp" + self._address.url.removeprefix("zmq"))

    def close(self) -> None:
        """Let go of both sockets."""
        if self._socket is not None:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
            self._socket.close(linger=0)
        self._socket = self._monitor = None
