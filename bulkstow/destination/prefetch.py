"""Prefetching from slow storage: which instances of a body are read ahead, and whether that is worth it.

A disk that has to seek, or a distant file server, takes its time for each file but serves several at once; a body reads
its files one after the other. So other threads have the source prefetch the next ones while one is sent. Nothing is
kept here: a file is in the page cache, which the operating system takes back when it needs the memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future

from bulkstow.model import Instance
from bulkstow.policy.slowness import Slowness

SLOW_S = 0.002
SLOW_BYTES_PER_S = 200e6
"""Reads that take longer than both together came from slow storage: from memory 0.5 MB take 0.1 ms and 55 MB 20 ms.
Storage that already delivers 200 MB/s is saturated; prefetching would not speed it up."""

QUICK_S = 0.0005
QUICK_BYTES_PER_S = 1e9
"""A prefetch that takes less than both together found its file in memory: 4 MiB take 2.4 ms there, 256 KiB 0.02 ms."""

AHEAD_FILES = 32
"""Instances prefetched ahead of a body's position, which is looked at after each turn of 50 ms: at 10 ms a file, eight
readers prefetch as many meanwhile."""

FETCHES_AT_ONCE = 64
"""Prefetches under way, of all bodies together: the turns that send wait behind them."""


class StorageSpeed:
    """Decides whether the storage is slow: the reads of all bodies show that it is, the prefetches that it is not.

    `prefetch` reads an instance ahead and returns how many bytes; it blocks.
    """

    def __init__(self, readers: Executor, prefetch: Callable[[Instance], int]) -> None:
        self._readers = readers
        self._read_ahead = prefetch
        self._slowness = Slowness()
        self._fetches: set[Future[None]] = set()

    def learn(self, files: int, size_bytes: int, reading_s: float) -> None:
        """Take how long so many files of a body, and so many bytes of them, took to read."""
        if not files:
            return  # a part of a large file tells nothing about the next one
        self._slowness.note_slow(was_slow=reading_s > files * SLOW_S + size_bytes / SLOW_BYTES_PER_S)

    def begin(self, instances: Sequence[Instance]) -> Prefetch:
        """Return what prefetches for one body."""
        return Prefetch(self, instances)

    def fetch(self, instance: Instance) -> Future[None] | None:
        """Prefetch an instance, if the storage is slow and not too many prefetches are under way."""
        if not self._slowness.is_slow:
            return None
        if len(self._fetches) >= FETCHES_AT_ONCE:
            self._fetches = {fetch for fetch in self._fetches if not fetch.done()}
        if len(self._fetches) >= FETCHES_AT_ONCE:
            return None
        fetch = self._readers.submit(self._fetch, instance)
        self._fetches.add(fetch)
        return fetch

    def _fetch(self, instance: Instance) -> None:
        """Blocks."""
        started_s = time.perf_counter()
        size_bytes = self._read_ahead(instance)
        elapsed_s = time.perf_counter() - started_s
        self._slowness.note_quick(was_quick=elapsed_s < QUICK_S + size_bytes / QUICK_BYTES_PER_S)


class Prefetch:
    """Prefetches for one body."""

    def __init__(self, speed: StorageSpeed, instances: Sequence[Instance]) -> None:
        self._speed = speed
        self._instances = instances
        self._fetches: list[Future[None]] = []
        self._asked_for = 0
        self._seen = (0, 0, 0.0)

    def see(self, place: int, read_bytes: int, reading_s: float) -> None:
        """Take the body's position, and how long reading up to it took."""
        place_before, bytes_before, before_s = self._seen
        self._seen = place, read_bytes, reading_s
        self._speed.learn(place - place_before, read_bytes - bytes_before, reading_s - before_s)

    def keep_ahead(self, place: int) -> None:
        """Prefetch the instances after the one at `place`."""
        self._asked_for = max(self._asked_for, place + 1)
        for instance in self._instances[self._asked_for : place + 1 + AHEAD_FILES]:
            fetch = self._speed.fetch(instance)
            if fetch is None:
                return
            self._fetches.append(fetch)
            self._asked_for += 1

    def end(self) -> None:
        """Prefetch nothing more."""
        for fetch in self._fetches:
            fetch.cancel()
