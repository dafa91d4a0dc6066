"""The fetch stage: fetches the content of candidates from a source on another machine, before their heads are read.

The source waits for room in the spool, so fetching never runs far ahead of sending.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bulkstow.events import FilesFound, Reporter
from bulkstow.model import Candidate, FileResult
from bulkstow.ports import Source

LISTS_AT_ONCE = 8
"""Lists that are fetched at the same time: a list may be one series, and the source limits its requests by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """Fetches lists of candidates, and passes on each candidate as soon as it is there."""

    source: Source
    candidates: MemoryObjectReceiveStream[list[Candidate]]
    fetched: MemoryObjectSendStream[list[Candidate]]
    results: MemoryObjectSendStream[list[FileResult]]
    reporter: Reporter

    async def run(self) -> None:
        """Fetch all lists."""
        free = anyio.Semaphore(LISTS_AT_ONCE)
        async with self.candidates, self.fetched, self.results, anyio.create_task_group() as under_way:
            async for several in self.candidates:
                await free.acquire()
                under_way.start_soon(self._fetch, several, free)

    async def _fetch(self, several: Sequence[Candidate], free: anyio.Semaphore) -> None:
        try:
            async with aclosing(self.source.fetch(several)) as lists:
                async for found in lists:
                    candidates = [item for item in found if isinstance(item, Candidate)]
                    results = [item for item in found if isinstance(item, FileResult)]
                    if more_bytes := sum(candidate.content_bytes - candidate.size_bytes for candidate in candidates):
                        self.reporter.tell(FilesFound(0, more_bytes))
                    if results:
                        await self.results.send(results)
                    if candidates:
                        await self.fetched.send(candidates)
        finally:
            free.release()
