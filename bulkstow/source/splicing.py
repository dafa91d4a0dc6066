"""Bytes of an instance with patches: replaced bytes come from memory, all others from their file or source."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence

from bulkstow.errors import InstanceChanged
from bulkstow.ports import FileRange, Segment, size_of
from bulkstow.wire.edit_levels import Patch

NEAR_BYTES = 64 * 2**10
"""Bytes between two patches up to which they are copied, which takes 4 µs; otherwise each patch would cost two further
calls of the system."""


def spliced(drawn: Generator[Segment], patches: Sequence[Patch]) -> Generator[Segment]:
    """Yield segments with patches, which are in the order of their offsets and do not overlap.

    The head up to the last patch is one segment of memory, except for parts of more than NEAR_BYTES between two
    patches. Raises InstanceChanged if the segments end before a patch does.
    """
    left = deque(patches)
    memory = bytearray()
    at = removed_bytes = 0
    for segment in drawn:
        offset, end = 0, size_of(segment)
        while offset < end or (left and left[0].at == at and not removed_bytes):
            if removed_bytes:
                size_bytes = min(removed_bytes, end - offset)
                removed_bytes -= size_bytes
            elif left and left[0].at == at:
                patch = left.popleft()
                memory += patch.data
                removed_bytes, size_bytes = patch.size_bytes, 0
            else:
                size_bytes = end - offset if not left else min(end - offset, left[0].at - at)
                part = _part(segment, offset, size_bytes)
                if left and size_bytes <= NEAR_BYTES:
                    memory += _bytes_in(part)
                else:
                    if memory:
                        yield memoryview(memory)
                        memory = bytearray()
                    yield part
            offset += size_bytes
            at += size_bytes
    if left or removed_bytes:
        raise InstanceChanged(f"changed while it was sent: it ends after {at} bytes, within its head")
    if memory:
        yield memoryview(memory)


def _part(segment: Segment, offset: int, size_bytes: int) -> Segment:
    if isinstance(segment, FileRange):
        return FileRange(segment.descriptor, segment.offset + offset, size_bytes)
    return segment[offset : offset + size_bytes]


def _bytes_in(part: Segment) -> bytes | memoryview:
    """Return the bytes of a segment. Raises InstanceChanged."""
    if not isinstance(part, FileRange):
        return part
    data = bytearray(part.size_bytes)
    view = memoryview(data)
    at = 0
    while at < len(data):
        at += part.read_into(view[at:], at)
    return view
