"""A long link, in this process: bytes take their time, and a connection has no more than a window of them under way.

Owns a relay from a port of its own to a server: one link, of a given rate, shared by all connections; every connection
sends at most `window_bytes` ahead of what the far end has acknowledged, half a round trip away. Answers come back half
a round trip late. The rest of TCP (loss, slow start) is not simulated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

SEGMENT_BYTES = 16 * 2**10
"""What is sent at once: 16 of them fill a window of 256 KiB, and none is late by more than a millisecond or so."""


@dataclass(slots=True)
class Link:
    """A rate, a delay and a window."""

    rate_bytes_per_s: float
    round_trip_s: float
    window_bytes: int
    _free_at_s: float = 0.0

    def through_at_s(self, now_s: float, size_bytes: int) -> float:
        """Return when the last of `size_bytes` has left the link, and count them in."""
        self._free_at_s = max(now_s, self._free_at_s) + size_bytes / self.rate_bytes_per_s
        return self._free_at_s


@asynccontextmanager
async def relay(link: Link, host: str, port: int) -> AsyncIterator[int]:
    """Give the port of the near end."""
    tasks: set[asyncio.Task[None]] = set()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        far_reader, far_writer = await asyncio.open_connection(host, port)
        with suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.gather(_there(link, reader, far_writer), _back(link, far_reader, writer))
        writer.close()
        far_writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(join, host, 0, limit=SEGMENT_BYTES)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _there(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry a request: a segment may start when the window has room for it, and takes its turn on the link."""
    loop = asyncio.get_running_loop()
    window = asyncio.Semaphore(link.window_bytes // SEGMENT_BYTES)
    while True:
        await window.acquire()
        segment = await reader.read(SEGMENT_BYTES)
        if not segment:
            return
        arrives_s = link.through_at_s(loop.time(), len(segment)) + link.round_trip_s / 2
        loop.call_at(arrives_s, writer.write, segment)
        loop.call_at(arrives_s + link.round_trip_s / 2, window.release)


async def _back(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry the answers, which are small: only late."""
    loop = asyncio.get_running_loop()
    while segment := await reader.read(SEGMENT_BYTES):
        loop.call_later(link.round_trip_s / 2, writer.write, segment)
