"""Straight into the socket: a body's files go from the page cache to the network without passing through this process.

Owns the blocking half of that, which runs in threads: sendfile(2) for files, send(2) for what lies between them, until
all is sent, or enough for one turn, or the socket takes no more. The event loop does the waiting (see `body`). The
socket is a second handle on aiohttp's: it stays good, and its number is nobody else's, until we close it.

Not for TLS, nor for chunks: there the bytes have to pass through aiohttp.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Generator
from contextlib import suppress
from enum import Enum

from bulkstow.destination.contents import FileRange, Segment, Stopwatch, read_into, size_of
from bulkstow.platform.sockets import MORE_FOLLOWS, send_file, wait_writable

TURN_BYTES = 16 * 2**20
TURN_S = 0.05
"""What one turn in a thread sends at most, and for how long. A turn costs about 100 µs with all that wakes up for it;
16 MiB take 3 ms on loopback, and turns of 4 MiB made a run of 4.2 GB a tenth slower. The figures that the user sees,
and the clock that calls a server stalled, are set after each turn."""

CALL_BYTES = 4 * 2**20
"""What one call sends at most: how far it has come shows only when it is over, and a disk that gives 20 kB/s is slow,
not gone. Sixteen MiB in four calls instead of one cost some microseconds more."""

PATIENCE_S = 0.004
"""How long a turn waits in its thread for a socket that is full. Loopback is free again within 1 ms, which spares the
turn; a slow link is waited for by the event loop, and the thread is free."""

COPY_BYTES = 256 * 2**10
"""For the file systems that have no sendfile (some of FUSE's)."""


class TurnEnd(Enum):
    """Why a turn ended."""

    SENT = "all is sent"
    TURN = "enough for one turn"
    FULL = "the socket takes no more for now"


class SendfileWriter:
    """Carries one body. One thread at a time may call `carry`; `give_up` may be called meanwhile."""

    def __init__(self, drawn: Generator[Segment], length_bytes: int, handle: socket.socket) -> None:
        self._drawn = drawn
        self._length_bytes = length_bytes
        self._handle = handle
        self._segment: Segment | None = None
        self._offset = 0
        self._copies = False
        self._given_up = False
        self.sent_bytes = 0
        self.waited_s = 0.0
        """For the socket, within turns."""
        self._carrying = Stopwatch()

    @property
    def read_bytes(self) -> int:
        """What has been read, as all of it has been sent."""
        return self.sent_bytes

    @property
    def reading_s(self) -> float:
        """The time of all turns, but for what they waited for the socket."""
        return self._carrying.elapsed_s - self.waited_s

    def fileno(self) -> int:
        """Return the socket's number, to wait for it."""
        return self._handle.fileno()

    def carry(self, turn_bytes: int = TURN_BYTES) -> TurnEnd:
        """Send so many bytes at most, as long as the socket takes them.

        Blocks on the disk. Raises SourceChanged, and OSError when the connection is lost.
        """
        with self._carrying:
            return self._carry(self.sent_bytes + turn_bytes, time.perf_counter() + TURN_S)

    def _carry(self, end_bytes: int, end_s: float) -> TurnEnd:
        while not self._given_up and time.perf_counter() < end_s:
            if self._segment is None:
                self._segment, self._offset = next(self._drawn, None), 0
                if self._segment is None:
                    return TurnEnd.SENT
                continue  # the disk may have taken its time, and nobody may want it any more
            wanted_bytes = min(size_of(self._segment) - self._offset, end_bytes - self.sent_bytes)
            if not wanted_bytes:
                return TurnEnd.TURN
            try:
                count = self._push(self._segment, wanted_bytes)
            except BlockingIOError:
                if not self._is_free_soon():
                    return TurnEnd.FULL
                continue
            self._offset += count
            self.sent_bytes += count
            if self.sent_bytes == self._length_bytes:
                return TurnEnd.SENT  # every file was compared before the last segment was drawn
            if self._offset == size_of(self._segment):
                self._segment = None
        return TurnEnd.TURN

    def give_up(self) -> None:
        """Send nothing more; a turn under way ends at its next look."""
        self._given_up = True

    def hang_up(self) -> None:
        """End the connection, also for a turn that is under way."""
        with suppress(OSError):
            self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the file that is open, and our handle on the socket; no turn may be under way."""
        try:
            self._drawn.close()
        finally:
            self._handle.close()

    def _push(self, segment: Segment, wanted_bytes: int) -> int:
        if isinstance(segment, memoryview):
            piece = segment[self._offset : self._offset + wanted_bytes]
            is_last = self.sent_bytes + wanted_bytes == self._length_bytes
            return self._handle.send(piece, 0 if is_last else MORE_FOLLOWS)
        if self._copies:
            return self._copy(segment, wanted_bytes)
        try:
            count = send_file(self._handle, segment.descriptor, self._offset, min(wanted_bytes, CALL_BYTES))
        except (BlockingIOError, ConnectionError):
            raise
        except OSError:
            count = 0
        if count:
            return count
        # The file system has no sendfile, the disk fails, or the file ends: reading shows which.
        self._copies = True
        return self._copy(segment, wanted_bytes)

    def _copy(self, segment: FileRange, wanted_bytes: int) -> int:
        view = memoryview(bytearray(min(wanted_bytes, COPY_BYTES)))
        count = read_into(view, segment, self._offset)
        return self._handle.send(view[:count], MORE_FOLLOWS)

    def _is_free_soon(self) -> bool:
        started_s = time.perf_counter()
        is_free = wait_writable(self._handle, PATIENCE_S)
        self.waited_s += time.perf_counter() - started_s
        return is_free


def handle_on(descriptor: int) -> socket.socket | None:
    """Return a second handle on a connected socket; None where it cannot be had."""
    with suppress(OSError):
        duplicate = os.dup(descriptor)
        try:
            return socket.socket(fileno=duplicate)
        except OSError:
            os.close(duplicate)
    return None
