"""Where a body's bytes leave: aiohttp's writer of one request, and the socket beneath it.

Owns what bodies may know of aiohttp: that a piece was taken, and whether the socket may be written to directly. That is
so over plain TCP with a Content-Length, once the request's head has left; TLS and chunks are aiohttp's work.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Protocol

import aiohttp.abc

from bulkstow.destination.courier import handle_on
from bulkstow.platform.sockets import can_send_files, congestion_times

HEARING_S = 1.0
"""What a peer said before it closed is in our socket already, and the loop needs one look, 5 ms; a loop that is busy
with other requests may need as long as the longest turn that ever held it up, some tenths of a second."""


@dataclass(frozen=True, slots=True)
class Congestion:
    """A connection's time in seconds: with bytes on their way, and of that waiting for room at the other end."""

    busy_s: float
    receive_window_s: float

    def receive_window_since(self, before: Congestion) -> float:
        """Return the share of the busy time since then in which the other end had no room."""
        busy_s = self.busy_s - before.busy_s
        return min(1.0, (self.receive_window_s - before.receive_window_s) / busy_s) if busy_s > 0 else 0.0


class Descriptor(Protocol):
    """What can be waited for."""

    def fileno(self) -> int:
        """Return its number."""


class RequestWriter:
    """One request's way out; belongs to the event loop."""

    def __init__(self, writer: aiohttp.abc.AbstractStreamWriter, *, chunked: bool) -> None:
        self._writer = writer
        self._chunked = chunked
        if (transport := self._transport) is not None:
            # Nothing is left in the transport when a write returns: what it has taken, the socket has. A plain
            # transport is full above its limit, one of TLS at its limit, so that 0 would be full for ever.
            transport.set_write_buffer_limits(high=1 if self._is_tls else 0, low=0)

    @property
    def _transport(self) -> asyncio.Transport | None:
        return getattr(self._writer, "transport", None)

    @property
    def _is_tls(self) -> bool:
        return self._transport is not None and self._transport.get_extra_info("sslcontext") is not None

    async def write(self, piece: memoryview) -> None:
        """Write a piece and wait until the socket has it; its memory is free then. Raises OSError."""
        await self._writer.write(piece)
        await self._writer.drain()

    async def handle(self) -> socket.socket | None:
        """Send the request's head and return a handle on the socket; None where bytes must go through `write`.

        Raises OSError.
        """
        transport = self._transport
        if transport is None or self._chunked or self._is_tls or not can_send_files():
            return None
        inner = transport.get_extra_info("socket")
        if inner is None or inner.fileno() < 0:
            return None
        self._writer.send_headers()
        await self._writer.drain()
        return handle_on(inner.fileno())

    def congestion(self) -> Congestion | None:
        """Return what the kernel has counted on this connection so far; None where it counts nothing."""
        inner = None if self._transport is None else self._transport.get_extra_info("socket")
        times_s = None if inner is None else congestion_times(inner)
        return None if times_s is None else Congestion(*times_s)

    async def free(self, descriptor: Descriptor) -> None:
        """Wait until the socket takes something, or is lost."""
        loop = asyncio.get_running_loop()
        is_free = asyncio.Event()
        loop.add_writer(descriptor.fileno(), is_free.set)
        try:
            await is_free.wait()
        finally:
            loop.remove_writer(descriptor.fileno())

    async def hear_out(self) -> None:
        """Let the loop read what the peer said before it closed, a refusal perhaps; aiohttp ends our task for it."""
        until_s = asyncio.get_running_loop().time() + HEARING_S
        while (transport := self._transport) is not None and not transport.is_closing():
            if asyncio.get_running_loop().time() > until_s:
                return
            await asyncio.sleep(0.005)
