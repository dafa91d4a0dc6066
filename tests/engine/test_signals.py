"""Which signals end a run in good order."""

from __future__ import annotations

import signal

from bulkstow.engine.signals import ending_signals


def test_a_hangup_counts_unless_it_is_ignored() -> None:
    """SIGHUP is the end of a terminal, which `nohup` wants ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert ending_signals() == (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert ending_signals() == (signal.SIGINT, signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)
