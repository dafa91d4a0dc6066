"""Instances and requests for tests of the origin, made by hand: no pixel means anything, no patient is named."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterable, Sequence
from io import BytesIO
from pathlib import Path

from aiohttp import ClientResponse, ClientSession

from bulkstow.model import StoreResponse
from bulkstow.wire.multipart import closing, content_type, part_head
from bulkstow.wire.multipart_reader import MultipartReader, PartData, boundary_of
from bulkstow.wire.store_response import read

BOUNDARY = "sampleBoundary"
STUDY, SERIES, INSTANCE = "1.2.10", "1.2.10.1", "1.2.10.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


def part10(
    instance: str = INSTANCE,
    *,
    study: str = STUDY,
    series: str = SERIES,
    sop_class: str = CT,
    media_class: str = CT,
    pixels: bytes = b"\x01\x02",
    private: bytes = b"",
) -> bytes:
    """Return a Part 10 file in explicit little endian; `private` goes before the UIDs of study and series."""
    meta = _ui(0x0002, 0x0002, media_class) + _ui(0x0002, 0x0010, EXPLICIT_LITTLE)
    return b"".join(
        [
            bytes(128) + b"DICM",
            struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(meta)) + meta,
            _ui(0x0008, 0x0016, sop_class) + _ui(0x0008, 0x0018, instance),
            _long(0x0009, 0x1001, b"OB", private) if private else b"",
            _ui(0x0020, 0x000D, study) + _ui(0x0020, 0x000E, series),
            _long(0x7FE0, 0x0010, b"OB", pixels),
        ]
    )


def body_of(*instances: bytes) -> bytes:
    """Return the body of a store request that carries these files."""
    parts = [part_head(BOUNDARY, len(file), first=number == 0) + file for number, file in enumerate(instances)]
    return b"".join(parts) + closing(BOUNDARY)


async def post(
    session: ClientSession, url: str, body: bytes | AsyncIterable[bytes], *, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Send a body as a store request, and return the status and the answer."""
    sent = {"Content-Type": content_type(BOUNDARY)} | (headers or {})
    # aiohttp warns of bytes above 1 MiB, as it sends them without a pause.
    data = BytesIO(body) if isinstance(body, bytes) else body
    async with session.post(url, data=data, headers=sent) as response:
        return response.status, await response.read()


async def store(session: ClientSession, url: str, *instances: bytes, study: str = "") -> tuple[int, StoreResponse]:
    """Send these files, and return the status and what the origin says of them."""
    status, answer = await post(session, f"{url}/studies{study and '/' + study}", body_of(*instances))
    return status, read(answer)


async def single_part(response: ClientResponse) -> bytes:
    """Return the content of a multipart answer that has one part."""
    reader = MultipartReader(boundary_of(response.headers["Content-Type"]))
    events = reader.feed(await response.read())
    reader.finish()
    return b"".join(event.data for event in events if isinstance(event, PartData))


def files_below(root: Path) -> dict[str, bytes]:
    """Return every file under a directory, by its path from there."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def uids_of(items: Sequence[dict[str, dict[str, list[object]]]], tag: str) -> list[object]:
    """Return one attribute of each item of a DICOM JSON answer."""
    return [item[tag]["Value"][0] for item in items]


def _ui(group: int, element: int, uid: str) -> bytes:
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return struct.pack("<HH2sH", group, element, b"UI", len(value)) + value


def _long(group: int, element: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sHI", group, element, vr, 0, len(value)) + value
