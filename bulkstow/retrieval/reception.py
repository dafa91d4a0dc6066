"""Receives instances from the source server into the spool.

The event loop never writes: received bytes are handed to worker threads. A small instance is written when it is whole
and its size is known; a large one grows in the spool while it is received.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

import anyio

from bulkstow.destination.wado import InstanceReceiver
from bulkstow.errors import HeadError, SpoolError
from bulkstow.model import Candidate, Extent, Header
from bulkstow.pipeline.worker_threads import run_blocking
from bulkstow.source.heads import read_instance
from bulkstow.source.spool import Spool, SpooledContent

WHOLE_BYTES = 2 * 2**20
"""Up to this size an instance is held until it is whole: CT and MR have 0.1 to 0.5 MB, a large radiograph 20 MB. With 8
concurrent requests that is 16 MiB."""

GROWTH_BYTES = 2**20
"""The received bytes that are written at once, of an instance that grows: a thread hop costs about 60 µs."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """An instance that was received and is in the spool."""

    extent: Extent
    header: Header | None
    """None if the received bytes are no instance."""
    reason: str = ""
    """The reason for that."""


Take = Callable[[ReceivedInstance], Awaitable[bool]]
"""Takes an instance, and its place in the spool; returns False if nothing more is needed.

The server waits meanwhile."""


class SpoolReceiver(InstanceReceiver):
    """Receives the instances of one response, and passes each on when it is whole.

    `close` removes content that is not whole.
    """

    def __init__(self, spool: Spool, threads: Executor, take: Take, *, accept_missing_preamble: bool = False) -> None:
        self._accept_missing_preamble = accept_missing_preamble
        self._spool = spool
        self._threads = threads
        self._take = take
        self._pieces: list[memoryview] = []
        self._piece_bytes = 0
        self._reserved_bytes = 0
        """Room for a content that has not begun."""
        self._content: SpooledContent | None = None
        self.longest_wait_s = 0.0
        """The longest time without reading, as there was no room."""
        self.failure: SpoolError | None = None
        """The error of the spool that ended the reception."""

    @property
    def instance_bytes(self) -> int:
        """The bytes of the instance under way, so far."""
        return self._piece_bytes + (0 if self._content is None else self._content.size_bytes)

    async def take(self, data: Sequence[memoryview]) -> bool:
        """Take the next bytes of an instance; return False if the spool fails."""
        self._pieces += data
        self._piece_bytes += sum(map(len, data))
        if self._piece_bytes < (WHOLE_BYTES if self._content is None else GROWTH_BYTES):
            return True
        return await self._with_room(self._write_growing) is not None

    async def end(self) -> bool:
        """End an instance, and pass it on; return False if nothing more is needed, or the spool fails."""
        received = await self._with_room(self._finish)
        return isinstance(received, ReceivedInstance) and await self._take(received)

    async def close(self) -> None:
        """Remove content that is not whole, and give back room that is not used."""
        self._spool.give_back(self._reserved_bytes)
        self._reserved_bytes = 0
        content, self._content = self._content, None
        if content is not None:
            with anyio.CancelScope(shield=True):
                await run_blocking(self._threads, content.abort)

    async def _with_room(self, call: Callable[[], T]) -> T | None:
        """Wait for room for the bytes that are held, and make a blocking call; return None if the spool fails."""
        since_s = anyio.current_time()
        try:
            if self._content is not None:
                await self._spool.grow(self._content, self._piece_bytes)
            else:
                await self._spool.reserve(self._piece_bytes)
                self._reserved_bytes = self._piece_bytes
            self.longest_wait_s = max(self.longest_wait_s, anyio.current_time() - since_s)
            return await run_blocking(self._threads, call)
        except SpoolError as failure:
            self.failure = failure
            return None

    # The following methods block, and are called in worker threads.

    def _write_growing(self) -> SpooledContent:
        return self._write(grows=True)

    def _finish(self) -> ReceivedInstance:
        """Write the last bytes, and read the head of the instance."""
        extent = self._write(grows=False).finish()
        self._content = None
        try:
            received = Candidate(extent.path, extent.size_bytes, "", extent=extent)
            head = read_instance(received, accept_missing_preamble=self._accept_missing_preamble)
        except HeadError as error:
            return ReceivedInstance(extent, None, str(error))
        except OSError as error:
            self._spool.release(extent)
            raise SpoolError(f"the spool cannot be read: {error.strerror or error}") from error
        return ReceivedInstance(extent, head.header)

    def _write(self, *, grows: bool) -> SpooledContent:
        """Write the bytes that are held, in the room for them. Raises SpoolError."""
        content = self._content
        if content is None:
            content = self._content = self._spool.begin(self._reserved_bytes, grows=grows)
            self._reserved_bytes = 0
        pieces, self._pieces, self._piece_bytes = self._pieces, [], 0
        for piece in pieces:
            content.write(piece)
        return content
