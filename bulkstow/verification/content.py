"""Compares an instance at a server with its file: retrieved by WADO-RS, and compared while it is received.

Received blocks are compared in worker threads, one while the next is received: the event loop never waits for the
storage, and a retrieval holds at most two blocks of received bytes. Only where bytes differ is the received instance
kept in a temporary file, and compared as a data set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import TypeVar

import anyio

from bulkstow.blocking import ReadLimit, run_in_threads, timeout_reason
from bulkstow.destination.wado import Retriever
from bulkstow.model import Instance, NoResponse
from bulkstow.ports import Source
from bulkstow.verification.content_bytes import ByteComparison
from bulkstow.verification.content_result import ContentComparer, ContentResult, NotCompared
from bulkstow.verification.content_steps import StepwiseComparison
from bulkstow.wire.resource_path import instance_path

BLOCK_BYTES = 2**20
"""The received bytes that are compared at once. A thread hop costs about 60 µs, comparing a MiB about 300 µs."""

T = TypeVar("T")

NO_PATH = "its UIDs cannot be part of a URL"


class ContentComparison(ContentComparer):
    """Compares instances at a server with those of a source.

    `retriever` knows the server; `threads` make the blocking calls, within the `limit`.
    """

    def __init__(self, retriever: Retriever, source: Source, *, threads: Executor, limit: ReadLimit) -> None:
        self._retriever = retriever
        self._source = source
        self._threads = threads
        self._limit = limit

    async def compare(self, instance: Instance) -> ContentResult:
        """Retrieve an instance once, and compare it with the source's (see `ContentComparer`)."""
        path = instance_path(instance.header)
        if path is None:
            return NotCompared(NO_PATH)
        # A file that is only compared may be outside of the sources, so links to it are followed.
        instance = replace(instance, candidate=replace(instance.candidate, by_link=True))
        received = _Received(ByteComparison(self._source, instance), self._threads, self._limit)
        try:
            exchange = await self._retriever.retrieve(path, received.take)
            if isinstance(exchange, NoResponse) or exchange.status != 200:
                return exchange
            return await received.end()
        finally:
            received.close()


class _Received:
    """The bytes of one retrieval, in blocks, on their way to the comparison in a worker thread."""

    def __init__(self, comparison: ByteComparison, threads: Executor, limit: ReadLimit) -> None:
        self._comparison = comparison
        self._threads = threads
        self._limit = limit
        self._pieces: list[memoryview] = []
        self._size_bytes = 0
        self._block: Future[NotCompared | None] | None = None
        """The comparison of the last block but the present one."""
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

    async def end(self) -> ContentResult:
        """Return the result, once the instance was received."""
        await self._catch_up()
        if self._failure is not None:
            return self._failure
        self._ending = self._threads.submit(self._comparison.end, self._drain())
        result = await self._wait_for(self._ending)
        if not isinstance(result, StepwiseComparison):
            return result
        found: list[ContentResult] = []
        async for results in run_in_threads(result, self._threads, self._limit):
            found += results
        return found[0]

    def close(self) -> None:
        """Free what the comparison holds, as soon as no thread uses it."""
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
        if self._block is not None:
            self._failure = await self._wait_for(self._block)

    async def _wait_for(self, call: Future[T]) -> T | NotCompared:
        """Wait for a call in a thread, within the limit of a read."""
        started_s = anyio.current_time()
        scope = anyio.CancelScope(deadline=started_s + self._limit.allowed_s())

        def shorten() -> None:
            scope.deadline = started_s + self._limit.allowed_s(anyio.current_time() - started_s)

        with scope, self._limit.on_shortened(shorten):
            return await asyncio.wrap_future(call)
        return NotCompared(f"cannot be read: {timeout_reason(anyio.current_time() - started_s)}")
