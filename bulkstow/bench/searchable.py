"""The time until QIDO-RS finds an acknowledged instance.

Queries for one instance after the other, at least a second apart, so that the queries are no load of their own. An
instance not found within GIVE_UP_S counts with that time: a lower bound.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio

from bulkstow.bench.sender import Answered
from bulkstow.model import Instance, NoResponse, Response

QUERY_INTERVAL_S = 0.05
"""Between two queries for the same instance: the resolution of the time."""

PROBE_INTERVAL_S = 1.0
"""From one instance to the next."""

GIVE_UP_S = 60.0
"""A minute shows clearly enough that an index lags."""

Find = Callable[[tuple[Instance, ...]], Awaitable[frozenset[str] | Response | NoResponse]]


class Probe:
    """Queries for the instance that was acknowledged last, until it is found."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._latest: Answered | None = None

    def heard(self, answered: Answered) -> None:
        """Note a request that ended."""
        if answered.stored:
            self._latest = answered

    async def run(self, report: Callable[[float], None]) -> None:
        """Probe until cancelled, and report each time in seconds."""
        while True:
            latest, self._latest = self._latest, None
            if latest is not None:
                report(await self._time_s(latest.stored[-1], latest.ended.ended_s))
            await anyio.sleep(PROBE_INTERVAL_S)

    async def _time_s(self, instance: Instance, answered_s: float) -> float:
        """Return the time from a response to the first query that finds its instance, in seconds."""
        while True:
            found = await self._find((instance,))
            elapsed_s = time.perf_counter() - answered_s
            if (isinstance(found, frozenset) and found) or elapsed_s >= GIVE_UP_S:
                return elapsed_s
            await anyio.sleep(QUERY_INTERVAL_S)
