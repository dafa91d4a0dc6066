"""Records the parts of a file that are taken."""

from __future__ import annotations

from array import array
from bisect import bisect_right

MOST_SPANS = 2**16
"""Parts that are remembered: 1 MiB. Neighbours count as one, so an archive in order needs one for all its members."""


class Spans:
    """The parts of a file that are taken, in ascending order; parts closer than `gap_bytes` count as one.

    Beyond MOST_SPANS further parts are only added up: more bytes than the file has cannot be without an overlap.
    """

    def __init__(self, size_bytes: int, *, gap_bytes: int = 0) -> None:
        self._size_bytes = size_bytes
        self._gap_bytes = gap_bytes
        self._taken_bytes = 0
        self._begins = array("Q")
        self._ends = array("Q")

    @property
    def count(self) -> int:
        """The number of parts that are remembered."""
        return len(self._begins)

    def take(self, begin: int, end: int) -> bool:
        """Take a part; return False if it is outside of the file, or overlaps one that was taken before."""
        self._taken_bytes += end - begin
        if not 0 <= begin <= end <= self._size_bytes or self._taken_bytes > self._size_bytes:
            return False
        number = bisect_right(self._begins, begin)
        if number and self._ends[number - 1] > begin:
            return False
        if number < len(self._begins) and self._begins[number] < end:
            return False
        joins_left = number > 0 and begin - self._ends[number - 1] <= self._gap_bytes
        joins_right = number < len(self._begins) and self._begins[number] - end <= self._gap_bytes
        if joins_left and joins_right:
            self._ends[number - 1] = self._ends.pop(number)
            self._begins.pop(number)
        elif joins_left:
            self._ends[number - 1] = end
        elif joins_right:
            self._begins[number] = begin
        elif len(self._begins) < MOST_SPANS:
            self._begins.insert(number, begin)
            self._ends.insert(number, end)
        return True
