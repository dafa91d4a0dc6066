"""The limit on bandwidth: bodies ask here before bytes leave.

Owns the waiting, and the time of day that a timetable goes by. How long to wait is `policy.pacing`'s to say. What is
counted are the bytes of request bodies; heads, answers and the framing of TLS and TCP come on top.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

from bulkstow.policy.pacing import Pacer
from bulkstow.quantities import Timetable

SMALLEST_PIECE_BYTES = 512
"""Below 25 kB/s a fiftieth of a second would be a packet that is mostly head; every IPv4 link takes a packet with so
much in it (RFC 1122 §3.3.3: 576 bytes with its heads)."""

LOOK_AGAIN_S = 0.5
"""Who waits looks at the clock on the wall so often: a new hour counts within a second, however long the wait is."""


def local_time_of_day_s() -> float:
    """Return the seconds since midnight that a clock on the wall shows."""
    now = time.localtime()
    return now.tm_hour * 3600.0 + now.tm_min * 60.0 + now.tm_sec


class Throttle:
    """Lets bytes leave as fast as the timetable says; bodies that wait are served in the order in which they came.

    `time_of_day_s` returns seconds since midnight, local time. All methods belong to one event loop.
    """

    def __init__(self, bandwidth: Timetable, *, time_of_day_s: Callable[[], float] = local_time_of_day_s) -> None:
        self._bandwidth = bandwidth
        self._time_of_day_s = time_of_day_s
        self._turn = anyio.Lock(fast_acquire=True)
        self._paced: Pacer | None = None

    def piece_bytes(self, wanted_bytes: int) -> int:
        """Return how many bytes of those wanted are to be asked for at once."""
        pacer = self._pacer()
        return (
            wanted_bytes if pacer is None else min(wanted_bytes, max(SMALLEST_PIECE_BYTES, pacer.piece(wanted_bytes)))
        )

    async def admit(self, size_bytes: int) -> None:
        """Wait until so many bytes may leave."""
        if not size_bytes or self._pacer() is None:
            return
        async with self._turn:
            while (pacer := self._pacer()) is not None:
                now_s = anyio.current_time()
                if (wait_s := pacer.wait_s(now_s)) <= 0:
                    pacer.take(now_s, size_bytes)
                    return
                await anyio.sleep(min(wait_s, LOOK_AGAIN_S))

    def give_back(self, size_bytes: int) -> None:
        """Take back bytes that were admitted and did not leave."""
        if self._paced is not None:
            self._paced.give_back(size_bytes)

    def _pacer(self) -> Pacer | None:
        """Return the pacer of this hour: another rate begins with nothing to pay for."""
        rate_bytes_per_s = self._bandwidth.rate_at(self._time_of_day_s())
        if rate_bytes_per_s is None:
            self._paced = None
        elif self._paced is None or self._paced.rate_per_s != rate_bytes_per_s:
            self._paced = Pacer(rate_bytes_per_s)
        return self._paced
