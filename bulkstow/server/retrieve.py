"""WADO-RS: an instance as it was stored, byte for byte.

Owns the streaming of one file as multipart/related (PS3.18 §10.4). Refuses to transcode: whatever transfer syntax is
asked for, what is held is what is sent.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import aiofiles
from aiohttp import web

from bulkstow.wire.multipart import BOUNDARY_LENGTH, body_length, closing, content_type, part_head

_READ_BYTES = 1024 * 1024
_ACCEPTABLE = ("multipart/related", "multipart/*", "*/*")


def is_acceptable(accept: str) -> bool:
    """Tell whether this Accept header, where there is one, leaves room for Part 10 files (PS3.18 §8.7.3)."""
    ranges = accept.lower().split(",")
    return not accept or any(
        media.strip().startswith(_ACCEPTABLE) and ("type=" not in media or "application/dicom" in media)
        for media in ranges
    )


async def send_file(request: web.Request, path: Path) -> web.StreamResponse:
    """Answer with the file, its exact length announced; FileNotFoundError where there is none.

    A file that falls short while it is sent breaks the connection: the length keeps the client from taking it as whole.
    """
    boundary = secrets.token_hex(BOUNDARY_LENGTH // 2)
    async with aiofiles.open(path, "rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        response = web.StreamResponse(headers={"Content-Type": content_type(boundary)})
        response.content_length = body_length(boundary, [size_bytes])
        await response.prepare(request)
        await response.write(part_head(boundary, size_bytes, first=True))
        while piece := await file.read(_READ_BYTES):
            await response.write(piece)
    await response.write(closing(boundary))
    await response.write_eof()
    return response
