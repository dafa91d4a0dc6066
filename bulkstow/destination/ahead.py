"""Reading ahead, where the storage is slow.

Owns which files of a body are asked for before it is their turn, and whether that is worth it. A disk that has to seek,
or a file server far away, takes its time for each file but serves several at once; a body sends its files one after the
other. So the next files of a body are fetched into the page cache by other threads while one is sent. Nothing is kept
here: memory is the operating system's, which takes it back when it needs it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress

from bulkstow.model import Instance
from bulkstow.platform.files import open_to_read, read_into

SLOW_S = 0.002
SLOW_BYTES_PER_S = 200e6
"""Files that take longer than both together came from a disk that had to seek, or from far away: from memory one of
0.5 MB takes 0.1 ms, one of 55 MB 20 ms. Who is asked for much at 200 MB/s is busy, and asking ahead makes it no faster.
"""

SLOW_TURNS = 4
"""So many in a row, of whatever bodies: a thread may have waited for the interpreter, 5 ms each time; on a slow disk
every turn is slow."""

QUICK_S = 0.0005
QUICK_BYTES_PER_S = 1e9
"""A fetch that takes less than both together found its file in memory: 4 MiB take 2.4 ms there, 256 KiB 0.02 ms."""

QUICK_FETCHES = 32
"""So many of them in a row: what is fetched is there already."""

AHEAD_FILES = 32
"""Asked for ahead of a body's place, which is looked at after each turn of 50 ms: at 10 ms a file and eight readers
that is as many as they fetch meanwhile."""

FETCH_BYTES = 4 * 2**20
"""Of one file; where more is read, the system's own read-ahead is under way."""

FETCHES_AT_ONCE = 64
"""Of all bodies together: the turns of those that send wait behind them."""

BLOCK_BYTES = 256 * 2**10
"""What a fetch reads at once, and throws away: 1 and 4 MiB are no faster from memory, nor 4 MiB from a
local disk."""


class StorageSpeed:
    """Knows whether the storage is slow: from the turns of all bodies that it is, from the fetches that it is not."""

    def __init__(self, readers: Executor, fetch: Callable[[Instance], int]) -> None:
        self._readers = readers
        self._fetch_blocking = fetch
        self._is_slow = False
        self._slow_turns = 0
        self._quick_fetches = 0
        self._fetches: set[Future[None]] = set()

    def learn(self, files: int, size_bytes: int, reading_s: float) -> None:
        """Take that so many files of a body, and so many bytes of them, took so long to read."""
        if not files:
            return  # a part of a large file says nothing of the next one
        was_slow = reading_s > files * SLOW_S + size_bytes / SLOW_BYTES_PER_S
        self._slow_turns = self._slow_turns + 1 if was_slow else 0
        if self._slow_turns >= SLOW_TURNS and not self._is_slow:
            self._is_slow = True
            self._quick_fetches = 0

    def begin(self, instances: Sequence[Instance]) -> Prefetch:
        """Begin with a body."""
        return Prefetch(self, instances)

    def fetch(self, instance: Instance) -> Future[None] | None:
        """Have a file fetched, if that is worth it and not too much is being fetched."""
        if not self._is_slow:
            return None
        if len(self._fetches) >= FETCHES_AT_ONCE:
            self._fetches = {fetch for fetch in self._fetches if not fetch.done()}
        if len(self._fetches) >= FETCHES_AT_ONCE:
            return None
        fetch = self._readers.submit(self._fetch, instance)
        self._fetches.add(fetch)
        return fetch

    def _fetch(self, instance: Instance) -> None:
        """Blocks. Two threads that count at once may lose a count, which does no harm."""
        started_s = time.perf_counter()
        size_bytes = self._fetch_blocking(instance)
        is_quick = time.perf_counter() - started_s < QUICK_S + size_bytes / QUICK_BYTES_PER_S
        self._quick_fetches = self._quick_fetches + 1 if is_quick else 0
        if self._quick_fetches >= QUICK_FETCHES:
            self._is_slow = False


class Prefetch:
    """Keeps ahead of one body."""

    def __init__(self, ahead: StorageSpeed, instances: Sequence[Instance]) -> None:
        self._ahead = ahead
        self._instances = instances
        self._fetches: list[Future[None]] = []
        self._asked_for = 0
        self._seen = (0, 0, 0.0)

    def see(self, place: int, read_bytes: int, reading_s: float) -> None:
        """Take how far the body has come, and what reading so far took."""
        place_before, bytes_before, before_s = self._seen
        self._seen = place, read_bytes, reading_s
        self._ahead.learn(place - place_before, read_bytes - bytes_before, reading_s - before_s)

    def keep_ahead(self, place: int) -> None:
        """Ask for what comes after the file at `place`."""
        self._asked_for = max(self._asked_for, place + 1)
        for instance in self._instances[self._asked_for : place + 1 + AHEAD_FILES]:
            fetch = self._ahead.fetch(instance)
            if fetch is None:
                return
            self._fetches.append(fetch)
            self._asked_for += 1

    def end(self) -> None:
        """Fetch nothing more."""
        for fetch in self._fetches:
            fetch.cancel()


def fetch(location: str) -> int:
    """Have the system read a file's beginning; return how many bytes.

    Blocks; whatever is wrong with the file shows when it is sent.
    """
    size_bytes = 0
    with suppress(OSError):
        descriptor = open_to_read(location)
        try:
            scratch = memoryview(bytearray(BLOCK_BYTES))
            while size_bytes < FETCH_BYTES and (count := read_into(descriptor, scratch, size_bytes)):
                size_bytes += count
        finally:
            os.close(descriptor)
    return size_bytes
