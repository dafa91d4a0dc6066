"""Handling of the signals that end a run."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import anyio


class Drainable(Protocol):
    """A run that can be ended early."""

    @property
    def is_over(self) -> bool:
        """True when nothing more starts."""

    def drain(self) -> None:
        """Start nothing more; finish and record the requests in flight."""

    @property
    def is_done(self) -> bool:
        """True if no work is left when the run ends now."""


class Control:
    """Ends a run at signals: the first drains it, the second cancels it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.scope = anyio.CancelScope()
        self._say = say
        self._run: Drainable | None = None
        self._given_up = threading.Event()
        self._is_ending = False
        self.is_complete = True
        """No signal has ended the run early."""

    @property
    def is_over(self) -> bool:
        """True if no more names of files are needed; read in threads."""
        return self._given_up.is_set() or (self._run is not None and self._run.is_over)

    def begin(self, run: Drainable) -> None:
        """Set the run to drain."""
        self._run = run

    def end(self) -> None:
        """Stop waiting for names; called however the run ends."""
        self._given_up.set()

    async def heed(self, signals: AsyncIterator[signal.Signals]) -> None:
        """Handle signals until the run has ended."""
        async for _ in signals:
            if self._run is None or self._is_ending:  # nothing is in flight yet, or this is the second signal
                self.is_complete = False
                self.scope.cancel()
                return
            self._is_ending = True
            if not self._run.is_done:
                self._say("finishing the current requests; press Ctrl-C again to stop immediately")
                self.is_complete = False
            self._run.drain()
            self._given_up.set()
