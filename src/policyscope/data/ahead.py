"""Reading ahead of whoever asks, in threads."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


def in_turn[T](lanes: Sequence[Iterator[T]]) -> Iterator[T]:
    """The items of several iterators, one of each in turn, until one ends.

    Where items were dealt out in turn, the first to end is the one whose turn comes after the last
    item: nothing is left in the others.
    """
    try:
        for lane in itertools.cycle(lanes):
            try:
                item = next(lane)
            except StopIteration:
                return
            yield item
    finally:
        for lane in lanes:
            if isinstance(lane, Generator):
                lane.close()  # else its thread would live until somebody collects the garbage


def ahead[T](items: Iterator[T], depth: int) -> Iterator[T]:
    """The same items, made in a thread that runs up to `depth` of them ahead.

    An exception of `items` reaches the caller in its place; a caller that stops early stops the
    thread, too.
    """
    ready: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(entry: tuple[bool, Any]) -> None:
        # A put without a time limit would wait for ever on a caller who has gone.
        while not stopped.is_set():
            try:
                ready.put(entry, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put((True, item))
                if stopped.is_set():
                    return
            put((False, None))
        except BaseException as error:  # whatever it is: the caller waits for an answer
            put((False, error))

    thread = threading.Thread(target=work, name="reader", daemon=True)
    thread.start()
    try:
        while True:
            more, item = ready.get()
            if more:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        stopped.set()
        thread.join()  # whoever closes files after this closes them under nobody
