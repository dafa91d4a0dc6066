"""An event loop for tests whose clock jumps to the next timer as soon as nothing else is to be done."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any


class VirtualLoop(asyncio.SelectorEventLoop):
    """Waits for nobody: an hour of sleep takes no time, and a clock that is read twice shows the same."""

    def __init__(self) -> None:
        self._now_s = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        """Return the seconds that tasks have slept."""
        return self._now_s

    def jump(self, duration_s: float) -> None:
        """Let time pass."""
        self._now_s += duration_s


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; if nothing is, it is later."""
        ready = super().select(None if timeout is None else 0)
        if timeout is not None and timeout > 0 and not ready:
            self._loop.jump(timeout)
        return ready


BACKEND: tuple[str, Mapping[str, Any]] = ("asyncio", {"loop_factory": VirtualLoop})
"""What a module's fixture `anyio_backend` returns to have it."""
