"""Claims about instances that are retrieved by WADO-RS, on real sockets."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from bulkstow.config import DestinationSettings
from bulkstow.destination.auth import Auth, NoLogin, login
from bulkstow.destination.authorized import AuthorizedClient
from bulkstow.destination.http import HttpClient
from bulkstow.destination.wado import MEDIA_TYPES, InstanceReceiver, Retriever
from bulkstow.model import Cause, NoResponse, Response
from tests.destination.peers import Request, answer, peer, read_head

pytestmark = pytest.mark.anyio

PATH = "/studies/2.25.1/series/2.25.1.1/instances/2.25.1.1.1"
INSTANCE = bytes(range(256)) * 4000
MULTIPART = 'Content-Type: multipart/related; type="application/dicom"; boundary=b'


def body(*parts: bytes, has_length: bool = True) -> bytes:
    """Return a multipart body."""
    framed = bytearray()
    for part in parts:
        length = b"Content-Length: %d\r\n" % len(part) if has_length else b""
        framed += b"\r\n--b\r\nContent-Type: application/dicom\r\n" + length + b"\r\n" + part
    return bytes(framed + b"\r\n--b--\r\n")


@dataclass
class Taken:
    """Keeps retrieved bytes; needs no more than `most_bytes`."""

    most_bytes: int = 2**40
    content: bytearray = field(default_factory=bytearray)
    ends: list[int] = field(default_factory=list)
    """The offsets at which instances end."""

    async def take(self, data: Sequence[memoryview]) -> bool:
        """Keep the bytes."""
        for piece in data:
            self.content += piece
        return len(self.content) < self.most_bytes

    async def end(self) -> bool:
        """Keep the length so far."""
        self.ends.append(len(self.content))
        return True


async def retrieve(
    url: str, receiver: InstanceReceiver, *, auth: Auth | None = None, settings: Mapping[str, float] | None = None
) -> Response | NoResponse:
    """Retrieve one instance from a server."""
    destination = DestinationSettings(url=url, **(settings or {}))  # type: ignore[arg-type]  # durations
    async with HttpClient(destination) as http:
        return await Retriever(AuthorizedClient(http, auth or NoLogin())).retrieve(PATH, receiver)


def chunked(content: bytes) -> bytes:
    """Return a response in chunks."""
    chunks = (content[at : at + 10_000] for at in range(0, len(content), 10_000))
    head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{MULTIPART}\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def plain(content: bytes, *headers: str) -> bytes:
    """Return a response with its length."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


GOOD = {
    "a part with its length": plain(body(INSTANCE), MULTIPART),
    "a part without its length": plain(body(INSTANCE, has_length=False), MULTIPART),
    "in chunks": chunked(body(INSTANCE)),
    "compressed": plain(gzip.compress(body(INSTANCE)), MULTIPART, "Content-Encoding: gzip"),
    "a single part": plain(INSTANCE, "Content-Type: application/dicom"),
    "with a transfer syntax": plain(INSTANCE, "Content-Type: application/dicom; transfer-syntax=1.2.840.10008.1.2"),
    "as a file": plain(INSTANCE, "Content-Type: application/octet-stream"),
    "preamble and epilogue": plain(b"preamble" + body(INSTANCE) + b"epilogue", MULTIPART),
}


@pytest.mark.parametrize("octets", GOOD.values(), ids=GOOD.keys())
async def test_an_instance_is_received_whole(octets: bytes) -> None:
    """Exactly the bytes of the instance are passed on, for every form of a server's response."""

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(octets)
        await reader.read()

    taken = Taken()
    async with peer(send) as url:
        exchange = await retrieve(url, taken)
    assert isinstance(exchange, Response)
    assert exchange.status == 200
    assert taken.content == INSTANCE
    assert taken.ends == [len(INSTANCE)]


@pytest.mark.parametrize("has_length", [True, False])
async def test_several_instances_are_received_one_after_the_other(has_length: bool) -> None:
    """Of a response with several instances, each is passed on, and its end."""

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(chunked(body(b"one", INSTANCE, b"", b"three", has_length=has_length)))
        await reader.read()

    taken = Taken()
    async with peer(send) as url:
        exchange = await retrieve(url, taken)
    assert isinstance(exchange, Response)
    assert taken.content == b"one" + INSTANCE + b"three"
    assert taken.ends == [3, 3 + len(INSTANCE), 3 + len(INSTANCE), 8 + len(INSTANCE)]


BAD = {
    "no instance": (plain(b"--b--\r\n", MULTIPART), "the body has no parts"),
    "without its end": (plain(body(INSTANCE)[:-20], MULTIPART), "the body ends in or after part 1"),
    "cut off between pieces": (plain(body(INSTANCE)[:-9], MULTIPART), "the body ends in or after part 1"),
    "cut off in the instance": (plain(body(INSTANCE)[:5000], MULTIPART), "the body ends in or after part 1"),
    "a web page": (plain(b"<html>", "Content-Type: text/html"), "expected multipart/related, found text/html"),
    "no type": (plain(body(INSTANCE)), "expected a Content-Type, found none"),
    "no boundary": (plain(body(INSTANCE), "Content-Type: multipart/related"), "the Content-Type has no boundary"),
}


@pytest.mark.parametrize(("octets", "detail"), BAD.values(), ids=BAD.keys())
async def test_a_malformed_answer_is_told(octets: bytes, detail: str) -> None:
    """An answer that is not one whole instance is a NoResponse with the reason."""

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(octets)
        await reader.read()

    async with peer(send) as url:
        exchange = await retrieve(url, Taken())
    assert isinstance(exchange, NoResponse)
    assert exchange.cause is Cause.MALFORMED
    assert exchange.detail.startswith(detail)


@pytest.mark.parametrize("octets", [GOOD["a part with its length"], GOOD["in chunks"], GOOD["compressed"]])
async def test_an_answer_that_breaks_off(octets: bytes) -> None:
    """A connection lost in the middle of an instance is a NoResponse, and the request is not repeated silently."""
    requests = 0

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_head(reader)
        requests += 1
        writer.transport.set_write_buffer_limits(0)  # all has left before the connection is closed
        writer.write(octets[: len(octets) // 2])
        await writer.drain()

    async with peer(send) as url:
        exchange = await retrieve(url, Taken())
    assert isinstance(exchange, NoResponse)
    assert (exchange.cause, requests) == (Cause.DISCONNECTED, 1)


async def test_a_pooled_connection_that_was_closed() -> None:
    """A request on a connection that the server has closed is repeated on a new one, but no instance that had begun."""
    connections = 0

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_head(reader)
        writer.write(GOOD["a single part"])
        await read_head(reader)
        if connections == 2:
            writer.transport.set_write_buffer_limits(0)
            writer.write(GOOD["a single part"][:5000])
            await writer.drain()

    taken = [Taken(), Taken(), Taken()]
    async with peer(send) as url, HttpClient(DestinationSettings(url=url)) as http:
        retriever = Retriever(AuthorizedClient(http, NoLogin()))
        first, second = await retriever.retrieve(PATH, taken[0]), await retriever.retrieve(PATH, taken[1])
        assert isinstance(first, Response)
        assert isinstance(second, Response)
        assert taken[0].content == taken[1].content == INSTANCE
        assert connections == 2
        third = await retriever.retrieve(PATH, taken[2])
        assert isinstance(third, NoResponse)
        assert (third.cause, connections) == (Cause.DISCONNECTED, 2)


@pytest.mark.parametrize(
    ("sent_bytes", "settings", "detail"),
    [
        (0, {"response_timeout_s": 0.05, "connect_timeout_s": 0.05}, ""),
        (5000, {"stall_timeout_s": 0.05}, "nothing more for 50ms"),
    ],
)
async def test_a_server_that_hangs(sent_bytes: int, settings: Mapping[str, float], detail: str) -> None:
    """A server that sends no response, or stops in the middle of an instance, is given up."""

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(GOOD["a single part"][:sent_bytes])
        await reader.read()

    async with peer(hang) as url:
        exchange = await retrieve(url, Taken(), settings=settings)
    assert exchange == NoResponse(Cause.UNANSWERED, body_started=False, detail=detail)


async def test_a_server_waits_for_the_receiver() -> None:
    """While the receiver is busy, no more than the buffers of the connection is received."""
    sent_bytes = 0
    is_full = asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent_bytes
        await read_head(reader)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {2**40}\r\nContent-Type: application/dicom\r\n\r\n".encode())
        while True:
            writer.write(bytes(2**16))
            try:
                await asyncio.wait_for(asyncio.shield(drained := asyncio.ensure_future(writer.drain())), 0.2)
            except TimeoutError:
                is_full.set()
                await drained
            sent_bytes += 2**16

    class Waiting(Taken):
        async def take(self, data: Sequence[memoryview]) -> bool:
            await is_full.wait()
            return False

    async with peer(pour) as url:
        exchange = await retrieve(url, Waiting())
    assert isinstance(exchange, Response)
    assert sent_bytes < 32 * 2**20


async def test_what_is_not_needed_is_not_received() -> None:
    """A receiver that needs no more ends the connection, and that is no failure."""
    is_closed = asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {2**40}\r\nContent-Type: application/dicom\r\n\r\n".encode())
        try:
            while True:
                writer.write(bytes(2**16))
                await writer.drain()
        finally:
            is_closed.set()

    async with peer(pour) as url:
        exchange = await retrieve(url, Taken(most_bytes=100_000))
        await is_closed.wait()
    assert isinstance(exchange, Response)
    assert exchange.status == 200


@dataclass
class Choosy:
    """A server that accepts one media type only."""

    accepted: str
    seen: list[str] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Respond to the requests of one connection."""
        while True:
            request = await read_head(reader)
            self.seen.append(request.headers["Accept"])
            if request.headers["Accept"] == self.accepted:
                writer.write(GOOD["a single part"])
            else:
                answer(writer, "406 Not Acceptable", b"no")


@pytest.mark.parametrize("accepted", MEDIA_TYPES)
async def test_another_media_type_is_tried(accepted: str) -> None:
    """After a 406 the next media type is requested; the one that the server accepts comes first from then on."""
    server, taken = Choosy(accepted), Taken()
    async with peer(server) as url, HttpClient(DestinationSettings(url=url)) as http:
        retriever = Retriever(AuthorizedClient(http, NoLogin()))
        await retriever.retrieve(PATH, Taken())
        tried = list(server.seen)
        await retriever.retrieve(PATH, taken)
    assert tried == list(MEDIA_TYPES[: MEDIA_TYPES.index(accepted) + 1])
    assert server.seen[len(tried) :] == [accepted]
    assert taken.content == INSTANCE


async def test_a_part_of_an_instance_is_no_message() -> None:
    """The body of a 206 is dropped, because a report must not quote content."""

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        answer(writer, "206 Partial Content", b"Nobody", "Content-Type: application/dicom")

    taken = Taken()
    async with peer(send) as url:
        exchange = await retrieve(url, taken)
    assert isinstance(exchange, Response)
    assert (exchange.status, exchange.body, bytes(taken.content)) == (206, b"", b"")


@pytest.mark.parametrize("status", [404, 406, 410, 500, 503])
async def test_other_statuses_are_responses(status: int) -> None:
    """Any status but 200 is a Response with the server's message, and nothing is passed on."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_head(reader)
            answer(writer, f"{status} No", b"the reason", "Retry-After: 7")

    taken = Taken()
    async with peer(refuse) as url:
        exchange = await retrieve(url, taken)
    assert isinstance(exchange, Response)
    assert (exchange.status, exchange.body, exchange.retry_after_s) == (status, b"the reason", 7)
    assert not taken.content


async def test_a_login_is_refreshed() -> None:
    """After a 401 the login is refreshed, and the instance requested again."""

    class Refreshing(NoLogin):
        token = "old"

        async def authorize(self, request: object) -> Mapping[str, str]:
            return {"Authorization": f"Bearer {self.token}"}

        async def refresh(self, refused: Mapping[str, str]) -> bool:
            self.token = "new"
            return True

    async def check(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request: Request = await read_head(reader)
            if request.headers["Authorization"] == "Bearer new":
                writer.write(GOOD["a single part"])
            else:
                answer(writer, "401 Unauthorized", b"")

    taken = Taken()
    async with peer(check) as url:
        exchange = await retrieve(url, taken, auth=Refreshing())
    assert isinstance(exchange, Response)
    assert taken.content == INSTANCE


async def test_secrets_in_a_refusal_are_masked() -> None:
    """A server that repeats our password does not get it into a message."""

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        answer(writer, "404 Not Found", b"no such thing for hunter22")

    async with peer(repeat) as url:
        settings = DestinationSettings(url=url, user="user")
        async with HttpClient(settings) as http:
            client = AuthorizedClient(http, login(settings, {"BULKSTOW_PASSWORD": "hunter22"}))
            exchange = await Retriever(client).retrieve(PATH, Taken())
    assert isinstance(exchange, Response)
    assert exchange.body == b"no such thing for ***"


async def test_received_bytes_wait_for_the_bandwidth() -> None:
    """Every received byte is admitted by the bandwidth limit before it is passed on."""

    class Limiter:
        admitted_bytes = 0

        async def admit(self, wanted_bytes: int) -> int:
            taken_bytes = min(wanted_bytes, 7000)
            self.admitted_bytes += taken_bytes
            return taken_bytes

        def give_back(self, size_bytes: int) -> None:
            raise AssertionError(size_bytes)

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(GOOD["a part with its length"])
        await reader.read()

    limiter = Limiter()
    seen: list[bool] = []

    class Checking(Taken):
        async def take(self, data: Sequence[memoryview]) -> bool:
            await super().take(data)
            seen.append(len(self.content) <= limiter.admitted_bytes)
            return True

    async with peer(send) as url, HttpClient(DestinationSettings(url=url)) as http:
        await Retriever(AuthorizedClient(http, NoLogin()), limiter).retrieve(PATH, Checking())
    assert all(seen)
    assert limiter.admitted_bytes == len(body(INSTANCE))
