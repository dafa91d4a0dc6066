"""Fetch objects into the spool: small ones by one request, large ones in parts, several requests at once."""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectSendStream

from bulkstow.errors import SpoolError, StorageGone, first_of
from bulkstow.model import Candidate, Extent, FileResult, Outcome
from bulkstow.ports import Found
from bulkstow.source.objects_bucket import Bucket, ListedObject, ObjectError
from bulkstow.source.spool import Spool, SpooledContent
from bulkstow.wire.part10 import has_magic

WHOLE_BYTES = 2**20
"""The largest object that is fetched before its beginning is looked at."""

HEAD_BYTES = 64 * 2**10
"""The beginning of a larger object: it shows whether the rest is fetched, and has the heads of nearly all instances."""

PART_BYTES = 4 * 2**20
"""The parts in which an object is fetched, several at once, so that 32 requests take 128 MiB of memory at most."""

LIST_S = 0.02
"""How long objects are collected into a list: with lists of one object, 1,000 CT slices took 4.8 s of processor time
instead of 3.2 s."""

READY = 16
"""Objects of a list that are fetched ahead of the next stage: a store that is faster than the destination is slowed
down before the spool has to use a disk. Eight lists are fetched at a time."""

MOST_FAILURES_IN_SUCCESSION = 100
"""Objects that are refused or fail one after the other, after which the run stops: the login may have ended."""


async def admit_all(size_bytes: int) -> int:
    """Set no limit to the bandwidth."""
    return size_bytes


class ObjectFetcher:
    """Fetches objects; `admit` is awaited before bytes are asked for, and returns how many may be.

    `look_at` is called in a thread with the bytes of a large object that does not begin as DICOM; it returns the
    outcome of an object that need not be fetched. All methods belong to one event loop.
    """

    def __init__(
        self,
        spool: Spool,
        bucket_of: Callable[[str], Bucket],
        look_at: Callable[[ObjectBytes], FileResult | None],
        *,
        concurrency: int,
        admit: Callable[[int], Awaitable[int]],
    ) -> None:
        self._spool = spool
        self._bucket_of = bucket_of
        self._look_at = look_at
        self._admit = admit
        self._objects = anyio.CapacityLimiter(concurrency)
        """Objects that are fetched at once, so that a large one is finished before others begin."""
        self._requests = anyio.CapacityLimiter(concurrency)
        self._threads = anyio.CapacityLimiter(concurrency)
        self._failures_in_succession = 0

    async def fetch(self, candidates: Sequence[Candidate]) -> AsyncGenerator[Sequence[Found], None]:
        """Fetch objects, several at once, and yield each as soon as it is in the spool."""
        fetched_in, fetched = anyio.create_memory_object_stream[Found](READY)
        try:
            async with fetched, anyio.create_task_group() as tasks:
                async with fetched_in:
                    for candidate in candidates:
                        tasks.start_soon(self._fetch_into, candidate, fetched_in.clone())
                async for found in fetched:
                    if fetched.statistics().open_send_streams:
                        await anyio.sleep(LIST_S)
                    waiting = range(fetched.statistics().current_buffer_used)
                    yield [found, *(fetched.receive_nowait() for _ in waiting)]
        except BaseExceptionGroup as group:
            raise first_of(group) from None

    async def _fetch_into(self, candidate: Candidate, fetched: MemoryObjectSendStream[Found]) -> None:
        async with fetched, self._objects:
            bucket = self._bucket_of(candidate.location)
            try:
                found = await self._fetch(bucket, candidate)
            except ObjectError as error:
                found = FileResult(candidate, None, Outcome.UNREADABLE, self._failure(bucket, error))
            except SpoolError as error:
                found = FileResult(candidate, None, Outcome.UNREADABLE, str(error))
            else:
                self._failures_in_succession = 0
            await fetched.send(found)

    def _failure(self, bucket: Bucket, error: ObjectError) -> str:
        """Return the reason for an object that cannot be fetched; raises StorageGone if others cannot be, either."""
        if error.is_of_store:
            raise StorageGone(f"{bucket.root}: {error}; run the same command again when it is back")
        self._failures_in_succession += error.may_be_of_store
        if self._failures_in_succession >= MOST_FAILURES_IN_SUCCESSION:
            raise StorageGone(f"{bucket.root}: {self._failures_in_succession} objects in succession failed: {error}")
        return f"cannot be fetched: {error}"

    async def _fetch(self, bucket: Bucket, candidate: Candidate) -> Found:
        is_small = candidate.size_bytes <= WHOLE_BYTES
        async with self._requests:
            data = await self._read(bucket, candidate, 0, candidate.size_bytes if is_small else HEAD_BYTES)
        if not is_small:
            if not has_magic(bytes(data)):
                content = ObjectBytes(bucket, candidate, bytes(data))
                result = await anyio.to_thread.run_sync(
                    self._look_at, content, abandon_on_cancel=True, limiter=self._threads
                )
                if result is not None:
                    return result
            return await self._fetch_parts(bucket, candidate, data)
        # Without a request's turn, as a larger object with room may need it.
        await self._spool.reserve(candidate.size_bytes)
        with anyio.CancelScope(shield=True):
            extent = await anyio.to_thread.run_sync(self._stage, data)
        return replace(candidate, extent=extent)

    def _stage(self, data: memoryview) -> Extent:
        """Copy a whole object into reserved room. Blocks."""
        try:
            content = self._spool.begin(len(data))
        except BaseException:
            self._spool.give_back(len(data))
            raise
        try:
            content.write(data)
        except BaseException:
            content.abort()
            raise
        return content.finish()

    async def _fetch_parts(self, bucket: Bucket, candidate: Candidate, head: memoryview) -> Candidate:
        """Fetch the rest of an object whose beginning is known."""
        await self._spool.reserve(candidate.size_bytes)
        try:
            content = await anyio.to_thread.run_sync(self._spool.begin, candidate.size_bytes)
        except BaseException:
            self._spool.give_back(candidate.size_bytes)
            raise
        try:
            await self._fill(content, bucket, candidate, head)
        except BaseException:
            content.abort()
            raise
        return replace(candidate, extent=content.finish())

    async def _fill(self, content: SpooledContent, bucket: Bucket, candidate: Candidate, head: memoryview) -> None:
        """Read an object in parts, several at once, and write them in their order.

        A part keeps its request's turn until it is written, which bounds the memory; as turns are given in order, the
        part to write next always has one.
        """
        ends = [*range(len(head), candidate.size_bytes, PART_BYTES), candidate.size_bytes]
        may_write = [anyio.Event() for _ in ends]

        async def copy(number: int, begin: int, end: int) -> None:
            async with self._requests:
                data = await self._read(bucket, candidate, begin, end)
                await may_write[number].wait()
                await anyio.to_thread.run_sync(content.write, data)
                may_write[number + 1].set()

        await anyio.to_thread.run_sync(content.write, head)
        may_write[0].set()
        try:
            async with anyio.create_task_group() as tasks:
                for number, (begin, end) in enumerate(pairwise(ends)):
                    tasks.start_soon(copy, number, begin, end)
        except BaseExceptionGroup as group:
            raise first_of(group) from None

    async def _read(self, bucket: Bucket, candidate: Candidate, begin: int, end: int) -> memoryview:
        wanted_bytes = end - begin
        while wanted_bytes:
            wanted_bytes -= await self._admit(wanted_bytes)
        # A request that is repeated may take minutes, and a run that is stopped does not wait for it.
        return await anyio.to_thread.run_sync(
            bucket.read, listed_object(bucket, candidate), begin, end, abandon_on_cancel=True, limiter=self._threads
        )


class ObjectBytes:
    """The bytes of an object, read in ranges (see `windows.ByteReader`); the last range is kept."""

    def __init__(self, bucket: Bucket, candidate: Candidate, head: bytes = b"") -> None:
        self.candidate = candidate
        self.size_bytes = candidate.size_bytes
        self._bucket = bucket
        self._kept, self._kept_at = head, 0

    def read(self, size_bytes: int, at: int) -> bytes:
        """Return bytes, fewer only at the end. Raises OSError."""
        end = min(at + size_bytes, self.size_bytes)
        if at >= end:
            return b""
        if not self._kept_at <= at <= end <= self._kept_at + len(self._kept):
            until = min(max(end, at + HEAD_BYTES), self.size_bytes)
            try:
                data = self._bucket.read(listed_object(self._bucket, self.candidate), at, until)
            except ObjectError as error:
                raise OSError(errno.EIO, str(error), self.candidate.location) from error
            self._kept, self._kept_at = bytes(data), at
        begin = at - self._kept_at
        return self._kept[begin : begin + end - at]


def listed_object(bucket: Bucket, candidate: Candidate) -> ListedObject:
    """Return an object as the scan has listed it."""
    return ListedObject(bucket.key_of(candidate.location), candidate.size_bytes, str(candidate.version))
