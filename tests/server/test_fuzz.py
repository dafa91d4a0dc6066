"""Claims about the origin under arbitrary bytes."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from aiohttp import ClientSession
from yarl import URL

from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DirectoryStorage
from tests.server.samples import BOUNDARY, body_of, files_below, part10, store

pytestmark = pytest.mark.anyio

HEAD = (
    "POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    f'Content-Type: multipart/related; type="application/dicom"; boundary={BOUNDARY}\r\n'
)
NASTY_UIDS = ("../../../../tmp/x", "1.2/../../x", "1.2\0", "/etc/passwd", "." * 64, "1.2.3\r\n", "%2e%2e%2f")


def mutated(chance: random.Random, request: bytes) -> bytes:
    """Return a request with some of its bytes changed, cut out, doubled or swapped."""
    for _ in range(chance.randint(1, 6)):
        at, length = chance.randrange(len(request)), chance.choice((1, 2, 8, 40))
        piece = request[at : at + length]
        with_what = chance.choice(
            (b"", piece * 2, chance.randbytes(length), piece[::-1], b"\r\n--" + BOUNDARY.encode())
        )
        request = request[:at] + with_what + request[at + length :] or b"\r\n"
    return request


def requests(chance: random.Random, count: int) -> list[bytes]:
    """Return requests that are nearly right, in many ways."""
    made = []
    for number in range(count):
        uid = chance.choice((f"1.2.{number}", *NASTY_UIDS))
        body = body_of(part10(f"1.2.3.{number}"), part10(uid, study=chance.choice(("1.2", uid))))
        head = f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode()
        made.append(head + mutated(chance, body) if chance.random() < 0.7 else mutated(chance, head + body))
    return made


async def exchanged(url: URL, request: bytes) -> bytes:
    """Send bytes, say that no more will come, and return all that comes back."""
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(request)
        writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("seed", [1, 2])
async def test_nearly_right_requests_do_no_harm(tmp_path: Path, seed: int) -> None:
    """Requests with mutated heads and bodies: no server error, no file outside the root, and the next one is served."""
    storage = DirectoryStorage(tmp_path / "root")
    (tmp_path / "beside").write_text("untouched")
    async with serving(Origin(storage, max_part_bytes=2**20)) as url:
        for request in requests(random.Random(seed), 150):
            answer = await exchanged(URL(url), request)
            assert not answer.startswith(b"HTTP/1.1 5"), request
        async with ClientSession() as session:
            status, response = await store(session, url, part10("1.2.99"))
    assert status == 200
    assert [item.sop_instance_uid for item in response.stored] == ["1.2.99"]
    outside = {name for name in files_below(tmp_path) if not name.startswith("root/")}
    assert outside == {"beside"}
    assert set(storage.digests()) == {Path(name).stem for name in files_below(tmp_path / "root")}
