"""Another DICOMweb server as a source.

Listed instances are known by their UIDs before anything is fetched, so instances that the ledger has settled are never
fetched again. The content of an instance is fetched into the spool when it is to be sent; a caller that needs content
that is not there, such as a comparison, fetches that one instance.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Generator, Hashable, Mapping, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import Future as ThreadFuture
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import replace

from bulkstow.config import UploadSettings
from bulkstow.errors import BulkstowError, ConfigurationError, DamagedHead, InstanceChanged
from bulkstow.events import Reporter
from bulkstow.model import Candidate, Container, FileResult, Instance
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.policy.selection import Selection
from bulkstow.policy.sharding import Sharding
from bulkstow.ports import Found, Segment, Source
from bulkstow.retrieval.fetching import Fetcher
from bulkstow.retrieval.listing import InstanceListing
from bulkstow.retrieval.server import SourceServer, open_server
from bulkstow.source.files import FileSource
from bulkstow.source.spool import Spool
from bulkstow.source_settings import SourceSettings
from bulkstow.verification.requests import Abandoned
from bulkstow.wire.resource_path import series_path

MOST_SERIES = 5_000
"""The most series whose number of instances is kept from the listing until they are fetched, in 2 MB. Some 13 lists are
between the two; a series that is forgotten is fetched one instance at a time."""


@asynccontextmanager
async def open_source(
    names: Sequence[str],
    source_settings: SourceSettings,
    settings: UploadSettings,
    spool: Spool,
    selection: Selection,
    *,
    threads: WorkerThreads,
    reporter: Reporter,
    environment: Mapping[str, str],
) -> AsyncGenerator[DicomwebSource]:
    """Open the server of a name such as dicomweb+https://host/root, and check that it responds.

    Raises ConfigurationError, also for more than one server, and RunStopped if the server cannot be reached.
    """
    if len(names) > 1:
        raise ConfigurationError(f"{names[0]} and {names[1]}: one DICOMweb server at a time; run once for each")
    if settings.shard is not None and settings.shard_level != "auto":
        raise ConfigurationError(f"--shard-level: the shards of {names[0]} are whole studies; leave it out")
    files = FileSource(accept_missing_preamble=settings.accept_missing_preamble, skip_truncated=settings.skip_truncated)
    async with open_server(
        names[0],
        source_settings,
        environment,
        attempts=settings.retries + 1,
        give_up_after_s=settings.give_up_after_s,
        reporter=reporter,
    ) as server:
        await server.reach()
        sharding = None if settings.shard is None else Sharding(settings.shard)
        with closing(
            DicomwebSource(
                server,
                spool,
                files,
                selection,
                threads,
                sharding=sharding,
                accept_missing_preamble=settings.accept_missing_preamble,
            )
        ) as source:
            yield source


class DicomwebSource(Source):
    """The selected instances of one server; belongs to the running event loop. `close` ends fetches under way."""

    def __init__(
        self,
        server: SourceServer,
        spool: Spool,
        files: FileSource,
        selection: Selection,
        threads: WorkerThreads,
        *,
        sharding: Sharding | None = None,
        accept_missing_preamble: bool = False,
    ) -> None:
        self._server = server
        self._spool = spool
        self._files = files
        """Reads the content of the spool."""
        self._fetcher = Fetcher(
            server.requests,
            server.retriever,
            server.locations,
            spool,
            threads.calls,
            self._is_whole,
            accept_missing_preamble=accept_missing_preamble,
        )
        self._listing = InstanceListing(
            server.requests,
            server.search,
            server.locations,
            selection,
            sharding,
            short_page_results=server.short_page_results,
        )
        self._listed: OrderedDict[str, int] = OrderedDict()
        """The number of instances that are listed of a series, by its path."""
        self._loop = asyncio.get_running_loop()
        self._staging: set[ThreadFuture[Candidate]] = set()

    async def scan(self) -> AsyncGenerator[Sequence[Found]]:
        """Yield the instances of the server, whole series in a list. Raises RunStopped."""
        with self._server.errors():
            async with aclosing(self._listing.lists()) as lists:
                async for found in lists:
                    self._note_listed(found)
                    yield found

    @property
    def is_fetched(self) -> bool:
        """True: the content is at the server."""
        return True

    async def fetch(self, candidates: Sequence[Candidate]) -> AsyncGenerator[Sequence[Found]]:
        """Fetch instances into the spool. Raises RunStopped."""
        with self._server.errors():
            async with aclosing(self._fetcher.fetch(candidates)) as lists:
                async for found in lists:
                    yield found

    def release(self, candidates: Sequence[Candidate]) -> None:
        """Remove instances from the spool."""
        for candidate in candidates:
            if candidate.extent is not None:
                self._spool.release(candidate.extent)

    async def until_full(self) -> None:
        """Return when an instance waits for room in the spool."""
        await self._spool.until_full()

    def read_head(self, candidate: Candidate) -> Instance | Container:
        """Return an instance with the head in the spool, else with the announced head, or the UIDs in its location."""
        if candidate.extent is not None:
            return self._files.read_head(candidate)
        header = self._server.locations.header_of(candidate)
        if header is None:
            raise DamagedHead(self._foreign)
        return Instance(candidate, header)

    def open(self, instance: Instance) -> Generator[Segment]:
        """Yield the content from the spool; fetch it first, and release it in the end, if it is not there."""
        if instance.candidate.extent is not None:
            yield from self._files.open(instance)
            return
        staged = self._stage(instance.candidate)
        try:
            yield from self._files.open(replace(instance, candidate=staged))
        finally:
            self._loop.call_soon_threadsafe(self.release, [staged])

    def verify(self, instance: Instance) -> str:
        """Return why an instance cannot be read, from the spool or from the server; otherwise it has not changed."""
        if instance.candidate.extent is not None:
            return self._files.verify(instance)
        return "" if self._server.locations.header_of(instance.candidate) is not None else self._foreign

    def digest(self, candidate: Candidate) -> Hashable | None:
        """Return the place in the spool; None if the content is not there."""
        return None if candidate.extent is None else self._files.digest(candidate)

    def find_truncation(self, candidate: Candidate) -> str:
        """Return a note about the element in which an instance in the spool is cut off."""
        return "" if candidate.extent is None else self._files.find_truncation(candidate)

    @property
    def empty_parts(self) -> Sequence[str]:
        """The server, if no selected study was found."""
        return () if self._listing.studies else (self._server.locations.source,)

    def close(self) -> None:
        """Cancel the fetches for which threads wait."""
        for staging in tuple(self._staging):
            staging.cancel()

    @property
    def _foreign(self) -> str:
        return f"it is not below {self._server.locations.source}"

    def _stage(self, candidate: Candidate) -> Candidate:
        """Fetch an instance from a worker thread, and wait for it. Raises InstanceChanged."""
        staging = asyncio.run_coroutine_threadsafe(self._fetched(candidate), self._loop)
        self._staging.add(staging)
        try:
            return staging.result()
        except CancelledError:
            raise InstanceChanged("cannot be read: the run has ended") from None
        finally:
            self._staging.discard(staging)

    async def _fetched(self, candidate: Candidate) -> Candidate:
        """Return a candidate with its extent. Raises InstanceChanged."""
        try:
            with self._server.errors():
                found = await self._fetcher.fetch_one(candidate)
        except (BulkstowError, Abandoned) as error:
            raise InstanceChanged(f"cannot be read: {error}") from error
        if isinstance(found, FileResult):
            raise InstanceChanged(f"cannot be read: {found.reason}")
        return found

    def _note_listed(self, found: Sequence[Found]) -> None:
        announced = (item.announced for item in found if isinstance(item, Candidate))
        counts = Counter(series_path(header) or "" for header in announced if header is not None)
        self._listed.update((path, count) for path, count in counts.items() if count > 1)
        while len(self._listed) > MOST_SERIES:
            self._listed.popitem(last=False)

    def _is_whole(self, path: str, wanted: int) -> bool:
        return self._listed.pop(path, 0) == wanted
