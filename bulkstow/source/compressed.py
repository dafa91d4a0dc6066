"""Compressed files as bounded streams: gzip, bzip2, xz and zstd.

A file may be several compressed streams one after the other, with zeros between and after them, as their programs
accept. Their checksums are compared. Everything here blocks.
"""

from __future__ import annotations

import bz2
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from bulkstow.errors import DamagedHead
from bulkstow.quantities import show_size

BLOCK_BYTES = 256 * 2**10
"""The size of a block of content."""

_READ_BYTES = 128 * 2**10
"""The size of a read of the compressed file; a megabyte is no faster from the page cache."""

DECOMPRESSOR_BYTES = 128 * 2**20
"""The memory that a stream may demand. `xz -9` demands 65 MiB; zstd's programs accept 128 MiB, too."""

MOST_RATIO, RATIO_FROM_BYTES = 1000, 2**30
"""How many times its compressed size a file may contain, once it has more than RATIO_FROM_BYTES. Zeros reach 1030 in
gzip and more in the others; CT and MR images reach 5."""

_LOOK_AHEAD_BYTES = 16
"""Bytes that tell whether another stream follows."""

NO_ZSTD = (
    "a zstd file: pip install backports.zstd, or pip install '.[zstd]' in a checkout, and run again to look into it"
)


class Decompressor(Protocol):
    """A decompressor of one stream, as `bz2`, `lzma` and `compression.zstd` have it."""

    @property
    def eof(self) -> bool:
        """True after the end of the stream."""

    @property
    def needs_input(self) -> bool:
        """False if it can return more without further data."""

    @property
    def unused_data(self) -> bytes:
        """The data after the end of the stream."""

    def decompress(self, data: bytes, /, max_length: int) -> bytes:
        """Return up to `max_length` bytes of content."""


class _Gunzip:
    """zlib's decompressor of one gzip stream, with the interface of the others."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._may_have_more = False

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._may_have_more

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, /, max_length: int) -> bytes:
        block = self._inflate.decompress(self._inflate.unconsumed_tail or data, max_length)
        # zlib may hold content back when it has taken all data and filled the block.
        self._may_have_more = bool(self._inflate.unconsumed_tail) or len(block) == max_length
        return block


def _bunzip2() -> Decompressor:
    return bz2.BZ2Decompressor()


def _unxz() -> Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=DECOMPRESSOR_BYTES)


def _unzstd() -> Decompressor:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        try:
            from backports import zstd
        except ImportError:
            raise DamagedHead(NO_ZSTD) from None
    window_log = DECOMPRESSOR_BYTES.bit_length() - 1
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: window_log})


@dataclass(frozen=True, slots=True)
class Compression:
    """A format of compressed files."""

    name: str
    begins: re.Pattern[bytes]
    """Matches the beginning of a stream."""
    new_decompressor: Callable[[], Decompressor]


COMPRESSIONS: Mapping[str, Compression] = {
    "a gzip file": Compression("gzip", re.compile(rb"\x1f\x8b"), _Gunzip),
    "a bzip2 file": Compression("bzip2", re.compile(rb"BZh[1-9]"), _bunzip2),
    "an xz file": Compression("xz", re.compile(rb"\xfd7zXZ\0"), _unxz),
    "a zstd file": Compression("zstd", re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), _unzstd),
}
"""By the name of the format in `archive_formats`."""


class CompressedStream:
    """The content of a compressed file, read forward once in blocks.

    Raises DamagedHead if it is damaged or cut off, if something else follows it, if it needs too much memory, or if it
    contains too many times its size; the blocks before that are valid as far as the format tells. Errors of `read`
    pass through.
    """

    def __init__(self, read: Callable[[int], bytes], compression: Compression) -> None:
        self._read = read
        """Returns up to so many of the next compressed bytes; none at the end."""
        self._compressed_bytes = 0
        self._compression = compression
        self._decompressor = compression.new_decompressor()
        self._unused = b""
        self._content_bytes = 0

    def read_block(self) -> bytes:
        """Return the next block of the content, of BLOCK_BYTES or less; empty at its end."""
        while not self._decompressor.eof or self._begin_next():
            data = b""
            if self._decompressor.needs_input:
                data = self._read_on()
                if not data:
                    raise DamagedHead(f"damaged: its {self._compression.name} data are cut off")
            if block := self._decompress(data):
                self._count(len(block))
                return block
        return b""

    def _begin_next(self) -> bool:
        """Begin the next stream; return False at the end of the file."""
        rest = self._decompressor.unused_data.lstrip(b"\0")
        while len(rest) < _LOOK_AHEAD_BYTES and (more := self._read_on()):
            rest = (rest + more).lstrip(b"\0")
        if not rest:
            return False
        if not self._compression.begins.match(rest):
            raise DamagedHead(f"damaged: other bytes follow its {self._compression.name} data")
        self._decompressor = self._compression.new_decompressor()
        self._unused = rest
        return True

    def _read_on(self) -> bytes:
        data, self._unused = self._unused, b""
        if not data:
            data = self._read(_READ_BYTES)
            self._compressed_bytes += len(data)
        return data

    def _decompress(self, data: bytes) -> bytes:
        try:
            return self._decompressor.decompress(data, BLOCK_BYTES)
        except Exception as error:  # noqa: BLE001 - each library has its own, the one of zstd is not always there
            name, why = self._compression.name, str(error).rpartition(": ")[2]
            if "memory" in why.lower():
                most = show_size(DECOMPRESSOR_BYTES)
                raise DamagedHead(f"its {name} data need more than {most} of memory to decompress") from None
            raise DamagedHead(f"damaged: its {name} data cannot be decompressed: {why}") from None

    def _count(self, block_bytes: int) -> None:
        self._content_bytes += block_bytes
        most_bytes = max(RATIO_FROM_BYTES, MOST_RATIO * self._compressed_bytes)
        if self._content_bytes > most_bytes:
            raise DamagedHead(f"it contains more than {MOST_RATIO} times its size, as no archive of images does")
