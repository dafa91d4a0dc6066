"""Passing on of inspected instances: only one file of each SOP Instance UID is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bulkstow.blocking import ReadLimit
from bulkstow.events import FilesFound, Reporter
from bulkstow.model import Candidate, FileResult, Instance
from bulkstow.pipeline.comparison import compare
from bulkstow.pipeline.in_flight import InFlight
from bulkstow.pipeline.newest import NewestFiles
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.ports import Source

A = TypeVar("A")


@dataclass(frozen=True, slots=True, kw_only=True)
class PassOn:
    """Passes on instances to send, and outcomes of copies and conflicts; the stage that uses it closes the streams."""

    source: Source
    in_flight: InFlight
    threads: WorkerThreads
    limit: ReadLimit
    instances: MemoryObjectSendStream[list[Instance]]
    results: MemoryObjectSendStream[list[FileResult]]
    reporter: Reporter

    async def pass_on(self, storable: Sequence[Instance], start_next: Callable[[], None]) -> None:
        """Pass on instances; `start_next` is called if a comparison takes long."""
        compare_files = partial(
            compare, source=self.source, threads=self.threads, limit=self.limit, on_stuck=start_next
        )
        fresh, settled, again = await self.in_flight.deduplicate(storable, compare_files)
        self.take_back(again)
        if settled:
            await self.results.send(settled)
        if fresh:
            await self.instances.send(fresh)

    def take_back(self, again: Sequence[Candidate]) -> None:
        """Do not count files that were counted as found."""
        if again:
            self.source.release(again)
            self.reporter.tell(FilesFound(-len(again), -sum(c.content_bytes for c in again)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PassOnNewest:
    """Passes on the newest file of each SOP Instance UID, once all files are known: when `all_known` is closed."""

    newest: NewestFiles
    all_known: MemoryObjectReceiveStream[None]
    pass_on: PassOn
    threads: WorkerThreads

    async def run(self) -> None:
        """Pass on all of them."""
        async with self.pass_on.instances, self.pass_on.results, self.all_known:
            async for _ in self.all_known:
                pass
            await run_blocking(self.threads.calls, self.newest.index)
            lists = self.newest.lists()
            async with anyio.create_task_group() as under_way:
                while storable := await run_blocking(self.threads.calls, partial(next, lists, list[Instance]())):
                    await begun(under_way, self.pass_on.pass_on, storable)


async def begun(tasks: TaskGroup, function: Callable[[A, Callable[[], None]], Awaitable[None]], argument: A) -> None:
    """Call a function in its own task, and wait until it ends or reports that it will take long."""
    has_ended = anyio.Event()

    async def call() -> None:
        try:
            await function(argument, has_ended.set)
        finally:
            has_ended.set()

    tasks.start_soon(call)
    await has_ended.wait()
