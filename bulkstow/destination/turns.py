"""Turns: a worker thread sends a part of a body on a duplicate of aiohttp's socket.

A turn ends when everything is sent, when it has sent or lasted enough, or when the socket is full; the event loop waits
for the socket between turns (see `body`). The duplicate's descriptor stays valid until it is closed here.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from enum import Enum

from bulkstow.platform.sockets import wait_writable

TURN_BYTES = 16 * 2**20
"""The most that one turn sends. 16 MiB take 3 ms on loopback and a turn costs 100 µs; 4 MiB made a 4.2 GB run 10 %
slower."""

TURN_S = 0.05
"""The longest turn. Progress and the stall timeout are updated after each turn."""

SPACE_TIMEOUT_S = 0.004
"""How long a turn waits for a full socket before it gives its thread back. Loopback has space again within 1 ms."""


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
    FULL = "the server has to act first: the socket is full, or TLS waits for bytes"


class TurnWriter(ABC):
    """Sends one body. One thread at a time may call `send`; `stop` and `shut_down` may be called meanwhile."""

    def __init__(self, length_bytes: int, connection: socket.socket) -> None:
        self._length_bytes = length_bytes
        self._connection = connection
        self._stopped = False
        self._turns = Stopwatch()
        self._space = Stopwatch()
        self.sent_bytes = 0
        """Bytes of the body that the socket has accepted."""

    @property
    @abstractmethod
    def read_bytes(self) -> int:
        """Bytes read so far."""

    @property
    @abstractmethod
    def reading_s(self) -> float:
        """The time spent reading them."""

    @property
    @abstractmethod
    def waited_s(self) -> float:
        """The time of turns that counts as waiting for the server."""

    def send(self, turn_bytes: int = TURN_BYTES) -> TurnEnd:
        """Send at most `turn_bytes` while the socket accepts them.

        Blocks on the storage. Raises InstanceChanged, and OSError when the connection is lost.
        """
        with self._turns:
            end_bytes, end_s = self.sent_bytes + turn_bytes, time.perf_counter() + TURN_S
            # A step may take long (opening a file): the time and `stop` are checked after each.
            while not self._stopped and time.perf_counter() < end_s:
                try:
                    end = self._step(end_bytes)
                except BlockingIOError:
                    end = None if self._has_space_soon() else TurnEnd.FULL
                if end is not None:
                    return end
            return TurnEnd.TURN

    async def until_ready(self) -> None:
        """Wait in the event loop, after FULL, until another turn makes sense or the connection is lost."""
        loop = asyncio.get_running_loop()
        has_space = asyncio.Event()
        loop.add_writer(self._connection.fileno(), has_space.set)
        try:
            await has_space.wait()
        finally:
            loop.remove_writer(self._connection.fileno())

    def stop(self) -> None:
        """Send nothing more; a running turn ends after its current step."""
        self._stopped = True

    def shut_down(self) -> None:
        """Shut the connection down, which also ends a running turn."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the open file and the duplicated socket; no turn may be running."""
        try:
            self._close_source()
        finally:
            self._connection.close()

    @abstractmethod
    def _step(self, end_bytes: int) -> TurnEnd | None:
        """Do a small part of a turn that ends at `end_bytes` of the body; return why the turn ends, if it does.

        Raises BlockingIOError when the socket is full.
        """

    @abstractmethod
    def _close_source(self) -> None:
        """Close the source of the body."""

    def _has_space_soon(self) -> bool:
        with self._space:
            return wait_writable(self._connection, SPACE_TIMEOUT_S)


def duplicate_socket(descriptor: int) -> socket.socket | None:
    """Return a duplicate of a connected socket, or None if the system refuses one."""
    with suppress(OSError):
        duplicate = os.dup(descriptor)
        try:
            return socket.socket(fileno=duplicate)
        except OSError:
            os.close(duplicate)
    return None
