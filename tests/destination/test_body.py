"""Claims about the streamed body, and about the two ways to send it."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import anyio
import pytest

from bulkstow.blocking import ReadLimit
from bulkstow.config import DestinationSettings
from bulkstow.destination.body import READ_BYTES, WRITE_BYTES, Body, ByteLimiter, Resources
from bulkstow.destination.body_file import write_body
from bulkstow.destination.request_timer import RequestTimer
from bulkstow.destination.request_writer import RequestWriter
from bulkstow.destination.segments import GATHER_BYTES, Blocks
from bulkstow.destination.tls import SharedTls
from bulkstow.errors import InstanceChanged
from bulkstow.events import BytesSent, Event
from bulkstow.model import Batch, Instance
from bulkstow.ports import FileRange, Segment, Source
from bulkstow.source.files import FileSource
from bulkstow.wire.multipart import closing, part_head
from tests.archives import write_batch, write_instance
from tests.destination.encryption import connect
from tests.short_reads import shorten_reads

pytestmark = pytest.mark.anyio

PATIENCE_S = 20.0


@pytest.fixture
async def readers(anyio_backend: str) -> AsyncIterator[ThreadPoolExecutor]:
    """Give threads to read with."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


class Told:
    """Adds up the bytes of a body's events, and calls `on_sent` for each event."""

    def __init__(self, on_sent: Callable[[], None] = lambda: None) -> None:
        self.sent_bytes = 0
        self._on_sent = on_sent

    def tell(self, event: Event) -> None:
        """Add up."""
        assert isinstance(event, BytesSent)
        self.sent_bytes += event.size_bytes
        self._on_sent()


def body_of(
    instances: Sequence[Instance],
    readers: ThreadPoolExecutor,
    *,
    source: Source | None = None,
    throttle: ByteLimiter | None = None,
    told: Told | None = None,
) -> Body:
    """Return a body with the boundary B."""
    timer = RequestTimer(DestinationSettings(url="http://h"), Batch(1, tuple(instances)), ReadLimit(60))
    return Body(instances, "B", timer, Resources(source or FileSource(), readers, told or Told(), throttle))


class Server:
    """The other end of a connection: accepts bytes when it is told to."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.pieces_bytes: list[int] = []

    def request_writer(self) -> RequestWriter:
        """Return the writer of a request to it."""
        return cast("RequestWriter", self)

    def receive_window_share(self) -> float:
        """Return 0: there is no kernel to count."""
        return 0.0

    async def take_all(self) -> None:
        """Accept all remaining bytes."""

    async def close(self) -> None:
        """Release everything."""


class Through(Server):
    """A server reached through aiohttp's writer, as over TLS."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = asyncio.Event()
        self.wanted = 10**9

    async def duplicate_socket(self) -> None:
        """Return None: there is no socket."""

    async def write(self, piece: memoryview) -> None:
        """Accept a piece, as long as pieces are wanted."""
        if len(self.pieces_bytes) >= self.wanted:
            await self.is_open.wait()
        self.pieces_bytes.append(len(piece))
        self.received += piece


class Straight(Server):
    """A server reached by its socket."""

    tls: SharedTls | None = None

    def __init__(self) -> None:
        super().__init__()
        self.here, self.there = socket.socketpair()
        self.here.settimeout(0)
        self.there.settimeout(0)

    async def duplicate_socket(self) -> socket.socket:
        """Return a socket of the body's own."""
        return socket.socket(fileno=os.dup(self.here.fileno()))

    async def take_all(self) -> None:
        """Read until the body's end is closed."""
        while piece := await asyncio.get_running_loop().sock_recv(self.there, 2**20):
            self.received += piece

    async def close(self) -> None:
        """Close both ends."""
        self.here.close()
        self.there.close()


class Encrypted(Straight):
    """A server reached by its socket, over TLS."""

    def __init__(self) -> None:
        super().__init__()
        self.tls, self._server, self._incoming = connect()
        self.tls.hold()

    async def take_all(self) -> None:
        """Read and decrypt until the body's end is closed."""
        while piece := await asyncio.get_running_loop().sock_recv(self.there, 2**20):
            self._incoming.write(piece)
            with suppress(ssl.SSLWantReadError):
                while True:
                    self.received += self._server.read(2**20)


WAYS = pytest.mark.parametrize(
    "way", [Through, Straight, Encrypted], ids=["through aiohttp", "straight into the socket", "encrypted"]
)


async def send(body: Body, server: Server) -> None:
    """Send a body, and have the server accept all of it; the body keeps its fault."""
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.take_all)
            with suppress(InstanceChanged):
                await body.send(server.request_writer())
            if isinstance(server, Straight):
                server.here.close()
    await server.close()


def remove(instances: Sequence[Instance]) -> None:
    """Delete the files of instances."""
    for instance in instances:
        Path(instance.candidate.location).unlink()


def open_files() -> set[str]:
    """Return the files that this process has open."""
    return {str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.exists()}


def framed(instances: Sequence[Instance], boundary: str = "B") -> bytes:
    """Return the expected body."""
    parts = b"".join(
        part_head(boundary, i.candidate.size_bytes, first=n == 0) + Path(i.candidate.location).read_bytes()
        for n, i in enumerate(instances)
    )
    return parts + closing(boundary)


@WAYS
@pytest.mark.parametrize(
    "sides",
    [[16], [16, 16, 16], [1100], [16, 1100, 16], [1100, 1100], [120, 130, 120], [16] * 800, [16, 1024, 1100, 16, 16]],
    ids=lambda sides: f"{len(sides)} of {max(sides)}",
)
async def test_body_is_exact(tmp_path: Path, readers: ThreadPoolExecutor, way: type[Server], sides: list[int]) -> None:
    """For each mix of small and large files and each way, the bytes are exact, and as many as declared."""
    instances = [write_instance(tmp_path, n, rows=side, columns=side) for n, side in enumerate(sides)]
    told = Told()
    body, server = body_of(instances, readers, told=told), way()

    await send(body, server)

    assert server.received == framed(instances)
    assert len(server.received) == body.length_bytes == told.sent_bytes
    assert max(server.pieces_bytes, default=0) <= WRITE_BYTES
    assert body.is_started
    assert body.is_sent


def surround(path: Path) -> None:
    """Write six bytes before the content of a file, and some after it."""
    path.write_bytes(b"before" + path.read_bytes() + b"after")


class Within(FileSource):
    """Instances that are parts of files, six bytes after the beginning."""

    def open(self, instance: Instance) -> Generator[FileRange]:
        """Give the range without looking for changes."""
        descriptor = os.open(instance.candidate.location, os.O_RDONLY)
        try:
            yield FileRange(descriptor, 6, instance.candidate.size_bytes)
        finally:
            os.close(descriptor)


class WrongLength(FileSource):
    """Gives other lengths than the scan found."""

    def __init__(self, change_bytes: int) -> None:
        super().__init__()
        self._change_bytes = change_bytes

    def open(self, instance: Instance) -> Generator[Segment]:
        """Give a range of another length."""
        for part in super().open(instance):
            assert isinstance(part, FileRange)
            yield replace(part, size_bytes=part.size_bytes + self._change_bytes)


@WAYS
@pytest.mark.parametrize("side", [16, 300])
@pytest.mark.parametrize(("change_bytes", "words"), [(-1, "fewer bytes"), (1, "more bytes")])
async def test_source_of_another_length_ends_the_body(
    tmp_path: Path, readers: ThreadPoolExecutor, way: type[Server], side: int, change_bytes: int, words: str
) -> None:
    """A source that gives fewer or more bytes than the scan found cannot shift what follows into a wrong part."""
    instances = [write_instance(tmp_path, n, rows=side, columns=side) for n in range(3)]
    body, server = body_of(instances, readers, source=WrongLength(change_bytes)), way()
    await send(body, server)
    assert body.fault is not None
    assert body.fault.instance is instances[0]
    assert words in body.fault.reason
    assert not body.is_sent


@WAYS
async def test_range_with_an_offset(tmp_path: Path, readers: ThreadPoolExecutor, way: type[Server]) -> None:
    """A part of a file is sent from its offset on."""
    instances = [write_instance(tmp_path, n, rows=side, columns=side) for n, side in enumerate([16, 300])]
    server = way()
    whole = framed(instances)
    for instance in instances:
        surround(Path(instance.candidate.location))
    await send(body_of(instances, readers, source=Within()), server)
    assert server.received == whole


@WAYS
async def test_body_begins_anew(tmp_path: Path, readers: ThreadPoolExecutor, way: type[Server]) -> None:
    """A second call sends the whole body again: a replay never sends only the rest."""
    body, first, second = body_of(write_batch(tmp_path, 3).instances, readers), way(), way()
    await send(body, first)
    await send(body, second)
    assert first.received == second.received
    assert body.is_sent


async def test_reads_only_ahead_of_what_is_sent(tmp_path: Path, readers: ThreadPoolExecutor) -> None:
    """A body whose bytes are not accepted is not read further: at most two blocks are in memory."""
    instances = [write_instance(tmp_path, n, rows=1024, columns=1023) for n in range(6)]
    body, server = body_of(instances, readers), Through()
    server.wanted = 1
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send, body, server)
        while not server.pieces_bytes:
            await anyio.lowlevel.checkpoint()
        remove(instances[3:])
        server.is_open.set()

    assert body.fault is not None
    assert body.fault.instance is instances[3]
    assert not body.is_sent


class Meter:
    """A throttle that admits everything in small pieces, and counts."""

    def __init__(self) -> None:
        self.admitted_bytes: list[int] = []
        self.returned_bytes = 0

    async def admit(self, wanted_bytes: int) -> int:
        """Allow 10 kB at once, and let other tasks run."""
        self.admitted_bytes.append(min(wanted_bytes, 10_000))
        await anyio.lowlevel.checkpoint()
        return self.admitted_bytes[-1]

    def give_back(self, size_bytes: int) -> None:
        """Count what comes back."""
        self.returned_bytes += size_bytes


@WAYS
async def test_throttle_is_asked_for_every_byte(tmp_path: Path, readers: ThreadPoolExecutor, way: type[Server]) -> None:
    """No byte is sent that the throttle has not admitted, and bytes that were not sent are given back."""
    instances = [write_instance(tmp_path, n, rows=side, columns=side) for n, side in enumerate([16, 300, 16])]
    meter, server = Meter(), way()
    body = body_of(instances, readers, throttle=meter)

    await send(body, server)

    assert server.received == framed(instances)
    assert max(meter.admitted_bytes) <= 10_000
    assert sum(meter.admitted_bytes) - meter.returned_bytes == body.length_bytes


class CountedBlocks(Blocks):
    """Blocks that count what is out."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.out = 0

    def take(self) -> memoryview:
        """Count, and take."""
        self.out += 1
        return super().take()

    def give_back(self, block: memoryview) -> None:
        """Count, and give back."""
        self.out -= 1
        super().give_back(block)


async def test_memory_is_used_again_only_after_a_whole_body(tmp_path: Path, readers: ThreadPoolExecutor) -> None:
    """A body that ends early keeps its two blocks: a read may still fill one, and a transport refer to the other."""
    good, bad = (write_instance(tmp_path, n, rows=1100, columns=1100) for n in range(2))
    reading, gathering = CountedBlocks(READ_BYTES), CountedBlocks(GATHER_BYTES)
    resources = Resources(FileSource(), readers, Told(), read_blocks=reading, gather_blocks=gathering)
    block = reading.take()
    reading.give_back(block)
    assert reading.take() is block
    reading.give_back(block)
    for way, is_changed, kept in ((Through(), False, 0), (Straight(), False, 0), (Through(), True, 2)):
        if is_changed:
            shrink(Path(bad.candidate.location))
        timer = RequestTimer(DestinationSettings(url="http://h"), Batch(1, (good, bad)), ReadLimit(60))
        body = Body([good, bad], "B", timer, resources)
        await send(body, way)
        assert body.is_sent is not is_changed
        assert (reading.out, gathering.out) == (kept, 0)


def grow(path: Path) -> None:
    """Add a byte."""
    with path.open("ab") as file:
        file.write(b"x")


def shrink(path: Path) -> None:
    """Cut a byte off."""
    os.truncate(path, path.stat().st_size - 1)


def touch(path: Path) -> None:
    """Change the modification time only."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


CHANGES = pytest.mark.parametrize(
    ("change", "words"),
    [
        (grow, "bytes at the scan, now"),
        (shrink, "bytes at the scan, now"),
        (touch, "modification time"),
        (Path.unlink, "cannot be read: No such file"),
    ],
    ids=["grown", "shrunk", "touched", "gone"],
)


@WAYS
@pytest.mark.parametrize("side", [16, 1100], ids=["small", "large"])
@CHANGES
async def test_changed_file_ends_the_body(
    tmp_path: Path,
    readers: ThreadPoolExecutor,
    way: type[Server],
    side: int,
    change: Callable[[Path], None],
    words: str,
) -> None:
    """A file that is not as the scan found it ends the body before its last byte; it is neither padded nor finished."""
    good, bad = (write_instance(tmp_path, n, rows=side, columns=side) for n in (1, 2))
    change(Path(bad.candidate.location))
    body, server = body_of([good, bad], readers), way()

    await send(body, server)

    assert body.fault is not None
    assert body.fault.instance is bad
    assert words in body.fault.reason
    assert not body.is_sent
    assert len(server.received) <= body.length_bytes - len(closing("B"))


@WAYS
async def test_file_changed_while_it_streams(tmp_path: Path, readers: ThreadPoolExecutor, way: type[Server]) -> None:
    """A large file that grows after its first bytes were sent is not finished either."""
    instance = write_instance(tmp_path, 1, rows=3000, columns=1100)
    path, server = Path(instance.candidate.location), way()
    body = body_of([instance], readers, throttle=Meter(), told=Told(lambda: grow(path)))

    await send(body, server)

    assert body.fault is not None
    assert not body.is_sent


async def test_only_copied_bytes_are_safe_from_later_changes(tmp_path: Path, readers: ThreadPoolExecutor) -> None:
    """Bytes that were copied were compared afterwards; bytes that sendfile sent may change until the response."""
    instance = write_instance(tmp_path, 1, rows=300, columns=300)
    body = body_of([instance], readers)
    for way, is_copied in ((Through(), True), (Encrypted(), True), (Straight(), False)):
        await send(body, way)
        assert body.is_copied is is_copied


@WAYS
async def test_abandoned_body_leaves_no_file_open(
    tmp_path: Path, readers: ThreadPoolExecutor, way: type[Server]
) -> None:
    """A cancelled body closes its file, but not before the running read has ended."""
    instance = write_instance(tmp_path, 1, rows=8000, columns=1100)
    has_left, server = asyncio.Event(), way()
    if isinstance(server, Through):
        server.wanted = 1
    body = body_of([instance], readers, told=Told(has_left.set))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body.send, server.request_writer())
        await has_left.wait()
        assert instance.candidate.location in open_files()
        tasks.cancel_scope.cancel()
    readers.shutdown(wait=True)
    await server.close()
    assert instance.candidate.location not in open_files()


async def test_lost_connection_ends_the_body(tmp_path: Path, readers: ThreadPoolExecutor) -> None:
    """A lost connection ends the body with the system's error, and no file stays open."""
    instance = write_instance(tmp_path, 1, rows=8000, columns=1100)
    server = Straight()
    server.there.close()
    with pytest.raises(ConnectionError):
        await body_of([instance], readers).send(server.request_writer())
    readers.shutdown(wait=True)
    await server.close()
    assert instance.candidate.location not in open_files()


async def test_file_system_without_sendfile(
    tmp_path: Path, readers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without sendfile in the file system, the bytes are copied, and are the same."""

    def refuse(*_: object) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sendfile", refuse)
    instances = [write_instance(tmp_path, n, rows=side, columns=side) for n, side in enumerate([16, 1100, 16, 300])]
    server = Straight()
    await send(body_of(instances, readers), server)
    assert server.received == framed(instances)


@WAYS
@pytest.mark.parametrize("longest_bytes", [7, 100_000])
async def test_short_reads_are_read_on(
    tmp_path: Path,
    readers: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    way: type[Server],
    longest_bytes: int,
) -> None:
    """If the system reads or sends less than requested, as on FUSE, the body is the same."""
    sides = [16, 1100, 16] if longest_bytes > 100 else [16, 30]
    instances = [write_instance(tmp_path, n, rows=side, columns=side) for n, side in enumerate(sides)]
    shorten_reads(monkeypatch, longest_bytes)
    server = way()
    await send(body_of(instances, readers), server)
    assert server.received == framed(instances)
    await write_body(
        instances, "B", tmp_path / "request.bin", source=FileSource(), readers=readers, limit=ReadLimit(60)
    )
    assert (tmp_path / "request.bin").read_bytes() == framed(instances)


async def test_sendfile_that_sends_nothing(
    tmp_path: Path, readers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sendfile that sends nothing does not mean the end of a file: a read tells."""
    monkeypatch.setattr(os, "sendfile", lambda *_: 0)
    instances = [write_instance(tmp_path, n, rows=side, columns=side) for n, side in enumerate([16, 300])]
    server = Straight()
    await send(body_of(instances, readers), server)
    assert server.received == framed(instances)


async def test_written_body_is_the_sent_one(tmp_path: Path, readers: ThreadPoolExecutor) -> None:
    """The body in a file has exactly the bytes that would be sent."""
    instances = write_batch(tmp_path / "archive", 3).instances
    size_bytes = await write_body(
        instances, "B", tmp_path / "request.bin", source=FileSource(), readers=readers, limit=ReadLimit(60)
    )
    assert (tmp_path / "request.bin").read_bytes() == framed(instances)
    assert size_bytes == (tmp_path / "request.bin").stat().st_size
