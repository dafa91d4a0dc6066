"""Whether storage is slow: several slow reads in a row show that it is, many quick ones in a row that it is not."""

from __future__ import annotations

SLOW_READS = 4
"""Slow reads in a row after which the storage is slow: one may have waited 5 ms for the interpreter."""

QUICK_READS = 32
"""Quick reads in a row after which it is slow no longer: some files of slow storage are cached."""


class Slowness:
    """Learns from reads. Two threads that count at once may lose a count, which does no harm."""

    def __init__(self) -> None:
        self.is_slow = False
        self._slow_reads = 0
        self._quick_reads = 0

    def note_slow(self, *, was_slow: bool) -> None:
        """Take whether a read was slow; a read that was not slow may have been prefetched, so it ends nothing."""
        self._slow_reads = self._slow_reads + 1 if was_slow else 0
        if self._slow_reads >= SLOW_READS and not self.is_slow:
            self.is_slow = True
            self._quick_reads = 0

    def note_quick(self, *, was_quick: bool) -> None:
        """Take whether a read that was not prefetched was quick."""
        self._quick_reads = self._quick_reads + 1 if was_quick else 0
        if self._quick_reads >= QUICK_READS:
            self.is_slow = False
