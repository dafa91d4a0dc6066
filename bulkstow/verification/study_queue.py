"""The queue of studies to examine: first the studies that are due again, then new ones.

A study that waits for its next look is not in memory, only its number. Several tasks take studies from the queue.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import partial

import anyio

from bulkstow.pipeline.worker_threads import run_blocking
from bulkstow.verification.examine import LookAgain, Looks
from bulkstow.verification.expected import ExpectedInstances, ExpectedStudy

FILES_PER_LIST = 1000
"""Files that are read from the temporary database at once: small studies share a thread's call, which costs 0.1 ms."""

MOST_WAITING = 50_000
"""Studies that may wait for their next look; they take 10 MB. With more of them no new study is begun."""


class StudyQueue:
    """Hands out studies; belongs to the event loop. `close` ends it early."""

    def __init__(self, expected: ExpectedInstances, threads: Executor) -> None:
        self._expected = expected
        self._threads = threads
        self._lists: Iterator[list[ExpectedStudy]] = expected.lists(FILES_PER_LIST)
        self._fresh: deque[ExpectedStudy] = deque()
        self._reading = anyio.Lock()
        self._has_more = True
        self._waiting: list[tuple[float, int, Looks]] = []
        self._under_way = 0
        self._is_closed = False
        self._changed = anyio.Event()

    @property
    def waiting(self) -> int:
        """The number of studies that wait for their next look."""
        return len(self._waiting)

    async def take(self) -> tuple[ExpectedStudy, Looks] | None:
        """Wait for a study to examine; return None at the end."""
        while not self._is_closed:
            now_s = anyio.current_time()
            if self._waiting and self._waiting[0][0] <= now_s:
                _, number, looks = heapq.heappop(self._waiting)
                self._under_way += 1
                return await run_blocking(self._threads, self._expected.study, number), looks
            if len(self._waiting) < MOST_WAITING and (study := await self._next_fresh()) is not None:
                self._under_way += 1
                return study, Looks(0, anyio.current_time())
            if not (self._waiting or self._under_way or self._has_more):
                return None
            changed, wait_s = self._changed, self._waiting[0][0] - now_s if self._waiting else None
            with anyio.move_on_after(wait_s):
                await changed.wait()
        return None

    def finish(self, study: ExpectedStudy, again: LookAgain | None = None) -> None:
        """Take back an examined study; if it has to wait for its next look, it is handed out again later."""
        self._under_way -= 1
        if again is not None:
            heapq.heappush(self._waiting, (again.due_s, study.number, again.looks))
        self._wake()

    def close(self) -> None:
        """Hand out nothing more."""
        self._is_closed = True
        self._wake()

    async def _next_fresh(self) -> ExpectedStudy | None:
        async with self._reading:
            if not self._fresh and self._has_more:
                studies = await run_blocking(self._threads, partial(next, self._lists, list[ExpectedStudy]()))
                self._has_more = bool(studies)
                self._fresh.extend(studies)
            return self._fresh.popleft() if self._fresh else None

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
