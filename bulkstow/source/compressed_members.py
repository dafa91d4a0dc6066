"""The members of compressed files: those of a compressed tar archive, or the one file that is compressed.

All of them are staged. A single compressed file keeps its location, size and version, so that the ledger knows it
without decompressing it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bulkstow.model import Container, FileResult, Outcome
from bulkstow.source.compressed import COMPRESSIONS, CompressedStream
from bulkstow.source.forward import SKIP_BYTES, ForwardFile, ForwardStream
from bulkstow.source.heads import EMPTY, HEAD_BYTES, may_contain_instance
from bulkstow.source.member_lists import Items
from bulkstow.source.staging import Staging
from bulkstow.source.tar_members import TAR, open_member, staged_members
from bulkstow.source.windows import ByteReader
from bulkstow.wire.archive_formats import TAR_HEADER_BYTES, recognise
from bulkstow.wire.part10 import NOT_DICOM, has_magic

_BUFFER_BYTES = 4 * 2**20
"""A single file up to this size is decompressed into memory, which tells its size before it asks for room; a larger one
is decompressed twice."""


def compressed_members(container: Container, data: ByteReader, staging: Staging) -> Items:
    """Yield the members of a compressed file, whose format is a key of COMPRESSIONS."""
    archive = container.candidate
    content = decompress(data, container.format_name)
    if _is_tar(content):
        yield from staged_members(archive, content, staging)
        return
    head = content.peek(HEAD_BYTES)
    if not head:
        yield FileResult(archive, None, Outcome.SKIPPED, EMPTY)
    elif not may_contain_instance(head):
        yield FileResult(archive, None, Outcome.SKIPPED, NOT_DICOM)
    elif len(start := content.peek(_BUFFER_BYTES)) < _BUFFER_BYTES:
        extent = yield from staging.copy([start], len(start))
        yield replace(archive, extent=extent)
    else:
        yield from _large_file(container, data, content, staging)


def _large_file(container: Container, data: ByteReader, content: ForwardStream, staging: Staging) -> Items:
    """Find the size of a compressed file, then decompress it again into the spool."""
    report_at_bytes = SKIP_BYTES
    while content.read_some() and not staging.excess(content.at):
        if content.at >= report_at_bytes:
            report_at_bytes += SKIP_BYTES
            yield None
    size_bytes = content.at
    again = decompress(data, container.format_name)
    extent = yield from staging.copy(again.blocks(size_bytes), size_bytes)
    yield replace(container.candidate, extent=extent)


def open_compressed(container: Container, data: ByteReader, location: str) -> Iterator[bytes | memoryview]:
    """Yield the content of a member of a compressed tar archive, or of the single compressed file, in blocks.

    Reads forward from the beginning. Raises DamagedHead, also if there is no such member, and OSError.
    """
    content = decompress(data, container.format_name)
    if _is_tar(content):
        yield from open_member(container.candidate, content, location)
    else:
        while block := content.read_some():
            yield block


def decompressed(blocks: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Yield a content decompressed if it is a compressed file, otherwise as it is. Raises DamagedHead."""
    content = ForwardStream(lambda: next(blocks, b""))
    head = content.peek(TAR_HEADER_BYTES)
    found = None if has_magic(head) else recognise(head)
    if found is not None and (compression := COMPRESSIONS.get(found.name)) is not None:
        content = ForwardStream(CompressedStream(content.read, compression).read_block)
    while block := content.read_some():
        yield block


def decompress(data: ByteReader, format_name: str) -> ForwardStream:
    """Return the content of a compressed file."""
    return ForwardStream(CompressedStream(ForwardFile(data).read, COMPRESSIONS[format_name]).read_block)


def _is_tar(content: ForwardStream) -> bool:
    found = recognise(content.peek(TAR_HEADER_BYTES))
    return found is not None and found.name == TAR
