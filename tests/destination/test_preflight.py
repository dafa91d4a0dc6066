"""Claims about the requests before the first body, on real sockets."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from bulkstow.config import DestinationSettings
from bulkstow.destination.auth import NoLogin
from bulkstow.errors import DestinationRefused, LoginRefused
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DiscardStorage
from tests.destination.peers import Handler, Relay, Request, answer, peer, read_head, read_request
from tests.stow import FileStow

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the delays between requests, and the proxy variables of this machine."""
    monkeypatch.setattr("bulkstow.destination.preflight.DELAYS_S", (0.0, 0.0))
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


async def reach(url: str, **changes: object) -> None:
    """Check a server as `upload` does."""
    settings = DestinationSettings(url=url, connect_timeout_s=5, **changes)  # type: ignore[arg-type]
    async with FileStow(settings, NoLogin()) as stow:
        await stow.reach()


def answering(
    seen: list[Request], search: tuple[str, bytes], store: tuple[str, bytes], content_type: str = "text/html"
) -> Handler:
    """Return a server that answers searches and store requests with these statuses and bodies."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await read_request(reader))
            status, body = search if seen[-1].line.startswith("GET") else store
            answer(writer, status, body, f"Content-Type: {content_type}")

    return serve


PAGE = b"<!doctype html><html><title>Portal</title></html>"


async def test_our_origin_is_reached() -> None:
    """A DICOMweb service gets one request; a wrong path below it is reported."""
    async with serving(Origin(DiscardStorage())) as url:
        await reach(url)
        with pytest.raises(DestinationRefused, match=r"no DICOMweb service at .*/wrong \(HTTP 404\)"):
            await reach(f"{url}/wrong")


async def test_a_server_that_only_stores_is_reached() -> None:
    """A 404 for the search is followed by a store request in which there is nothing to store."""
    seen: list[Request] = []
    async with peer(answering(seen, ("404 Not Found", PAGE), ("400 Bad Request", b"no parts"))) as url:
        await reach(url)
    search, store = seen
    boundary = store.headers["Content-Type"].rpartition("=")[2]
    assert search.line == "GET /dicom-web/studies?limit=1 HTTP/1.1"
    assert store.line == "POST /dicom-web/studies HTTP/1.1"
    assert store.body == f"\r\n--{boundary}--\r\n".encode()


@pytest.mark.parametrize(
    ("search", "store", "told"),
    [
        ("200 OK", "200 OK", r"\(HTTP 200, a web page\)"),
        ("200 OK", "405 Method Not Allowed", r"\(HTTP 200 to GET, 405 to POST, a web page\)"),
        ("404 Not Found", "404 Not Found", r"\(HTTP 404, a web page\)"),
    ],
    ids=["fallback to a page", "static files", "another service"],
)
async def test_a_web_server_is_found_out(search: str, store: str, told: str) -> None:
    """A server that responds with an HTML page to everything is not a DICOMweb service."""
    async with peer(answering([], (search, PAGE), (store, PAGE))) as url:
        with pytest.raises(DestinationRefused, match=rf"no DICOMweb service at {url} {told}"):
            await reach(url)


async def test_searching_may_be_forbidden() -> None:
    """After a 403 for the search a store request decides; without preflight no request is made."""
    seen: list[Request] = []
    async with peer(answering(seen, ("403 Forbidden", b""), ("400 Bad Request", b""))) as url:
        await reach(url)
        assert [request.line.split()[0] for request in seen] == ["GET", "POST"]
        seen.clear()
        await reach(url, no_preflight=True)
    assert seen == []
    async with peer(answering(seen, ("403 Forbidden", b""), ("403 Forbidden", b'{"message": "no"}'))) as url:
        with pytest.raises(LoginRefused, match=r"forbids access without a login \(403\): .*; the server says: no$"):
            await reach(url)


@pytest.mark.parametrize("octets", [b"", b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00"], ids=["closed", "A-ABORT"])
async def test_another_protocol_is_found_out(octets: bytes) -> None:
    """A port without HTTP, such as that of DICOM's own protocol, gets several requests before it is reported."""
    connections = 0

    async def abort(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read(100)
        writer.write(octets)

    async with peer(abort) as url:
        with pytest.raises(DestinationRefused, match=rf"no HTTP answer from {url} .*not of DICOM \(DIMSE\)\?"):
            await reach(url)
    assert connections >= 3


async def test_a_connection_may_be_lost_by_chance() -> None:
    """One lost connection proves nothing; the next request counts."""
    connections = 0

    async def answer_second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_head(reader)
        if connections == 2:
            answer(writer, "204 No Content", b"")

    async with peer(answer_second) as url:
        await reach(url)
    assert connections == 2


def tls(directory: Path) -> ssl.SSLContext:
    """Return a server's TLS context, and write its authority to a file."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


async def test_plain_http_to_a_port_for_tls(tmp_path: Path) -> None:
    """A server that expects TLS is reported as one; only a handshake finds that out."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with peer(serve, tls(tmp_path)) as url:
        with pytest.raises(DestinationRefused, match="the server expects TLS on this port; try https://"):
            await reach(url.replace("https://", "http://"))


async def ignore(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Receive everything."""
    await reader.read()


async def refuse_tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Respond with 403 to everything."""
    await read_head(reader)
    answer(writer, "403 Forbidden", b"")


@pytest.mark.parametrize(
    ("make", "scheme", "told"),
    [
        (Relay, "http", r"answers HTTP 502|Connection refused|no HTTP answer from the proxy"),
        (lambda: refuse_tunnel, "https", "answers HTTP 403 to CONNECT"),
    ],
    ids=["server down", "no tunnel"],
)
async def test_a_proxy_in_between_is_told_by_name(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Handler], scheme: str, told: str
) -> None:
    """A proxy's failure is reported as the proxy's, with the remedy, and never with its password."""
    async with peer(make()) as proxy:
        name = proxy.removeprefix("http://").removesuffix("/dicom-web")
        monkeypatch.setenv("all_proxy", f"me:s3cret@{name}")
        with pytest.raises(DestinationRefused, match=told) as caught:
            await reach(f"{scheme}://127.0.0.1:9/dicom-web")
    assert name in str(caught.value)
    assert "s3cret" not in str(caught.value)


async def test_without_preflight_a_connection_must_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without preflight only a connection is made: no server, TLS, trusted certificate or proxy stops at once."""
    context = tls(tmp_path)
    async with peer(ignore, context) as url, peer(ignore) as plain:
        await reach(url, no_preflight=True, ca_file=tmp_path / "ca.pem")
        with pytest.raises(DestinationRefused, match="certificate is issued by an authority that is not trusted here"):
            await reach(url, no_preflight=True)
        await reach(plain, no_preflight=True)
    with pytest.raises(DestinationRefused, match="Connection refused; is the server running"):
        await reach(plain, no_preflight=True)
    monkeypatch.setenv("http_proxy", "127.0.0.1:9")
    with pytest.raises(DestinationRefused, match="Connection refused; check the proxy"):
        await reach(plain, no_preflight=True)
