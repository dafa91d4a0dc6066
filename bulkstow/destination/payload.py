"""A request's body as aiohttp takes it.

aiohttp cancels a body that is midway when the answer comes or the connection ends, and does not wait for the end of
that. A payload can be waited for.
"""

from __future__ import annotations

from typing import Protocol

import aiohttp
import aiohttp.abc
import anyio

from bulkstow.destination.outlet import RequestWriter

HEARING_S = 0.2
"""A body that is being ended ends within 0.1 s, where the disk does not hang."""

ENDING_S = 5.0
"""A body that is ended ends within one turn of the loop; one that did not must not hold up the run."""


class Upload(Protocol):
    """A request's body."""

    @property
    def is_started(self) -> bool:
        """Some of it has left."""

    @property
    def is_taken(self) -> bool:
        """All of it has left."""

    async def write(self, request_writer: RequestWriter) -> None:
        """Send it; raises OSError, or whatever else ends the request."""


class Octets:
    """A short body, held whole."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.is_started = False
        self.is_taken = False

    def __len__(self) -> int:
        return len(self._octets)

    async def write(self, request_writer: RequestWriter) -> None:
        """Send it."""
        self.is_started = True
        await request_writer.write(memoryview(self._octets))
        self.is_taken = True


class Payload(aiohttp.Payload):
    """A body, as aiohttp takes it."""

    def __init__(self, body: Upload, *, chunked: bool) -> None:
        super().__init__(body)
        self._body = body
        self._chunked = chunked
        self._under_way: anyio.Event | None = None

    async def write(self, writer: aiohttp.abc.AbstractStreamWriter) -> None:
        """Send the body; raises what the body raises."""
        self._under_way = anyio.Event()
        try:
            await self._body.write(RequestWriter(writer, chunked=self._chunked))
        finally:
            self._under_way.set()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's signature
        """Raise TypeError."""
        raise TypeError("a body that is streamed has no text")

    async def is_heard_out(self) -> bool:
        """Say whether the server took the whole body before it answered."""
        await self._ended(HEARING_S)  # an answer can be faster than the thread that has just sent the last byte
        return self._body.is_taken

    async def ended(self) -> None:
        """Wait until nothing writes any more; aiohttp ends a body that is midway, and does not wait for its end."""
        with anyio.CancelScope(shield=True):
            await self._ended(ENDING_S)

    async def _ended(self, patience_s: float) -> None:
        if self._under_way is not None and not self._under_way.is_set():
            with anyio.move_on_after(patience_s):
                await self._under_way.wait()
