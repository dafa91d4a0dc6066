"""The embedded origin as a source server, with faults, and a source that is open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from bulkstow.events import Event
from bulkstow.model import Candidate, FileResult, Header, Instance
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.policy.retry import Backoff
from bulkstow.policy.selection import EVERYTHING, Selection
from bulkstow.ports import Found, SegmentReader
from bulkstow.retrieval.locations import PREFIX
from bulkstow.retrieval.server import SourceServer, open_server
from bulkstow.retrieval.source import DicomwebSource
from bulkstow.server.fault_injector import FaultInjector
from bulkstow.server.fault_plan import plan_of
from bulkstow.server.origin import Origin, serving
from bulkstow.server.read_faults import ReadFaultInjector
from bulkstow.server.storage import DirectoryStorage
from bulkstow.source.files import FileSource
from bulkstow.source.spool import Spool
from bulkstow.source_settings import SourceSettings
from bulkstow.wire.synthetic import EXPLICIT_VR_LITTLE_ENDIAN, SECONDARY_CAPTURE, part10
from tests.server.samples import store

SPOOL_BYTES = 64 * 2**20


def header(study: int, series: int, number: int) -> Header:
    """Return the UIDs of an instance."""
    uid = f"2.25.{study}.{series}.{number}"
    return Header(f"2.25.{study}", f"2.25.{study}.{series}", uid, SECONDARY_CAPTURE, EXPLICIT_VR_LITTLE_ENDIAN)


def archive(studies: int = 2, series: int = 2, instances: int = 3) -> list[Header]:
    """Return the UIDs of an archive."""
    return [
        header(study, one, number)
        for study in range(1, studies + 1)
        for one in range(1, series + 1)
        for number in range(1, instances + 1)
    ]


@dataclass(frozen=True, slots=True)
class Stored:
    """An origin with instances."""

    url: str
    injector: ReadFaultInjector
    storage: DirectoryStorage

    @property
    def name(self) -> str:
        """The name as a source."""
        return f"{PREFIX}{self.url}"


@asynccontextmanager
async def origin_with(
    directory: Path, instances: Iterable[Header], *faults: dict[str, Any], rows: int = 16
) -> AsyncIterator[Stored]:
    """Run an origin with these instances and these planned faults."""
    plan = plan_of({"fault": list(faults)})
    injector = ReadFaultInjector(plan)
    storage = DirectoryStorage(directory / "root")
    origin = Origin(storage, fault=FaultInjector(plan), read_fault=injector)
    async with serving(origin) as url, ClientSession() as session:
        files = [part10(one, rows=rows, columns=rows, number=n) for n, one in enumerate(instances)]
        for first in range(0, len(files), 100):
            await store(session, url, *files[first : first + 100])
        yield Stored(url, injector, storage)


@dataclass(slots=True)
class Told:
    """Keeps events."""

    events: list[Event] = field(default_factory=list)

    def tell(self, event: Event) -> None:
        """Keep an event."""
        self.events.append(event)


@dataclass(frozen=True, slots=True)
class Opened:
    """A source that is open, with its parts."""

    source: DicomwebSource
    server: SourceServer
    spool: Spool
    threads: WorkerThreads
    told: Told

    async def scanned(self) -> list[Sequence[Found]]:
        """Return all lists of the scan."""
        return [found async for found in self.source.scan()]

    async def fetched(self, candidates: Sequence[Candidate]) -> list[Found]:
        """Return the items that a fetch yields."""
        return [item async for found in self.source.fetch(candidates) for item in found]

    async def content(self, candidate: Candidate) -> bytes:
        """Return the content of a candidate."""
        head = await run_blocking(self.threads.heads, self.source.read_head, candidate)
        assert isinstance(head, Instance)
        return await run_blocking(self.threads, self._read, head)

    def _read(self, instance: Instance) -> bytes:
        reader = SegmentReader(self.source.open(instance))
        data = bytearray(2**24)
        count = reader.read_into(memoryview(data))
        assert reader.read_into(memoryview(bytearray(1))) == 0
        reader.close()
        return bytes(data[:count])


@asynccontextmanager
async def opened(
    name: str,
    settings: SourceSettings | None = None,
    *,
    selection: Selection = EVERYTHING,
    spool_bytes: int = SPOOL_BYTES,
    attempts: int = 3,
    give_up_after_s: float | None = None,
    environment: dict[str, str] | None = None,
) -> AsyncIterator[Opened]:
    """Open a source."""
    threads, told = WorkerThreads(4), Told()
    spool = Spool(spool_bytes)
    try:
        async with open_server(
            name,
            settings or SourceSettings(),
            environment or {},
            attempts=attempts,
            give_up_after_s=give_up_after_s,
            reporter=told,
        ) as server:
            source = DicomwebSource(server, spool, FileSource(), selection, threads)
            try:
                yield Opened(source, server, spool, threads, told)
            finally:
                source.close()
    finally:
        threads.shutdown(wait=True)
        spool.close()


def quick_backoff() -> Backoff:
    """Return a backoff that takes no time."""
    return Backoff(base_s=0.01, cap_s=0.05)


def candidates_of(lists: Iterable[Sequence[Found]]) -> list[Candidate]:
    """Return the candidates of some lists."""
    return [item for found in lists for item in found if isinstance(item, Candidate)]


def failures_of(lists: Iterable[Sequence[Found]]) -> dict[str, str]:
    """Return the reasons of the outcomes in some lists, by the end of the location."""
    results = [item for found in lists for item in found if isinstance(item, FileResult)]
    return {result.candidate.location.rpartition("/dicom-web")[2]: result.reason for result in results}
