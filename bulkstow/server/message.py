"""A multipart answer: parts from files and from memory, streamed one after the other.

Its length is announced where it is known; if a part turns out shorter, the connection is closed.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import aiofiles
from aiohttp import web
from anyio import to_thread

from bulkstow.wire.multipart import BOUNDARY_DIGITS, body_length, closing, content_type, part_head

READ_BYTES = 1024 * 1024
"""The bytes that are read at once, and the memory that an answer of any length takes.
A call in a thread takes 0.1 ms, reading this much from the page cache twice that."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A range of a file."""

    path: Path
    size_bytes: int
    offset_bytes: int = 0


@dataclass(frozen=True, slots=True)
class MadePart:
    """Bytes that are made when they are sent."""

    make: Callable[[], bytes]
    """Blocks."""


Part = FilePart | MadePart


async def send(request: web.Request, part_type: str, parts: Sequence[Part]) -> web.StreamResponse:
    """Answer with one or more parts as multipart/related (PS3.18 §8.6.1.2).

    Raises FileNotFoundError, and the errors of `MadePart.make`, for the first part. If a later part is missing or too
    short, the connection is closed, so that the client does not take the answer for complete.
    """
    boundary = secrets.token_hex(BOUNDARY_DIGITS // 2)
    response = web.StreamResponse(headers={"Content-Type": content_type(boundary, part_type=part_type)})
    sizes_bytes = [part.size_bytes for part in parts if isinstance(part, FilePart)]
    if len(sizes_bytes) == len(parts):
        response.content_length = body_length(boundary, sizes_bytes, part_type=part_type)
    first = True
    try:
        for part in parts:
            # Closed here, also if the client disconnects, and not by the garbage collector.
            async with aclosing(_part(part, boundary, part_type, first=first)) as pieces:
                async for piece in pieces:
                    if not response.prepared:
                        await response.prepare(request)
                    await response.write(piece)
            first = False
    except (OSError, EOFError, ValueError):
        if not response.prepared:
            raise
        break_off(request)
        return response
    await response.write(closing(boundary))
    await response.write_eof()
    return response


async def _part(part: Part, boundary: str, part_type: str, *, first: bool) -> AsyncGenerator[bytes, None]:
    """Yield a part with its head. Raises EOFError if the file is too short."""
    match part:
        case MadePart(make=make):
            data = await to_thread.run_sync(make)
            yield part_head(boundary, len(data), first=first, part_type=part_type)
            yield data
        case FilePart(path=path, size_bytes=size_bytes, offset_bytes=offset_bytes):
            async with aiofiles.open(path, "rb") as file:
                await file.seek(offset_bytes)
                yield part_head(boundary, size_bytes, first=first, part_type=part_type)
                left_bytes = size_bytes
                while left_bytes:
                    piece = await file.read(min(left_bytes, READ_BYTES))
                    if not piece:
                        raise EOFError
                    left_bytes -= len(piece)
                    yield piece


def break_off(request: web.Request) -> None:
    """Close the connection of an answer that has begun and cannot be completed."""
    if request.transport is not None:
        request.transport.abort()
