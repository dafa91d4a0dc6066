"""Instances as bytes with gaps: what is the same in all, and where the rest goes.

A template is cut once from a whole file in which placeholders stand for what changes; to fill it is one `join`. The
pixels behind its head are not its own: it says how many bytes there are, the pool has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from random import Random

from bulkstow.bench.uids import UID_LENGTH

POOL_BYTES = 8 * 2**20
"""Larger instances repeat it: further apart than what compressors look back by default (zlib 32 KiB, zstd 2 MiB), and
than a processor's nearer caches, so that reading it costs what reading a file from the page cache does. It is made in
20 ms."""

STRETCH_BYTES = 4096
"""The pool is made of such stretches, each constant in its first part: any 8 KiB of an instance then have the share of
constant bytes that was asked for."""

_STRIDE = 0x9E3779B1
"""Odd, so that by its multiples every place of the pool comes up once before one comes up again; near 2^32 / 1.618, so
that neighbours lie far apart."""

_WORKER_STEP = 1_000_003
"""So many instances of a worker begin elsewhere than those of its neighbour; odd, for the same reason."""

STAMP_BYTES = 16
"""The first pixel bytes are the instance's own UUID: two instances differ in their pixels, wherever in the pool."""


class Gap(IntEnum):
    """What is filled in."""

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
"""Each as long as what takes its place. Behind one of a UID there may be one more component: the UID of something that
the study or series has once."""

_ANY_PLACEHOLDER = re.compile(b"|".join(re.escape(text.encode("latin-1")) for text in PLACEHOLDERS.values()))
_GAPS = {text.encode("latin-1"): gap for gap, text in PLACEHOLDERS.items()}


@dataclass(frozen=True, slots=True)
class Template:
    """An instance but for what makes it one of its own."""

    sop_class_uid: str
    transfer_syntax_uid: str
    pieces: tuple[bytes, ...]
    """What stands before, between and behind the gaps."""
    gaps: tuple[Gap, ...]
    rest: memoryview
    """What follows the head and is the same in every instance."""
    pixel_bytes: int
    """What follows from the pool."""
    size_bytes: int
    """All together."""

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
    """Random bytes that all instances take their pixels from; a `compressibility` share of them is constant."""

    def __init__(self, chance: Random, compressibility: float = 0.0) -> None:
        constant_bytes = round(compressibility * STRETCH_BYTES)
        if not 0 <= constant_bytes <= STRETCH_BYTES:
            raise ValueError(f"compressibility {compressibility:g}: expected a share from 0 to 1")
        pool = bytearray(chance.randbytes(POOL_BYTES))
        for start in range(0, POOL_BYTES, STRETCH_BYTES):
            pool[start : start + constant_bytes] = bytes(constant_bytes)
        self._bytes = memoryview(pool).toreadonly()

    def pieces(self, worker: int, number: int, size_bytes: int) -> Iterator[memoryview]:
        """Yield `size_bytes` from the place that is an instance's own, over and over where the pool is smaller."""
        at = (worker * _WORKER_STEP + number) * _STRIDE % POOL_BYTES
        while size_bytes > 0:
            piece = self._bytes[at : at + size_bytes]
            yield piece
            size_bytes -= len(piece)
            at = 0
