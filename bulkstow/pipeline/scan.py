"""The first stage: lists files of the sources, except files that a filter leaves out or an earlier run settled.

The walk blocks, so it runs in worker threads; where one file system hangs, the others are still scanned.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NoReturn

from anyio.streams.memory import MemoryObjectSendStream

from bulkstow.blocking import Helpers, ReadLimit, Work, map_in_threads, run_in_threads
from bulkstow.errors import StorageGone
from bulkstow.events import Event, FilesFound, LeftOut, Reporter, ScanEnded, SettledBefore
from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.pipeline.known_files import KnownFiles
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.policy.selection import Filter, Selection
from bulkstow.ports import Found


@dataclass(frozen=True, slots=True)
class LookedUp:
    """A list of the scan, divided by what the ledger has of it."""

    candidates: list[Candidate]
    """Files that are not settled."""
    results: list[FileResult]
    """Outcomes from the scan itself."""
    settled: list[Candidate]
    """Files that an earlier run settled."""
    events: list[Event]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Passes on the files that the ledger has not settled, and the outcomes of files that cannot be read."""

    lists: Iterator[Sequence[Found]] | Work[Any, Found]
    """From `Source.scan`, or files to send again."""
    empty_parts: Callable[[], Sequence[str]]
    pruned_parts: Callable[[], int]
    selection: Selection
    retried: frozenset[Outcome]
    """Outcomes of earlier runs that are not final, because the user wants these files to be sent again."""
    readers: int
    """Files whose status may be read at once, if that is slow."""
    allow_empty: bool
    """A source without any file is no failure."""
    threads: WorkerThreads
    limit: ReadLimit
    known_files: KnownFiles
    on_settled: Callable[[Sequence[Candidate]], Awaitable[None]] | None
    """Takes the files that an earlier run settled."""
    candidates: MemoryObjectSendStream[list[Candidate]]
    results: MemoryObjectSendStream[list[FileResult]]
    reporter: Reporter

    async def run(self) -> None:
        """Scan to the end."""
        async with self.candidates, self.results, aclosing(self._scanned()) as scanned:
            async for found in scanned:
                looked_up = await run_blocking(self.threads.calls, self._look_up, found)
                for event in looked_up.events:
                    self.reporter.tell(event)
                if looked_up.settled and self.on_settled is not None:
                    await self.on_settled(looked_up.settled)
                if looked_up.results:
                    await self.results.send(looked_up.results)
                if looked_up.candidates:
                    await self.candidates.send(looked_up.candidates)
        if self.selection.exclude and (directories := self.pruned_parts()):
            self.reporter.tell(LeftOut({}, directories))
        empty = () if self.allow_empty else self.empty_parts()
        self.reporter.tell(ScanEnded(tuple(empty)))

    async def _scanned(self) -> AsyncGenerator[Sequence[Found], None]:
        """Yield lists of files; where a file system hangs, the rest is scanned meanwhile."""
        if isinstance(self.lists, Work):
            async for found in run_in_threads(
                self.lists, self.threads.scans, self.limit, helpers=Helpers(self.threads.heads, self.readers)
            ):
                yield found
            return
        while True:
            next_list = map_in_threads(_next_list, [self.lists], _on_timeout, self.threads.scans, self.limit)
            (drawn,) = [drawn async for several in next_list for drawn in several]
            if drawn is None:
                return
            yield drawn

    def _look_up(self, found: Sequence[Found]) -> LookedUp:
        """Divide what was found by what the ledger has of it."""
        by_path = {(item if isinstance(item, Candidate) else item.candidate).location: item for item in found}
        candidates = [item for item in by_path.values() if isinstance(item, Candidate)]
        results = [item for item in by_path.values() if isinstance(item, FileResult)]
        filters: dict[str, Filter] = {}
        if self.selection.has_path_filters:
            filters = self._filters_of(candidates, results)
            candidates = [c for c in candidates if c.location not in filters]
            results = [r for r in results if r.candidate.location not in filters]
        known = self.known_files.look_up(candidates, self.retried)
        # A file that this run has recorded already was named twice: it counts once.
        new = [(c, k) for c, k in zip(candidates, known, strict=True) if k is None or not k.is_of_this_run]
        if self.selection.has_header_filters:
            settled_filters = self._filters_of_settled([c for c, k in new if k is not None and k.is_final])
            new = [(c, k) for c, k in new if c.location not in settled_filters]
            filters |= settled_filters
        events: list[Event] = [
            FilesFound(len(new) + len(results), sum(candidate.content_bytes for candidate, _ in new))
        ]
        if filters:
            events.append(LeftOut(Counter(filters.values())))
        settled = [c for c, k in new if k is not None and k.is_final]
        if final := Counter(k.outcome for _, k in new if k is not None and k.is_final):
            failed = ((c, k) for c, k in new if k is not None and k.is_final and not k.outcome.is_success)
            size_bytes = sum(c.content_bytes for c in settled)
            not_stored = tuple(FileResult(c, None, k.outcome, k.reason, accepted=k.accepted) for c, k in failed)
            events.append(SettledBefore(final, not_stored, size_bytes))
        return LookedUp([c for c, k in new if k is None or not k.is_final], results, settled, events)

    def _filters_of(self, candidates: Sequence[Candidate], results: Sequence[FileResult]) -> dict[str, Filter]:
        """Return, by location, the filters that leave out found files."""
        selection, now_ns = self.selection, time.time_ns()
        of_files = ((candidate.location, selection.filter_of(candidate, now_ns)) for candidate in candidates)
        filters = {location: filter_ for location, filter_ in of_files if filter_ is not None}
        locations = (result.candidate.location for result in results)
        return filters | {location: Filter.EXCLUDE for location in locations if selection.excludes(location)}

    def _filters_of_settled(self, candidates: Sequence[Candidate]) -> dict[str, Filter]:
        """Return, by location, the filters that leave out files that an earlier run settled."""
        headers = self.known_files.headers(candidates) if candidates else {}
        found = ((location, self.selection.filter_of_header(header)) for location, header in headers.items())
        return {location: filter_ for location, filter_ in found if filter_ is not None}


def _next_list(lists: Iterator[Sequence[Found]]) -> Sequence[Found] | None:
    try:
        return next(lists, None)
    except OSError as error:
        raise StorageGone(f"the source cannot be scanned: {error.strerror or error}") from error


def _on_timeout(_lists: Iterator[Sequence[Found]], why: str) -> NoReturn:
    raise StorageGone(f"the source cannot be scanned: {why}; run the same command again when it is back")
