"""A long link, in this process: bytes take their time, and a connection has no more than a window of them under way.

Owns a relay from a port of its own to a server: one link, of a given rate, shared by all connections. What is sent
arrives `delay_s` after it has left the link, and the word that it has arrived comes back as long after that; until then
it fills the connection's window. Answers are as late, and a connection stands after one round trip. The rest of TCP
(loss, slow start) is not simulated. The arithmetic is `Link` and `Flow`, which know no clock.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

SEGMENT_BYTES = 16 * 2**10
"""What is sent at once: 16 of them fill a window of 256 KiB, and none is late by more than a millisecond or so."""


@dataclass(slots=True)
class Link:
    """A rate that all share, the time from end to end, and the window of each connection."""

    rate_bytes_per_s: float
    delay_s: float
    """One way; a round trip is twice that."""
    window_bytes: int
    _free_at_s: float = 0.0

    @property
    def round_trip_s(self) -> float:
        """From sending something to hearing of it."""
        return 2 * self.delay_s

    def through_at_s(self, now_s: float, size_bytes: int) -> float:
        """Return when the last of `size_bytes` has left the link, and count them in."""
        self._free_at_s = max(now_s, self._free_at_s) + size_bytes / self.rate_bytes_per_s
        return self._free_at_s


@dataclass(slots=True)
class Flow:
    """One connection's way over the link."""

    link: Link
    _under_way_bytes: int = 0

    @property
    def has_room(self) -> bool:
        """A whole segment may be sent: to fill every gap in the window would end in ever smaller pieces (RFC 1122)."""
        return self._under_way_bytes + SEGMENT_BYTES <= self.link.window_bytes

    def sent(self, now_s: float, size_bytes: int) -> float:
        """Count in what is sent now, and return when it arrives; a delay later it must be `acknowledged`."""
        self._under_way_bytes += size_bytes
        return self.link.through_at_s(now_s, size_bytes) + self.link.delay_s

    def acknowledged(self, size_bytes: int) -> None:
        """Count out what has arrived at the far end."""
        self._under_way_bytes -= size_bytes


@asynccontextmanager
async def relay(link: Link, host: str, port: int) -> AsyncIterator[int]:
    """Give the port of the near end."""
    tasks: set[asyncio.Task[None]] = set()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(ConnectionError, asyncio.CancelledError):
            await _join(link, reader, writer, host, port)
        tasks.discard(task)

    # What the kernel takes in ahead of the window would look sent to the client.
    listening = socket.create_server((host, 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, link.window_bytes // 2)
    server = await asyncio.start_server(join, sock=listening, limit=SEGMENT_BYTES)
    try:
        yield listening.getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _join(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
    """Carry both ways until either end closes, and what is under way by then."""
    far_reader, far_writer = await asyncio.open_connection(host, port)
    try:
        await asyncio.sleep(link.round_trip_s)
        ways = (_there(Flow(link), reader, far_writer), _back(link, far_reader, writer))
        both = [asyncio.ensure_future(way) for way in ways]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in both:
                way.cancel()
            await asyncio.gather(*both, return_exceptions=True)
    finally:
        writer.close()
        far_writer.close()


@dataclass(slots=True)
class _Gate:
    """Where a flow waits for room."""

    flow: Flow
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def passed(self) -> None:
        while not self.flow.has_room:
            self.changed.clear()
            await self.changed.wait()

    def opened(self, size_bytes: int) -> None:
        self.flow.acknowledged(size_bytes)
        self.changed.set()


async def _there(flow: Flow, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry requests: a segment may start when the window has room for it, and takes its turn on the link."""
    loop = asyncio.get_running_loop()
    gate = _Gate(flow)
    arrives_s = loop.time()
    while True:
        await gate.passed()
        segment = await reader.read(SEGMENT_BYTES)
        if not segment:
            await asyncio.sleep(arrives_s + flow.link.delay_s - loop.time())
            return
        arrives_s = flow.sent(loop.time(), len(segment))
        loop.call_at(arrives_s, writer.write, segment)
        loop.call_at(arrives_s + flow.link.delay_s, gate.opened, len(segment))


async def _back(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry the answers, which are small: only late."""
    loop = asyncio.get_running_loop()
    while segment := await reader.read(SEGMENT_BYTES):
        loop.call_later(link.delay_s, writer.write, segment)
    await asyncio.sleep(link.delay_s)
