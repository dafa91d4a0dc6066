"""The second stage: reads the heads of files, and passes on the instances that can be sent.

A file that cannot be sent goes straight to the record stage, with its reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bulkstow.blocking import ReadLimit, map_in_threads
from bulkstow.errors import DamagedHead, HeadError
from bulkstow.events import FilesFound, LeftOut, Reporter
from bulkstow.model import Candidate, Container, FileResult, Instance, Outcome
from bulkstow.pipeline.comparison import compare
from bulkstow.pipeline.in_flight import InFlight
from bulkstow.pipeline.newest import NewestFiles
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.policy.selection import Filter, Selection
from bulkstow.ports import Source

A = TypeVar("A")

FEWEST_HEADS = 8
"""Heads read in one worker thread call at least. A list is divided among all readers, as the storage may be slow; with
the default of eight that is 32 heads a call, which take 0.5 ms from the page cache; a call costs 0.03 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspect:
    """Reads the heads of each list's files in several threads, and passes on the instances to send, in order.

    With `newest` nothing is passed on before all files are known. A list in which a file hangs is passed on without
    that file, which follows once it is read or given up; the lists after it do not wait for it.
    """

    source: Source
    selection: Selection
    readers: int
    """Files that may be read at once."""
    in_flight: InFlight
    newest: NewestFiles | None
    threads: WorkerThreads
    limit: ReadLimit
    candidates: MemoryObjectReceiveStream[list[Candidate]]
    instances: MemoryObjectSendStream[list[Instance]]
    results: MemoryObjectSendStream[list[FileResult]]
    reporter: Reporter

    async def run(self) -> None:
        """Inspect all lists."""
        async with self.candidates, self.instances, self.results:
            async with anyio.create_task_group() as under_way:
                before = _Turn()
                before.passed.set()
                async for candidates in self.candidates:
                    turn = _Turn()
                    under_way.start_soon(self._inspect_list, candidates, before.passed, turn)
                    await before.passed.wait()  # two lists at a time, not all of them
                    await turn.is_dry.wait()
                    before = turn
            if self.newest is None:
                return
            await run_blocking(self.threads.calls, self.newest.index)
            lists = self.newest.lists()
            async with anyio.create_task_group() as under_way:
                while storable := await run_blocking(self.threads.calls, partial(next, lists, list[Instance]())):
                    await begun(under_way, self._pass_on, storable)

    async def _inspect_list(self, candidates: Sequence[Candidate], may_pass: anyio.Event, turn: _Turn) -> None:
        if len(candidates) < self.readers:
            turn.is_dry.set()
        inspected = map_in_threads(
            partial(inspect, self.source),
            candidates,
            not_answered,
            self.threads.heads,
            self.limit,
            items_per_list=max(FEWEST_HEADS, math.ceil(len(candidates) / self.readers)),
            workers=self.readers,
            on_dry=turn.is_dry.set,
        )
        try:
            async with aclosing(inspected):
                async for several in inspected:
                    await may_pass.wait()
                    await self._pass_list(several, turn.end)
                    turn.end()
        finally:
            turn.end()

    async def _pass_list(self, several: Sequence[Instance | FileResult], start_next: Callable[[], None]) -> None:
        if settled := [item for item in several if isinstance(item, FileResult)]:
            await self.results.send(settled)
        storable = [item for item in several if isinstance(item, Instance)]
        if self.selection.has_header_filters:
            storable = self._selected(storable)
        if self.newest is None:
            await self._pass_on(storable, start_next)
        else:
            self._take_back(await run_blocking(self.threads.calls, self.newest.add, storable))

    async def _pass_on(self, storable: Sequence[Instance], start_next: Callable[[], None]) -> None:
        compare_files = partial(
            compare, source=self.source, threads=self.threads, limit=self.limit, on_stuck=start_next
        )
        fresh, settled, again = await self.in_flight.deduplicate(storable, compare_files)
        self._take_back(again)
        if settled:
            await self.results.send(settled)
        if fresh:
            await self.instances.send(fresh)

    def _selected(self, storable: Sequence[Instance]) -> list[Instance]:
        """Return the instances that no filter leaves out; count the others."""
        filters = [self.selection.filter_of_header(instance.header) for instance in storable]
        left_out: Counter[Filter] = Counter(filter_ for filter_ in filters if filter_ is not None)
        if not left_out:
            return list(storable)
        by_filter = list(zip(storable, filters, strict=True))
        self._take_back([instance.candidate for instance, filter_ in by_filter if filter_ is not None])
        self.reporter.tell(LeftOut(left_out))
        return [instance for instance, filter_ in by_filter if filter_ is None]

    def _take_back(self, again: Sequence[Candidate]) -> None:
        if again:
            self.reporter.tell(FilesFound(-len(again), -sum(c.content_bytes for c in again)))


class _Turn:
    """The place of a list in the order of all lists."""

    def __init__(self) -> None:
        self.is_dry = anyio.Event()
        """Every head is read or being read, so that readers are free for the next list."""
        self.passed = anyio.Event()
        """The list is passed on, or takes long, so that the next one may be passed on."""

    def end(self) -> None:
        """Let the next list go on."""
        self.is_dry.set()
        self.passed.set()


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


def inspect(source: Source, candidate: Candidate) -> Instance | FileResult:
    """Return a candidate's instance, or why it is not sent. Blocks."""
    try:
        found = source.read_head(candidate)
    except DamagedHead as error:
        return FileResult(candidate, None, Outcome.UNREADABLE, str(error))
    except HeadError as error:
        return FileResult(candidate, None, Outcome.SKIPPED, str(error))
    except OSError as error:
        return FileResult(candidate, None, Outcome.UNREADABLE, f"cannot be read: {error.strerror or error}")
    if isinstance(found, Container):
        return FileResult(candidate, None, Outcome.UNREADABLE, f"{found.format_name}, which was not looked into")
    return found


def not_answered(candidate: Candidate, why: str) -> Instance | FileResult:
    """Return the outcome of a file whose storage does not respond."""
    return FileResult(candidate, None, Outcome.UNREADABLE, f"cannot be read: {why}")
