"""A set of hashes in little memory."""

from __future__ import annotations

from array import array

_FIRST_SLOTS = 2**10
"""The slots of a new set."""

_MASK = 2**64 - 1


class HashSet:
    """The hashes of texts, in 12 to 24 bytes each: Python's set takes 70.

    Two texts count as the same if their hashes of 64 bits are: of a million texts, one in 37 million times.
    """

    def __init__(self) -> None:
        self._slots = array("Q", [0]) * _FIRST_SLOTS
        self._count = 0

    def add(self, text: str) -> bool:
        """Add a text; return False if it is in the set."""
        key = hash(text) & _MASK or 1
        at = self._slot_of(key)
        if self._slots[at]:
            return False
        self._slots[at] = key
        self._count += 1
        if 3 * self._count > 2 * len(self._slots):
            self._grow()
        return True

    def _slot_of(self, key: int) -> int:
        """Return the slot of a key, or the free slot where it belongs."""
        slots, last = self._slots, len(self._slots) - 1
        at = key & last
        while slots[at] not in (0, key):
            at = (at + 1) & last
        return at

    def _grow(self) -> None:
        keys = self._slots
        self._slots = array("Q", [0]) * (2 * len(keys))
        for key in keys:
            if key:
                self._slots[self._slot_of(key)] = key
