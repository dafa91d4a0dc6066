"""The optional digest stage: computes the SHA-256 of every file before it is sent.

A file is read in blocks, so that a large one does not exceed the time limit of a read. A file that changes afterwards
is noticed when it is sent, as in every upload.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bulkstow.blocking import CALL_S, ReadLimit, Work, Worker, run_in_threads
from bulkstow.errors import InstanceChanged
from bulkstow.model import FileResult, Instance, Outcome
from bulkstow.pipeline.inspect import not_answered
from bulkstow.pipeline.pass_on import begun
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.ports import SegmentReader, Source

BLOCK_BYTES = 1024 * 1024
"""The bytes that are read and hashed at once. A megabyte takes 1.1 ms of processor time, nearly all of it without the
interpreter lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """Computes the digests of each list's files in several threads, and passes on the instances with them.

    The next list starts as soon as a thread is free, also while a file hangs.
    """

    source: Source
    readers: int
    """Files that may be read at once."""
    threads: WorkerThreads
    limit: ReadLimit
    instances: MemoryObjectReceiveStream[list[Instance]]
    digested: MemoryObjectSendStream[list[Instance]]
    results: MemoryObjectSendStream[list[FileResult]]

    async def run(self) -> None:
        """Compute all digests."""
        async with self.instances, self.digested, self.results, anyio.create_task_group() as under_way:
            async for several in self.instances:
                await begun(under_way, self._digest, several)

    async def _digest(self, several: Sequence[Instance], start_next: Callable[[], None]) -> None:
        work = _Digests(self.source, several)
        workers = min(self.readers, len(several))
        async for found in run_in_threads(work, self.threads, self.limit, workers=workers, on_dry=start_next):
            if not found:
                start_next()
            if failed := [item for item in found if isinstance(item, FileResult)]:
                await self.results.send(failed)
            if digested := [item for item in found if isinstance(item, Instance)]:
                await self.digested.send(digested)


class _Digests(Work["_File", Instance | FileResult]):
    """The digests of some files; a step is a block of one of them. Steps of one file follow each other."""

    def __init__(self, source: Source, instances: Sequence[Instance]) -> None:
        super().__init__(results_per_list=len(instances), list_s=CALL_S)
        self._source = source
        self._instances = deque(instances)
        self._begun: list[_File] = []
        """Files of which a thread has read a part, and that no thread reads now."""
        self._buffers: list[bytearray] = []

    @property
    def has_more(self) -> bool:
        """False once every file is finished or under way."""
        return bool(self._begun or self._instances)

    def _next_step(self, _worker: Worker[_File, Instance | FileResult]) -> _File | None:
        if self._begun:
            return self._begun.pop()
        return _File(self._source, self._instances.popleft()) if self._instances else None

    def _run(self, step: _File) -> Instance | FileResult | None:
        # A thread that hangs keeps its buffer.
        buffer = self._buffers.pop() if self._buffers else bytearray(BLOCK_BYTES)
        found = step.read(memoryview(buffer))
        self._buffers.append(buffer)
        return found

    def _finish(self, step: _File, result: object, worker: Worker[_File, Instance | FileResult]) -> None:
        if result is None:
            self._begun.append(step)
        else:
            worker.results.append(result)  # type: ignore[arg-type]  # `_run` returned it

    def _time_out(self, step: _File, why: str, worker: Worker[_File, Instance | FileResult]) -> None:
        worker.results.append(not_answered(step.instance.candidate, why))


class _File:
    """A file that is being hashed."""

    def __init__(self, source: Source, instance: Instance) -> None:
        self.instance = instance
        self._source = source
        self._hash = hashlib.sha256()
        self._open = ExitStack()
        self._reader: SegmentReader | None = None

    def read(self, view: memoryview) -> Instance | FileResult | None:
        """Hash the next block; return the result at the end, or if the file cannot be read. Blocks."""
        try:
            if self._reader is None:
                self._reader = self._open.enter_context(closing(SegmentReader(self._source.open(self.instance))))
            count = self._reader.read_into(view)
            self._hash.update(view[:count])
            if count == len(view):
                return None
            self._open.close()
        except InstanceChanged as error:
            return self._unreadable(str(error))
        except OSError as error:
            return self._unreadable(f"cannot be read: {error.strerror or error}")
        return replace(self.instance, sha256=self._hash.hexdigest())

    def _unreadable(self, reason: str) -> FileResult:
        return self.instance.result(Outcome.UNREADABLE, reason)
