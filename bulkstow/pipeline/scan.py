"""The first stage: lists files of the sources, except files that a filter leaves out or an earlier run settled.

The walk blocks, so it runs in worker threads; where one file system hangs, the others are still scanned.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import NoReturn

from anyio.streams.memory import MemoryObjectSendStream

from bulkstow.blocking import Helpers, ReadLimit, Work, map_in_threads, run_in_threads
from bulkstow.errors import StorageGone
from bulkstow.model import Candidate, FileResult
from bulkstow.pipeline.unsettled import Unsettled
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.ports import Found, Scanned


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Passes on the files that the ledger has not settled, and the outcomes of files that cannot be read."""

    lists: Scanned
    """From `Source.scan`, or files to send again."""
    unsettled: Unsettled
    readers: int
    """Files whose status may be read at once, if that is slow."""
    threads: WorkerThreads
    limit: ReadLimit
    candidates: MemoryObjectSendStream[list[Candidate]]
    results: MemoryObjectSendStream[list[FileResult]]
    on_end: Callable[[], None] | None = None
    admit: Callable[[Sequence[Found]], Sequence[Found]] | None = None
    """Returns the found files that may be read now."""

    async def run(self) -> None:
        """Scan to the end."""
        async with self.candidates, self.results, aclosing(self._scanned()) as scanned:
            async for found in scanned:
                admitted = found if self.admit is None else self.admit(found)
                candidates, results = await self.unsettled.choose(admitted)
                if results:
                    await self.results.send(results)
                if candidates:
                    await self.candidates.send(candidates)
        if self.on_end is not None:
            self.on_end()

    async def _scanned(self) -> AsyncGenerator[Sequence[Found], None]:
        """Yield lists of files; where a file system hangs, the rest is scanned meanwhile."""
        if isinstance(self.lists, Work):
            async for found in run_in_threads(
                self.lists, self.threads.scans, self.limit, helpers=Helpers(self.threads.heads, self.readers)
            ):
                yield found
            return
        if isinstance(self.lists, AsyncGenerator):
            async with aclosing(self.lists) as lists:
                async for several in lists:
                    yield several
            return
        while True:
            next_list = map_in_threads(_next_list, [self.lists], _on_timeout, self.threads.scans, self.limit)
            (drawn,) = [drawn async for several in next_list for drawn in several]
            if drawn is None:
                return
            yield drawn


def _next_list(lists: Iterator[Sequence[Found]]) -> Sequence[Found] | None:
    try:
        return next(lists, None)
    except OSError as error:
        raise StorageGone(f"the source cannot be scanned: {error.strerror or error}") from error


def _on_timeout(_lists: Iterator[Sequence[Found]], why: str) -> NoReturn:
    raise StorageGone(f"the source cannot be scanned: {why}; run the same command again when it is back")
