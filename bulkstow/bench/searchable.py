"""How long it takes until QIDO-RS finds what the server has acknowledged.

Asks for one instance after the other, a second apart at least, so that asking is no load of its own. What has not been
found after PATIENCE_S counts as found then: a lower bound, and a figure that cannot be overlooked.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio

from bulkstow.bench.sender import Answered
from bulkstow.model import Instance, NoResponse, Response

ASK_S = 0.05
"""Between two questions for the same instance: what the time can be told by."""

PROBE_S = 1.0
"""From one instance to the next."""

PATIENCE_S = 60.0
"""An index that lags by more than a minute is told by this figure well enough."""

Find = Callable[[tuple[Instance, ...]], Awaitable[frozenset[str] | Response | NoResponse]]


class Probe:
    """Asks for the instance that was acknowledged last, again and again."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._latest: Answered | None = None

    def heard(self, answered: Answered) -> None:
        """Take a request that ended."""
        if answered.stored:
            self._latest = answered

    async def run(self, tell: Callable[[float], None]) -> None:
        """Ask until cancelled, and tell each time that it took, in seconds."""
        while True:
            latest, self._latest = self._latest, None
            if latest is not None:
                tell(await self._time_s(latest.stored[-1], latest.ended.ended_s))
            await anyio.sleep(PROBE_S)

    async def _time_s(self, instance: Instance, answered_s: float) -> float:
        """Return the time from an answer to the first question that finds the instance, in seconds."""
        while True:
            found = await self._find((instance,))
            elapsed_s = time.perf_counter() - answered_s
            if (isinstance(found, frozenset) and found) or elapsed_s >= PATIENCE_S:
                return elapsed_s
            await anyio.sleep(ASK_S)
