"""A multipart answer: parts from files and from memory, streamed one after the other.

Owns the framing and the promise of its length: what was announced is what is sent, or the connection breaks. Decides
nothing of what a part is.
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

from bulkstow.wire.multipart import BOUNDARY_LENGTH, body_length, closing, content_type, part_head

READ_BYTES = 1024 * 1024
"""Of a file at once: what an answer of any length holds in memory. A hop to a thread takes 0.1 ms, reading so much from
the page cache twice that."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A range of a file."""

    path: Path
    size_bytes: int
    offset_bytes: int = 0


@dataclass(frozen=True, slots=True)
class MadePart:
    """Bytes that are made when it is their turn."""

    make: Callable[[], bytes]
    """Blocks."""


Part = FilePart | MadePart


async def send(request: web.Request, part_type: str, parts: Sequence[Part]) -> web.StreamResponse:
    """Answer with these parts, at least one, as multipart/related (PS3.18 §8.6.1.2); the length where it is known.

    FileNotFoundError, and whatever making raises: of the first part. Later the answer is begun, and a part that is gone
    or falls short breaks the connection: the client must not take what it has for the whole.
    """
    boundary = secrets.token_hex(BOUNDARY_LENGTH // 2)
    response = web.StreamResponse(headers={"Content-Type": content_type(boundary, part_type=part_type)})
    sizes_bytes = [part.size_bytes for part in parts if isinstance(part, FilePart)]
    if len(sizes_bytes) == len(parts):
        response.content_length = body_length(boundary, sizes_bytes, part_type=part_type)
    first = True
    try:
        for part in parts:
            # Closed here: a client that leaves, or the end of the server, would leave it to the garbage collector.
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
    """Yield a part with its head. EOFError: the file falls short."""
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
    """End the connection of an answer that has begun and cannot be completed."""
    if request.transport is not None:
        request.transport.abort()
