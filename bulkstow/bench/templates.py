"""Instances as bytes with gaps, and the UIDs that fill them.

A template is cut once from a whole file in which placeholders stand for the values of an instance; filling it is one
`join`. Pixels are not part of it: it has their number, the pool has the bytes.

A UID is 2.25. and a UUID as a decimal number (PS3.5 §B.2). The UUID is of version 8, with 122 free bits (RFC 9562
§5.8): run, level, worker, counter. So no two instances of any runs share a UID. The highest bit is set: every number
has 39 digits and every UID 44 characters, an even number that needs no padding (PS3.5 §9.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from random import Random

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


POOL_BYTES = 8 * 2**20
"""Larger instances repeat it, further apart than the windows of compressors (zlib 32 KiB, zstd 2 MiB) and the nearer
caches of a processor. It is made in 20 ms."""

STRETCH_BYTES = 4096
"""Each stretch of the pool begins with its share of constant bytes, so that any 8 KiB of an instance have it."""

_STRIDE = 0x9E3779B1
"""Odd, so that its multiples visit every offset of the pool; near 2^32 / 1.618, so that neighbours lie far apart."""

_WORKER_STEP = 1_000_003
"""The distance between the offsets of two workers; odd for the same reason."""

STAMP_BYTES = 16
"""The first pixel bytes are the instance's UUID, so that any two instances differ in their pixels."""


class Gap(IntEnum):
    """The values that differ from instance to instance."""

    SOP_INSTANCE_UID = 0
    SERIES_UID = 1
    STUDY_UID = 2
    PATIENT = 3
    """Worker and study, behind the run in Patient ID."""
    NUMBER = 4
    """Instance Number."""
    STAMP = 5


PATIENT_FORMAT = "%05d.%012d"
NUMBER_FORMAT = "%-8d"
"""An IS is padded with spaces behind it (PS3.5 §6.2)."""

PLACEHOLDERS: Mapping[Gap, str] = {
    Gap.SOP_INSTANCE_UID: "2.25." + "9" * (UID_LENGTH - 6) + "1",
    Gap.SERIES_UID: "2.25." + "9" * (UID_LENGTH - 6) + "2",
    Gap.STUDY_UID: "2.25." + "9" * (UID_LENGTH - 6) + "3",
    Gap.PATIENT: "99989.999999999989",
    Gap.NUMBER: "99999989",
    Gap.STAMP: "\x01[stamp of 16]\x02\x03",
}
"""Each as long as its value. One of a UID may be followed by one more component, for a UID that the study or series has
once."""

_ANY_PLACEHOLDER = re.compile(b"|".join(re.escape(text.encode("latin-1")) for text in PLACEHOLDERS.values()))
_GAPS = {text.encode("latin-1"): gap for gap, text in PLACEHOLDERS.items()}


@dataclass(frozen=True, slots=True)
class Template:
    """The part of an instance that is the same in all."""

    sop_class_uid: str
    transfer_syntax_uid: str
    pieces: tuple[bytes, ...]
    """The bytes before, between and behind the gaps."""
    gaps: tuple[Gap, ...]
    rest: memoryview
    """The bytes after the head, the same in every instance."""
    pixel_bytes: int
    """The number of bytes from the pool, at the end."""
    size_bytes: int
    """Of the whole instance."""

    def filled(self, values: Sequence[bytes]) -> bytes:
        """Return the head with its gaps filled; `values` are in the order of `Gap`."""
        parts = [self.pieces[0]]
        for gap, piece in zip(self.gaps, self.pieces[1:], strict=True):
            parts.append(values[gap])
            parts.append(piece)
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class InstancePosition:
    """The study and series of an instance; numbers count from 0 within a worker."""

    template: Template
    study: int
    series: int
    in_series: int


def cut(
    sop_class_uid: str, transfer_syntax_uid: str, head: bytes, *, rest: memoryview | None = None, pixel_bytes: int = 0
) -> Template:
    """Return the template of a file whose `head` has the placeholders."""
    pieces = tuple(_ANY_PLACEHOLDER.split(head))
    gaps = tuple(_GAPS[found] for found in _ANY_PLACEHOLDER.findall(head))
    rest = rest if rest is not None else memoryview(b"")
    return Template(
        sop_class_uid, transfer_syntax_uid, pieces, gaps, rest, pixel_bytes, len(head) + len(rest) + pixel_bytes
    )


class Pool:
    """Random bytes, the pixels of all instances; a `compressibility` share of them is constant."""

    def __init__(self, chance: Random, compressibility: float = 0.0) -> None:
        constant_bytes = round(compressibility * STRETCH_BYTES)
        if not 0 <= constant_bytes <= STRETCH_BYTES:
            raise ValueError(f"compressibility {compressibility:g}: expected a share from 0 to 1")
        pool = bytearray(chance.randbytes(POOL_BYTES))
        for start in range(0, POOL_BYTES, STRETCH_BYTES):
            pool[start : start + constant_bytes] = bytes(constant_bytes)
        self._bytes = memoryview(pool).toreadonly()

    def pieces(self, worker: int, number: int, size_bytes: int) -> Iterator[memoryview]:
        """Yield `size_bytes` from an instance's own offset, repeatedly where the pool is smaller."""
        at = (worker * _WORKER_STEP + number) * _STRIDE % POOL_BYTES
        while size_bytes > 0:
            piece = self._bytes[at : at + size_bytes]
            yield piece
            size_bytes -= len(piece)
            at = 0
