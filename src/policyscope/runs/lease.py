"""One writer at a time in an object store, where no lock dies with its process.

Whoever writes holds a claim: an object that it rewrites every few seconds. One that stands still
for longer is a dead writer's and may be taken. Between the look at a claim and the write lies a
moment that is not guarded, except where a claim is made: there stores refuse the second of two.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from pathlib import Path
from typing import final

from policyscope.data.buckets import LOGGER, Bucket
from policyscope.errors import InputError, OutputError

CLAIM = ".policyscope.claim"
RENEW_S, DEAD_S = 10.0, 35.0
_MOST = 1 << 10  # bytes of a claim


@final
class Lease:
    """The claim to a folder of a store, from `take` to `release`.

    Args:
        bucket: the folder.
        own: a file of this machine that remembers the claim; whoever takes the lease holds the
            lock of the folder's working copy, so that the one who wrote it is dead.
    """

    def __init__(self, bucket: Bucket, own: Path) -> None:
        self._bucket, self._own = bucket, own
        self._token, self._beat = secrets.token_hex(12), 0
        self._over = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def take(self) -> None:
        """Become the writer.

        Raises:
            OutputError: somebody else is, or the store does not answer.
        """
        remembered = self._own.read_text().strip() if self._own.is_file() else ""
        self._own.write_text(self._token)
        if not self._bucket.create(CLAIM, self._content()):
            found = self._seen()
            if found is not None and remembered and remembered in found:
                pass  # of a process of this machine that was killed
            elif found is not None:
                self._require_dead(found)
            self._bucket.write(CLAIM, self._content())
            self._require_mine()
        self._thread.start()

    def require_held(self) -> None:
        """Raise where another writer has taken the claim.

        Raises:
            OutputError: one has.
        """
        if self._lost:
            raise self._taken("another run has taken it over, since this one did not answer")

    def release(self) -> None:
        """Let the claim go, as far as the store answers."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        with contextlib.suppress(InputError):
            if not self._lost and self._token in (self._seen() or ""):
                self._bucket.remove(CLAIM)
        self._own.unlink(missing_ok=True)

    def _require_dead(self, found: str) -> None:
        """Watch whether anybody renews the claim."""
        LOGGER.info("%s is claimed: looking for %.0f s who lives", self._bucket.url, DEAD_S)
        end = time.monotonic() + DEAD_S
        while time.monotonic() < end:
            time.sleep(min(1.0, DEAD_S / 4))
            now = self._seen()
            if now is None:
                return
            if now != found:
                raise self._taken("one that is being written")

    def _require_mine(self) -> None:
        """Of two that take a dead writer's claim at once, the later one holds it."""
        time.sleep(min(1.0, DEAD_S / 4))
        if self._token not in (self._seen() or ""):
            raise self._taken("one that is being written")

    def _renew(self) -> None:
        while not self._over.wait(RENEW_S):
            with contextlib.suppress(InputError):  # it may answer next time
                found = self._seen()
                if found is not None and self._token not in found:
                    self._lost = True
                    return
                self._beat += 1
                self._bucket.write(CLAIM, self._content())

    def _seen(self) -> str | None:
        content = self._bucket.read(CLAIM, _MOST)
        return None if content is None else content.decode(errors="replace")

    def _content(self) -> bytes:
        return json.dumps({"policyscope": self._token, "beat": self._beat}).encode()

    def _taken(self, found: str) -> OutputError:
        return OutputError(
            f"--output_dir {self._bucket.url}",
            expected="a directory that no other run is writing",
            found=found,
            fix=f"wait until that is done, or another --output_dir; {CLAIM} holds the claim",
        )
