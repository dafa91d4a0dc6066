"""The third stage: gathers instances into batches and offers them to the scheduler.

The pipeline's backpressure begins here: `Scheduler.offer` waits while enough batches wait to be sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from anyio.streams.memory import MemoryObjectReceiveStream

from bulkstow.model import Instance
from bulkstow.pipeline.scheduler import Scheduler
from bulkstow.policy.batching import Batcher


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
    instances: MemoryObjectReceiveStream[list[Instance]]

    async def run(self) -> None:
        """Batch all instances."""
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
