"""Reading ahead of whoever asks, in threads."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any


def ahead[T](lanes: Sequence[Iterator[T]], depth: int) -> Iterator[T]:
    """The items of several iterators, one of each in turn, until one ends.

    Each iterator runs in a thread of its own, up to `depth` items ahead; all begin when the first
    item is asked for. Where items were dealt out in turn, the first to end is the one whose turn
    comes after the last item: nothing is left in the others.

    An exception of an iterator reaches the caller in its place; a caller that stops early stops the
    threads, too.
    """
    stopped = threading.Event()

    def put(ready: queue.Queue[tuple[bool, Any]], entry: tuple[bool, Any]) -> None:
        # A put without a time limit would wait for ever on a caller who has gone.
        while not stopped.is_set():
            try:
                ready.put(entry, timeout=0.1)
                return
            except queue.Full:
                continue

    def work(items: Iterator[T], ready: queue.Queue[tuple[bool, Any]]) -> None:
        try:
            for item in items:
                put(ready, (True, item))
                if stopped.is_set():
                    return
            put(ready, (False, None))
        except BaseException as error:  # whatever it is: the caller waits for an answer
            put(ready, (False, error))

    queues: list[queue.Queue[tuple[bool, Any]]] = [queue.Queue(depth) for _ in lanes]
    threads = [
        threading.Thread(target=work, args=pair, name="reader", daemon=True)
        for pair in zip(lanes, queues, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        for ready in itertools.cycle(queues):
            more, item = ready.get()
            if more:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        stopped.set()
        for thread in threads:  # whoever closes files after this closes them under nobody
            thread.join()
