"""The common part of all request queues: waiting for changes, and ending a run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import anyio

from bulkstow.errors import RunStopped
from bulkstow.policy.gates import Gate


class Turns(ABC):
    """Requests that wait for gates; `pipeline.health_monitor` attends to their outages.

    All methods belong to one event loop. Times are those of `anyio.current_time`.
    """

    def __init__(self, gates: Sequence[Gate]) -> None:
        self._gates: tuple[Gate, ...] = tuple(gates)
        self._changed = anyio.Event()
        self._cancellable: set[anyio.CancelScope] = set()
        self.abandoned = anyio.Event()
        """Set when the run is drained or stopped: no more requests start."""
        self.stopped_by: RunStopped | None = None
        """The error that ended the run early; it is raised after the requests in flight have ended."""

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """True if no request waits, is in flight, or will follow."""

    @property
    def is_abandoned(self) -> bool:
        """True after the run was drained or stopped: no more requests start."""
        return self.abandoned.is_set()

    def abandon(self) -> None:
        """Start nothing more; requests in flight may end."""
        self.abandoned.set()
        self.wake()

    def stop(self, reason: RunStopped) -> None:
        """End the run early, in good order."""
        self.stopped_by = self.stopped_by or reason
        self.abandon()

    def give_up(self, reason: RunStopped) -> None:
        """End the run early and cancel the requests in flight, because no response is expected."""
        self.stop(reason)
        for scope in self._cancellable:
            scope.cancel()

    @contextmanager
    def cancellable(self) -> Iterator[None]:
        """Mark a block that `give_up` cancels."""
        with anyio.CancelScope() as scope:
            self._cancellable.add(scope)
            try:
                yield
            finally:
                self._cancellable.discard(scope)

    def wake(self) -> None:
        """Check again which requests may start, because a gate has changed."""
        self._changed.set()
        self._changed = anyio.Event()

    async def wait_while(self, condition: Callable[[], bool], duration_s: float) -> bool:
        """Wait while the condition holds and work is left, up to a time limit; return whether both are still true."""
        with anyio.move_on_after(duration_s):
            while condition() and not self.is_over:
                await self._changed.wait()
        return condition() and not self.is_over

    async def wait_to_probe(self, condition: Callable[[], bool], duration_s: float) -> bool:
        """Wait before a probe as `wait_while` does. A probe is a request, so gates that count requests apply too."""
        counting, now_s = [gate for gate in self._gates if gate.counts_requests], anyio.current_time()
        duration_s = max([duration_s, *(gate.wait_s(None, now_s) for gate in counting)])
        if not await self.wait_while(condition, duration_s):
            return False
        for gate in counting:
            gate.started(None, anyio.current_time())
        return True

    async def wait_to_query(self) -> None:
        """Wait before a query that is in no queue. Gates that count requests apply to it, too."""
        counting = [gate for gate in self._gates if gate.counts_requests]
        while wait_s := max((gate.wait_s(None, anyio.current_time()) for gate in counting), default=0.0):
            with anyio.move_on_after(None if wait_s == math.inf else wait_s):
                await self._changed.wait()
        for gate in counting:
            gate.started(None, anyio.current_time())
