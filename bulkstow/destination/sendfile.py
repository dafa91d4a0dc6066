"""Send a body with sendfile(2): file content goes from the page cache to the socket without a copy in this process.

Owns the blocking half, which runs in worker threads: sendfile(2) for files and send(2) for the framing between them,
until everything is sent, the turn is over, or the socket is full. The event loop waits for the socket between turns
(see `body`). The socket is a duplicate of aiohttp's: its descriptor stays valid until it is closed here.

Not for TLS or chunked bodies: their bytes have to pass through aiohttp.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Generator
from contextlib import suppress
from enum import Enum

from bulkstow.platform.sockets import MORE_FOLLOWS, send_file, wait_writable
from bulkstow.ports import FileRange, Segment, size_of

TURN_BYTES = 16 * 2**20
"""The most that one turn sends. 16 MiB take 3 ms on loopback and a turn costs 100 µs; 4 MiB made a 4.2 GB run 10 %
slower."""

TURN_S = 0.05
"""The longest turn. Progress and the stall timeout are updated after each turn."""

CALL_BYTES = 4 * 2**20
"""The most that one call sends: progress shows only when the call returns, and storage with 20 kB/s is not a failure.
Four calls instead of one for 16 MiB cost some microseconds."""

SPACE_TIMEOUT_S = 0.004
"""How long a turn waits for a full socket before it gives its thread back. Loopback has space again within 1 ms."""

COPY_BYTES = 256 * 2**10
"""The read size on file systems without sendfile (some FUSE file systems)."""


class Stopwatch:
    """The time that a worker thread spends on something; other threads may read it meanwhile."""

    def __init__(self) -> None:
        self._total_s = 0.0
        self._began_s: float | None = None

    @property
    def elapsed_s(self) -> float:
        """The time of all turns, including the running one."""
        began_s = self._began_s
        return self._total_s + (0.0 if began_s is None else time.perf_counter() - began_s)

    def __enter__(self) -> None:
        self._began_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        total_s, self._began_s = self.elapsed_s, None
        self._total_s = total_s


class TurnEnd(Enum):
    """The reason why a turn ended."""

    SENT = "everything is sent"
    TURN = "the turn is over"
    FULL = "the socket is full"


class SendfileWriter:
    """Sends one body. One thread at a time may call `send`; `stop` and `shut_down` may be called meanwhile."""

    def __init__(self, drawn: Generator[Segment], length_bytes: int, connection: socket.socket) -> None:
        self._drawn = drawn
        self._length_bytes = length_bytes
        self._connection = connection
        self._segment: Segment | None = None
        self._offset = 0
        self._copies = False
        self._stopped = False
        self.sent_bytes = 0
        self.waited_s = 0.0
        """Time spent waiting for the socket within turns."""
        self._turns = Stopwatch()

    @property
    def read_bytes(self) -> int:
        """Bytes read so far: all of them are sent."""
        return self.sent_bytes

    @property
    def reading_s(self) -> float:
        """Time of all turns without the time spent waiting for the socket."""
        return self._turns.elapsed_s - self.waited_s

    def send(self, turn_bytes: int = TURN_BYTES) -> TurnEnd:
        """Send at most `turn_bytes` while the socket accepts them.

        Blocks on the storage. Raises InstanceChanged, and OSError when the connection is lost.
        """
        with self._turns:
            return self._send(self.sent_bytes + turn_bytes, time.perf_counter() + TURN_S)

    def _send(self, end_bytes: int, end_s: float) -> TurnEnd:
        while not self._stopped and time.perf_counter() < end_s:
            if self._segment is None:
                self._segment, self._offset = next(self._drawn, None), 0
                if self._segment is None:
                    return TurnEnd.SENT
                continue  # opening the file may have taken long: check the time and `stop` again
            wanted_bytes = min(size_of(self._segment) - self._offset, end_bytes - self.sent_bytes)
            if not wanted_bytes:
                return TurnEnd.TURN
            try:
                count = self._push(self._segment, wanted_bytes)
            except BlockingIOError:
                if not self._has_space_soon():
                    return TurnEnd.FULL
                continue
            self._offset += count
            self.sent_bytes += count
            if self.sent_bytes == self._length_bytes:
                return TurnEnd.SENT  # every file was compared before the last segment was drawn
            if self._offset == size_of(self._segment):
                self._segment = None
        return TurnEnd.TURN

    async def until_space(self) -> None:
        """Wait in the event loop until the socket accepts bytes or is lost."""
        loop = asyncio.get_running_loop()
        has_space = asyncio.Event()
        loop.add_writer(self._connection.fileno(), has_space.set)
        try:
            await has_space.wait()
        finally:
            loop.remove_writer(self._connection.fileno())

    def stop(self) -> None:
        """Send nothing more; a running turn ends after its current call."""
        self._stopped = True

    def shut_down(self) -> None:
        """Shut the connection down, which also ends a running turn."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the open file and the duplicated socket; no turn may be running."""
        try:
            self._drawn.close()
        finally:
            self._connection.close()

    def _push(self, segment: Segment, wanted_bytes: int) -> int:
        if isinstance(segment, memoryview):
            piece = segment[self._offset : self._offset + wanted_bytes]
            is_last = self.sent_bytes + wanted_bytes == self._length_bytes
            return self._connection.send(piece, 0 if is_last else MORE_FOLLOWS)
        if self._copies:
            return self._copy(segment, wanted_bytes)
        try:
            count = send_file(
                self._connection,
                segment.descriptor,
                segment.offset + self._offset,
                min(wanted_bytes, CALL_BYTES),
            )
        except (BlockingIOError, ConnectionError):
            raise
        except OSError:
            count = 0
        if count:
            return count
        # The file system has no sendfile, the storage fails, or the file ends: a read tells which.
        self._copies = True
        return self._copy(segment, wanted_bytes)

    def _copy(self, segment: FileRange, wanted_bytes: int) -> int:
        view = memoryview(bytearray(min(wanted_bytes, COPY_BYTES)))
        count = segment.read_into(view, self._offset)
        return self._connection.send(view[:count], MORE_FOLLOWS)

    def _has_space_soon(self) -> bool:
        started_s = time.perf_counter()
        has_space = wait_writable(self._connection, SPACE_TIMEOUT_S)
        self.waited_s += time.perf_counter() - started_s
        return has_space


def duplicate_socket(descriptor: int) -> socket.socket | None:
    """Return a duplicate of a connected socket, or None if the system refuses one."""
    with suppress(OSError):
        duplicate = os.dup(descriptor)
        try:
            return socket.socket(fileno=duplicate)
        except OSError:
            os.close(duplicate)
    return None
