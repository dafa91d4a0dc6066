"""Claims about good and bad responses of servers, on real sockets."""

from __future__ import annotations

import asyncio
import errno
import gzip
import ssl
import zlib
from pathlib import Path

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkstow.config import DestinationSettings
from bulkstow.destination.auth import login
from bulkstow.destination.bounded_connector import HEAD_BYTES
from bulkstow.destination.http import FIELD_BYTES, FIELDS
from bulkstow.destination.responses import reason_of
from bulkstow.errors import ConfigurationError
from bulkstow.model import Batch, Cause, Exchange, NoResponse, Response
from tests.archives import write_batch
from tests.destination.peers import STORED, answer, peer, read_request
from tests.stow import FileStow

pytestmark = pytest.mark.anyio


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """Give a batch of one small instance."""
    return write_batch(tmp_path / "archive", 1)


async def send(batch: Batch, octets: bytes, *, closes: bool = False) -> Exchange:
    """Send a batch to a server that responds with these bytes."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(octets)
        await (writer.drain() if closes else reader.read())

    async with peer(say) as url:
        settings = DestinationSettings(url=url, response_timeout_s=5)
        async with FileStow(settings, login(settings, {})) as stow:
            return await stow.send(batch)


def written(*fields: bytes, status: bytes = b"200 OK", body: bytes = STORED) -> bytes:
    """Return a response's bytes, with its length."""
    lines = (b"HTTP/1.1 " + status, *fields, b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"

GOOD = {
    "a head at the limit": written(*[b"X-%d: %b" % (n, b"y" * 100_000) for n in range(5)]),
    "long cookie": written(b"Set-Cookie: a=" + b"x" * 20_000),
    "long policy": written(b"Content-Security-Policy: " + b"default-src 'self'; " * 5000),
    "many fields": written(*[b"X-%d: y" % n for n in range(FIELDS - 10)]),
    "long reason phrase": written(status=b"200 " + b"O" * 20_000),
    "informational before": b"HTTP/1.1 100 Continue\r\n\r\n" + HINT * 3 + written(),
    "gzip": written(b"Content-Encoding: gzip", body=gzip.compress(STORED)),
    "deflate": written(b"Content-Encoding: deflate", body=zlib.compress(STORED)),
    "line feeds only": written().replace(b"\r\n", b"\n"),
    "folded field": written(b"X-Note: a\r\n b"),
    "nonsense in fields": written(
        b"Set-Cookie: \xff;;=;a\x01=b; Max-Age=" + b"9" * 5000, b"Date: Fri, 99", b"Content-Type: \xff;;charset=utf-99"
    ),
}


@pytest.mark.parametrize("octets", GOOD.values(), ids=GOOD.keys())
async def test_good_answer_is_not_lost(batch: Batch, octets: bytes) -> None:
    """A Store Instances Response is read whatever surrounds it."""
    exchange = await send(batch, octets)
    assert isinstance(exchange, Response)
    assert (exchange.status, exchange.body) == (200, STORED)


TOO_LONG = f"Got more than {FIELD_BYTES} bytes when reading"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

MALFORMED = {
    "field beyond the limit": (written(b"Warning: " + b"x" * (FIELD_BYTES + 1)), TOO_LONG),
    "endless field": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**21, TOO_LONG),
    "fields beyond the limit": (written(*[b"X-%d: y" % n for n in range(FIELDS + 1)]), "Too many headers received"),
    "head beyond the limit": (
        written(*[b"X-%d: %b" % (n, b"y" * 100_000) for n in range(12)]),
        f"Got more than {HEAD_BYTES} bytes of headers",
    ),
    "unknown coding": (written(b"Content-Encoding: br"), "Can not decode content-encoding"),
    "wrong coding": (written(b"Content-Encoding: gzip"), "Can not decode content-encoding"),
    "length is no number": (written().replace(b"Length: 3", b"Length: x3"), "Invalid character in Content-Length"),
    "length is too short": (written().replace(b"Length: 35", b"Length: 3"), "Bad status line"),
    "chunk size is no number": (CHUNKED + b"zz\r\n" + STORED, "Invalid character in chunk size"),
    "chunk size overflows": (CHUNKED + b"F" * 40 + b"\r\n" + STORED, "Chunk size overflow"),
    "no colon": (written(b"nonsense"), "Invalid header token"),
    "NUL in a field": (written(b"X: a\0b"), "Invalid HTTP header"),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", "Bad status line"),
    "switching protocols": (
        b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        "HTTP status 101",
    ),
    "status zero": (written(status=b"000 x"), "HTTP status 000"),
}


@pytest.mark.parametrize(("octets", "detail"), MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_answer_is_told(batch: Batch, octets: bytes, detail: str) -> None:
    """A response that cannot be read is a NoResponse with its reason in one line, never a success."""
    exchange = await send(batch, octets)
    assert isinstance(exchange, NoResponse)
    assert (exchange.cause, exchange.body_started) == (Cause.MALFORMED, True)
    assert exchange.detail.startswith(detail)
    assert exchange.detail.isprintable()
    assert "b'" not in exchange.detail


async def test_chunked_answer_without_its_end(batch: Batch) -> None:
    """A chunked response without its last chunk is a lost connection."""
    exchange = await send(batch, CHUNKED + b"%x\r\n%b\r\n" % (len(STORED), STORED), closes=True)
    assert isinstance(exchange, NoResponse)
    assert exchange.cause is Cause.DISCONNECTED


async def test_inflated_size_is_bounded(batch: Batch) -> None:
    """The limit applies to the decompressed response."""
    bomb = gzip.compress(bytes(2**26))
    exchange = await send(batch, written(b"Content-Encoding: gzip", body=bomb))
    assert isinstance(exchange, NoResponse)
    assert exchange.cause is Cause.OVERLONG


KEY = ConnectionKey("localhost", 443, True, True, None, None, None)  # noqa: FBT003 - aiohttp's


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (aiohttp.ConnectionTimeoutError("http://me:s3cret@h"), "no connection in time"),
        (aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNREFUSED, "('::1', 1)")), "Connection refused"),
        (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "[SSL] some words")), "[SSL] some words"),
    ],
)
def test_reason_of_an_exception_of_aiohttp(error: aiohttp.ClientError, expected: str) -> None:
    """The reason inside an exception of aiohttp is given without the URL."""
    assert expected in reason_of(error)
    assert "s3cret" not in reason_of(error)


async def test_octets_behind_an_answer_are_no_answer(batch: Batch) -> None:
    """Bytes after a response are not the response to the next request, which is repeated on a new connection."""
    may_babble = asyncio.Event()
    connections = 0

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        answer(writer)
        if connections == 1:
            await may_babble.wait()
            writer.write(b"garbage\r\n\r\n")
        await reader.read()

    async with peer(babble) as url:
        settings = DestinationSettings(url=url)
        async with FileStow(settings, login(settings, {})) as stow:
            first = await stow.send(batch)
            may_babble.set()
            second = await stow.send(batch)
    assert first == Response(200, STORED)
    assert isinstance(second, Response)
    assert (second.body, connections) == (STORED, 2)


_FIELDS = st.lists(
    st.tuples(
        st.sampled_from(
            b"Retry-After Content-Type Location Warning Set-Cookie Content-Encoding Date Connection Keep-Alive".split()
        ),
        st.binary(max_size=40)
        | st.sampled_from([b"Fri, 31 Dec 9999 23:59:59 -1200", b"9" * 400, b"a=b; Max-Age=" + b"9" * 400, b"http://["])
        | st.from_regex(rb"[a-z]+=[0-9]{1,400}; Expires=[A-Z][a-z]{2}, [0-9]{1,9} Dec [0-9]{1,9}", fullmatch=True),
    ),
    max_size=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=_FIELDS, status=st.sampled_from([b"200 OK", b"302 Found", b"503 x", b"\xff"]))
def test_any_fields_end_in_a_value(batch: Batch, fields: list[tuple[bytes, bytes]], status: bytes) -> None:
    """With any header fields, the exchange ends as a value whose texts can be encoded."""
    lines = [name + b": " + value.translate(None, b"\r\n") for name, value in fields]
    exchange = asyncio.run(send(batch, written(*lines, status=status), closes=True))
    match exchange:
        case Response():
            f"{exchange.warning}{exchange.location}{exchange.content_type}".encode()
        case NoResponse():
            assert exchange.detail.isprintable()
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "302 Found", "503 Service Unavailable"])
async def test_a_server_that_repeats_our_secrets(batch: Batch, status: str) -> None:
    """The server's text about a request is kept, without the credentials in it: in body and fields."""

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers = (await read_request(reader)).headers
        told = f"bad request: {headers['Authorization']} user:hunter22 {headers['X-Api-Key']} {headers['x-tenant']}"
        warning = f"Warning: 299 - {headers['X-Api-Key']} hunter22"
        answer(writer, status, told.encode(), warning, f"Location: http://user:hunter22@h/?k={headers['X-Api-Key']}")

    given = ("X-Api-Key: k3y-of-mine", "x-tenant: 42")
    async with peer(repeat) as url:
        settings = DestinationSettings(url=url, header=given, user="user")
        async with FileStow(settings, login(settings, {"BULKSTOW_PASSWORD": "hunter22"})) as stow:
            exchange = await stow.send(batch)
    assert isinstance(exchange, Response)
    assert exchange.body == b"bad request: *** *** *** 42"
    assert exchange.warning == "299 - *** ***"
    assert exchange.location == "http://***@h/?k=***"


async def test_secrets_in_a_malformed_answer(batch: Batch) -> None:
    """The reason why a response cannot be read repeats none of its bytes."""
    settings = DestinationSettings(url="http://h", header=("X-Api-Key: k3y-of-mine",))
    exchange = await send(batch, b"HTTP/1.1 200 OK\r\nk3y-of-mine\r\n\r\n")
    assert isinstance(exchange, NoResponse)
    assert "k3y" not in exchange.detail
    assert "k3y" not in repr(settings)


async def seen_by_server(batch: Batch, **changes: object) -> list[dict[str, str]]:
    """Store a batch and search it; return the headers of both requests as the server received them."""
    seen: list[dict[str, str]] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append((await read_request(reader)).headers)
            answer(writer)

    async with peer(take) as url:
        settings = DestinationSettings(url=url, **changes)  # type: ignore[arg-type]
        async with FileStow(settings, login(settings, {})) as stow:
            await stow.send(batch)
            await stow.find(batch.instances)
    return seen


async def test_headers_of_the_user_are_sent(batch: Batch) -> None:
    """The server gets the user's headers once each; only QIDO-RS always requests JSON."""
    given = ("accept: application/dicom+xml", "cookie: a=1; b=2", "user-agent: curl/8", "X-Tenant: 42")
    store, query = await seen_by_server(batch, header=given)
    sent = [{name.lower(): value for name, value in headers.items()} for headers in (store, query)]
    assert sent[0]["accept"] == "application/dicom+xml"
    assert sent[1]["accept"] == "application/dicom+json"
    for headers in sent:
        assert (headers["cookie"], headers["user-agent"], headers["x-tenant"]) == ("a=1; b=2", "curl/8", "42")
    assert len(store) == len(sent[0])


async def test_headers_of_a_file_are_sent(batch: Batch, tmp_path: Path) -> None:
    """Each line with text of --header-file is a header of every request, in addition to those of --header."""
    (tmp_path / "headers").write_bytes(b"\xef\xbb\xbfX-Api-Key: k3y\r\n\r\nX-Note: gr\xc3\xbcn\r\n")
    for headers in await seen_by_server(batch, header_file=tmp_path / "headers", header=("X-Tenant: 42",)):
        assert (headers["X-Api-Key"], headers["X-Note"], headers["X-Tenant"]) == ("k3y", "grün", "42")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "--header-file {path}: cannot be read (No such file or directory)"),
        (b"", "--header-file {path}: holds no header; expected 'Name: value' a line"),
        (b"X-A: 1\ns3cret\n", "--header-file {path}, header number 2: expected 'Name: value' on one line"),
        (
            b"Content-Length: 3",
            "--header-file {path}, header Content-Length: cannot be set, as bulkstow sets it itself",
        ),
        (b"X-Tenant: s3cret", "--header X-Tenant: --header-file has it too; leave out one of them"),
        (b"X-Key: s3cret \xff", "--header-file {path}: cannot be read (not UTF-8)"),
        (b"authorization: Bearer s3cret", "the header Authorization: one login at a time"),
    ],
)
async def test_header_file_that_cannot_be_used(tmp_path: Path, content: bytes | None, message: str) -> None:
    """The message names the file and the line, and repeats nothing of it."""
    path = tmp_path / "headers"
    if content is not None:
        path.write_bytes(content)
    settings = DestinationSettings(url="http://h", header_file=path, header=("x-tenant: 42",), user="me")
    with pytest.raises(ConfigurationError) as caught:
        FileStow(settings, login(settings, {"BULKSTOW_PASSWORD": "x"}))
    assert str(caught.value).startswith(message.format(path=path))
    assert "s3cret" not in str(caught.value)


async def test_all_of_a_header_file_is_secret(batch: Batch, tmp_path: Path) -> None:
    """All values of --header-file are masked."""
    (tmp_path / "headers").write_text("x-tenant: 1234567890-abc\n")

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tenant = (await read_request(reader)).headers["x-tenant"]
        answer(writer, "400 Bad Request", f"no tenant {tenant}".encode())

    async with peer(repeat) as url:
        settings = DestinationSettings(url=url, header_file=tmp_path / "headers")
        async with FileStow(settings, login(settings, {})) as stow:
            exchange = await stow.send(batch)
    assert isinstance(exchange, Response)
    assert exchange.body == b"no tenant ***"
