"""Files that stay open between two reads, so that a file server is asked only once to open them.

Only for slow storage, and for files that were read whole: until such a file is sent, its content is in the page cache.
Everything here is called in worker threads, several at once.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict

KEPT_S = 10.0
"""How long a file stays open. An opened file is compared with its file server, one that stays open may be compared with
the attributes that the system remembers: NFS remembers them for 3 to 60 s."""


class OpenFiles:
    """Up to `most` open files, by their locations; with 0, none is kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """The descriptor of each, and since when it is kept; the oldest one first."""

    def keep(self, location: str, descriptor: int) -> None:
        """Keep a file open, or close it if that are too many."""
        now_s = time.monotonic()
        with self._lock:
            closed = self._drop_old(now_s - KEPT_S)
            if len(self._kept) < self._most and location not in self._kept:
                self._kept[location] = descriptor, now_s
            else:
                closed.append(descriptor)
        for each in closed:
            os.close(each)

    def take(self, location: str) -> int | None:
        """Return the descriptor of a file that was kept, which then belongs to the caller; None if there is none."""
        with self._lock:
            descriptor, since_s = self._kept.pop(location, (None, 0.0))
        if descriptor is None or time.monotonic() - since_s < KEPT_S:
            return descriptor
        os.close(descriptor)
        return None

    def close(self) -> None:
        """Close all files, and keep none from now on."""
        with self._lock:
            self._most = 0
            kept = self._drop_old(float("inf"))
        for descriptor in kept:
            os.close(descriptor)

    def _drop_old(self, until_s: float) -> list[int]:
        dropped: list[int] = []
        while self._kept:
            location, (descriptor, since_s) = next(iter(self._kept.items()))
            if since_s > until_s:
                break
            dropped.append(descriptor)
            del self._kept[location]
        return dropped
