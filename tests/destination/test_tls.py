"""Claims about TLS connections that worker threads share with the event loop, in memory."""

from __future__ import annotations

import ssl
import threading
from contextlib import suppress

import anyio
import pytest

from tests.destination.encryption import Pair, client_context

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])


@pytest.fixture
def pair() -> Pair:
    """Give a connection after its handshake."""
    pair = Pair()
    pair.shake_hands()
    return pair


@VERSIONS
def test_it_works_as_any_other(version: ssl.TLSVersion) -> None:
    """Without a body, asyncio gets and sends everything through its own buffers."""
    pair = Pair(version)
    pair.shake_hands()
    assert pair.client.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    pair.client.write(b"request")
    pair.deliver()
    assert pair.received() == b"request"
    pair.server.write(b"response")
    assert pair.client.read() == b"response"
    buffer = bytearray(4)
    pair.server.write(b"more")
    assert pair.client.read(4, buffer) == 4
    assert buffer == b"more"


def test_settings_of_the_context_stay() -> None:
    """Certificates and host names are still verified."""
    context = client_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    tls = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    assert tls.server_hostname == "localhost"


@VERSIONS
def test_head_goes_with_the_body(version: ssl.TLSVersion) -> None:
    """While a body holds the connection, asyncio gets nothing to send; the head comes before the body."""
    pair = Pair(version)
    pair.shake_hands()
    pair.client.hold()
    pair.client.write(b"head")
    assert pair.client.held_bytes == 4
    assert pair.from_client.pending == 0
    count, encrypted = pair.client.encrypt(memoryview(b"body" * 10_000))
    pair.to_server.write(encrypted)
    assert (count, pair.received()) == (40_000, b"head" + b"body" * 10_000)
    pair.client.release()
    pair.client.write(b"next")
    pair.deliver()
    assert pair.received() == b"next"


def test_response_arrives_during_a_body(pair: Pair) -> None:
    """The event loop reads an early response while a body holds the connection, and still has nothing to send."""
    pair.client.hold()
    pair.client.encrypt(memoryview(b"begun"))
    pair.server.write(b"413")
    assert pair.client.read() == b"413"
    assert pair.from_client.pending == 0


def test_unfinished_body_blocks_the_connection(pair: Pair) -> None:
    """After a body without its end, another request is refused, and TLS is ended without a word to the server."""
    pair.client.hold()
    pair.client.encrypt(memoryview(b"begun"))
    with pytest.raises(ConnectionResetError, match="unfinished"):
        pair.client.hold()
    pair.client.write(b"another head")
    pair.client.unwrap()
    assert pair.from_client.pending == 0


def test_released_connection_ends_as_any_other(pair: Pair) -> None:
    """After a whole body, the server gets the end of TLS."""
    pair.client.hold()
    pair.to_server.write(pair.client.encrypt(memoryview(b"whole"))[1])
    pair.client.release()
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()
    pair.deliver()
    assert pair.server.read() == b"whole"
    assert pair.server.read() == b""


@VERSIONS
def test_server_that_has_ended(version: ssl.TLSVersion) -> None:
    """The end of the server's side is read during a body, and broken records are a lost connection."""
    pair = Pair(version)
    pair.shake_hands()
    pair.client.hold()
    with pytest.raises(ssl.SSLWantReadError):
        pair.server.unwrap()
    assert pair.client.read() == b""
    other = Pair(version)
    other.shake_hands()
    other.client.hold()
    other.to_client.write(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ssl.SSLError):
        other.client.read()
    with pytest.raises(ConnectionAbortedError, match="TLS: "):
        other.client.encrypt(memoryview(b"body"))


@pytest.mark.anyio
@VERSIONS
async def test_server_has_to_act_first(version: ssl.TLSVersion) -> None:
    """If TLS needs bytes of the server, nothing of the body is encrypted before they are read; then all of it is."""
    pair = Pair(version)
    pair.client.hold()
    rounds = 0
    while True:
        count, encrypted = pair.client.encrypt(memoryview(b"body"))
        pair.to_server.write(encrypted)
        if count:
            break
        rounds += 1
        with anyio.move_on_after(0):
            await pair.client.until_received()
            raise AssertionError("nothing was received since")
        with suppress(ssl.SSLWantReadError):
            pair.server.do_handshake()
        with pytest.raises(ssl.SSLWantReadError):
            pair.client.read()
        await pair.client.until_received()
    pair.server.do_handshake()
    assert (rounds, pair.received()) == ({"TLSv1_2": 2, "TLSv1_3": 1}[version.name], b"body")


def test_two_threads(pair: Pair) -> None:
    """While one thread encrypts, another reads: both streams arrive whole."""
    sent, responses = [bytes([n]) * 50_000 for n in range(200)], [b"%04d" % n for n in range(200)]
    encrypted: list[bytes] = []

    def encrypt() -> None:
        for block in sent:
            count, piece = pair.client.encrypt(memoryview(block))
            assert count == len(block)
            encrypted.append(piece)

    pair.client.hold()
    thread = threading.Thread(target=encrypt)
    thread.start()
    received = []
    for response in responses:
        pair.server.write(response)
        received.append(pair.client.read())
    thread.join()
    for piece in encrypted:
        pair.to_server.write(piece)
    assert received == responses
    assert pair.received() == b"".join(sent)
