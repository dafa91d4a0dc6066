"""Claims about one exchange, on real sockets, with peers that misbehave."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import anyio
import pytest
import trustme

from bulkstow.blocking import ReadLimit
from bulkstow.config import DestinationSettings
from bulkstow.destination.auth import Bearer, Token, login
from bulkstow.destination.http import ERROR_LIMIT_BYTES
from bulkstow.destination.qido import PAGE_LIMIT_BYTES
from bulkstow.destination.stow import RESPONSE_BYTES_PER_INSTANCE, StowDestination
from bulkstow.errors import ConfigurationError, DestinationRefused, LoginRefused, StorageGone
from bulkstow.events import BytesSent, Event, Reporters, RequestTimed
from bulkstow.model import Batch, Cause, NoResponse, Response, SourceChanged
from bulkstow.source import files
from bulkstow.source.windows import open_file
from tests.archives import write_batch
from tests.destination.peers import STORED, Request, answer, peer, read_head, read_request
from tests.stow import FileStow

pytestmark = pytest.mark.anyio

PATIENCE_S = 20.0


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """Give a batch of three small instances."""
    return write_batch(tmp_path / "archive", 3)


@pytest.fixture
def large(tmp_path: Path) -> Batch:
    """Give a batch of 24 MB, more than the sockets' buffers hold."""
    return write_batch(tmp_path / "archive", 2, rows=4000, columns=3000)


@asynccontextmanager
async def destination(
    url: str, environment: Mapping[str, str] | None = None, **changes: object
) -> AsyncIterator[StowDestination]:
    """Give a destination with default settings except for `changes`."""
    settings = DestinationSettings(url=url, **changes)  # type: ignore[arg-type]
    async with FileStow(settings, login(settings, environment or {})) as opened:
        yield opened


async def test_request_is_as_the_standard_has_it(batch: Batch) -> None:
    """Method, path, media types, exact length, the user's headers: what PS3.18 §10.5.1 asks for, and no encoding."""
    seen: list[Request] = []

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        answer(writer)

    async with peer(store) as url, destination(url, header=("x-tenant: 1234567890",)) as stow:
        exchange = await stow.send(batch)

    (request,) = seen
    boundary = request.headers["Content-Type"].rpartition("=")[2]
    assert exchange == Response(200, STORED)
    assert request.line == "POST /dicom-web/studies HTTP/1.1"
    assert request.headers["Content-Type"] == f'multipart/related; type="application/dicom"; boundary={boundary}'
    assert boundary.isalnum()
    assert len(boundary) == 40
    assert request.headers["Accept"] == "application/dicom+json"
    assert request.headers["x-tenant"] == "1234567890"
    assert int(request.headers["Content-Length"]) == len(request.body)
    assert "Content-Encoding" not in request.headers
    assert request.body.count(f"--{boundary}\r\n".encode()) == 3
    for instance in batch.instances:
        assert Path(instance.candidate.location).read_bytes() in request.body  # noqa: ASYNC240


async def test_chunked_and_quoted_on_demand(batch: Batch) -> None:
    """With these options there is no Content-Length, and the boundary is in quotes."""
    seen: list[Request] = []

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        answer(writer)

    async with peer(store) as url, destination(url, chunked=True, quote_boundary=True) as stow:
        assert await stow.send(batch) == Response(200, STORED)

    (request,) = seen
    assert request.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in request.headers
    assert request.headers["Content-Type"].endswith('"')
    assert len(request.body) > batch.size_bytes


async def test_boundary_is_fresh_every_time(batch: Batch) -> None:
    """No two requests share a boundary."""
    seen: list[str] = []

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append((await read_request(reader)).headers["Content-Type"])
            answer(writer)

    async with peer(store) as url, destination(url) as stow:
        for _ in range(5):
            await stow.send(batch)
    assert len(set(seen)) == 5


async def test_early_answer_is_heard(large: Batch) -> None:
    """A 413 that arrives before the body is sent is the response, and the rest of the body is not sent."""
    left_bytes: list[int] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        answer(writer, "413 Content Too Large", b"<html>", "Connection: close")
        left_bytes.append(len(await reader.read()))

    async with peer(refuse) as url, destination(url) as stow:
        exchange = await stow.send(large)

    assert isinstance(exchange, Response)
    assert (exchange.status, exchange.body, exchange.is_whole) == (413, b"<html>", False)
    assert left_bytes == [] or left_bytes[0] < large.size_bytes


@pytest.mark.parametrize("hears_out", [False, True], ids=["closed at the first byte", "closed after the last"])
async def test_connection_closed_while_idle_is_replayed(batch: Batch, hears_out: bool) -> None:
    """A pooled connection that the server closes costs nothing: the request is repeated on a new one, and marked."""
    requests = 0

    async def store_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_request(reader)
        requests += 1
        answer(writer)  # keep-alive by HTTP/1.1, and then closed without a word
        await (read_request(reader) if hears_out else reader.read(1))

    async with peer(store_once) as url, destination(url) as stow:
        results = [await stow.send(batch) for _ in range(3)]

    responses = [exchange for exchange in results if isinstance(exchange, Response)]
    assert len(responses) == requests == 3
    # The replay is on a connection that is not kept, so the third request has a new one from the start.
    assert not responses[0].is_replayed
    assert not responses[2].is_replayed
    if hears_out:
        assert responses[1].is_replayed


async def test_stalled_peer_is_left(large: Batch) -> None:
    """A server that accepts no bytes is given up after the stall timeout."""

    async def freeze(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await asyncio.Event().wait()

    async with peer(freeze) as url, destination(url, stall_timeout_s=0.2, connect_timeout_s=0.1) as stow:
        assert await stow.send(large) == NoResponse(Cause.STALLED, body_started=True)


async def test_silent_peer_is_left(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has the whole body and does not respond is given up after the response timeout."""
    monkeypatch.setattr("bulkstow.destination.request_timer.RESPONSE_S_PER_INSTANCE", 0)

    async def ponder(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.Event().wait()

    async with peer(ponder) as url, destination(url, response_timeout_s=0.2) as stow:
        assert await stow.send(batch) == NoResponse(Cause.UNANSWERED, body_started=True)


async def test_trickled_answer_is_ended(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A response that arrives byte by byte gains no time by each of them."""
    monkeypatch.setattr("bulkstow.destination.request_timer.RESPONSE_S_PER_INSTANCE", 0)

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)  # the peer's slowness is what is tested

    async with peer(trickle) as url, destination(url, response_timeout_s=0.3) as stow:
        assert await stow.send(batch) == NoResponse(Cause.UNANSWERED, body_started=True)


async def test_slow_but_living_peer_is_not_ended(large: Batch) -> None:
    """A server that takes longer than the stall timeout in all, but never pauses so long, is fine: no deadline."""

    async def sip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_head(reader)
        left_bytes = int(request.headers["Content-Length"])
        while left_bytes:
            left_bytes -= len(await reader.read(min(left_bytes, 2**20)))
            await asyncio.sleep(0.02)  # the peer's slowness is what is tested
        answer(writer)

    async with peer(sip) as url, destination(url, stall_timeout_s=0.25) as stow:
        assert await stow.send(large) == Response(200, STORED)


async def test_a_login_refused_at_the_start_is_told_in_the_servers_words() -> None:
    """The server's text about a 401 follows bulkstow's own advice."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        answer(writer, "401 Unauthorized", b'{"error":"invalid_token","error_description":"the token has expired"}')

    async with peer(refuse) as url, destination(url) as stow:
        with pytest.raises(LoginRefused, match="the server says: invalid_token: the token has expired"):
            await stow.reach()


async def test_an_answer_longer_than_its_batch_explains_is_ended(batch: Batch) -> None:
    """The limit of a response grows with the request's instances: up to it a response is read, beyond it given up."""
    limit_bytes = ERROR_LIMIT_BYTES + RESPONSE_BYTES_PER_INSTANCE * len(batch.instances)
    lengths = iter((limit_bytes, limit_bytes + 1))

    async def gush(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        answer(writer, body=b"x" * next(lengths))

    async with peer(gush) as url, destination(url) as stow:
        whole, beyond = await stow.send(batch), await stow.send(batch)
    assert isinstance(whole, Response)
    assert len(whole.body) == limit_bytes
    assert beyond == NoResponse(Cause.OVERLONG, body_started=True, detail=f"more than {limit_bytes} bytes")


async def test_an_endless_answer_to_a_question_is_ended(batch: Batch) -> None:
    """A probe and a page of QIDO-RS have limits of their own."""

    limits = ERROR_LIMIT_BYTES, PAGE_LIMIT_BYTES
    lengths = iter(limits)

    async def gush(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        answer(writer, body=b"x" * (next(lengths) + 1))
        await writer.drain()

    async with peer(gush) as url, destination(url) as stow:
        probed, found = await stow.probe(), await stow.find(batch.instances)
    details = tuple(f"more than {limit} bytes" for limit in limits)
    assert (probed, found) == tuple(NoResponse(Cause.OVERLONG, body_started=False, detail=d) for d in details)


async def test_reset_in_the_body(large: Batch) -> None:
    """A connection reset while the body is sent may have stored something."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.read(100_000)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async with peer(reset) as url, destination(url) as stow:
        exchange = await stow.send(large)
    assert isinstance(exchange, NoResponse)
    assert (exchange.cause, exchange.body_started) == (Cause.DISCONNECTED, True)


@pytest.mark.parametrize(
    ("response", "cause"),
    [
        (b"", Cause.DISCONNECTED),
        (b"HTTP/1.1 200 OK\r\nContent-Le", Cause.DISCONNECTED),
        (b"220 mail.example ESMTP\r\n", Cause.MALFORMED),
    ],
)
async def test_no_proper_answer(batch: Batch, response: bytes, cause: Cause) -> None:
    """No response, or one cut off in its head, is a lost connection; one that is not HTTP is malformed."""

    async def mumble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(response)

    async with peer(mumble) as url, destination(url) as stow:
        exchange = await stow.send(batch)
    assert isinstance(exchange, NoResponse)
    assert (exchange.cause, exchange.body_started) == (cause, True)


async def test_truncated_answer(batch: Batch) -> None:
    """A response shorter than its Content-Length is a lost connection."""

    async def truncate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + STORED)

    async with peer(truncate) as url, destination(url) as stow:
        exchange = await stow.send(batch)
    assert isinstance(exchange, NoResponse)
    assert exchange.cause is Cause.DISCONNECTED


def free_port() -> int:
    """Return a port on which no process listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def test_nobody_there(batch: Batch) -> None:
    """A refused connection has a cause of its own: nothing was sent."""
    url = f"http://127.0.0.1:{free_port()}/dicom-web"
    async with destination(url) as stow:
        assert await stow.send(batch) == NoResponse(Cause.UNREACHABLE, body_started=False, detail="Connection refused")
        with pytest.raises(DestinationRefused, match=f"cannot connect to {url}: Connection refused; is the server"):
            await stow.reach()


async def test_redirect_is_not_followed(batch: Batch) -> None:
    """Credentials and patient data are sent to no other host than the one that the user named."""
    elsewhere: list[Request] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        elsewhere.append(await read_request(reader))
        answer(writer)

    async with peer(listen) as other:

        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            answer(writer, "307 Temporary Redirect", b"", f"Location: {other}/studies")

        async with peer(redirect) as url, destination(url, {"BULKSTOW_BEARER": "abc"}) as stow:
            exchange = await stow.send(batch)

    assert exchange == Response(307, b"", location=f"{other}/studies")
    assert elsewhere == []


async def test_401_is_replayed_once_with_a_fresh_token(batch: Batch) -> None:
    """After a 401 the token is read again, and the whole body sent again with it."""
    seen: list[Request] = []

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await read_request(reader))
            good = seen[-1].headers["Authorization"] == "Bearer new"
            answer(writer, "200 OK" if good else "401 Unauthorized")

    tokens = iter(["old", "new"])
    async with peer(store) as url:
        settings = DestinationSettings(url=url)
        async with FileStow(settings, Bearer(lambda: Token(next(tokens)))) as stow:
            exchange = await stow.send(batch)

    assert exchange == Response(200, STORED)
    assert [request.headers["Authorization"] for request in seen] == ["Bearer old", "Bearer new"]
    assert len(seen[0].body) == len(seen[1].body)


async def test_401_without_another_token(batch: Batch) -> None:
    """Without a new secret a 401 stops the run, also before a file is read."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            answer(writer, "401 Unauthorized", b"")

    async with peer(refuse) as url, destination(url, {"BULKSTOW_PASSWORD": "hunter2"}, user="a") as stow:
        with pytest.raises(LoginRefused, match="refuses our login"):
            await stow.send(batch)
        with pytest.raises(LoginRefused, match="refuses our login") as error:
            await stow.reach()
    assert "hunter2" not in str(error.value)


async def test_changed_file_breaks_the_request_off(batch: Batch) -> None:
    """A file that is not what the scan found ends the connection before the request is complete."""
    complete: list[bool] = []

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await read_request(reader)
            complete.append(True)
        except asyncio.IncompleteReadError:
            complete.append(False)
        answer(writer)

    bad = batch.instances[1]
    os.truncate(bad.candidate.location, 10)
    async with peer(store) as url, destination(url) as stow:
        exchange = await stow.send(batch)

    reason = f"changed while it was sent: {bad.candidate.size_bytes} bytes at the scan, now 10"
    assert isinstance(exchange, SourceChanged)
    assert exchange.changed == {bad.header.sop_instance_uid: reason}
    assert not any(complete)


@pytest.mark.parametrize("chunked", [False, True], ids=["sendfile", "copied"])
async def test_file_changed_before_the_response(batch: Batch, chunked: bool) -> None:
    """Bytes that sendfile sent are the file's until the server has them, so a later change is reported; copied ones
    were compared when they were read."""
    changed = batch.instances[1]

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        os.truncate(changed.candidate.location, 1)
        answer(writer)

    async with peer(store) as url, destination(url, chunked=chunked) as stow:
        exchange = await stow.send(batch)
    assert isinstance(exchange, Response)
    assert exchange.is_whole
    assert set(exchange.changed) == (set() if chunked else {changed.header.sop_instance_uid})


async def test_proxy_of_the_environment(batch: Batch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """HTTP_PROXY and NO_PROXY apply, and no login is taken from ~/.netrc."""
    seen: list[Request] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        answer(writer)

    (tmp_path / ".netrc").write_text("machine archive.example login a password b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    async with peer(relay) as proxy:
        monkeypatch.setenv("http_proxy", proxy.removesuffix("/dicom-web"))
        monkeypatch.delenv("no_proxy", raising=False)
        async with destination("http://archive.example/dicom-web") as stow:
            assert await stow.send(batch) == Response(200, STORED)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with destination(f"http://127.0.0.1:{free_port()}/dicom-web") as stow:
            exchange = await stow.send(batch)

    assert [request.line for request in seen] == ["POST http://archive.example/dicom-web/studies HTTP/1.1"]
    assert "Authorization" not in seen[0].headers
    assert isinstance(exchange, NoResponse)
    assert exchange.cause is Cause.UNREACHABLE


async def test_plain_http_behind_an_https_url(batch: Batch) -> None:
    """The message for a port without TLS says so, and does not blame the certificate."""

    async def puzzled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        answer(writer, "400 Bad Request", b"")

    async with peer(puzzled) as url, destination(url.replace("http://", "https://")) as stow:
        with pytest.raises(DestinationRefused, match=r"does not speak TLS on this port; try http://") as error:
            await stow.reach()
    assert "certificate" not in str(error.value)


class Authority:
    """A certificate authority, and files of what it issued."""

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self.server)
        self.ca_file = directory / "ca.pem"
        self.client_file = directory / "client.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        authority.issue_cert("somebody@example.org").private_key_and_cert_chain_pem.write_to_path(str(self.client_file))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Give an authority that no system trusts."""
    return Authority(tmp_path_factory.mktemp("ca"))


async def store_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request."""
    while True:
        await read_request(reader)
        answer(writer)


async def test_untrusted_certificate_stops(batch: Batch, authority: Authority) -> None:
    """A certificate that is not trusted stops the run, with the remedy in the message."""
    async with peer(store_all, authority.server) as url, destination(url) as stow:
        with pytest.raises(DestinationRefused, match=r"not trusted here: .*--ca-file .*--insecure sends"):
            await stow.send(batch)


async def test_certificate_of_another_host_stops(batch: Batch, authority: Authority) -> None:
    """A certificate for another name is reported as such, with the expected name."""
    async with peer(store_all, authority.server) as url:
        other = url.replace("localhost", "127.0.0.1")
        async with destination(other, ca_file=authority.ca_file) as stow:
            with pytest.raises(DestinationRefused, match=r"is for another address: .*127\.0\.0\.1"):
                await stow.send(batch)


async def test_expired_certificate_stops(batch: Batch, tmp_path: Path) -> None:
    """A certificate that has expired is reported as such."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    expired = datetime(2001, 1, 1, tzinfo=UTC)
    authority.issue_cert("localhost", not_before=datetime(2000, 1, 1, tzinfo=UTC), not_after=expired).configure_cert(
        server
    )
    async with peer(store_all, server) as url, destination(url, ca_file=tmp_path / "ca.pem") as stow:
        with pytest.raises(DestinationRefused, match="has expired: have the server's certificate renewed"):
            await stow.send(batch)


async def test_trusted_by_choice(batch: Batch, authority: Authority) -> None:
    """A given authority is trusted; --insecure trusts every certificate."""
    async with peer(store_all, authority.server) as url:
        async with destination(url, ca_file=authority.ca_file) as stow:
            assert await stow.send(batch) == Response(200, STORED)
        async with destination(url, insecure=True) as stow:
            assert await stow.send(batch) == Response(200, STORED)


async def test_client_certificate(batch: Batch, authority: Authority) -> None:
    """A client certificate is sent to a server that requires one."""
    asking = authority.server
    asking.verify_mode = ssl.CERT_REQUIRED
    asking.load_verify_locations(authority.ca_file)
    try:
        async with (
            peer(store_all, asking) as url,
            destination(url, ca_file=authority.ca_file, client_cert=authority.client_file) as stow,
        ):
            assert await stow.send(batch) == Response(200, STORED)
    finally:
        asking.verify_mode = ssl.CERT_NONE


@pytest.mark.parametrize("changes", [{"ca_file": Path("/nope")}, {"client_cert": Path(__file__)}], ids=["ca", "client"])
async def test_certificates_that_cannot_be_loaded(changes: dict[str, object]) -> None:
    """A certificate file that does not exist or contains none is a configuration error that names it."""
    settings = DestinationSettings(url="https://localhost/", **changes)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=f"certificates {next(iter(changes.values()))} cannot be loaded"):
        FileStow(settings, login(settings, {}))


async def test_large_body_over_tls(large: Batch, tmp_path: Path) -> None:
    """Over TLS a body larger than all buffers arrives whole: no write waits for ever."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    received_bytes: list[int] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received_bytes.append(len((await read_request(reader)).body))
        answer(writer)

    with anyio.fail_after(PATIENCE_S):
        async with peer(take, server) as url, destination(url, ca_file=tmp_path / "ca.pem") as stow:
            exchange = await stow.send(large)

    assert isinstance(exchange, Response)
    assert received_bytes[0] > large.size_bytes


async def test_answer_that_is_faster_than_our_thread_keeps_the_connection(batch: Batch) -> None:
    """A server that responds at once, request after request, gets one connection."""
    connections = 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_request(reader)
            answer(writer)

    async with peer(take) as url, destination(url) as stow:
        results = [await stow.send(batch) for _ in range(50)]

    assert all(isinstance(exchange, Response) and not exchange.is_replayed for exchange in results)
    assert connections == 1


async def test_time_of_a_request_is_accounted_for(large: Batch) -> None:
    """A request's timing is reported once: its parts are no more than the whole, and a slow server shows in it."""
    events: list[Event] = []
    may_read, may_answer = asyncio.Event(), asyncio.Event()

    async def dawdle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await may_read.wait()
        await read_request(reader)
        await may_answer.wait()
        answer(writer)

    class Witness:
        """Keeps all events, and signals the first bytes."""

        def __init__(self) -> None:
            self.taken = asyncio.Event()

        def tell(self, event: Event) -> None:
            """Keep an event."""
            events.append(event)
            self.taken.set()

    witness = Witness()
    async with peer(dawdle) as url:
        settings = DestinationSettings(url=url)
        async with (
            FileStow(
                settings,
                reporter=witness,
            ) as stow,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(stow.send, large)
            await witness.taken.wait()
            may_read.set()
            may_answer.set()

    (one,) = (event.timing for event in events if isinstance(event, RequestTimed))
    assert sum(event.size_bytes for event in events if isinstance(event, BytesSent)) > large.size_bytes
    parts_s = one.connecting_s + one.reading_s + one.sending_s + one.waiting_s
    assert min(one.connecting_s, one.reading_s, one.sending_s, one.waiting_s) >= 0
    assert 0 <= one.receive_window_s <= one.sending_s
    assert one.sending_s > 0
    assert parts_s <= one.elapsed_s


async def test_slow_disk_is_not_a_stalled_server(large: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes longer than the stall timeout is not counted as a stalled server."""
    send = os.sendfile
    may_read = threading.Event()

    def wait_for_disk(*arguments: int) -> int:
        may_read.wait()
        return send(*arguments)

    monkeypatch.setattr(os, "sendfile", wait_for_disk)

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        answer(writer)

    async with (
        peer(take) as url,
        destination(url, stall_timeout_s=0.4, connect_timeout_s=0.4) as stow,
        anyio.create_task_group() as tasks,
    ):

        async def have_patience() -> None:
            await anyio.sleep(1.0)  # the disk's slowness is what is tested
            may_read.set()

        tasks.start_soon(have_patience)
        exchange = await stow.send(large)
    assert isinstance(exchange, Response)
    assert exchange.status == 200


async def test_disk_that_gives_nothing_spoils_its_file(large: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs for ever ends the request, and the reason names the current file, not the server."""
    may_end = threading.Event()
    monkeypatch.setattr(os, "sendfile", lambda *_: may_end.wait() and 0)

    async def take(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async with (
        peer(take) as url,
        FileStow(DestinationSettings(url=url), login(DestinationSettings(url=url), {}), limit=ReadLimit(0.2)) as stow,
    ):
        exchange = await stow.send(large)
        may_end.set()
    assert isinstance(exchange, SourceChanged)
    ((uid, reason),) = exchange.changed.items()
    assert uid == large.instances[0].header.sop_instance_uid
    assert "cannot be read: the storage has not answered for" in reason


class NoMoreReads(Executor):
    """Threads of which too many hang: nothing more is read."""

    def submit(self, *_: object, **__: object) -> NoReturn:
        """Refuse."""
        raise StorageGone("too many reads hang")


@pytest.mark.parametrize("chunked", [False, True], ids=["sendfile", "copied"])
async def test_storage_that_is_gone_ends_the_run(batch: Batch, chunked: bool) -> None:
    """It is not reported as a lost connection, which would be retried and blamed on the server."""

    async def take(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async with peer(take) as url:
        settings = DestinationSettings(url=url, chunked=chunked)
        async with StowDestination(
            settings,
            login(settings, {}),
            source=files.FileSource(),
            readers=NoMoreReads(),
            limit=ReadLimit(60),
            reporter=Reporters(()),
        ) as stow:
            with pytest.raises(StorageGone, match="too many reads hang"):
                await stow.send(batch)


def spoil(path: Path) -> None:
    """Put a directory in a file's place: it can be opened, and reading it fails, as with a bad sector."""
    path.unlink()
    path.mkdir()


def shorten(path: Path) -> None:
    """Replace a file's content."""
    path.write_bytes(b"short")


@pytest.mark.parametrize("side", [16, 1100], ids=["small", "large"])
async def test_disk_that_fails_spoils_its_file(tmp_path: Path, side: int) -> None:
    """An error of the disk is attributed to the file, not to the connection or the server."""
    batch = write_batch(tmp_path / "archive", 3, rows=side, columns=side)
    spoil(Path(batch.instances[1].candidate.location))

    async def take(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async with peer(take) as url, destination(url) as stow:
        exchange = await stow.send(batch)
    assert isinstance(exchange, SourceChanged)
    assert exchange.changed == {batch.instances[1].header.sop_instance_uid: "cannot be read: Is a directory"}


async def test_files_that_hang_beside_a_changed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at again because a file beside it changed may hang: it is named with it, and the others are not.

    A directory that does not answer is suspected as it is.
    """
    batch = write_batch(tmp_path / "archive", 4)
    changed, hanging = batch.instances[0], batch.instances[2]
    shorten(Path(changed.candidate.location))
    may_end = threading.Event()
    is_dir = Path.is_dir

    def open_late(location: str, *, by_link: bool) -> int:
        if location == hanging.candidate.location:
            may_end.wait()
        return open_file(location, by_link=by_link)

    def look_late(path: Path) -> bool:
        may_end.wait()
        return is_dir(path)

    monkeypatch.setattr(files, "open_file", open_late)
    monkeypatch.setattr(Path, "is_dir", look_late)

    async def take(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async with peer(take) as url:
        settings = DestinationSettings(url=url)
        async with FileStow(settings, login(settings, {}), limit=ReadLimit(0.3)) as stow:
            with anyio.fail_after(PATIENCE_S):
                exchange = await stow.send(batch)
            may_end.set()
    assert isinstance(exchange, SourceChanged)
    assert set(exchange.changed) == {changed.header.sop_instance_uid, hanging.header.sop_instance_uid}
    assert "cannot be looked at again: the storage" in exchange.changed[hanging.header.sop_instance_uid]
    assert exchange.directories == {str(tmp_path / "archive")}
