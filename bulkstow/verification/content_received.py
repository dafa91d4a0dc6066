"""Compares an instance while it is received.

Received blocks are compared in worker threads, each while the next block is received: the event loop never waits for
the storage, and at most two blocks of received bytes are held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import TypeVar

import anyio

from bulkstow.blocking import ReadLimit, run_in_threads, timeout_reason
from bulkstow.verification.content_bytes import ByteComparison
from bulkstow.verification.content_result import ContentResult, NotCompared
from bulkstow.verification.content_steps import StepwiseComparison

BLOCK_BYTES = 2**20
"""The received bytes that are compared at once. A thread hop costs about 60 µs, comparing a MiB about 200 µs."""

T = TypeVar("T")


class ReceivedInstance:
    """The bytes of one instance, in blocks, on their way to the comparison in a worker thread."""

    def __init__(self, comparison: ByteComparison, threads: Executor, limit: ReadLimit) -> None:
        self._comparison = comparison
        self._threads = threads
        self._limit = limit
        self._pieces: list[memoryview] = []
        self._size_bytes = 0
        self._block: Future[NotCompared | None] | None = None
        """The comparison of the block before the current one."""
        self._ending: Future[ContentResult | StepwiseComparison] | None = None
        self._failure: NotCompared | None = None

    async def take(self, data: Sequence[memoryview]) -> bool:
        """Take received bytes; return False if the rest is not needed."""
        self._pieces += data
        self._size_bytes += sum(map(len, data))
        if self._size_bytes >= BLOCK_BYTES:
            await self._catch_up()
            if self._failure is None:
                self._block = self._threads.submit(self._comparison.compare, self._drain())
        return self._failure is None

    async def end(self) -> None:
        """Start the comparison of the last block, after the whole instance was received; does not wait for it."""
        await self._catch_up()
        if self._failure is None:
            self._ending = self._threads.submit(self._comparison.end, self._drain())

    async def result(self) -> ContentResult:
        """Return the result, after `end`, or after `take` has returned False."""
        if self._failure is not None or self._ending is None:
            return self._failure or NotCompared("it was not received to its end")
        result = await self._wait_for(self._ending)
        if not isinstance(result, StepwiseComparison):
            return result
        found: list[ContentResult] = []
        async for results in run_in_threads(result, self._threads, self._limit):
            found += results
        return found[0]

    def close(self) -> None:
        """Close the files of the comparison, as soon as no thread uses them."""
        last = self._ending or self._block
        if last is None:
            self._comparison.close()
        else:
            last.add_done_callback(lambda _: self._comparison.close())

    def _drain(self) -> list[memoryview]:
        pieces, self._pieces, self._size_bytes = self._pieces, [], 0
        return pieces

    async def _catch_up(self) -> None:
        """Wait for the comparison of the block before."""
        if self._block is not None and self._failure is None:
            self._failure = await self._wait_for(self._block)

    async def _wait_for(self, call: Future[T]) -> T | NotCompared:
        """Wait for a call in a thread, within the limit of a read."""
        if call.done():  # the usual case of small instances in a series: it saves 0.1 ms
            return call.result()
        started_s = anyio.current_time()
        scope = anyio.CancelScope(deadline=started_s + self._limit.allowed_s())

        def shorten() -> None:
            scope.deadline = started_s + self._limit.allowed_s(anyio.current_time() - started_s)

        with scope, self._limit.on_shortened(shorten):
            return await asyncio.wrap_future(call)
        return NotCompared(f"cannot be read: {timeout_reason(anyio.current_time() - started_s)}")
