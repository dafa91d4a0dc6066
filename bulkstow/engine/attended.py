"""A command's work with its progress beside it, and the signals that end it early."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import anyio

from bulkstow.engine.signals import Control
from bulkstow.errors import BulkstowError

FIRST_SHOWN_S = 1.0
"""Time before the figures appear, so that a server that refuses at once leaves only its error."""


class View(Protocol):
    """Shows figures every `interval_s` seconds."""

    @property
    def interval_s(self) -> float:
        """The interval."""

    def show(self) -> None:
        """Show the figures as they are."""

    def close(self) -> None:
        """Show the final figures, if there are any."""


async def attended(
    work: Callable[[], Awaitable[None]],
    control: Control,
    signals: AsyncIterator[signal.Signals] | None,
    view: View,
) -> BulkstowError | None:
    """Do the work, show the figures and handle signals meanwhile; return the error that stopped it.

    An error is returned, not raised, because the task group would wrap it in a group.
    """
    async with anyio.create_task_group() as beside:
        beside.start_soon(_watch, view)
        if signals is not None:
            beside.start_soon(control.heed, signals)
        try:
            with control.scope:
                await work()
        except BulkstowError as stop:
            return stop
        finally:
            control.end()
            beside.cancel_scope.cancel()
            view.close()
    return None


async def _watch(view: View) -> None:
    """Show the figures until the work ends, for the first time after FIRST_SHOWN_S."""
    await anyio.sleep(min(view.interval_s, FIRST_SHOWN_S))
    while True:
        view.show()
        await anyio.sleep(view.interval_s)
