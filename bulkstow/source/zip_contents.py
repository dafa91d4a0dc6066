"""The contents of members of zip archives that are compressed by other methods than Deflate.

They are read forward once, in blocks. Everything here blocks.
"""

from __future__ import annotations

import lzma
import re
import struct
import zlib
from collections.abc import Callable, Mapping

from bulkstow.errors import DamagedHead
from bulkstow.source.compressed import COMPRESSIONS, DECOMPRESSOR_BYTES, CompressedStream, Compression, Decompressor
from bulkstow.source.forward import ForwardFile, ForwardStream
from bulkstow.source.windows import ByteReader, Section
from bulkstow.wire.zip_records import BZIP2, LZMA, XZ, ZSTD, Entry

_AS_FILES: Mapping[int, str] = {BZIP2: "a bzip2 file", XZ: "an xz file", ZSTD: "a zstd file"}
"""Methods whose data are the same as in a file of their own."""

STAGED_METHODS = frozenset({*_AS_FILES, LZMA})
"""The methods that are decompressed into the spool."""

_LZMA_HEAD_BYTES = 9
_END_MARKED = 1 << 1
"""Of LZMA data: a version, the length of the properties, and five bytes of these (5.8.8). The flag tells that a marker
ends the data; otherwise their length does."""


def content_of(entry: Entry, part: ByteReader) -> ForwardStream:
    """Return the content of a member that begins at the beginning of `part`.

    Reading it raises DamagedHead if it cannot be decompressed, or its length or checksum is not the announced one.
    """
    if entry.method == LZMA:
        data, compression = _lzma(entry, part)
    else:
        data, compression = part, COMPRESSIONS[_AS_FILES[entry.method]]
    stream = CompressedStream(ForwardFile(data).read, compression)
    return ForwardStream(_checked(stream.read_block, entry))


def _lzma(entry: Entry, part: ByteReader) -> tuple[ByteReader, Compression]:
    """Return the data after their head, and the compression of an .lzma file, whose head has a length in addition."""
    properties = part.read(_LZMA_HEAD_BYTES, 0)[4:]
    length = 2**64 - 1 if entry.flags & _END_MARKED else entry.size_bytes

    def new_decompressor() -> Decompressor:
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=DECOMPRESSOR_BYTES)
        try:
            decompressor.decompress(properties + struct.pack("<Q", length))
        except lzma.LZMAError:
            raise DamagedHead("damaged: its LZMA data cannot be decompressed") from None
        return decompressor

    rest = Section(part, _LZMA_HEAD_BYTES, part.size_bytes - _LZMA_HEAD_BYTES)
    nothing_follows = re.compile(rb"(?!)")
    return rest, Compression("LZMA", nothing_follows, new_decompressor)


def _checked(read_block: Callable[[], bytes], entry: Entry) -> Callable[[], bytes]:
    """Compare the length and the checksum of a content with its entry."""
    left_bytes, crc32 = entry.size_bytes, 0

    def read_on() -> bytes:
        nonlocal left_bytes, crc32
        block = read_block()
        left_bytes -= len(block)
        crc32 = zlib.crc32(block, crc32)
        if left_bytes < 0 or (left_bytes and not block):
            words = "more" if left_bytes < 0 else "fewer"
            raise DamagedHead(f"damaged: its data decompress to {words} than the {entry.size_bytes} announced bytes")
        if not left_bytes and crc32 != entry.crc32:
            raise DamagedHead("damaged: its CRC-32 is not the one in the archive")
        return block

    return read_on
