"""TLS connections that a worker thread can encrypt for, beside the event loop.

asyncio uses an `ssl.SSLObject` between two memory buffers, and moves their content from and to the socket. A
`SharedTls` is such an object for asyncio, and also encrypts the body of a request in a worker thread. OpenSSL encrypts
without the interpreter lock, so that the event loop and other threads run meanwhile, but one connection must not be
used by two threads at once: a lock keeps them apart. It is held for one operation, so the event loop still reads
everything that the server sends during a body.

OpenSSL's own buffers are not those of asyncio. As long as a body holds the connection, nothing is moved to asyncio's
outgoing buffer: all that is encrypted goes to the socket in the body's thread, in order.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast


class SharedTls(ssl.SSLObject):
    """One connection, made by `share`.

    A body calls `hold`, `encrypt` for all its bytes, and `release` when the socket has accepted them. If it ends early,
    the server never gets the rest, and the connection can only be closed.
    """

    def set_buffers(self, asyncio_buffers: _Buffers, own_buffers: _Buffers) -> None:
        """Begin; called instead of the constructor, which `ssl` does not call."""
        self._received, self._to_send = asyncio_buffers
        self._incoming, self._outgoing = own_buffers
        self._lock = threading.Lock()
        self._has_received = asyncio.Event()
        self._is_held = False
        self._held_bytes = 0

    def do_handshake(self) -> None:
        """Continue the handshake."""
        with self._exchanging():
            super().do_handshake()

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002, ANN401 - the signature of SSLObject
        """Decrypt received bytes."""
        with self._exchanging():
            return super().read(len, buffer)

    def write(self, data: Any) -> int:  # noqa: ANN401 - the signature of SSLObject
        """Encrypt bytes from the event loop."""
        with self._exchanging():
            count = super().write(data)
            self._held_bytes += count
            return count

    def unwrap(self) -> Any:  # noqa: ANN401 - the signature of SSLObject
        """End TLS; during a body the server is not told, because it lacks a part of what was encrypted."""
        with self._exchanging():
            return None if self._is_held else super().unwrap()

    def hold(self) -> None:
        """Keep encrypted bytes from now on, for `encrypt`. Raises ConnectionResetError after an unfinished body."""
        with self._lock:
            if self._is_held:
                raise ConnectionResetError("an earlier request on this connection is unfinished")
            self._is_held, self._held_bytes = True, 0

    @property
    def held_bytes(self) -> int:
        """Bytes that the event loop has written since `hold`."""
        return self._held_bytes

    def encrypt(self, data: memoryview) -> tuple[int, bytes]:
        """Return how many bytes are encrypted, and all that has to be sent now; call it in the body's thread.

        The count is smaller if TLS needs to receive something first. Raises ConnectionAbortedError.
        """
        with self._lock:
            count = 0
            try:
                while count < len(data):
                    count += super().write(data[count:])
            except ssl.SSLWantReadError:
                self._has_received.clear()
            except ssl.SSLError as error:
                raise ConnectionAbortedError(error.errno, f"TLS: {error.reason or error.strerror}") from error
            return count, self._outgoing.read()

    async def until_received(self) -> None:
        """Wait until something was received since the last `encrypt` that was incomplete."""
        await self._has_received.wait()

    def release(self) -> None:
        """Give the connection back to the event loop: the socket has accepted all that `encrypt` returned."""
        with self._lock:
            self._is_held = False
            self._move_outgoing()

    @contextmanager
    def _exchanging(self) -> Iterator[None]:
        """Exclude other threads, and exchange bytes with asyncio before and after an operation."""
        with self._lock:
            if received := self._received.read():
                self._incoming.write(received)
                self._has_received.set()
            if self._received.eof and not self._incoming.eof:
                self._incoming.write_eof()
            try:
                yield
            finally:
                self._move_outgoing()

    def _move_outgoing(self) -> None:
        if not self._is_held and self._outgoing.pending:
            self._to_send.write(self._outgoing.read())


_Buffers = tuple[ssl.MemoryBIO, ssl.MemoryBIO]
"""Received bytes, and bytes to send."""


class _SharingContext(ssl.SSLContext):
    """A context whose connections are `SharedTls`."""

    sslobject_class = SharedTls

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **kwargs: Any) -> ssl.SSLObject:  # noqa: ANN401 - passed on
        """Make a connection."""
        own_buffers = ssl.MemoryBIO(), ssl.MemoryBIO()
        shared = cast("SharedTls", super().wrap_bio(*own_buffers, *args, **kwargs))
        shared.set_buffers((incoming, outgoing), own_buffers)
        return shared


def share(context: ssl.SSLContext) -> None:
    """Make the connections of a context `SharedTls`; all settings of the context stay."""
    context.__class__ = _SharingContext
