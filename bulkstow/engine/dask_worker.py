"""A sender in a worker of a Dask cluster, and the messages between it and the coordinator.

The coordinator opens a connection to the worker's own address, over TCP or TLS as the cluster has it, and keeps it for
the messages of one sender. So messages stay in order, and both ends notice at once when the other is lost: a sender
whose coordinator was killed cancels its requests and ends.

This module is imported by workers; nothing else of bulkstow has to run there.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from importlib.metadata import version
from typing import cast

import anyio
from distributed import Worker
from distributed.comm import Comm
from distributed.core import Status

from bulkstow.engine.messages import Failed, FromSender, ToSender, decode, encode
from bulkstow.engine.sender import serve
from bulkstow.errors import RunStopped, first_of

OPERATION = "bulkstow-sender"
"""The name of our operation, beside those that a Dask worker has for its own connections."""

CLOSE_TIMEOUT_S = 5.0
"""Time for the last bytes of a connection to leave; it takes some milliseconds, unless the network is gone."""


class CommStream:
    """The messages of one sender on a connection of Dask, at either end; belongs to the event loop.

    `write` has to be running while messages are sent.
    """

    def __init__(self, comm: Comm, name: str) -> None:
        self.name = name
        self._comm = comm
        self._incoming: deque[bytes] = deque()
        self._outgoing: list[bytes] = []
        self._changed = asyncio.Event()
        self._is_ended = False

    def send(self, message: ToSender | FromSender) -> None:
        """Send a message after those before it; without effect if the other end is lost."""
        self._outgoing.append(encode(message))
        self._changed.set()

    def end(self) -> None:
        """Send nothing more: `write` returns once all is written."""
        self._is_ended = True
        self._changed.set()

    async def write(self) -> None:
        """Write what is sent, several messages at once where they come so fast, until the end."""
        with suppress(OSError):  # `receive` notices that the connection is lost
            while self._outgoing or not self._is_ended:
                await self._changed.wait()
                self._changed.clear()
                outgoing, self._outgoing = self._outgoing, []
                if outgoing:
                    await self._comm.write(outgoing)

    async def receive(self) -> FromSender | None:
        """Wait for the next message; None if the connection is closed or lost."""
        while not self._incoming:
            try:
                self._incoming.extend(await self._comm.read())
            except OSError:
                return None
        return cast("FromSender", decode(self._incoming.popleft()))

    async def received(self) -> AsyncIterator[ToSender]:
        """Yield the messages to a sender until the connection is closed or lost."""
        while (message := await self.receive()) is not None:
            yield cast("ToSender", message)

    async def close(self) -> None:
        """Close the connection, which ends the sender."""
        with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            await self._comm.close()
        self._comm.abort()


def versions() -> dict[str, str]:
    """Return the versions that the coordinator and a worker have to share: messages are pickled."""
    return {"bulkstow": version("bulkstow"), "Python": f"{sys.version_info.major}.{sys.version_info.minor}"}


def accept_senders(dask_worker: Worker) -> dict[str, str]:
    """Let coordinators connect to this worker, and return its versions."""
    dask_worker.handlers[OPERATION] = _serve
    return versions()


async def _serve(comm: Comm) -> Status:
    """Be a sender for the coordinator that has connected; a worker calls this, and gives the connection away."""
    stream = CommStream(comm, "")
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.write)
            try:
                await serve(stream.received(), stream.send)
            except Exception as error:  # noqa: BLE001 - it must not end the worker, which others use too
                reason = first_of(error)
                stream.send(Failed(None, RunStopped.__name__, f"{type(reason).__name__}: {reason}"))
            stream.end()
    finally:
        await stream.close()
    return Status.dont_reply
