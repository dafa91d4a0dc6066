"""Results of tasks, as they come; tasks wait while enough of them are not taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any, Generic, TypeVar

R = TypeVar("R")


class Results(Generic[R]):
    """Tasks that add results, and may start further tasks; belongs to one event loop.

    A task that adds a result waits while results of `most_bytes` or more are not taken.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._ready_bytes = 0
        self._taken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: list[R] = []
        self._error: BaseException | None = None
        self._changed = asyncio.Event()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    async def add(self, result: R, size_bytes: int) -> None:
        """Add a result of a size, and wait until there is room for more."""
        self._ready.append(result)
        self._ready_bytes += size_bytes
        self._changed.set()
        while self._ready_bytes >= self._most_bytes:
            self._taken.clear()
            await self._taken.wait()

    async def lists(self) -> AsyncGenerator[Sequence[R]]:
        """Yield all results until no task is left. Raises the first error of a task, and then cancels the others."""
        try:
            while True:
                if self._ready:
                    ready, self._ready, self._ready_bytes = self._ready, [], 0
                    self._taken.set()
                    yield ready
                elif self._error is not None:
                    raise self._error
                elif self._tasks:
                    self._changed.clear()
                    await self._changed.wait()
                else:
                    return
        finally:
            tasks = tuple(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = self._error or error
        self._changed.set()
