"""Claims about series that are retrieved as a whole and compared instance by instance, on real sockets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRBigEndian

from bulkstow.model import Cause, Instance, NoResponse, Response
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DirectoryStorage
from bulkstow.verification.content_received import BLOCK_BYTES
from bulkstow.verification.content_result import ContentResult, Different, Identical, NotCompared
from tests.archives import write_batch, write_instance
from tests.destination.peers import answer, peer, read_head
from tests.verification.samples import changed, written
from tests.verification.test_content import comparing

pytestmark = pytest.mark.anyio

PIXELS = Different(("(7FE0,0010) PixelData",))


@pytest.fixture
def series(tmp_path: Path) -> tuple[Instance, ...]:
    """Give the files of a series with small and with large instances."""
    small = write_batch(tmp_path / "archive", 10).instances
    large = [write_instance(tmp_path / "archive", n, rows=2 * BLOCK_BYTES // 512, columns=512) for n in (11, 12)]
    return (*small, *large)


def content_of(instance: Instance) -> bytes:
    """Return the bytes of a file."""
    return Path(instance.candidate.location).read_bytes()


def framed(*parts: bytes) -> bytes:
    """Return a multipart body."""
    head = b"\r\n--b\r\nContent-Type: application/dicom\r\nContent-Length: %d\r\n\r\n"
    return b"".join(head % len(part) + part for part in parts) + b"\r\n--b--\r\n"


async def results_from(
    body: bytes,
    instances: tuple[Instance, ...],
    *,
    sent_bytes: int | None = None,
    status: str = "200 OK",
    most: int = 1000,
) -> tuple[Response | NoResponse, dict[str, ContentResult]]:
    """Compare a series with a truncated response of a server; return results by UID."""
    found: dict[str, ContentResult] = {}

    async def tell(instance: Instance, result: ContentResult) -> bool:
        assert instance.header.sop_instance_uid not in found
        found[instance.header.sop_instance_uid] = result
        return len(found) < most

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        content_type = 'Content-Type: multipart/related; type="application/dicom"; boundary=b'
        if sent_bytes is None:
            answer(writer, status, body, content_type)
        else:
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{content_type}\r\n\r\n"
            writer.transport.set_write_buffer_limits(0)  # all has left before the connection is closed
            writer.write(head.encode() + body[:sent_bytes])
            await writer.drain()
            return
        await reader.read()

    async with peer(send) as url, comparing(url) as comparison:
        exchange = await comparison.compare_series(instances, tell)
    return exchange, found


async def test_a_series_from_the_embedded_server(series: tuple[Instance, ...], tmp_path: Path) -> None:
    """Every instance of a series is compared with its file, for any sizes."""
    folder = tmp_path / "server" / series[0].header.study_uid / series[0].header.series_uid
    folder.mkdir(parents=True)
    for instance in series:
        content = content_of(instance)
        if instance in (series[3], series[11]):
            content = content[:-1] + bytes([content[-1] ^ 1])
        (folder / f"{instance.header.sop_instance_uid}.dcm").write_bytes(content)
    found: dict[str, ContentResult] = {}

    async def tell(instance: Instance, result: ContentResult) -> bool:
        found[instance.header.sop_instance_uid] = result
        return True

    async with serving(Origin(DirectoryStorage(tmp_path / "server"))) as url, comparing(url) as comparison:
        exchange = await comparison.compare_series(series, tell)
    assert isinstance(exchange, Response)
    assert exchange.status == 200
    expected = [PIXELS if n in (3, 11) else Identical() for n in range(len(series))]
    assert [found[instance.header.sop_instance_uid] for instance in series] == expected


async def test_any_order_and_other_instances(series: tuple[Instance, ...]) -> None:
    """Instances are found by their UIDs; instances without a file, and other parts, have no result."""
    chosen = series[2:6]
    parts = [content_of(instance) for instance in reversed(series)]
    exchange, found = await results_from(framed(b"garbage", b"", *parts), chosen)
    assert isinstance(exchange, Response)
    assert found == {instance.header.sop_instance_uid: Identical() for instance in chosen}


async def test_an_unusual_encoding_has_no_result(series: tuple[Instance, ...]) -> None:
    """An instance that the quick reader of heads leaves to others has no result: it is compared alone."""
    big_endian = written(changed(lambda ds: None), ExplicitVRBigEndian)
    _, found = await results_from(framed(big_endian, content_of(series[1])), series[:2])
    assert found == {series[1].header.sop_instance_uid: Identical()}


async def test_a_series_that_breaks_off(series: tuple[Instance, ...]) -> None:
    """Completely received instances have a result, the others have none."""
    body = framed(*map(content_of, series))
    exchange, found = await results_from(body, series, sent_bytes=body.rindex(b"\r\n--b\r\n") + BLOCK_BYTES + 5000)
    assert isinstance(exchange, NoResponse)
    assert exchange.cause is Cause.DISCONNECTED
    assert found == {instance.header.sop_instance_uid: Identical() for instance in series[:-1]}


async def test_a_series_that_is_not_needed_any_more(series: tuple[Instance, ...]) -> None:
    """A series ends early, without a failure, when its caller wants no more results."""
    exchange, found = await results_from(framed(*map(content_of, series)), series, most=1)
    assert isinstance(exchange, Response)
    assert 1 <= len(found) < len(series)


async def test_a_refused_series(series: tuple[Instance, ...]) -> None:
    """A server that does not send series gives no result."""
    exchange, found = await results_from(b"no", series, status="400 Bad Request")
    assert isinstance(exchange, Response)
    assert (exchange.status, found) == (400, {})


async def test_a_file_that_is_gone_does_not_end_the_series(series: tuple[Instance, ...]) -> None:
    """A large file that cannot be read is not compared, and all others are."""
    gone = replace(series[10], candidate=replace(series[10].candidate, location="/nowhere"))
    chosen = (*series[:10], gone, series[11])
    exchange, found = await results_from(framed(*map(content_of, series)), chosen)
    assert isinstance(exchange, Response)
    assert found.pop(gone.header.sop_instance_uid) == NotCompared("cannot be read: No such file or directory")
    assert list(found.values()) == [Identical()] * 11
