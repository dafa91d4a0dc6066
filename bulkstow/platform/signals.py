"""Receive the signals that ask a process to end, also where asyncio cannot (Windows)."""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager

import anyio


def ending_signals() -> tuple[signal.Signals, ...]:
    """Return SIGINT, SIGTERM, and SIGHUP, unless that is ignored, as `nohup` and a `trap ''` want it."""
    hangups = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()
    return (signal.SIGINT, signal.SIGTERM, *(each for each in hangups if signal.getsignal(each) is not signal.SIG_IGN))


@contextmanager
def receive_ending_signals() -> Iterator[AsyncIterator[signal.Signals]]:
    """Replace the handlers of the ending signals by an iterator over arriving signals; for the main thread."""
    signals = ending_signals()
    with ExitStack() as stack:
        try:
            receiver = stack.enter_context(anyio.open_signal_receiver(*signals))
        except NotImplementedError:
            receiver = stack.enter_context(_receive_by_handlers(signals))
        yield receiver


@contextmanager
def _receive_by_handlers(signals: tuple[signal.Signals, ...]) -> Iterator[AsyncIterator[signal.Signals]]:
    loop = asyncio.get_running_loop()
    arrived, receiver = anyio.create_memory_object_stream[signal.Signals](math.inf)

    def deliver(number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(arrived.send_nowait, signal.Signals(number))

    with arrived, receiver:
        before = {number: signal.signal(number, deliver) for number in signals}
        try:
            yield receiver
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
