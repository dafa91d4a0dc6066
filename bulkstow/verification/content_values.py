"""Compares the values of two elements in any encoding, as streams of bytes in bounded memory."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import IO

BLOCK_BYTES = 2**18
"""The bytes that are compared at once; a multiple of all widths."""

TEXT_VRS = frozenset(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
"""Value representations that are padded with spaces, or NULs, of any number (PS3.5 §6.2)."""

_PADDED_VRS = frozenset((b"OB", b"UN", b""))
"""Value representations that are padded with one NUL; also the padding of an unknown VR."""

_WIDTHS = {
    **dict.fromkeys((b"US", b"SS", b"OW", b"AT"), 2),
    **dict.fromkeys((b"UL", b"SL", b"FL", b"OF", b"OL"), 4),
    **dict.fromkeys((b"FD", b"OD", b"SV", b"UV", b"OV"), 8),
}
"""The bytes whose order depends on the transfer syntax (PS3.5 §7.3)."""


class SpanReader:
    """Spans of a file, each an offset and a length, as one stream of bytes."""

    def __init__(self, file: IO[bytes], spans: Iterable[tuple[int, int]]) -> None:
        self._file = file
        self._spans = iter(spans)
        self._at, self._left_bytes = 0, 0

    def read(self, size_bytes: int) -> bytes:
        """Return the next bytes, fewer only at the end."""
        pieces: list[bytes] = []
        while size_bytes:
            if not self._left_bytes:
                span = next(self._spans, None)
                if span is None:
                    break
                self._at, self._left_bytes = span
                continue
            self._file.seek(self._at)
            piece = self._file.read(min(size_bytes, self._left_bytes))
            if not piece:
                break
            pieces.append(piece)
            self._at += len(piece)
            self._left_bytes -= len(piece)
            size_bytes -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def same_values(ours: SpanReader, theirs: SpanReader, vr: bytes, *, is_swapped: bool) -> Generator[None, None, bool]:
    """Return whether two values of this VR are equal except for padding; `is_swapped` if their byte orders differ.

    Pauses after each block.
    """
    width = _WIDTHS.get(vr, 1) if is_swapped else 1
    while True:
        one, other = ours.read(BLOCK_BYTES), theirs.read(BLOCK_BYTES)
        if width > 1:
            other = swap(other, width)
        if len(one) < BLOCK_BYTES or len(other) < BLOCK_BYTES:
            return _same_ends(one, other, vr) and not ours.read(1) and not theirs.read(1)
        if one != other:
            return False
        yield


def swap(value: bytes, width: int) -> bytes:
    """Return a value with the bytes of each word in the opposite order; bytes after the last word stay."""
    words = len(value) // width * width
    swapped = bytearray(value)
    for index in range(width):
        swapped[index:words:width] = value[width - 1 - index : words : width]
    return bytes(swapped)


def _same_ends(one: bytes, other: bytes, vr: bytes) -> bool:
    """Return whether the last blocks of two values are equal except for padding."""
    if one == other:
        return True
    if vr in TEXT_VRS:
        return one.rstrip(b" \0") == other.rstrip(b" \0")
    shorter, longer = sorted((one, other), key=len)
    return vr in _PADDED_VRS and longer == shorter + b"\0"
