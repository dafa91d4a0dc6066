"""The third stage: gathers instances into batches and offers them to the scheduler.

The pipeline's backpressure begins here: `Scheduler.offer` waits while enough batches wait to be sent.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from bulkstow.model import Instance
from bulkstow.pipeline.scheduler import Scheduler
from bulkstow.policy.batching import Batcher

RELIEF_INTERVAL_S = 0.1
"""Interval of the looks whether requests could start while the source waits: a request of 64 MiB takes as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assemble:
    """Batches instances, and closes a batch early where a request could start and none is ready.

    With `keep_busy` that includes a batch that is not full: a small request is better than an idle connection. The
    instances at hand are shared among all requests that could start.
    """

    batcher: Batcher
    keep_busy: bool
    scheduler: Scheduler
    is_ready: Callable[[str], bool]
    """Whether a request with instances of a study could start, by its Study Instance UID."""
    until_full: Callable[[], Awaitable[None]]
    """Returns when the source waits until instances are sent; then no batch is kept open."""
    instances: MemoryObjectReceiveStream[list[Instance]]

    async def run(self) -> None:
        """Batch all instances."""
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._relieve)
            await self._batch_all()
            beside.cancel_scope.cancel()

    async def _relieve(self) -> None:
        """Close the open batches while the source waits and requests could start."""
        while True:
            await self.until_full()
            if self.scheduler.idle:
                for batch in self.batcher.flush(self.batcher.open_count / self.scheduler.idle):
                    await self.scheduler.offer(batch)
            await anyio.sleep(RELIEF_INTERVAL_S)

    async def _batch_all(self) -> None:
        batcher, scheduler = self.batcher, self.scheduler
        async with self.instances:
            async for several in self.instances:
                for batch in batcher.add(several):
                    await scheduler.offer(batch)
                while (idle := scheduler.idle) and (self.keep_busy or batcher.is_plentiful):
                    least_instances = batcher.open_count / idle if self.keep_busy else math.inf
                    oldest = batcher.close_oldest(least_instances, self.is_ready)
                    if oldest is None:
                        break
                    await scheduler.offer(oldest)
        for batch in batcher.flush(batcher.open_count / scheduler.at_once):
            await scheduler.offer(batch)
        scheduler.end()
