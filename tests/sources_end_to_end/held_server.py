"""A destination in this process that counts the instances it stores, and holds store requests until it is opened."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from bulkstow.model import StoreResponse
from bulkstow.server.storage import DirectoryStorage
from tests.cli.command import served


@dataclass
class HeldServer:
    """The destination, and the fault with which it holds requests."""

    storage: DirectoryStorage
    holds_from: int | None = None
    """The number of the first store request that is held."""
    before_body: bool = False
    """Requests are held before their bodies are read; otherwise after their instances are stored."""
    url: str = ""
    held: int = 0
    """The number of requests that were held, so far."""
    stored: Counter[str] = field(default_factory=Counter)
    """How often each SOP instance was stored."""
    answered: set[str] = field(default_factory=set)
    """The stored SOP instances whose requests were not held."""
    _waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = field(default_factory=list)

    async def before(self, request: web.Request, number: int) -> web.StreamResponse | None:
        """Hold a request before its body is read."""
        if self.before_body:
            await self._hold(number)
        return None

    async def after(self, request: web.Request, number: int, response: StoreResponse) -> StoreResponse:
        """Count the stored instances, and hold the response."""
        uids = [item.sop_instance_uid for item in response.stored]
        self.stored.update(uids)
        if not self.before_body and await self._hold(number):
            return response
        self.answered.update(uids)
        return response

    def open(self) -> None:
        """Let all requests continue, and hold no more."""
        self.holds_from = None
        for loop, event in self._waiting:
            loop.call_soon_threadsafe(event.set)

    async def _hold(self, number: int) -> bool:
        """Wait until the server is opened, if this request is to be held; return whether it was."""
        if self.holds_from is None or number < self.holds_from:
            return False
        event = asyncio.Event()
        self._waiting.append((asyncio.get_running_loop(), event))
        self.held += 1
        await event.wait()
        return True


@contextmanager
def held_server(directory: Path, *, holds_from: int, before_body: bool = False) -> Iterator[HeldServer]:
    """Run a destination that keeps its instances in a directory."""
    server = HeldServer(DirectoryStorage(directory), holds_from, before_body)
    with served(server.storage, fault=server) as server.url:
        try:
            yield server
        finally:
            server.open()
