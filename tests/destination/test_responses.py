"""Claims about the time limits of a response that is streamed."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from bulkstow.destination.responses import ResponseStream

pytestmark = pytest.mark.anyio

STALL_TIMEOUT_S = 60.0


class Reader:
    """Gives two pieces, and keeps the deadline that holds while the server is waited for."""

    def __init__(self, scope: anyio.CancelScope) -> None:
        self._scope = scope
        self._pieces = [b"", b"two", b"one"]
        self.allowed_s: list[float] = []

    async def readany(self) -> bytes:
        """Return the next piece."""
        self.allowed_s.append(self._scope.deadline - anyio.current_time())
        return self._pieces.pop()


class Receiver:
    """Keeps the deadline that holds while it is busy."""

    def __init__(self, scope: anyio.CancelScope) -> None:
        self._scope = scope
        self.deadlines: list[float] = []

    def begin(self, content_type: str) -> None:
        """Ignore the type."""

    async def take(self, piece: bytes) -> bool:
        """Keep the deadline."""
        self.deadlines.append(self._scope.deadline)
        return True


async def test_only_the_server_has_a_deadline() -> None:
    """Each piece has the stall timeout; while the receiver is busy there is no deadline."""
    with anyio.CancelScope() as scope:
        reader, receiver = Reader(scope), Receiver(scope)
        response: Any = SimpleNamespace(status=200, headers={}, content=reader)
        await ResponseStream(receiver, scope, STALL_TIMEOUT_S).run(response)
    assert receiver.deadlines == [math.inf, math.inf]
    assert len(reader.allowed_s) == 3
    assert all(0 < allowed_s <= STALL_TIMEOUT_S for allowed_s in reader.allowed_s)
