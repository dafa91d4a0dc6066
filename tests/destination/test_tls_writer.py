"""Claims about bodies over TLS, against real servers; `test_body` has those about their bytes in detail."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from bulkstow.config import DestinationSettings
from bulkstow.destination.request_writer import RequestWriter
from bulkstow.destination.stow import StowDestination
from bulkstow.errors import LoginRefused
from bulkstow.events import BytesSent, Event
from bulkstow.model import Batch, Cause, NoResponse, Response, SourceChanged
from tests.archives import write_batch
from tests.destination.encryption import server_context, write_server_files
from tests.destination.peers import STORED, Handler, Request, answer, peer, read_head, read_request
from tests.stow import FileStow

pytestmark = pytest.mark.anyio

PATIENCE_S = 20.0


@pytest.fixture
def large(tmp_path: Path) -> Batch:
    """Give a batch of 24 MB, more than the sockets' buffers hold."""
    return write_batch(tmp_path / "archive", 2, rows=4000, columns=3000)


@pytest.fixture(autouse=True)
def only_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no body pass through the event loop."""

    async def write(_writer: RequestWriter, _piece: memoryview) -> None:
        raise AssertionError("a body passes through the event loop")

    monkeypatch.setattr(RequestWriter, "write", write)


@asynccontextmanager
async def destination(
    handler: Handler, directory: Path, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, **changes: object
) -> AsyncIterator[StowDestination]:
    """Serve `handler` over TLS, and give a destination that sends to it."""
    async with peer(handler, server_context(directory, version)) as url:
        settings = DestinationSettings(url=url, ca_file=directory / "ca.pem", **changes)  # type: ignore[arg-type]
        async with FileStow(settings) as stow:
            with anyio.fail_after(PATIENCE_S):
                yield stow


class Keeper:
    """A server that keeps all requests; it answers as many on one connection as come."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        while True:
            self.requests.append(await read_request(reader))
            answer(writer)

    def check(self, batch: Batch, number: int) -> None:
        """Compare a body with the files of a batch."""
        request = self.requests[number]
        boundary = request.headers["Content-Type"].rpartition("=")[2]
        first, *parts = request.body.split(f"--{boundary}".encode())
        assert (first, parts.pop()) == (b"", b"--\r\n")
        contents = [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts]
        assert contents == [Path(i.candidate.location).read_bytes() for i in batch.instances]


@pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_bodies_are_exact(
    large: Batch, tmp_path: Path, anyio_backend: tuple[str, dict[str, bool]], version: ssl.TLSVersion
) -> None:
    """Large and small bodies, and queries between them, arrive whole on connections that are used again."""
    if anyio_backend[1]:
        pytest.importorskip("uvloop")
    small = write_batch(tmp_path / "small", 3)
    keeper = Keeper()
    async with destination(keeper, tmp_path, version) as stow:
        for batch in (large, small, small, large):
            assert await stow.send(batch) == Response(200, STORED)
            assert isinstance(await stow.probe(), Response)
    assert keeper.connections < len(keeper.requests) == 8
    for number, batch in enumerate((large, small, small, large)):
        keeper.check(batch, 2 * number)


async def test_several_bodies_at_once(large: Batch, tmp_path: Path) -> None:
    """Bodies on several connections do not mix."""
    keeper = Keeper()
    async with destination(keeper, tmp_path) as stow, anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(stow.send, large)
    for number in range(4):
        keeper.check(large, number)


async def test_slow_server(large: Batch, tmp_path: Path) -> None:
    """A server that reads in small pieces gets the same bytes."""
    keeper = Keeper()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        left_bytes = int(head.headers["Content-Length"])
        while left_bytes:
            piece = await reader.read(min(left_bytes, 70_001))
            head.body += piece
            left_bytes -= len(piece)
            await anyio.lowlevel.checkpoint()
        keeper.requests.append(head)
        answer(writer)

    async with destination(slow, tmp_path) as stow:
        assert await stow.send(large) == Response(200, STORED)
    keeper.check(large, 0)


async def test_server_that_closes(large: Batch, tmp_path: Path) -> None:
    """A connection lost in the middle of a body is no response, and the body has begun."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.readexactly(100_000)
        writer.transport.abort()

    async with destination(close, tmp_path) as stow:
        exchange = await stow.send(large)
    assert isinstance(exchange, NoResponse)
    assert (exchange.cause, exchange.body_started) == (Cause.DISCONNECTED, True)


async def test_server_that_stalls(large: Batch, tmp_path: Path) -> None:
    """A server that accepts no more bytes is given up after the stall timeout."""
    may_end = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await may_end.wait()

    async with destination(stall, tmp_path, stall_timeout_s=0.3) as stow:
        exchange = await stow.send(large)
        may_end.set()
    assert isinstance(exchange, NoResponse)
    assert (exchange.cause, exchange.body_started) == (Cause.STALLED, True)


async def test_early_refusal(large: Batch, tmp_path: Path) -> None:
    """A refusal in the middle of a body ends it at once; the next request has a new connection and arrives whole."""
    keeper = Keeper()

    async def refuse_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if keeper.connections:
            await keeper(reader, writer)
        keeper.connections += 1
        await read_head(reader)
        await reader.readexactly(100_000)
        answer(writer, "413 Content Too Large", b"too large")
        await asyncio.Event().wait()  # the rest is never read

    async with destination(refuse_first, tmp_path) as stow:
        refused = await stow.send(large)
        assert await stow.send(large) == Response(200, STORED)
    assert isinstance(refused, Response)
    assert (refused.status, refused.body, refused.is_whole) == (413, b"too large", False)
    assert keeper.connections == 2
    keeper.check(large, 0)


async def test_refused_login(large: Batch, tmp_path: Path) -> None:
    """A 401 in the middle of a body is seen although the server reads no further."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.readexactly(100_000)
        answer(writer, "401 Unauthorized", b"")
        await asyncio.Event().wait()

    async with destination(refuse, tmp_path) as stow:
        with pytest.raises(LoginRefused):
            await stow.send(large)


async def test_stale_connection(large: Batch, tmp_path: Path) -> None:
    """If the server has closed a pooled connection meanwhile, the body is sent again on a new one."""
    keeper = Keeper()

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        keeper.connections += 1
        keeper.requests.append(await read_request(reader))
        answer(writer)
        if keeper.connections == 1:
            await read_head(reader)
            writer.transport.abort()

    async with destination(answer_once, tmp_path) as stow:
        first, second = await stow.send(large), await stow.send(large)
    assert first == Response(200, STORED)
    assert isinstance(second, Response)
    assert (second.status, second.is_replayed, keeper.connections) == (200, True, 2)
    keeper.check(large, 1)


async def test_file_that_changes_while_it_is_sent(large: Batch, tmp_path: Path) -> None:
    """A file that grows after its first bytes were sent ends the request, before its last byte."""
    path = Path(large.instances[1].candidate.location)
    sizes_bytes: list[int] = []

    class Grower:
        """Makes the file grow at the first bytes."""

        def tell(self, event: Event) -> None:
            """Add a byte."""
            if isinstance(event, BytesSent):
                with path.open("ab") as file:
                    file.write(b"x")

    async def take(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        sizes_bytes.append(int(head.headers["Content-Length"]))
        while piece := await reader.read(2**16):
            sizes_bytes[0] -= len(piece)

    async with peer(take, server_context(tmp_path)) as url:
        settings = DestinationSettings(url=url, ca_file=tmp_path / "ca.pem")
        async with FileStow(settings, reporter=Grower()) as stow:
            exchange = await stow.send(large)
    assert isinstance(exchange, SourceChanged)
    assert set(exchange.changed) == {large.instances[1].header.sop_instance_uid}
    assert sizes_bytes[0] > 0


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("openssl") is None, reason="needs the openssl command of OpenSSL 3"
)
@pytest.mark.parametrize(
    ("version", "commands"),
    [("-tls1_2", ["r", "r"]), ("-tls1_3", ["K", "k", "K"])],
    ids=["renegotiation", "key update"],
)
async def test_server_that_wants_other_keys(large: Batch, tmp_path: Path, version: str, commands: list[str]) -> None:
    """If the server renegotiates or updates its keys in the middle of a body, the body still arrives whole."""
    write_server_files(tmp_path)
    server = await asyncio.create_subprocess_exec(
        *("openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", str(tmp_path / "server.pem"), version),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    shown = b""  # the server shows what it decrypts, and now and then a line of its own
    try:
        with anyio.fail_after(PATIENCE_S):
            while (port := re.search(rb"ACCEPT 127.0.0.1:(\d+)\n", shown)) is None:
                shown += await server.stdout.readline()
            settings = DestinationSettings(url=f"https://localhost:{int(port[1])}/", ca_file=tmp_path / "ca.pem")
            async with FileStow(settings) as stow, anyio.create_task_group() as tasks:

                async def send() -> None:
                    exchange = await stow.send(large)
                    assert isinstance(exchange, Response)
                    assert (exchange.status, exchange.is_replayed) == (200, False)

                tasks.start_soon(send)
                pieces, size_bytes = [shown], 0
                while not re.search(rb"\r\n--\w{40}--\r\n", b"".join(pieces[-2:])):
                    pieces.append(await server.stdout.read(2**16))
                    size_bytes += len(pieces[-1])
                    if commands and size_bytes > 2**20:
                        size_bytes = 0
                        server.stdin.write(commands.pop().encode() + b"\n")
                server.stdin.write(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    finally:
        server.kill()
        await server.communicate()
    shown = re.sub(rb"SSL_do_handshake -> 1\n|Read BLOCK\n", b"", b"".join(pieces))
    assert not commands
    for instance in large.instances:
        assert Path(instance.candidate.location).read_bytes() in shown  # noqa: ASYNC240
