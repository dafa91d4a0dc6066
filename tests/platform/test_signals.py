"""Claims about the signals that end a process."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from bulkstow.platform.signals import ending_signals, receive_ending_signals

pytestmark = pytest.mark.anyio


def test_a_hangup_counts_unless_it_is_ignored() -> None:
    """SIGHUP is the end of a terminal, which `nohup` wants ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert ending_signals() == (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert ending_signals() == (signal.SIGINT, signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_system_without_hangup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no SIGHUP."""
    monkeypatch.delattr(signal, "SIGHUP")
    assert ending_signals() == (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("has_asyncio_handlers", [True, False], ids=["asyncio", "signal"])
async def test_signals_arrive_in_order_and_handlers_are_restored(
    monkeypatch: pytest.MonkeyPatch, *, has_asyncio_handlers: bool
) -> None:
    """A signal arrives as an item, also on an event loop that has no signal handlers (Windows)."""

    def not_implemented(*_: object) -> None:
        raise NotImplementedError

    if not has_asyncio_handlers:
        monkeypatch.setattr(type(asyncio.get_running_loop()), "add_signal_handler", not_implemented)
    before = signal.getsignal(signal.SIGTERM)
    with receive_ending_signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert await anext(aiter(signals)) is signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)
        assert await anext(aiter(signals)) is signal.SIGINT
    assert signal.getsignal(signal.SIGTERM) is before
