"""Signals that ask a run to end: which they are, and what they do to it."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator

import anyio

from bulkstow.pipeline.run import Run
from bulkstow.progress.display import Display


class Control:
    """Ends a run when signals ask for it: the first in good order, the second at once."""

    def __init__(self, display: Display) -> None:
        self.scope = anyio.CancelScope()
        self._display = display
        self._run: Run | None = None
        self._given_up = threading.Event()
        self.is_complete = True
        """No signal has ended the run early."""

    @property
    def is_over(self) -> bool:
        """True when no name of a file is wanted any more; asked in threads."""
        return self._given_up.is_set() or (self._run is not None and self._run.is_over)

    def begin(self, run: Run) -> None:
        """Take the run that is to be drained."""
        self._run = run

    def end(self) -> None:
        """Let go whatever waits for names, however the run ended."""
        self._given_up.set()

    async def heed(self, signals: AsyncIterator[signal.Signals]) -> None:
        """Take signals until the run has ended."""
        async for _ in signals:
            if self._run is None or not self.is_complete:  # nothing is under way yet, or is waited for any more
                self.is_complete = False
                self.scope.cancel()
                return
            self._display.say("finishing the current requests; press Ctrl-C again to stop immediately")
            self.is_complete = False
            self._run.drain()
            self._given_up.set()
