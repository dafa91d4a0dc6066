"""The first stage: lists of files from the sources, without those that an earlier run settled.

The walk blocks, so it runs in worker threads; where one file system hangs, the others are still scanned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NoReturn

from anyio.streams.memory import MemoryObjectSendStream

from bulkstow.blocking import Helpers, ReadLimit, Work, map_in_threads, run_in_threads
from bulkstow.errors import StorageGone
from bulkstow.events import Event, FilesFound, Reporter, ScanEnded, SettledBefore
from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.pipeline.known_files import KnownFiles
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.ports import Found


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Passes on the files that the ledger has not settled, and the outcomes of files that cannot be read."""

    lists: Iterator[Sequence[Found]] | Work[Any, Found]
    """From `Source.scan`, or files to send again."""
    empty_parts: Callable[[], Sequence[str]]
    retried: frozenset[Outcome]
    """Outcomes of earlier runs that are not final, because the user wants these files to be sent again."""
    readers: int
    """Files whose status may be read at once, if that is slow."""
    allow_empty: bool
    """A source without any file is no failure."""
    threads: WorkerThreads
    limit: ReadLimit
    known_files: KnownFiles
    candidates: MemoryObjectSendStream[list[Candidate]]
    results: MemoryObjectSendStream[list[FileResult]]
    reporter: Reporter

    async def run(self) -> None:
        """Scan to the end."""
        async with self.candidates, self.results, aclosing(self._scanned()) as scanned:
            async for found in scanned:
                candidates, results, events = await run_blocking(self.threads.calls, self._look_up, found)
                for event in events:
                    self.reporter.tell(event)
                if results:
                    await self.results.send(results)
                if candidates:
                    await self.candidates.send(candidates)
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

    def _look_up(self, found: Sequence[Found]) -> tuple[list[Candidate], list[FileResult], list[Event]]:
        """Return the candidates that the ledger has not settled, results of the scan, and events."""
        by_path = {(item if isinstance(item, Candidate) else item.candidate).location: item for item in found}
        candidates = [item for item in by_path.values() if isinstance(item, Candidate)]
        results = [item for item in by_path.values() if isinstance(item, FileResult)]
        known = self.known_files.look_up(candidates, self.retried)
        # A file that this run has recorded already was named twice: it counts once.
        new = [(c, k) for c, k in zip(candidates, known, strict=True) if k is None or not k.is_of_this_run]
        events: list[Event] = [FilesFound(len(new) + len(results), sum(candidate.size_bytes for candidate, _ in new))]
        if final := Counter(k.outcome for _, k in new if k is not None and k.is_final):
            settled = ((c, k) for c, k in new if k is not None and k.is_final and not k.outcome.is_success)
            size_bytes = sum(c.size_bytes for c, k in new if k is not None and k.is_final)
            not_stored = tuple(FileResult(c, None, k.outcome, k.reason, accepted=k.accepted) for c, k in settled)
            events.append(SettledBefore(final, not_stored, size_bytes))
        return [c for c, k in new if k is None or not k.is_final], results, events


def _next_list(lists: Iterator[Sequence[Found]]) -> Sequence[Found] | None:
    try:
        return next(lists, None)
    except OSError as error:
        raise StorageGone(f"the source cannot be scanned: {error.strerror or error}") from error


def _on_timeout(_lists: Iterator[Sequence[Found]], why: str) -> NoReturn:
    raise StorageGone(f"the source cannot be scanned: {why}; run the same command again when it is back")
