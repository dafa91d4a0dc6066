"""UIDs of a run: all of one length, each unique, made without a memory of those before.

A UID is 2.25. and a UUID as a decimal number (PS3.5 §B.2). The UUID is of version 8, with 122 free bits (RFC 9562
§5.8): run, level, worker, counter. So no two instances of any runs share a UID. The highest bit is set: every number
has 39 digits and every UID 44 characters, an even number that needs no padding (PS3.5 §9.1).
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import blake2b

UID_LENGTH = 44

_WORKER_BITS = 16
_COUNTER_BITS = 46
_VERSION_AND_VARIANT = 8 << 76 | 0b10 << 62
_RUN_BITS = 48


class Level(IntEnum):
    """The level of a UID."""

    STUDY = 1
    SERIES = 2
    INSTANCE = 3


class Uids:
    """The UIDs of the run `run_id`; of the same run they are the same."""

    def __init__(self, run_id: str) -> None:
        digest = blake2b(run_id.encode(), digest_size=_RUN_BITS // 8).digest()
        run = int.from_bytes(digest, "big") | 1 << (_RUN_BITS - 1)
        self._bases: list[int] = [run << 80 | level << 64 | _VERSION_AND_VARIANT for level in (0, *Level)]

    def number(self, level: Level, worker: int, counter: int) -> int:
        """Return a UID's UUID as a number; ValueError for a worker or counter that has no room in it."""
        if worker >> _WORKER_BITS or counter >> _COUNTER_BITS:
            raise ValueError(f"worker {worker}, counter {counter}: expected at most 16 and 46 bits, none below 0")
        return self._bases[level] | worker << _COUNTER_BITS | counter

    def uid(self, level: Level, worker: int, counter: int) -> str:
        """Return a UID; ValueError as for `number`."""
        return f"2.25.{self.number(level, worker, counter)}"
