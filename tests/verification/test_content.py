"""Claims about content comparisons of files with a server, on real sockets."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from bulkstow.blocking import ReadLimit
from bulkstow.config import DestinationSettings
from bulkstow.destination.auth import NoLogin
from bulkstow.destination.authorized import AuthorizedClient
from bulkstow.destination.http import HttpClient
from bulkstow.destination.wado import Retriever
from bulkstow.model import Candidate, Cause, Instance, NoResponse, Response
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.ports import Segment, Source
from bulkstow.server.faults import Kind, Operation, Plan, PlannedFault
from bulkstow.server.origin import Origin, serving
from bulkstow.server.read_faults import ReadFaultInjector
from bulkstow.server.storage import DirectoryStorage
from bulkstow.source.files import FileSource
from bulkstow.verification import content_spools
from bulkstow.verification.content import NO_PATH, ContentComparison
from bulkstow.verification.content_received import BLOCK_BYTES
from bulkstow.verification.content_result import ContentResult, Different, Identical, NotCompared, SameDataSet
from tests.archives import instance_in
from tests.destination.peers import answer, peer, read_head
from tests.verification.samples import UIDS, changed, data_set, written

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def comparing(
    url: str, source: Source | None = None, limit: ReadLimit | None = None
) -> AsyncIterator[ContentComparison]:
    """Give a comparison of files with a server."""
    limit = limit or ReadLimit(60)
    threads = WorkerThreads(4, stuck_s=limit.stuck_s)
    try:
        async with HttpClient(DestinationSettings(url=url)) as http:
            retriever = Retriever(AuthorizedClient(http, NoLogin()))
            yield ContentComparison(retriever, source or FileSource(), threads=threads, limit=limit)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class Archive:
    """A directory of files, and the directory of a server that stores instances."""

    directory: Path

    def file(self, content: bytes) -> Instance:
        """Write a file, and return its instance."""
        path = self.directory / "ours.dcm"
        path.write_bytes(content)
        status = path.stat()
        return instance_in(FileSource(), Candidate(str(path), status.st_size, status.st_mtime_ns))

    def store(self, content: bytes, sop_instance_uid: str = UIDS.sop_instance_uid) -> None:
        """Have the server hold an instance, by default under the UIDs of all these tests."""
        folder = self.directory / "server" / UIDS.study_uid / UIDS.series_uid
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{sop_instance_uid}.dcm").write_bytes(content)

    def remove(self) -> None:
        """Remove the file."""
        (self.directory / "ours.dcm").unlink()

    @asynccontextmanager
    async def serving(self, *faults: PlannedFault) -> AsyncIterator[str]:
        """Run the server, and give its URL."""
        (self.directory / "server").mkdir(exist_ok=True)
        faulty = ReadFaultInjector(Plan(faults))
        async with serving(Origin(DirectoryStorage(self.directory / "server"), read_fault=faulty)) as url:
            yield url


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Give an empty archive."""
    return Archive(tmp_path)


SMALL, LARGE = written(data_set()), written(data_set(rows=4 * BLOCK_BYTES // 1024, columns=512))


def other_pixel(content: bytes) -> bytes:
    """Return an instance with another last pixel."""
    return content[:-1] + bytes([content[-1] ^ 1])


PAIRS: dict[str, tuple[bytes, bytes, ContentResult]] = {
    "small": (SMALL, SMALL, Identical()),
    "large": (LARGE, LARGE, Identical()),
    "other encoding": (
        SMALL,
        written(data_set(), ImplicitVRLittleEndian),
        SameDataSet("Implicit VR Little Endian instead of Explicit VR Little Endian"),
    ),
    "other pixel of a small one": (SMALL, other_pixel(SMALL), Different(("(7FE0,0010) PixelData",))),
    "other pixel of a large one": (LARGE, other_pixel(LARGE), Different(("(7FE0,0010) PixelData",))),
    "coerced": (
        SMALL,
        written(changed(lambda ds: setattr(ds, "PatientID", "NEW"))),
        Different(("(0010,0020) PatientID",)),
    ),
}


@pytest.mark.parametrize(("ours", "theirs", "expected"), PAIRS.values(), ids=PAIRS.keys())
async def test_files_and_the_embedded_server(
    archive: Archive, ours: bytes, theirs: bytes, expected: ContentResult
) -> None:
    """The instance at the server is compared with the file."""
    instance = archive.file(ours)
    archive.store(theirs)
    async with archive.serving() as url, comparing(url) as comparison:
        assert await comparison.compare(instance) == expected


async def test_many_at_once(archive: Archive) -> None:
    """Concurrent comparisons do not disturb each other."""
    instance = archive.file(LARGE)
    archive.store(LARGE)
    async with archive.serving() as url, comparing(url) as comparison:
        results = await asyncio.gather(*(comparison.compare(instance) for _ in range(12)))
    assert results == [Identical()] * 12


async def test_an_absent_instance(archive: Archive) -> None:
    """An instance that the server does not have is a 404."""
    async with archive.serving() as url, comparing(url) as comparison:
        result = await comparison.compare(archive.file(SMALL))
    assert isinstance(result, Response)
    assert result.status == 404


async def test_a_server_that_breaks_off(archive: Archive) -> None:
    """An answer that is cut off is no difference, and the next attempt succeeds."""
    instance = archive.file(LARGE)
    archive.store(LARGE)
    fault = PlannedFault(kind=Kind.TRUNCATED, on=Operation.RETRIEVE, times=1)
    async with archive.serving(fault) as url, comparing(url) as comparison:
        first, second = await comparison.compare(instance), await comparison.compare(instance)
    assert isinstance(first, NoResponse)
    assert first.cause is Cause.DISCONNECTED
    assert second == Identical()


async def test_a_server_that_sends_another_instance(archive: Archive) -> None:
    """Another instance is different by its SOP Instance UID alone."""

    def rename(ds: Dataset) -> None:
        ds.SOPInstanceUID, ds.PatientID = "2.25.7", "OTHER"

    instance = archive.file(SMALL)
    archive.store(SMALL)
    archive.store(written(changed(rename)), "2.25.7")
    fault = PlannedFault(kind=Kind.WRONG_INSTANCE, on=Operation.RETRIEVE)
    async with archive.serving(fault) as url, comparing(url) as comparison:
        assert await comparison.compare(instance) == Different(("(0008,0018) SOPInstanceUID",))


async def test_a_server_that_sends_garbage(archive: Archive) -> None:
    """Bytes that are no DICOM file are a malformed answer."""

    async def garble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        answer(writer, "200 OK", b"not DICOM" * 100, "Content-Type: application/dicom")

    async with peer(garble) as url, comparing(url) as comparison:
        result = await comparison.compare(archive.file(SMALL))
    assert result == NoResponse(Cause.MALFORMED, body_started=False, detail="the received data is not a DICOM file")


async def test_uids_that_are_no_path(archive: Archive) -> None:
    """An instance whose UIDs cannot be part of a URL is not compared."""
    instance = archive.file(SMALL)
    other = replace(instance, header=replace(instance.header, series_uid=".."))
    async with comparing("http://localhost:9") as comparison:
        assert await comparison.compare(other) == NotCompared(NO_PATH)


async def test_a_file_that_is_gone(archive: Archive) -> None:
    """A file that was removed is not compared, and the rest of a large instance is not received."""
    instance = archive.file(LARGE)
    archive.store(LARGE)
    archive.remove()
    async with archive.serving() as url, comparing(url) as comparison:
        result = await comparison.compare(instance)
    assert result == NotCompared("cannot be read: No such file or directory")


async def test_a_file_that_has_changed(archive: Archive) -> None:
    """A file that was changed since the scan is not compared."""
    instance = archive.file(SMALL)
    archive.store(SMALL)
    old = replace(instance, candidate=replace(instance.candidate, version=1))
    async with archive.serving() as url, comparing(url) as comparison:
        result = await comparison.compare(old)
    assert result == NotCompared("the file has changed: its modification time is new")


async def test_a_link_outside_of_the_sources(archive: Archive) -> None:
    """A file that a ledger knows by a symbolic link is compared."""
    instance = archive.file(SMALL)
    archive.store(SMALL)
    link = archive.directory / "link.dcm"
    link.symlink_to(instance.candidate.location)
    by_link = replace(instance, candidate=replace(instance.candidate, location=str(link)))
    async with archive.serving() as url, comparing(url) as comparison:
        assert await comparison.compare(by_link) == Identical()


class HangingSource(FileSource):
    """Files on storage that hangs until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()

    def open(self, instance: Instance) -> Generator[Segment]:
        """Hang, then yield the file."""
        self.may_go_on.wait()
        yield from super().open(instance)


@pytest.mark.parametrize("content", [SMALL, LARGE])
async def test_storage_that_hangs(archive: Archive, content: bytes) -> None:
    """A file that cannot be read in time is not compared, and other calls continue."""
    instance = archive.file(content)
    archive.store(content)
    source = HangingSource()
    try:
        async with archive.serving() as url, comparing(url, source, ReadLimit(0.1)) as comparison:
            result = await comparison.compare(instance)
    finally:
        source.may_go_on.set()
    assert isinstance(result, NotCompared)
    assert result.reason.startswith("cannot be read: the storage has not answered for ")


async def test_temporary_files_are_removed(
    archive: Archive, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No temporary file remains after a comparison of large instances that differ."""
    directory = tmp_path_factory.mktemp("spool")
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.setattr(content_spools, "SPOOL_BYTES", 1000)
    instance = archive.file(LARGE)
    archive.store(other_pixel(LARGE))
    async with archive.serving() as url, comparing(url) as comparison:
        assert await comparison.compare(instance) == Different(("(7FE0,0010) PixelData",))
    assert not list(directory.iterdir())


async def test_a_cancelled_comparison_frees_its_files(archive: Archive) -> None:
    """A comparison that is cancelled while bytes are received leaves no open file behind."""
    instance = archive.file(LARGE)
    has_begun = asyncio.Event()

    async def stop_halfway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(LARGE)}\r\nContent-Type: application/dicom\r\n\r\n"
        writer.write(head.encode() + other_pixel(LARGE[: 2 * BLOCK_BYTES]))
        await writer.drain()
        has_begun.set()
        await reader.read()

    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(peer(stop_halfway))
        comparison = await stack.enter_async_context(comparing(url))
        task = asyncio.create_task(comparison.compare(instance))
        await has_begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with asyncio.timeout(60):
        while instance.candidate.location in open_files():  # noqa: ASYNC110 - a thread may be reading it still
            await asyncio.sleep(0.01)


def open_files() -> set[str]:
    """Return the paths that this process has open."""
    return {str(link.resolve()) for link in Path("/proc/self/fd").iterdir()}
