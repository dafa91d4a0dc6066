"""The inspect stage: reads the heads of files, and passes on the instances that can be sent.

A file that cannot be sent goes straight to the record stage, with its reason, and an archive to the stage that looks
into it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bulkstow.blocking import ReadLimit, map_in_threads
from bulkstow.errors import DamagedHead, HeadError
from bulkstow.events import FilesFound, LeftOut
from bulkstow.model import Candidate, Container, FileResult, Instance, Outcome
from bulkstow.pipeline.newest import NewestFiles
from bulkstow.pipeline.pass_on import PassOn
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.policy.selection import Filter, Selection
from bulkstow.ports import Source

Inspected = Instance | Container | FileResult

NOT_LOOKED_INTO = "which was not looked into: unpack it and send the files inside"

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
    pass_on: PassOn
    newest: NewestFiles | None
    known_in: MemoryObjectSendStream[None] | None
    """Is closed once all files are known; only with `newest`."""
    threads: WorkerThreads
    limit: ReadLimit
    candidates: MemoryObjectReceiveStream[list[Candidate]]
    containers: MemoryObjectSendStream[Container] | None
    """Archives and compressed files; None if they are too deep in others."""
    only_members: bool = False
    """Files that are no containers are left out."""

    async def run(self) -> None:
        """Inspect all lists."""
        async with AsyncExitStack() as streams:
            for stream in (self.candidates, self.pass_on.instances, self.pass_on.results):
                await streams.enter_async_context(stream)
            for optional in (self.containers, self.known_in):
                if optional is not None:
                    await streams.enter_async_context(optional)
            async with anyio.create_task_group() as under_way:
                before = _Turn()
                before.passed.set()
                async for candidates in self.candidates:
                    turn = _Turn()
                    under_way.start_soon(self._inspect_list, candidates, before.passed, turn)
                    await before.passed.wait()  # two lists at a time, not all of them
                    await turn.is_dry.wait()
                    before = turn

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

    async def _pass_list(self, several: Sequence[Inspected], start_next: Callable[[], None]) -> None:
        containers = [item for item in several if isinstance(item, Container)]
        if containers or self.only_members:
            several = [item for item in several if not isinstance(item, Container)]
            several = several + [found for c in containers if (found := await self._look_into(c)) is not None]
        if self.only_members:
            several = self._leave_out(several)
        if settled := [item for item in several if isinstance(item, FileResult)]:
            await self.pass_on.results.send(settled)
        storable = [item for item in several if isinstance(item, Instance)]
        if self.selection.has_header_filters:
            storable = self._selected(storable)
        if self.newest is None:
            await self.pass_on.pass_on(storable, start_next)
        else:
            again = await run_blocking(self.threads.calls, self.newest.add, storable)
            self.pass_on.take_back(again)
            twice = {candidate.location for candidate in again}
            self.source.release([i.candidate for i in storable if i.candidate.location not in twice])

    async def _look_into(self, container: Container) -> FileResult | None:
        """Have the members of a container found; return its outcome if that cannot be."""
        if self.containers is None:
            reason = f"{container.format_name} in an archive in an archive, {NOT_LOOKED_INTO}"
            return FileResult(container.candidate, None, Outcome.UNREADABLE, reason)
        # Not released, as its members are still to be read: it is no file of the run.
        candidate = container.candidate
        self.pass_on.reporter.tell(FilesFound(-1, -candidate.content_bytes))
        await self.containers.send(container)
        return None

    def _leave_out(self, several: Sequence[Inspected]) -> list[Inspected]:
        """Return the files that cannot be read, which may be archives; leave out the others."""
        kept = [item for item in several if isinstance(item, FileResult) and item.outcome is Outcome.UNREADABLE]
        left_out = [item.candidate for item in several if item not in kept]
        self._count(left_out, Counter({Filter.ARCHIVES: len(left_out)}))
        return list(kept)

    def _selected(self, storable: Sequence[Instance]) -> list[Instance]:
        """Return the instances that no filter leaves out; count the others."""
        filters = [self.selection.filter_of_instance(instance) for instance in storable]
        by_filter = list(zip(storable, filters, strict=True))
        left_out = [instance.candidate for instance, filter_ in by_filter if filter_ is not None]
        self._count(left_out, Counter(filter_ for filter_ in filters if filter_ is not None))
        return [instance for instance, filter_ in by_filter if filter_ is None]

    def _count(self, left_out: Sequence[Candidate], by_filter: Counter[Filter]) -> None:
        if left_out:
            self.pass_on.take_back(left_out)
            self.pass_on.reporter.tell(LeftOut(by_filter))


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


def inspect(source: Source, candidate: Candidate) -> Inspected:
    """Return a candidate's instance, or why it is not sent; or a container. Blocks."""
    try:
        return source.read_head(candidate)
    except DamagedHead as error:
        return FileResult(candidate, None, Outcome.UNREADABLE, str(error))
    except HeadError as error:
        return FileResult(candidate, None, Outcome.SKIPPED, str(error))
    except OSError as error:
        return FileResult(candidate, None, Outcome.UNREADABLE, f"cannot be read: {error.strerror or error}")


def not_answered(candidate: Candidate, why: str) -> FileResult:
    """Return the outcome of a file whose storage does not respond."""
    return FileResult(candidate, None, Outcome.UNREADABLE, f"cannot be read: {why}")
