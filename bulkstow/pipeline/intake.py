"""From the file system to batches: scan, inspect, assemble.

Each stage takes lists from the one before and hands lists on; what blocks runs in threads, many files to a hop. A file
that cannot be sent goes straight to the record, with its reason.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bulkstow.blocking import ReadLimit, Turn, Work, carry_out, each
from bulkstow.errors import ConfigurationError, DamagedHead, HeadError
from bulkstow.events import Event, FilesFound, Reporter, ScanEnded, SettledBefore
from bulkstow.ledger import Ledger
from bulkstow.model import Candidate, FileResult, Instance, Outcome
from bulkstow.pipeline.comparison import compare
from bulkstow.pipeline.in_flight import InFlight
from bulkstow.pipeline.newest import NewestFiles
from bulkstow.pipeline.scheduler import Scheduler
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.policy.batching import Batcher
from bulkstow.source.heads import read_instance
from bulkstow.source.sources import Source, find_source
from bulkstow.source.walk import Walk

A = TypeVar("A")

Outcomes = MemoryObjectSendStream[list[FileResult]]

FEWEST_HEADS = 8
"""Heads read in one job at least. A list is divided among all hands, as the storage may be slow; with the eight that
there are by default it is 32 a job, which take 0.5 ms from the page cache, and a job 0.03 ms by itself."""


NAMES_PER_TURN = 256
"""Sources looked at in one job, 10 µs each."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """How files are looked at."""

    again: frozenset[Outcome] = frozenset()
    """Outcomes of earlier runs that are not final, as the user asks for them once more."""
    accept_missing_preamble: bool = False
    skip_truncated: bool = False
    allow_empty: bool = False
    """A source without any file is no failure."""
    readers: int = 8
    """Files that may be read at once."""
    admits: Callable[[str], bool] | None = None
    """Whether a link may be followed; set where the files do not come from the walk, which decides that itself."""


@dataclass(frozen=True, slots=True)
class _ScanResult:
    """What one list of the scan came to."""

    candidates: list[Candidate]
    results: list[FileResult]
    events: tuple[Event, ...]


async def found_sources(names: Sequence[str], threads: WorkerThreads, limit: ReadLimit) -> dict[str, Source]:
    """Look whether every source is there, before a run starts.

    Raises ConfigurationError as `find_source` does, and where the storage does not answer.
    """

    def look(name: str) -> tuple[str, Source]:
        return name, find_source(name)

    def missed(name: str, why: str) -> tuple[str, Source]:
        raise ConfigurationError(f"cannot look at {name!r}: {why}; is its file system mounted, and does it answer?")

    found: dict[str, Source] = {}
    async for several in each(look, names, missed, threads, limit, items_per_turn=NAMES_PER_TURN):
        found.update(several)
    return found


class _Lists(Work[bool, Sequence[Candidate | FileResult]]):
    """Lists that come from an iterator, as work for one thread."""

    def __init__(self, lists: Iterator[Sequence[Candidate | FileResult]]) -> None:
        super().__init__(results_per_turn=1)
        self._lists = lists
        self._has_more = True

    @property
    def has_more(self) -> bool:
        """False while the next list is being made, and after the last one."""
        return self._has_more

    def _take(self, _turn: Turn[bool, Sequence[Candidate | FileResult]]) -> bool | None:
        if not self._has_more:
            return None
        self._has_more = False
        return True

    def _do(self, _step: bool) -> object:
        return next(self._lists, None)

    def _put(self, _step: bool, brought: object, turn: Turn[bool, Sequence[Candidate | FileResult]]) -> None:
        if brought is not None:
            self._has_more = True
            turn.results.append(brought)  # type: ignore[arg-type]  # it is what the iterator gave

    def _miss(self, _step: bool, why: str, _turn: Turn[bool, Sequence[Candidate | FileResult]]) -> None:
        raise ConfigurationError(f"the list of files cannot be read: {why}")


async def _walked(
    lists: Iterator[Sequence[Candidate | FileResult]], threads: WorkerThreads, limit: ReadLimit
) -> AsyncGenerator[Sequence[Candidate | FileResult], None]:
    """Yield lists of what is found; where a file system hangs, the rest is walked meanwhile."""
    if isinstance(lists, Walk):
        async for walked in carry_out(lists, threads.scans, limit):
            yield walked
    else:
        async for several in carry_out(_Lists(lists), threads.scans, limit):
            for found in several:
                yield found


async def scan(
    lists: Iterator[Sequence[Candidate | FileResult]],
    threads: WorkerThreads,
    limit: ReadLimit,
    ledger: Ledger,
    inspection: Inspection,
    found: MemoryObjectSendStream[list[Candidate]],
    results: Outcomes,
    reporter: Reporter,
) -> None:
    """Hand on the files that the ledger has not settled."""
    async with found, results, aclosing(_walked(lists, threads, limit)) as walked:
        async for sight in walked:
            sighting = await run_blocking(threads.calls, _sift, sight, ledger, inspection)
            for event in sighting.events:
                reporter.tell(event)
            if sighting.results:
                await results.send(sighting.results)
            if sighting.candidates:
                await found.send(sighting.candidates)
    empty = lists.empty_sources if isinstance(lists, Walk) and not inspection.allow_empty else ()
    reporter.tell(ScanEnded(tuple(empty)))


def _sift(sight: Sequence[Candidate | FileResult], ledger: Ledger, inspection: Inspection) -> _ScanResult:
    by_path = {(item if isinstance(item, Candidate) else item.candidate).location: item for item in sight}
    candidates = [item for item in by_path.values() if isinstance(item, Candidate)]
    results = [item for item in by_path.values() if isinstance(item, FileResult)]
    known = ledger.look_up(candidates, inspection.again)
    # What this run has recorded already was named twice: it is one file.
    new = [(c, k) for c, k in zip(candidates, known, strict=True) if k is None or not k.is_of_this_run]
    events: list[Event] = [FilesFound(len(new) + len(results), sum(candidate.size_bytes for candidate, _ in new))]
    if final := Counter(k.outcome for _, k in new if k is not None and k.is_final):
        settled = ((c, k) for c, k in new if k is not None and k.is_final and not k.outcome.is_success)
        size_bytes = sum(c.size_bytes for c, k in new if k is not None and k.is_final)
        events.append(
            SettledBefore(final, tuple(FileResult(c, None, k.outcome, k.reason) for c, k in settled), size_bytes)
        )
    return _ScanResult([c for c, k in new if k is None or not k.is_final], results, tuple(events))


@dataclass(slots=True)
class Inspector:
    """Reads the heads of each list's files, several threads at a time, and hands on what can be sent, in order.

    With `newest` nothing is handed on before all files are known. A list in which a file hangs is handed on without
    that file, which follows when it is read or given up; the lists after it do not wait for it.
    """

    threads: WorkerThreads
    limit: ReadLimit
    inspection: Inspection
    in_flight: InFlight
    instances: MemoryObjectSendStream[list[Instance]]
    results: Outcomes
    reporter: Reporter
    newest: NewestFiles | None = None

    async def inspect(self, found: MemoryObjectReceiveStream[list[Candidate]]) -> None:
        """Inspect all lists."""
        async with found, self.instances, self.results:
            async with anyio.create_task_group() as under_way:
                async for candidates in found:
                    await _begun(under_way, self._inspect_list, candidates)
            if self.newest is None:
                return
            await run_blocking(self.threads.calls, self.newest.index)
            lists = self.newest.lists()
            async with anyio.create_task_group() as under_way:
                while storable := await run_blocking(self.threads.calls, partial(next, lists, list[Instance]())):
                    await _begun(under_way, self._hand_on, storable)

    async def _inspect_list(self, candidates: Sequence[Candidate], may_go_on: Callable[[], None]) -> None:
        items_per_turn = max(FEWEST_HEADS, math.ceil(len(candidates) / self.inspection.readers))
        looks = each(
            partial(look_into, inspection=self.inspection),
            candidates,
            not_answered,
            self.threads,
            self.limit,
            items_per_turn=items_per_turn,
            at_once=self.inspection.readers,
        )
        async with aclosing(looks):
            async for looked_at in looks:
                if settled := [item for item in looked_at if isinstance(item, FileResult)]:
                    await self.results.send(settled)
                storable = [item for item in looked_at if isinstance(item, Instance)]
                if self.newest is None:
                    await self._hand_on(storable, may_go_on)
                else:
                    self._take_back(await run_blocking(self.threads.calls, self.newest.add, storable))
                may_go_on()

    async def _hand_on(self, storable: Sequence[Instance], may_go_on: Callable[[], None]) -> None:
        compare_files = partial(compare, threads=self.threads, limit=self.limit, on_stuck=may_go_on)
        fresh, settled, again = await self.in_flight.deduplicate(storable, compare_files)
        self._take_back(again)
        if settled:
            await self.results.send(settled)
        if fresh:
            await self.instances.send(fresh)

    def _take_back(self, again: Sequence[Candidate]) -> None:
        if again:
            self.reporter.tell(FilesFound(-len(again), -sum(c.size_bytes for c in again)))


async def _begun(tasks: TaskGroup, function: Callable[[A, Callable[[], None]], Awaitable[None]], argument: A) -> None:
    """Call a function in a task of its own, and wait until it ends, or says that it will still take long."""
    has_ended = anyio.Event()

    async def call() -> None:
        try:
            await function(argument, has_ended.set)
        finally:
            has_ended.set()

    tasks.start_soon(call)
    await has_ended.wait()


def look_into(candidate: Candidate, inspection: Inspection) -> Instance | FileResult:
    """Return what a file is, or why it is not sent. Blocks."""
    try:
        if inspection.admits is not None and os.path.islink(candidate.location):  # noqa: PTH114 - a str
            candidate = replace(candidate, by_link=inspection.admits(candidate.location))
        return read_instance(
            candidate,
            accept_missing_preamble=inspection.accept_missing_preamble,
            skip_truncated=inspection.skip_truncated,
        )
    except DamagedHead as error:
        return FileResult(candidate, None, Outcome.UNREADABLE, str(error))
    except HeadError as error:
        return FileResult(candidate, None, Outcome.SKIPPED, str(error))
    except OSError as error:
        return FileResult(candidate, None, Outcome.UNREADABLE, f"cannot be read: {error.strerror or error}")


def not_answered(candidate: Candidate, why: str) -> Instance | FileResult:
    """Return what stands for a file whose storage does not answer."""
    return FileResult(candidate, None, Outcome.UNREADABLE, f"cannot be read: {why}")


async def assemble(
    instances: MemoryObjectReceiveStream[list[Instance]],
    batcher: Batcher,
    scheduler: Scheduler,
    *,
    keep_busy: bool = True,
) -> None:
    """Gather instances into batches and offer them to the senders, which is where the pipeline waits.

    Where a sender has nothing to do a batch is closed early: with `keep_busy` even one that is not full, as fewer in a
    request is better than none under way. What is gathered is shared among all senders that have nothing to do.
    """
    async with instances:
        async for several in instances:
            for batch in batcher.add(several):
                await scheduler.offer(batch)
            while (idle := scheduler.idle) and (keep_busy or batcher.is_plentiful):
                least_instances = batcher.open_count / idle if keep_busy else math.inf
                oldest = batcher.close_oldest(least_instances, scheduler.is_ready)
                if oldest is None:
                    break
                await scheduler.offer(oldest)
    for batch in batcher.flush(batcher.open_count / scheduler.at_once):
        await scheduler.offer(batch)
    scheduler.end()
