"""The bandwidth limit: bodies wait here before they send.

Owns the waiting and the time of day; `policy.pacing` decides how long to wait. Only the bytes of request bodies count,
not heads, responses, and the framing of TLS and TCP.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

from bulkstow.policy.pacing import Pacer
from bulkstow.quantities import Timetable

SMALLEST_PIECE_BYTES = 512
"""The smallest piece: below 25 kB/s, a fiftieth of a second would be a packet that is mostly headers. Every IPv4 link
accepts a packet of this size (RFC 1122 §3.3.3: 576 bytes with headers)."""

RECHECK_S = 0.5
"""How often a waiting body reads the time of day: a new rate of the timetable applies within a second."""


def local_time_of_day_s() -> float:
    """Return the seconds since midnight, local time."""
    now = time.localtime()
    return now.tm_hour * 3600.0 + now.tm_min * 60.0 + now.tm_sec


class Throttle:
    """Limits the rate of all bodies together to the timetable's; waiting bodies are served in the order of arrival.

    `time_of_day_s` returns seconds since midnight, local time. All methods belong to one event loop.
    """

    def __init__(self, bandwidth: Timetable, *, time_of_day_s: Callable[[], float] = local_time_of_day_s) -> None:
        self._bandwidth = bandwidth
        self._time_of_day_s = time_of_day_s
        self._turn = anyio.Lock(fast_acquire=True)
        self._paced: Pacer | None = None

    async def admit(self, wanted_bytes: int) -> int:
        """Wait until some of the wanted bytes may be sent, and return how many: a piece that keeps the flow even."""
        if not wanted_bytes or self._pacer() is None:
            return wanted_bytes
        async with self._turn:
            while (pacer := self._pacer()) is not None:
                now_s = anyio.current_time()
                if (wait_s := pacer.wait_s(now_s)) <= 0:
                    size_bytes = min(wanted_bytes, max(SMALLEST_PIECE_BYTES, pacer.piece(wanted_bytes)))
                    pacer.take(now_s, size_bytes)
                    return size_bytes
                await anyio.sleep(min(wait_s, RECHECK_S))
        return wanted_bytes

    def give_back(self, size_bytes: int) -> None:
        """Take back bytes that were admitted and not sent."""
        if self._paced is not None:
            self._paced.give_back(size_bytes)

    def _pacer(self) -> Pacer | None:
        """Return the pacer for the present rate; a new rate starts without debt."""
        rate_bytes_per_s = self._bandwidth.rate_at(self._time_of_day_s())
        if rate_bytes_per_s is None:
            self._paced = None
        elif self._paced is None or self._paced.rate_per_s != rate_bytes_per_s:
            self._paced = Pacer(rate_bytes_per_s)
        return self._paced
