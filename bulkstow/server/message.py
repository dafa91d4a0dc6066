"""A multipart answer: parts from files and from memory, streamed one after the other.

Its length is announced where it is known; if a part turns out shorter, the connection is closed.
"""

from __future__ import annotations

import math
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

    def make(self) -> bytes:
        """Return the bytes; blocks. Raises EOFError if the file is too short."""
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.offset_bytes)
            data = file.read(self.size_bytes)
        if len(data) < self.size_bytes:
            raise EOFError
        return data


@dataclass(frozen=True, slots=True)
class MadePart:
    """Bytes that are made when they are sent."""

    make: Callable[[], bytes]
    """Blocks."""


Part = FilePart | MadePart


async def send(
    request: web.Request, part_type: str, parts: Sequence[Part], *, sent_share: float = 1.0
) -> web.StreamResponse:
    """Answer with one or more parts as multipart/related (PS3.18 §8.6.1.2).

    With a `sent_share` below 1, the connection is closed after this share of the answer; the length has to be known.

    Raises FileNotFoundError, and the errors of `MadePart.make`, for the first part. If a later part is missing or too
    short, the connection is closed, so that the client does not take the answer for complete.
    """
    boundary = secrets.token_hex(BOUNDARY_DIGITS // 2)
    response = web.StreamResponse(headers={"Content-Type": content_type(boundary, part_type=part_type)})
    sizes_bytes = [part.size_bytes for part in parts if isinstance(part, FilePart)]
    if len(sizes_bytes) == len(parts):
        response.content_length = body_length(boundary, sizes_bytes, part_type=part_type)
    left_bytes = math.inf if sent_share == 1.0 else int((response.content_length or 0) * sent_share)
    first = True
    try:
        for part in parts:
            # Closed here, also if the client disconnects, and not by the garbage collector.
            async with aclosing(_part(part, boundary, part_type, first=first)) as pieces:
                async for piece in pieces:
                    if not response.prepared:
                        await response.prepare(request)
                    if len(piece) > left_bytes:
                        await response.write(piece[: int(left_bytes)])
                        close(request)
                        return response
                    await response.write(piece)
                    left_bytes -= len(piece)
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
    if isinstance(part, MadePart) or part.size_bytes <= READ_BYTES:
        # One call in a thread: open, seek, read and close in calls of their own take longer than reading this much.
        data = await to_thread.run_sync(part.make)
        yield part_head(boundary, len(data), first=first, part_type=part_type)
        yield data
        return
    async with aiofiles.open(part.path, "rb") as file:
        await file.seek(part.offset_bytes)
        yield part_head(boundary, part.size_bytes, first=first, part_type=part_type)
        left_bytes = part.size_bytes
        while left_bytes:
            piece = await file.read(min(left_bytes, READ_BYTES))
            if not piece:
                raise EOFError
            left_bytes -= len(piece)
            yield piece


async def send_share(request: web.Request, document: web.Response, share: float) -> web.StreamResponse:
    """Announce the whole length of a document, send a share of it, and close the connection."""
    body = document.body if isinstance(document.body, bytes) else b""
    response = web.StreamResponse(status=document.status, headers=document.headers)
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: int(len(body) * share)])
    close(request)
    return response


def break_off(request: web.Request) -> None:
    """Close the connection of an answer that has begun and cannot be completed."""
    if request.transport is not None:
        request.transport.abort()


def close(request: web.Request) -> None:
    """Close the connection after the written bytes, without announcing it; the kernel resets it if bytes are unread."""
    if request.transport is not None:
        request.transport.close()
