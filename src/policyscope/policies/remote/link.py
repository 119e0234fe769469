"""What both protocols share: who is asked, how long it may take, and what may be asked again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

from policyscope.config import PolicyConfig
from policyscope.config.addresses import Address, parse_url
from policyscope.errors import RemoteError

KEY = "POLICYSCOPE_API_KEY"
ATTEMPTS = 3
"""Of one question. Questions are all that is repeated: they change nothing at the server."""
FIRST_S = 5.0
"""How long to wait for a server that is not there when a run begins."""
HANDSHAKE_S = 10.0
_PAUSE_S = (0.05, 1.0)


@final
@dataclass(frozen=True)
class Line:
    """How a server is reached.

    Attributes:
        address: where it is.
        timeout_s: for an answer.
        patience_s: for a server that went away.
        key: of the server, or None.
    """

    address: Address
    timeout_s: float
    patience_s: float
    key: str | None

    @classmethod
    def of(cls, policy: PolicyConfig) -> Line:
        """As the flags and the environment say."""
        address = parse_url(policy.url or "")
        return cls(address, policy.timeout_s, policy.patience_s, os.environ.get(KEY) or None)

    def fault(self, *, expected: str, found: str, fix: str = "") -> RemoteError:
        """The error for this server; by default it can be mended by starting it again."""
        again = "start the server, then the same command again (with --resume, where a run began)"
        return RemoteError(
            f"--policy.url {self.address.url}", expected=expected, found=found, fix=fix or again
        )

    def told(self, said: str) -> RemoteError:
        """The error for what a server says it could not do."""
        lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
        return self.fault(
            expected="an answer",
            found=f"the server's error: {lines[-1][:400] if lines else 'an empty text'}",
            fix="see the server's log; --rename_map names its inputs as it calls them",
        )


def until_there[T](reach: Callable[[float], T], patience_s: float) -> T:
    """Try to reach a server until somebody is there, and longer from time to time.

    Args:
        reach: tries once, within the seconds it is given; OSError means that nobody is there yet.
        patience_s: how long to go on.

    Raises:
        OSError: nobody came.
    """
    end = time.monotonic() + patience_s
    for pause in _pauses():
        left = end - time.monotonic()
        try:
            return reach(max(min(left, HANDSHAKE_S), _PAUSE_S[0]))
        except OSError:
            if time.monotonic() + pause >= end:
                raise
        time.sleep(pause)
    raise AssertionError("pauses do not end")


def _pauses() -> Iterator[float]:
    pause = _PAUSE_S[0]
    while True:
        yield pause
        pause = min(2 * pause, _PAUSE_S[1])
