"""A sender process of this computer: the coordinator's end, and the program that the process runs.

Messages go through the standard streams of the process, each with its length in front. A sender ends by itself, and
ends the commands that it runs, as soon as its standard input ends: so none is left over if the coordinator is killed.
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
from typing import BinaryIO, cast

import anyio

from bulkstow.engine.messages import FromSender, ToSender, decode, encode
from bulkstow.platform.process import end_with_parent, leave_group
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
        """Start a process. Raises OSError or RuntimeError if the system has none left, nor a thread to wait for it."""
        with anyio.CancelScope(shield=True):  # a process that is started half way could not be closed
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *(("-X", "utf8") if sys.flags.utf8_mode else ()),
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
        if status is None:
            return "hangs, and cannot be ended"
        if status >= 0:
            return f"ended with status {status}"
        names = {number.value: number.name for number in signal.Signals}
        return f"was ended by {names.get(-status, f'signal {-status}')}"

    def send(self, message: ToSender) -> None:
        """Write a message to the pipe, or keep it until the pipe takes it."""
        if not self._to_sender.is_closing():
            data = encode(message)
            self._to_sender.write(_LENGTH.pack(len(data)))
            self._to_sender.write(data)

    async def receive(self) -> FromSender | None:
        """Wait for the next message; None if the process has ended, or its bytes are no message.

        If another version of bulkstow is installed during the run, a new process speaks that one's language.
        """
        try:
            (length,) = _LENGTH.unpack(await self._from_sender.readexactly(_LENGTH.size))
            return cast("FromSender", decode(await self._from_sender.readexactly(length)))
        except Exception:  # noqa: BLE001 - pickle raises any error
            return None

    async def close(self) -> None:
        """Close the process's standard input, and kill the process if it does not end.

        A process that hangs in the storage cannot be killed before that answers; it is not waited for.
        """
        self._to_sender.close()
        with anyio.move_on_after(END_TIMEOUT_S, shield=True):
            await self._process.wait()
            return
        with suppress(ProcessLookupError):
            self._process.kill()
        with anyio.move_on_after(END_TIMEOUT_S, shield=True):
            await self._process.wait()


def main() -> None:
    """Be a sender until the coordinator's messages end; for a process that a coordinator has started."""
    from bulkstow.engine.sender import serve

    for number in ending_signals():
        signal.signal(number, signal.SIG_IGN)  # the coordinator decides when a sender ends
    end_with_parent()
    # Commands that are started here, and prints by mistake, must not get between the messages.
    messages_in, messages_out = os.dup(0), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    writer = threading.Thread(target=_write, args=(messages_out, outgoing), daemon=True)
    writer.start()
    try:
        anyio.run(serve, _received(messages_in), lambda message: outgoing.put(encode(message)))
    finally:
        outgoing.put(None)
        writer.join(END_TIMEOUT_S)
        leave_group()  # nothing else has to be finished, and threads may hang


async def _received(descriptor: int) -> AsyncIterator[ToSender]:
    """Yield the coordinator's messages; a thread reads them, and ends this process when they end."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Queue[ToSender]()
    threading.Thread(target=_read, args=(descriptor, loop, arrived), daemon=True).start()
    while True:
        yield await arrived.get()


def _read(descriptor: int, loop: asyncio.AbstractEventLoop, arrived: asyncio.Queue[ToSender]) -> None:
    try:
        while True:
            (length,) = _LENGTH.unpack(_read_exactly(descriptor, _LENGTH.size))
            message: ToSender = decode(_read_exactly(descriptor, length))  # type: ignore[assignment] # see `send`
            loop.call_soon_threadsafe(arrived.put_nowait, message)
    finally:
        leave_group()  # the coordinator has ended, or another version of bulkstow has been installed meanwhile


def _read_exactly(descriptor: int, size_bytes: int) -> bytes:
    """Read so many bytes. Raises EOFError at the end."""
    read = bytearray()
    while len(read) < size_bytes:
        if not (piece := os.read(descriptor, size_bytes - len(read))):
            raise EOFError
        read += piece
    return bytes(read)


def _write(stream: BinaryIO, outgoing: queue.SimpleQueue[bytes | None]) -> None:
    try:
        while (data := outgoing.get()) is not None:
            stream.write(_LENGTH.pack(len(data)))
            stream.write(data)
            stream.flush()
    except OSError:
        leave_group()  # the coordinator is gone
