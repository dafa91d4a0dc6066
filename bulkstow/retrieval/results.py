"""Results of tasks, as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any, Generic, TypeVar

R = TypeVar("R")


class Results(Generic[R]):
    """Tasks that add results, and may start further tasks; belongs to one event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: list[R] = []
        self._error: BaseException | None = None
        self._changed = asyncio.Event()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def add(self, result: R) -> None:
        """Add a result."""
        self._ready.append(result)
        self._changed.set()

    async def lists(self) -> AsyncGenerator[Sequence[R]]:
        """Yield all results until no task is left. Raises the first error of a task, and then cancels the others."""
        try:
            while True:
                if self._ready:
                    ready, self._ready = self._ready, []
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
