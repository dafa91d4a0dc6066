"""Send a body with sendfile(2): file content goes from the page cache to the socket without a copy in this process.

sendfile(2) sends files, and send(2) the framing between them. Not for TLS or chunked bodies.
"""

from __future__ import annotations

import socket
from collections.abc import Generator

from bulkstow.destination.turns import TurnEnd, TurnWriter
from bulkstow.platform.sockets import MORE_FOLLOWS, send_file
from bulkstow.ports import FileRange, Segment, size_of

CALL_BYTES = 4 * 2**20
"""The most that one call sends: progress shows only when the call returns, and storage with 20 kB/s is not a failure.
Four calls instead of one for 16 MiB cost some microseconds."""

COPY_BYTES = 256 * 2**10
"""The read size on file systems without sendfile (some FUSE file systems)."""


class SendfileWriter(TurnWriter):
    """Sends one body over a plain connection."""

    def __init__(self, drawn: Generator[Segment], length_bytes: int, connection: socket.socket) -> None:
        super().__init__(length_bytes, connection)
        self._drawn = drawn
        self._segment: Segment | None = None
        self._offset = 0
        self._copies = False

    @property
    def read_bytes(self) -> int:
        """Bytes read so far: all of them are sent."""
        return self.sent_bytes

    @property
    def reading_s(self) -> float:
        """Time of all turns without the time spent waiting for the socket."""
        return self._turns.elapsed_s - self._space.elapsed_s

    @property
    def waited_s(self) -> float:
        """Time spent waiting for the socket within turns."""
        return self._space.elapsed_s

    def _step(self, end_bytes: int) -> TurnEnd | None:
        if self._segment is None:
            self._segment, self._offset = next(self._drawn, None), 0
            return TurnEnd.SENT if self._segment is None else None
        wanted_bytes = min(size_of(self._segment) - self._offset, end_bytes - self.sent_bytes)
        if not wanted_bytes:
            return TurnEnd.TURN
        count = self._push(self._segment, wanted_bytes)
        self._offset += count
        self.sent_bytes += count
        if self.sent_bytes == self._length_bytes:
            return TurnEnd.SENT  # every file was compared before the last segment was drawn
        if self._offset == size_of(self._segment):
            self._segment = None
        return None

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

    def _close_source(self) -> None:
        self._drawn.close()
