"""The connection of one request, for its body: pieces through aiohttp, or the socket itself for worker threads."""

from __future__ import annotations

import asyncio
import socket

import aiohttp.abc

from bulkstow.destination.tls import SharedTls
from bulkstow.destination.turns import duplicate_socket
from bulkstow.platform.sockets import can_send_files, congestion_times


class RequestWriter:
    """The connection of one request, for its body; belongs to the event loop."""

    def __init__(self, writer: aiohttp.abc.AbstractStreamWriter, *, chunked: bool) -> None:
        self._writer = writer
        self._chunked = chunked
        self._before_s = self._congestion_times()
        if (transport := self._transport) is not None:
            # The transport buffers nothing when a write returns: the socket has all accepted bytes. A plain
            # transport is full above its limit, one of TLS at its limit, so that 0 would never have space.
            transport.set_write_buffer_limits(high=1 if self._is_tls else 0, low=0)

    @property
    def tls(self) -> SharedTls | None:
        """The connection's encryption, if it has one that worker threads can use."""
        tls = None if self._transport is None else self._transport.get_extra_info("ssl_object")
        return tls if isinstance(tls, SharedTls) else None

    async def write(self, piece: memoryview) -> None:
        """Write a piece and wait until the socket has it; its memory is free then. Raises OSError."""
        await self._writer.write(piece)
        await self._writer.drain()

    async def duplicate_socket(self) -> socket.socket | None:
        """Return a duplicate of the socket for worker threads, or None if the bytes must go through `write`.

        The request's head is sent. Over TLS, `tls` is held for the body, and keeps the head to be sent with it.
        Raises OSError.
        """
        connection = self._socket
        if self._chunked or not can_send_files() or connection is None or connection.fileno() < 0:
            return None
        if self._is_tls:
            return self._duplicate_under_tls(connection)
        self._writer.send_headers()
        await self._writer.drain()
        return duplicate_socket(connection.fileno())

    def _duplicate_under_tls(self, connection: socket.socket) -> socket.socket | None:
        # asyncio does not tell whether the socket has accepted all earlier records, of the handshake for example. An
        # idle connection accepts them at once; if it has not, the server misses a record and ends the connection.
        if self.tls is None or self._has_unsent():
            return None
        duplicate = duplicate_socket(connection.fileno())
        if duplicate is None:
            return None
        try:
            self.tls.hold()
            self._writer.send_headers()
            # asyncio drops bytes written after the server has ended TLS, and keeps bytes that TLS does not take yet.
            if self._has_unsent() or not self.tls.held_bytes:
                raise ConnectionResetError("the connection is about to end")
        except BaseException:
            duplicate.close()
            raise
        return duplicate

    def receive_window_share(self) -> float:
        """Return the share of this request's time with unacknowledged data in which the receive window was full.

        0 if the system counts nothing, or the connection is closed.
        """
        before_s, after_s = self._before_s, self._congestion_times()
        if before_s is None or after_s is None or (busy_s := after_s[0] - before_s[0]) <= 0:
            return 0.0
        return min(1.0, (after_s[1] - before_s[1]) / busy_s)

    def _congestion_times(self) -> tuple[float, float] | None:
        connection = self._socket
        return None if connection is None else congestion_times(connection)

    async def until_cancelled(self) -> None:
        """Wait until aiohttp cancels the caller, unless the connection is closed already.

        The event loop sees the end of a connection after everything that the server sent before it, a refusal perhaps.
        """
        if (transport := self._transport) is not None and not transport.is_closing():
            await asyncio.Event().wait()

    @property
    def _transport(self) -> asyncio.Transport | None:
        return getattr(self._writer, "transport", None)

    @property
    def _socket(self) -> socket.socket | None:
        return None if self._transport is None else self._transport.get_extra_info("socket")

    @property
    def _is_tls(self) -> bool:
        return self._transport is not None and self._transport.get_extra_info("sslcontext") is not None

    def _has_unsent(self) -> bool:
        return self._transport is not None and self._transport.get_write_buffer_size() > 0
