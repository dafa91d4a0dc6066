"""Claims about proxies: which one is used for a URL, and how its failures are reported."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

import anyio
import pytest
import trustme

from bulkstow.config import DestinationSettings
from bulkstow.destination.auth import NoLogin
from bulkstow.destination.proxy import proxy_for
from bulkstow.errors import ConfigurationError, LoginRefused
from bulkstow.model import Batch, Cause, NoResponse, Response
from tests.archives import write_batch
from tests.destination.peers import Relay, answer, peer, read_head, read_request
from tests.stow import FileStow

pytestmark = pytest.mark.anyio

HTTP, HTTPS = "http://pacs.example/dicom-web", "https://pacs.example/dicom-web"


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({}, HTTP, None),
        ({"http_proxy": "proxy:3128"}, HTTP, "http://proxy:3128"),
        ({"http_proxy": "proxy"}, HTTP, "http://proxy:1080"),
        ({"http_proxy": "http://proxy:3128/"}, HTTP, "http://proxy:3128"),
        ({"http_proxy": "HTTP://Proxy:3128"}, HTTP, "http://proxy:3128"),
        ({"http_proxy": "me:p%40ss@proxy:3128"}, HTTP, "http://me:p%40ss@proxy:3128"),
        ({"http_proxy": "[::1]:3128"}, HTTP, "http://[::1]:3128"),
        ({"https_proxy": "https://proxy"}, HTTPS, "https://proxy:443"),
        ({"http_proxy": "proxy:1"}, HTTPS, None),
        ({"https_proxy": "proxy:1"}, HTTP, None),
        ({"https_proxy": "low:1", "HTTPS_PROXY": "up:1"}, HTTPS, "http://low:1"),
        ({"https_proxy": "", "HTTPS_PROXY": "up:1"}, HTTPS, "http://up:1"),
        ({"https_proxy": " ", "all_proxy": "all:1"}, HTTPS, "http://all:1"),
        ({"http_proxy": "one:1", "all_proxy": "all:1"}, HTTP, "http://one:1"),
        ({"ALL_PROXY": "all:1"}, HTTP, "http://all:1"),
        ({"all_proxy": "low:1", "ALL_PROXY": "up:1"}, HTTPS, "http://low:1"),
        ({"HTTP_PROXY": "up:1"}, HTTP, "http://up:1"),
        ({"HTTP_PROXY": "up:1", "REQUEST_METHOD": "GET"}, HTTP, None),
        ({"HTTPS_PROXY": "up:1", "REQUEST_METHOD": "GET"}, HTTPS, "http://up:1"),
    ],
)
def test_variables(environment: dict[str, str], url: str, expected: str | None) -> None:
    """The scheme's own variable has precedence over ALL_PROXY, lower case over upper; an empty one does not count."""
    proxy = proxy_for(url, environment)
    assert (proxy.url if proxy else None) == expected


NAMES = "http://a.pacs.example:8042/"


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_exempt"),
    [
        ("*", HTTP, True),
        ("other, *", HTTP, True),
        ("pacs.example", HTTP, True),
        ("PACS.Example", HTTP, True),
        ("pacs.example", NAMES, True),
        (".pacs.example", NAMES, True),
        (".pacs.example", HTTP, True),
        ("*.pacs.example", NAMES, True),
        ("pacs.example.", HTTP, True),
        ("pacs.example", "http://pacs.example./", True),
        ("pacs.example", "http://mypacs.example/", False),
        ("acs.example", HTTP, False),
        ("a.pacs.example", HTTP, False),
        ("localhost 127.0.0.1\tpacs.example", HTTP, True),
        ("localhost,pacs.example", HTTP, True),
        ("localhost", "http://127.0.0.1/", False),
        ("", "http://localhost/", False),
        ("pacs.example:80", HTTP, True),
        ("pacs.example:443", HTTP, False),
        ("pacs.example:443", HTTPS, True),
        ("pacs.example:8042", NAMES, True),
        ("pacs.example:8043", NAMES, False),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.1/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("10.0.0.0/8", "http://ten.example/", False),
        ("10.0.0.0/99", "http://10.1.2.3/", False),
        ("10.1.2.3", "http://10.1.2.3:8042/", True),
        ("10.1.2.3:8042", "http://10.1.2.3:8042/", True),
        ("10.1.2.3:8043", "http://10.1.2.3:8042/", False),
        ("2.3", "http://10.1.2.3/", False),
        ("::1", "http://[::1]:8042/", True),
        ("[::1]", "http://[::1]:8042/", True),
        ("[::1]:8042", "http://[::1]:8042/", True),
        ("[::1]:8043", "http://[::1]:8042/", False),
        ("fe80::/10", "http://[fe80::1]/", True),
        ("0:0:0:0:0:0:0:1", "http://[::1]/", True),
        (" , ,.", HTTP, False),
    ],
)
def test_no_proxy(no_proxy: str, url: str, is_exempt: bool) -> None:
    """Names match at the borders of labels, addresses as numbers, networks by prefix, ports where given."""
    for variable in ("no_proxy", "NO_PROXY"):
        assert (proxy_for(url, {"all_proxy": "proxy:1", variable: no_proxy}) is None) == is_exempt


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("socks5://me:s3cret@proxy:1080", "https_proxy names a SOCKS proxy, which bulkstow cannot use: give an HTTP"),
        ("socks4a://proxy", "https_proxy names a SOCKS proxy"),
        ("SOCKS5H://proxy", "https_proxy names a SOCKS proxy"),
        ("ftp://me:s3cret@proxy", "https_proxy in the environment: expected http://HOST:PORT or HOST:PORT"),
        ("http://me:s3cret@", "expected http://HOST:PORT"),
        ("me:s3cret@proxy:port", "expected http://HOST:PORT"),
        ("proxy:99999", "expected http://HOST:PORT"),
        ("[::1", "expected http://HOST:PORT"),
        ("pro xy:3128", "expected http://HOST:PORT"),
    ],
)
def test_proxy_that_cannot_be_used(value: str, message: str) -> None:
    """The message names the variable and repeats nothing of it."""
    with pytest.raises(ConfigurationError) as caught:
        proxy_for(HTTPS, {"https_proxy": value})
    assert message in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_proxy_does_not_show_its_password() -> None:
    """A proxy's printed form has host and port only."""
    proxy = proxy_for(HTTPS, {"https_proxy": "http://me:s3cret@proxy:3128"})
    assert proxy is not None
    assert (proxy.name, proxy.variable) == ("proxy:3128", "https_proxy")
    assert "s3cret" not in repr(proxy)


# On sockets -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """Give a batch of 2 MB, so that sendfile is used where it can be."""
    return write_batch(tmp_path / "archive", 2, rows=1000, columns=1000)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the proxy variables of this machine."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


async def test_plain_http_through_a_proxy(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole body passes through a proxy: the request has absolute form, and the proxy's login only."""
    relay = Relay()
    bodies: list[bytes] = []

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bodies.append((await read_request(reader)).body)
        answer(writer)

    async with peer(store) as url, peer(relay) as proxy:
        monkeypatch.setenv("http_proxy", f"me:p%40ss@{proxy.removeprefix('http://').removesuffix('/dicom-web')}")
        async with FileStow(DestinationSettings(url=url), NoLogin()) as stow:
            exchange = await stow.send(batch)
    assert isinstance(exchange, Response)
    assert exchange.status == 200
    assert relay.lines == [f"POST {url}/studies HTTP/1.1"]
    assert relay.headers[0]["Proxy-Authorization"] == "Basic bWU6cEBzcw=="
    assert "Authorization" not in relay.headers[0]
    for instance in batch.instances:
        assert Path(instance.candidate.location).read_bytes() in bodies[0]  # noqa: ASYNC240


@pytest.mark.parametrize("is_proxy_tls", [False, True], ids=["http proxy", "https proxy"])
async def test_tls_through_a_proxy(
    batch: Batch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_proxy_tls: bool
) -> None:
    """TLS goes through a tunnel: the proxy sees the host and port, and nothing of the request."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    relay = Relay()
    bodies: list[bytes] = []

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bodies.append((await read_request(reader)).body)
        answer(writer)

    async with peer(store, context) as url, peer(relay, context if is_proxy_tls else None) as proxy:
        monkeypatch.setenv("https_proxy", proxy.removesuffix("/dicom-web"))
        settings = DestinationSettings(url=url, ca_file=tmp_path / "ca.pem")
        async with FileStow(settings, NoLogin()) as stow:
            exchange = await stow.send(batch)
    assert isinstance(exchange, Response)
    host = url.removeprefix("https://").removesuffix("/dicom-web")
    assert relay.lines == [f"CONNECT {host} HTTP/1.1"]
    for instance in batch.instances:
        assert Path(instance.candidate.location).read_bytes() in bodies[0]  # noqa: ASYNC240


@pytest.mark.parametrize("status", ["403 Forbidden", "502 Bad Gateway", "503 Service Unavailable"])
async def test_proxy_that_makes_no_tunnel(batch: Batch, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    """An unreachable proxy is named; nothing of the body was sent."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        answer(writer, status, b"")

    async with peer(refuse) as proxy:
        monkeypatch.setenv("https_proxy", proxy.removesuffix("/dicom-web").replace("//", "//me:s3cret@"))
        async with FileStow(DestinationSettings(url=HTTPS), NoLogin()) as stow:
            exchange = await stow.send(batch)
    name = proxy.removeprefix("http://").removesuffix("/dicom-web")
    detail = f"the proxy {name} (https_proxy): answers HTTP {status[:3]} to CONNECT"
    assert exchange == NoResponse(Cause.UNREACHABLE, body_started=False, detail=detail)


@pytest.mark.parametrize("octets", [b"SSH-2.0-OpenSSH\r\n", b"", None], ids=["nonsense", "closed", "silent"])
async def test_proxy_that_is_none(batch: Batch, monkeypatch: pytest.MonkeyPatch, octets: bytes | None) -> None:
    """A proxy that makes no tunnel is named as the cause, within the connect timeout."""

    async def mumble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        if octets is None:
            await asyncio.Event().wait()
        writer.write(octets or b"")

    async with peer(mumble) as proxy:
        monkeypatch.setenv("all_proxy", proxy.removesuffix("/dicom-web"))
        async with FileStow(DestinationSettings(url=HTTPS, connect_timeout_s=0.3), NoLogin()) as stow:
            with anyio.fail_after(20):
                exchange = await stow.send(batch)
    assert isinstance(exchange, NoResponse)
    assert (exchange.cause, exchange.body_started) == (Cause.UNREACHABLE, False)
    assert exchange.detail.startswith(
        f"the proxy {proxy.removeprefix('http://').removesuffix('/dicom-web')} (all_proxy): "
    )


@pytest.mark.parametrize("url", [HTTP, HTTPS])
async def test_proxy_that_wants_another_login(batch: Batch, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """A 407 stops the run, and the message has no password."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        answer(writer, "407 Proxy Authentication Required", b"", "Connection: close")

    async with peer(refuse) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.removesuffix("/dicom-web").replace("//", "//me:s3cret@"))
        async with FileStow(DestinationSettings(url=url), NoLogin()) as stow:
            with pytest.raises(LoginRefused, match=r"the proxy .* \(ALL_PROXY\) refuses our login \(407\)") as caught:
                await stow.send(batch)
    assert caught.value.__cause__ is None
    assert "s3cret" not in str(caught.value)
