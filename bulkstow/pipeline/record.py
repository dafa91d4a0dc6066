"""The last stage: writes outcomes to the ledger, and reports them once the ledger has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bulkstow.events import Recorded, Reporter
from bulkstow.ledger import Ledger
from bulkstow.model import Candidate, FileResult
from bulkstow.pipeline.in_flight import InFlight
from bulkstow.pipeline.watching import GoneFiles
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking

ROWS_PER_COMMIT = 2000
"""A commit costs about 0.1 ms in WAL mode and a row 5 µs; more rows at once would only delay outcomes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Records outcomes, many to a commit.

    If the run is cancelled, outcomes that have arrived are written nevertheless: without them the next run would send
    those instances again.
    """

    ledger: Ledger
    in_flight: InFlight
    release: Callable[[Sequence[Candidate]], None]
    """Tells the source that the content of candidates is not needed any more."""
    threads: WorkerThreads
    results: MemoryObjectReceiveStream[list[FileResult]]
    recorded: MemoryObjectSendStream[list[FileResult]] | None
    """Takes the recorded outcomes; None if no stage needs them."""
    gone_files: GoneFiles | None
    """Takes out files that are gone; None if those are failures."""
    reporter: Reporter

    async def run(self) -> None:
        """Record all outcomes."""
        async with self.results, self.recorded or nullcontext():
            try:
                async for arrived in self.results:
                    results = await self._write(self._gather(arrived))
                    if self.recorded is not None:
                        await self.recorded.send(results)
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    while left := self._gather([]):
                        await self._write(left)
                raise

    def _gather(self, gathered: list[FileResult]) -> list[FileResult]:
        """Add outcomes that have arrived meanwhile, up to the size of a commit."""
        gathered = list(gathered)
        while len(gathered) < ROWS_PER_COMMIT:
            try:
                gathered += self.results.receive_nowait()
            except (anyio.WouldBlock, anyio.EndOfStream):
                break
        return gathered

    async def _write(self, results: list[FileResult]) -> list[FileResult]:
        all_results = results
        with anyio.CancelScope(shield=True):
            if self.gone_files is not None:
                results = await self.gone_files.without(results)
            results = await run_blocking(self.threads.calls, self.ledger.record, results)
        self.in_flight.release(all_results)
        self.release([result.candidate for result in all_results])
        self.reporter.tell(Recorded(tuple(results)))
        return results
