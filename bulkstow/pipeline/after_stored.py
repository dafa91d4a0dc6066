"""The stage after the ledger: moves or deletes the files whose instances are at the server (`--after-stored`).

    record ──┐
             ├──> after stored
    scan ────┘  files that are settled already: a run that was killed may have left them in place

A file is deleted only after a query has found its instance on the server, which may index with a delay. Every other
file stays in place, and is counted with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol, cast

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bulkstow.blocking import ReadLimit, map_in_threads
from bulkstow.errors import RunStopped
from bulkstow.events import Disposed, Reporter
from bulkstow.ledger import Ledger
from bulkstow.model import Candidate, FileResult, Header, Instance, Outcome, Response
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.policy.exchange import status_reason
from bulkstow.policy.look import next_look_in_s
from bulkstow.ports import Destination
from bulkstow.quantities import show_duration

FILES_AT_ONCE = 1000
"""Files that are dealt with at once: the instances of a series are then found by one query, and not by one each."""

MOST_WAITING = 10_000
"""Files that wait at most for the server's index, and as many copies for the files that they are copies of; they take
10 MB. Beyond that they stay in place, and the next run deals with them."""

MOST_KEPT = 10_000
"""Files in place that are remembered, so that a run which watches its sources counts each once."""

RECORDED_AHEAD = 16
"""Lists of recorded files that wait for this stage; more of them wait in the stages before."""

SEARCHED_SINGLY = 10
"""Up to so many instances of a series cost a query each (`destination.qido`)."""

COPY_OF_UNSTORED = "a copy of a file that is not stored"
NOT_OURS = "the server had an instance of its UID before, and their contents were not compared"


class Disposer(Protocol):
    """Moves or deletes files. The methods block."""

    def dispose(self, candidate: Candidate) -> str:
        """Move or delete a file; return why it stays in place, empty if it does not."""

    def tidy(self, quiet_s: float) -> None:
        """Remove empty directories that have not changed for so many seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disposition:
    """How the files of a run are moved or deleted after their instances are stored."""

    action: str
    """The action in the past tense, such as 'moved'."""
    disposer: Disposer
    settle_s: float | None
    """Time for which the server is asked for an instance, which has to be found first; None if it is not asked."""
    quiet_s: float
    """Time after which an empty directory is removed."""

    @property
    def needs_proof(self) -> bool:
        """True if the server has to have the very instance, because its file will be gone."""
        return self.settle_s is not None


class KeptFiles:
    """The files of a run that stay in place, each counted once, with its latest reason."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def __contains__(self, result: FileResult) -> bool:
        return result.candidate.location in self._reasons

    def keep(self, kept: Mapping[FileResult, str], action: str) -> Disposed | None:
        """Take files that stay in place; return the event for those that are new, or have another reason."""
        by_location = {result.candidate.location: why for result, why in kept.items()}
        new = {location: why for location, why in by_location.items() if self._reasons.get(location) != why}
        before = Counter(self._reasons[location] for location in new if location in self._reasons)
        for location, why in new.items():
            if location in self._reasons or len(self._reasons) < MOST_KEPT:
                self._reasons[location] = why
        return Disposed(action, 0, kept=tuple(new.items()), kept_no_longer=before) if new else None

    def remove(self, results: Sequence[FileResult]) -> Counter[str]:
        """Take files that no longer stay in place; return their earlier reasons."""
        reasons = (self._reasons.pop(result.candidate.location, "") for result in results)
        return Counter(filter(None, reasons))


@dataclass(slots=True, kw_only=True)
class AfterStored:
    """Deals with the recorded files of a pass; once `abandoned` is set, the rest stays in place for the next run."""

    disposition: Disposition
    kept: KeptFiles
    destination: Destination
    ledger: Ledger
    threads: WorkerThreads
    limit: ReadLimit
    recorded_in: MemoryObjectSendStream[list[FileResult]]
    """Takes recorded files; the stage ends after it is closed."""
    recorded: MemoryObjectReceiveStream[list[FileResult]]
    abandoned: anyio.Event
    wait_to_query: Callable[[], Awaitable[None]]
    """Returns when one more query may be made."""
    reporter: Reporter
    _unfound: list[FileResult] = field(default_factory=list, init=False)
    _copies: list[FileResult] = field(default_factory=list, init=False)

    async def run(self) -> None:
        """Deal with all files."""
        async with self.recorded:
            async for results in self.recorded:
                if not self.abandoned.is_set():
                    await self._take(self._gathered(results))
        if not self.abandoned.is_set():
            await self._take_copies()
            await self._look_again()
        await run_blocking(self.threads, self.disposition.disposer.tidy, self.disposition.quiet_s)

    async def take_settled(self, settled: Sequence[Candidate]) -> None:
        """Take files that an earlier run settled: it may have been killed before it dealt with them."""
        await self.recorded_in.send(await run_blocking(self.threads.calls, self.ledger.results, settled))

    def _gathered(self, results: list[FileResult]) -> list[FileResult]:
        """Add lists that have arrived meanwhile."""
        gathered = list(results)
        while len(gathered) < FILES_AT_ONCE:
            try:
                gathered += self.recorded.receive_nowait()
            except (anyio.WouldBlock, anyio.EndOfStream):
                break
        return gathered

    async def _take(self, results: Sequence[FileResult]) -> None:
        self._copies += [result for result in results if _is_copy(result)]
        self._keep({r: r.outcome.value for r in results if not (r.outcome.is_success or _is_copy(r))})
        stored = [result for result in results if result.outcome.is_success]
        if self.disposition.needs_proof:
            self._keep({result: NOT_OURS for result in stored if result.outcome is Outcome.DUPLICATE})
            stored = [result for result in stored if result.outcome is not Outcome.DUPLICATE]
        await self._dispose_found(stored)
        if len(self._copies) > MOST_WAITING:
            await self._take_copies()

    async def _take_copies(self) -> None:
        """Deal with the copies of files; the files themselves are recorded by now, or will not be."""
        copies, self._copies = self._copies, []
        for at in range(0, len(copies), FILES_AT_ONCE):
            several = copies[at : at + FILES_AT_ONCE]
            uids = [_header(result).sop_instance_uid for result in several]
            owners = await run_blocking(self.threads.calls, self.ledger.owners, uids)
            stored = {uid for uid, files in owners.items() if any(not file.conflicting_file for file in files)}
            self._keep({r: COPY_OF_UNSTORED for r in several if _header(r).sop_instance_uid not in stored})
            await self._dispose_found([r for r in several if _header(r).sop_instance_uid in stored])

    async def _dispose_found(self, results: Sequence[FileResult]) -> None:
        """Dispose of the files whose instances are found on the server; the others are looked for again."""
        unfound = await self._search_if_asked(results)
        await self._dispose([result for result in results if result not in unfound])
        # A file that stayed in place before has already waited.
        waiting = [result for result in unfound if result not in self.kept][: MOST_WAITING - len(self._unfound)]
        self._unfound += waiting
        self._keep({result: why for result, why in unfound.items() if result not in set(waiting)})

    async def _look_again(self) -> None:
        """Look again for the instances that were not found, until the settle time has passed."""
        first_s, looks = anyio.current_time(), 1
        while self._unfound and self.disposition.settle_s is not None:
            pause_s = next_look_in_s(looks, anyio.current_time() - first_s, self.disposition.settle_s)
            with anyio.move_on_after(pause_s or 0):
                await self.abandoned.wait()
            if self.abandoned.is_set():
                return
            results, self._unfound = self._unfound, []
            unfound = await self._search_if_asked(results)
            await self._dispose([result for result in results if result not in unfound])
            looks += 1
            if pause_s is None:
                self._keep(unfound)
            else:
                self._unfound = list(unfound)

    async def _search_if_asked(self, results: Sequence[FileResult]) -> dict[FileResult, str]:
        """Return the files whose instances are not found on the server, each with the reason."""
        unfound: dict[FileResult, str] = {}
        if self.disposition.settle_s is None:
            return unfound
        for _, series in groupby(sorted(results, key=_series), key=_series):
            several = list(series)
            for _ in several if len(several) <= SEARCHED_SINGLY else several[:1]:
                await self.wait_to_query()
            unfound |= await self._search(several)
        return unfound

    async def _search(self, series: Sequence[FileResult]) -> dict[FileResult, str]:
        try:
            found = await self.destination.find(tuple(Instance(r.candidate, _header(r)) for r in series))
        except RunStopped as error:
            return dict.fromkeys(series, f"the server was not asked: {error}")
        if isinstance(found, frozenset):
            absent = [result for result in series if _header(result).sop_instance_uid not in found]
            return dict.fromkeys(
                absent, f"not found on the server within {show_duration(self.disposition.settle_s or 0)}"
            )
        words = status_reason(found) if isinstance(found, Response) else found.cause.value
        return dict.fromkeys(series, f"the search for it failed: {words}")

    async def _dispose(self, results: Sequence[FileResult]) -> None:
        """Move or delete files, and report those that stay in place."""
        if not results:
            return
        action, disposer = self.disposition.action, self.disposition.disposer
        disposed: list[FileResult] = []
        kept: dict[FileResult, str] = {}

        def dispose(result: FileResult) -> tuple[FileResult, str]:
            return result, disposer.dispose(result.candidate)

        async for several in map_in_threads(
            dispose, results, lambda result, why: (result, why), self.threads, self.limit, items_per_list=len(results)
        ):
            kept |= {result: why for result, why in several if why}
            disposed += [result for result, why in several if not why]
        if disposed:
            self.reporter.tell(Disposed(action, len(disposed), kept_no_longer=self.kept.remove(disposed)))
        self._keep(kept)

    def _keep(self, kept: Mapping[FileResult, str]) -> None:
        if (event := self.kept.keep(kept, self.disposition.action)) is not None:
            self.reporter.tell(event)


class AfterStoring:
    """Builds the stage for each pass of a run."""

    def __init__(
        self,
        disposition: Disposition,
        destination: Destination,
        ledger: Ledger,
        threads: WorkerThreads,
        limit: ReadLimit,
        reporter: Reporter,
    ) -> None:
        self._disposition = disposition
        self._destination = destination
        self._ledger = ledger
        self._threads = threads
        self._limit = limit
        self._reporter = reporter
        self._kept = KeptFiles()

    def stage(self, abandoned: anyio.Event, wait_to_query: Callable[[], Awaitable[None]]) -> AfterStored:
        """Return the stage of a pass."""
        recorded_in, recorded = anyio.create_memory_object_stream[list[FileResult]](RECORDED_AHEAD)
        return AfterStored(
            disposition=self._disposition,
            kept=self._kept,
            destination=self._destination,
            ledger=self._ledger,
            threads=self._threads,
            limit=self._limit,
            recorded_in=recorded_in,
            recorded=recorded,
            abandoned=abandoned,
            wait_to_query=wait_to_query,
            reporter=self._reporter,
        )


def _is_copy(result: FileResult) -> bool:
    """Return whether a file was not sent because another file has the same instance with the same bytes."""
    return result.outcome is Outcome.SKIPPED and bool(result.copy_of) and result.header is not None


def _header(result: FileResult) -> Header:
    return cast("Header", result.header)  # a stored file and a copy have been read


def _series(result: FileResult) -> tuple[str, str]:
    return _header(result).study_uid, _header(result).series_uid
