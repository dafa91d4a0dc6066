"""Sender processes of this computer: how the coordinator starts one, and what one runs.

Messages go through the standard streams of the process, each with its length in front. A sender ends by itself, in
whatever state it is, as soon as its standard input ends: so none is left over if the coordinator is killed.
"""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import BinaryIO

import anyio

from bulkstow.engine.messages import FromSender, ToSender, decode, encode
from bulkstow.platform.signals import ending_signals

_LENGTH = struct.Struct("=Q")

_START = """
import sys
sys.path[:] = sys.argv[1:]
from bulkstow.platform.start_up import quick_start
with quick_start():
    from bulkstow.engine import process, sender
process.main()
"""
"""The new interpreter imports from where this one does, and nothing of the program that called bulkstow."""

END_TIMEOUT_S = 5.0
"""Time for a sender to end by itself; it takes some milliseconds, unless the storage hangs."""


class ProcessChannel:
    """The coordinator's end of the channel to a sender process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise TypeError("a sender process needs pipes")
        self._process = process
        self._to_sender = process.stdin
        self._from_sender = process.stdout

    @classmethod
    async def start(cls) -> ProcessChannel:
        """Start a process. Raises OSError if the system has none left."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _START,
            *sys.path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is for the coordinator, which drains the run
        )
        return cls(process)

    @property
    def name(self) -> str:
        """The process by its number."""
        return f"process {self._process.pid}"

    @property
    def ending(self) -> str:
        """How the process has ended, once it is closed."""
        status = self._process.returncode
        if status is None or status >= 0:
            return f"ended with status {status}"
        return f"was ended by {signal.Signals(-status).name}"

    def send(self, message: ToSender) -> None:
        """Write a message to the pipe, or keep it until the pipe takes it."""
        if not self._to_sender.is_closing():
            data = encode(message)
            self._to_sender.write(_LENGTH.pack(len(data)))
            self._to_sender.write(data)

    async def receive(self) -> FromSender | None:
        """Wait for the next message; None if the process has ended."""
        try:
            (length,) = _LENGTH.unpack(await self._from_sender.readexactly(_LENGTH.size))
            message = decode(await self._from_sender.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return None
        return message  # type: ignore[return-value] # the other end sends nothing else

    async def close(self) -> None:
        """Close the process's standard input, and kill the process if it does not end."""
        with anyio.CancelScope(shield=True):
            self._to_sender.close()
            with anyio.move_on_after(END_TIMEOUT_S):
                await self._process.wait()
                return
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


def main() -> None:
    """Be a sender until standard input ends; for a process that a coordinator has started."""
    from bulkstow.engine.sender import serve

    for number in ending_signals():
        signal.signal(number, signal.SIG_IGN)  # the coordinator decides what ends, and when
    # Whatever prints to standard output by mistake must not get between the messages.
    messages_out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    async def run() -> None:
        outgoing: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=_write, args=(messages_out, outgoing), daemon=True).start()
        await serve(_received(sys.stdin.buffer), lambda message: outgoing.put(encode(message)))

    anyio.run(run)


async def _received(stream: BinaryIO) -> AsyncIterator[ToSender]:
    """Yield the coordinator's messages; a thread reads them, and ends this process when they end."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Queue[ToSender]()
    threading.Thread(target=_read, args=(stream, loop, arrived), daemon=True).start()
    while True:
        yield await arrived.get()


def _read(stream: BinaryIO, loop: asyncio.AbstractEventLoop, arrived: asyncio.Queue[ToSender]) -> None:
    with suppress(OSError, RuntimeError):
        while len(head := stream.read(_LENGTH.size)) == _LENGTH.size:
            (length,) = _LENGTH.unpack(head)
            if len(data := stream.read(length)) < length:
                break
            message: ToSender = decode(data)  # type: ignore[assignment] # the other end sends nothing else
            loop.call_soon_threadsafe(arrived.put_nowait, message)
    os._exit(0)  # nothing here has to be finished, and threads may hang


def _write(stream: BinaryIO, outgoing: queue.SimpleQueue[bytes]) -> None:
    with suppress(OSError):
        while True:
            data = outgoing.get()
            stream.write(_LENGTH.pack(len(data)))
            stream.write(data)
            stream.flush()
    os._exit(1)  # the coordinator is gone
