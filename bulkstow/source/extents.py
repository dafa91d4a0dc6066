"""Read the bytes of a candidate: a whole file, or an extent of one, which may be deflated.

An extent is read only from the file in which it was found: the file's size and modification time are compared before
and after. Everything here blocks.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Generator
from contextlib import suppress

from bulkstow.errors import DamagedHead, InstanceChanged
from bulkstow.model import Candidate, Coding, Extent
from bulkstow.platform.files import open_own
from bulkstow.ports import FileRange, Segment
from bulkstow.source.windows import FileBytes, InflatedBytes, OpenBytes, PartBytes, open_file, read_up_to

BLOCK_BYTES = 256 * 2**10
"""The bytes that are inflated at once: as many as a connection over TLS encrypts at once. Inflating 0.5 MB takes 2.2 ms
with 64 KiB to 1 MiB."""

_CANNOT_INFLATE = "damaged: the archive's data cannot be inflated"
_WRONG_LENGTH = "damaged: the archive's data do not inflate to the announced length"
_WRONG_CRC = "damaged: its CRC-32 is not the one in the archive"


def open_bytes(candidate: Candidate) -> OpenBytes:
    """Open the content of a candidate for reading at any offset.

    Raises OSError, and DamagedHead if the file of its extent has changed.
    """
    if candidate.extent is None:
        return FileBytes(open_file(candidate.location, by_link=bool(candidate.by_link)))
    return open_extent_bytes(candidate.extent, by_link=bool(candidate.by_link))


def open_extent_bytes(extent: Extent, *, by_link: bool) -> OpenBytes:
    """Open the content of an extent as `open_bytes` does."""
    descriptor = open_extent_file(extent, by_link=by_link)
    try:
        if change := change_of(extent, os.fstat(descriptor)):
            raise DamagedHead(change)
        part = PartBytes(descriptor, extent.offset, extent.size_bytes)
        return part if extent.coding is Coding.STORED else InflatedBytes(part, extent.content_bytes)
    except BaseException:
        os.close(descriptor)
        raise


def open_extent_file(extent: Extent, *, by_link: bool) -> int:
    """Open the file of an extent; follow a link only if the scan did, or to the spool. Raises OSError."""
    return open_own(extent.path) if extent.is_spooled else open_file(extent.path, by_link=by_link)


def open_extent(extent: Extent, *, by_link: bool) -> Generator[Segment]:
    """Open the file of an extent, and yield the bytes of the instance in it.

    Stored bytes are one range of the file. Deflated ones are inflated in blocks, and compared with the length and the
    checksum that the archive announces. Raises InstanceChanged, also after the last segment, if the file has changed,
    cannot be read, or is damaged.
    """
    try:
        descriptor = open_extent_file(extent, by_link=by_link)
        try:
            _raise_if_changed(extent, descriptor)
            if extent.coding is Coding.STORED:
                yield FileRange(descriptor, extent.offset, extent.size_bytes)
            else:
                yield from _inflated(extent, descriptor)
            _raise_if_changed(extent, descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InstanceChanged(f"cannot be read: {error.strerror or error}") from error


def prefetch_extent(extent: Extent, *, by_link: bool, most_bytes: int) -> int:
    """Read the beginning of an extent into the page cache; return how many bytes. Never raises OSError."""
    count_bytes = 0
    with suppress(OSError):
        descriptor = open_extent_file(extent, by_link=by_link)
        try:
            for block in _blocks(extent, descriptor):
                count_bytes += len(block)
                if count_bytes >= most_bytes:
                    break
        finally:
            os.close(descriptor)
    return count_bytes


def change_of(extent: Extent, found: os.stat_result) -> str:
    """Return how the file of an extent has changed since the extent was found; empty if it has not."""
    if extent.is_spooled:
        return "" if identity_of(found) == extent.version else "its content is not in the spool any more"
    size_bytes, modified_ns = extent.version
    if found.st_size != size_bytes:
        return f"changed while it was sent: its archive had {size_bytes} bytes at the scan, now {found.st_size}"
    if found.st_mtime_ns != modified_ns:
        return "changed while it was sent: the modification time of its archive is new"
    return ""


def identity_of(spooled: os.stat_result) -> tuple[int, int]:
    """Return the identity of a file of the spool, which no other file has had (see `Spool`)."""
    return spooled.st_ino, spooled.st_atime_ns


def _raise_if_changed(extent: Extent, descriptor: int) -> None:
    if change := change_of(extent, os.fstat(descriptor)):
        raise InstanceChanged(change)


def _inflated(extent: Extent, descriptor: int) -> Generator[memoryview]:
    """Yield the inflated bytes in blocks, never more than announced. Raises InstanceChanged, OSError."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    left_bytes = extent.content_bytes
    crc32 = 0
    for deflated in _blocks(extent, descriptor):
        while not inflate.eof:
            try:
                block = inflate.decompress(deflated, BLOCK_BYTES)
            except zlib.error:
                raise _changed_or(extent, descriptor, _CANNOT_INFLATE) from None
            deflated = inflate.unconsumed_tail
            if not (block or deflated):
                break
            left_bytes -= len(block)
            if left_bytes < 0:
                raise _changed_or(extent, descriptor, f"{_WRONG_LENGTH}: more than {extent.content_bytes} bytes")
            crc32 = zlib.crc32(block, crc32)
            yield memoryview(block)
    if left_bytes or not inflate.eof:
        raise _changed_or(extent, descriptor, f"{_WRONG_LENGTH}: fewer than {extent.content_bytes} bytes")
    if extent.crc32 is not None and crc32 != extent.crc32:
        raise _changed_or(extent, descriptor, _WRONG_CRC)


def _blocks(extent: Extent, descriptor: int) -> Generator[bytes]:
    at, end = extent.offset, extent.offset + extent.size_bytes
    while at < end and (data := read_up_to(descriptor, min(BLOCK_BYTES, end - at), at)):
        yield data
        at += len(data)


def _changed_or(extent: Extent, descriptor: int, damage: str) -> InstanceChanged:
    """Return the error for bytes that are not as announced: the file has changed, or it is damaged."""
    return InstanceChanged(change_of(extent, os.fstat(descriptor)) or damage)
