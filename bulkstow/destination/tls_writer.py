"""Send a body over TLS: a worker thread reads, encrypts and sends it, one block after the other.

The event loop takes no part, so that it is free for other requests, and so is the interpreter lock while the storage,
OpenSSL or the socket work. Blocks are small enough for the processor's cache: plain and encrypted bytes are copied
there.
"""

from __future__ import annotations

import socket
from collections.abc import Generator

from bulkstow.destination.segments import Blocks, BodyReader
from bulkstow.destination.tls import SharedTls
from bulkstow.destination.turns import TurnEnd, TurnWriter
from bulkstow.ports import Segment


class TlsWriter(TurnWriter):
    """Sends one body over a TLS connection that is held for it."""

    def __init__(
        self, drawn: Generator[Segment], length_bytes: int, connection: socket.socket, tls: SharedTls, blocks: Blocks
    ) -> None:
        super().__init__(length_bytes, connection)
        self._reader = BodyReader(drawn)
        self._tls = tls
        self._blocks = blocks
        self._block = blocks.take()
        self._plain = memoryview(b"")
        """The rest of the block that is not encrypted yet."""
        self._encrypted = memoryview(b"")
        """Encrypted bytes that the socket has not accepted yet."""
        self._encrypted_bytes = 0
        """Bytes of the body that are encrypted."""
        self._awaits_server = False

    @property
    def read_bytes(self) -> int:
        """Bytes read so far."""
        return self._reader.read_bytes

    @property
    def reading_s(self) -> float:
        """The time of all reads."""
        return self._reader.reading_s

    @property
    def waited_s(self) -> float:
        """Time of all turns without that of the reads: encryption counts as sending."""
        return max(0.0, self._turns.elapsed_s - self._reader.reading_s)

    async def until_ready(self) -> None:
        """Wait for the server's bytes if TLS needs them, else for the socket."""
        if self._awaits_server:
            await self._tls.until_received()
        else:
            await super().until_ready()

    def _step(self, end_bytes: int) -> TurnEnd | None:
        if self.sent_bytes == end_bytes:
            return TurnEnd.TURN
        if self._encrypted:
            return self._push(end_bytes - self.sent_bytes)
        if not self._plain:
            count = self._reader.read_into(self._block[: end_bytes - self._encrypted_bytes])
            self._plain = self._block[:count]
            return None if count else TurnEnd.SENT
        count, encrypted = self._tls.encrypt(self._plain)
        self._plain, self._encrypted = self._plain[count:], memoryview(encrypted)
        self._encrypted_bytes += count
        self._awaits_server = not encrypted
        return TurnEnd.FULL if self._awaits_server else None

    def _push(self, most_bytes: int) -> TurnEnd | None:
        self._encrypted = self._encrypted[self._connection.send(self._encrypted[:most_bytes]) :]
        # Encrypted bytes are more than plain ones, so at least these are sent; all of them at the end.
        self.sent_bytes = max(self.sent_bytes, self._encrypted_bytes - len(self._encrypted))
        if self._encrypted or self.sent_bytes < self._length_bytes:
            return None
        self._tls.release()
        return TurnEnd.SENT

    def _close_source(self) -> None:
        self._blocks.give_back(self._block)
        self._reader.close()
