"""The headers of a tar archive: v7, ustar (POSIX.1-1988), pax (POSIX.1-2001) and GNU.

A member is one header block, perhaps with extended headers in front of it, and its content, filled up to a whole block.
Names are kept as `os.fsdecode` returns them.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from bulkstow.errors import DamagedHead

BLOCK_BYTES = 512
"""The size of a header and of the units of content (POSIX ustar)."""

_MOST_EXTENDED_BYTES = 2**20
"""The size of all extended headers of a member. The longest path takes 4 KiB, extended attributes up to 64 KiB."""

_MOST_DIGITS = 20
"""The digits of a number in an extended header; 2**64 has 20."""

_GNU_MAGIC = b"ustar  \0"
_FIELDS = struct.Struct("100s24x12s12x8sc100x8s80x155s12x")
"""Name, size, checksum, type, magic, and prefix of the name."""
_CHECKSUM = slice(148, 156)
_ASCII = bytes(range(128))
_ENCODING, _ERRORS = "utf-8", "surrogateescape"
_IS_EXTENDED_AT, _IS_EXTENDED_IN_EXTENSION_AT = 482, 504
"""Where a sparse header, and a block that extends it, tell whether another one follows (GNU tar's tar.h)."""


class Kind(Enum):
    """The kind of a member, as far as it matters here."""

    FILE = "a file"
    DIRECTORY = "a directory"
    LINK = "a link or a device"
    UNSUPPORTED = "a file whose content cannot be read"


@dataclass(frozen=True, slots=True)
class TarMember:
    """A member, as its headers describe it; its content follows them."""

    name: str
    kind: Kind
    size_bytes: int
    """The bytes of content in the archive."""
    reason: str = ""
    """Why a link, a device or an unsupported file is not sent."""

    @property
    def stored_bytes(self) -> int:
        """The size of the content with the bytes that fill its last block."""
        return _whole_blocks(self.size_bytes)


_DIRECTORY, _OLD_FILE, _SPARSE_FILE = b"5", b"\0", b"S"
_LONG_NAME, _LONG_LINK, _GLOBAL = b"L", b"K", b"g"
_EXTENSIONS = frozenset({b"x", b"X", _GLOBAL, _LONG_NAME, _LONG_LINK})  # X: pax, by Solaris
"""Types of headers that extend the one after them."""

_SPARSE_KEY = "GNU.sparse."
_SPARSE_NAME = "GNU.sparse.name"

_LINKS = {
    b"1": "a hard link in an archive",
    b"2": "a symbolic link in an archive",
    b"3": "a device in an archive",
    b"4": "a device in an archive",
    b"6": "a named pipe in an archive",
    b"V": "the label of a tar volume",
}
"""Types without content."""

_SPARSE = "a sparse file in a tar archive, which is not read: unpack it and send the file inside"
_CONTINUED = "the continuation of a file from another tar volume: join the volumes, or unpack them"

Reads = Generator[int, bytes, TarMember]
"""A running reader: it yields how many bytes it needs next, is sent them, fewer at the end, and returns the member."""


class TarHeaders:
    """Reads the headers of one archive, which may set defaults for the members after them."""

    def __init__(self) -> None:
        self._defaults: dict[str, str] = {}

    def read(self, block: bytes) -> Reads:
        """Return the member whose first header block is `block`; the last byte read is in front of its content.

        Raises DamagedHead.
        """
        records: dict[str, str] = {}
        long_name = ""
        header = _parse(block)
        left_bytes = _MOST_EXTENDED_BYTES
        while header.type in _EXTENSIONS:
            left_bytes -= header.size_bytes + BLOCK_BYTES
            if left_bytes < 0:
                raise DamagedHead(f"damaged: extended headers of more than {_MOST_EXTENDED_BYTES} bytes")
            extension = yield from _exactly(_whole_blocks(header.size_bytes))
            extension = extension[: header.size_bytes]
            if header.type == _LONG_NAME:
                long_name = _text(extension.partition(b"\0")[0])
            elif header.type == _GLOBAL:
                self._defaults |= _pax_records(extension)
            elif header.type != _LONG_LINK:
                records |= _pax_records(extension)
            block = yield from _exactly(BLOCK_BYTES)
            header = _parse(block)
        if header.type == _SPARSE_FILE:
            yield from _skip_sparse_extensions(block, left_bytes)
        return _member(header, long_name, {**self._defaults, **records})


def _whole_blocks(size_bytes: int) -> int:
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def is_zero(block: bytes) -> bool:
    """Return whether a block has only zeros, as at the end of an archive."""
    return not block.strip(b"\0")


class _Header(NamedTuple):
    """The fields of a header block that matter."""

    name: str
    type: bytes
    size_bytes: int


def _parse(block: bytes) -> _Header:
    # In 4.5 us; tarfile.TarInfo.frombuf takes 15, as it reads all fields.
    name, size, checksum, type_, magic, prefix = _FIELDS.unpack(block)
    if _number(checksum) not in _checksums(block):
        raise DamagedHead("damaged: the checksum of a member's header is wrong")
    name = name.partition(b"\0")[0]
    # GNU keeps times in the field of the prefix.
    if magic.startswith(b"ustar") and magic != _GNU_MAGIC and (prefix := prefix.partition(b"\0")[0]):
        name = prefix + b"/" + name
    return _Header(_text(name), type_, _number(size))


def _number(field: bytes) -> int:
    """Return a number in octal digits, or in base 256 after a byte of 128 (GNU tar, star)."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        number = int(field.partition(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        number = -1
    if number < 0:
        raise DamagedHead("damaged: a number in a member's header is wrong")
    return number


def _checksums(block: bytes) -> tuple[int, int]:
    """Return the sums of all bytes, without and with a sign, as old programs have it; its field counts as spaces."""
    blank = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    unsigned = sum(blank)
    return unsigned, unsigned - 256 * len(blank.translate(None, _ASCII))


def _text(value: bytes) -> str:
    return value.decode(_ENCODING, _ERRORS)


def _exactly(size_bytes: int) -> Generator[int, bytes, bytes]:
    data = yield size_bytes
    if len(data) < size_bytes:
        raise DamagedHead("cut off: it ends in a header of its members")
    return data


def _skip_sparse_extensions(block: bytes, left_bytes: int) -> Generator[int, bytes, None]:
    is_extended = block[_IS_EXTENDED_AT]
    while is_extended and left_bytes > 0:
        is_extended = (yield from _exactly(BLOCK_BYTES))[_IS_EXTENDED_IN_EXTENSION_AT]
        left_bytes -= BLOCK_BYTES
    if is_extended:
        raise DamagedHead("a sparse file in more parts than are read")


def _pax_records(data: bytes) -> dict[str, str]:
    """Return the records of an extended header that matter: '<length> <key>=<value>' and a line feed (POSIX pax)."""
    records: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at]:
        digits, space, _ = data[at : at + 20].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = data[at + len(digits) + 1 : at + length]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n") or at + length > len(data):
            raise DamagedHead("damaged: an extended header of its members is wrong")
        name = _text(key)
        if name in ("path", "size", _SPARSE_NAME):
            records[name] = _text(value[:-1])
        if name.startswith(_SPARSE_KEY):
            records[_SPARSE_KEY] = ""
        at += length
    return records


def _member(header: _Header, long_name: str, records: Mapping[str, str]) -> TarMember:
    name = records.get(_SPARSE_NAME) or records.get("path") or long_name or header.name
    size = records.get("size", "")
    if size and not (size.isascii() and size.isdigit() and len(size) <= _MOST_DIGITS):
        raise DamagedHead("damaged: the size of a member is no number")
    size_bytes = int(size) if size else header.size_bytes
    if header.type in _LINKS:
        return TarMember(name, Kind.LINK, 0, _LINKS[header.type])
    if header.type == _DIRECTORY or (header.type == _OLD_FILE and name.endswith("/")):
        return TarMember(name, Kind.DIRECTORY, 0)
    if header.type == b"D":  # a GNU incremental archive lists the names in a directory as its content
        return TarMember(name, Kind.DIRECTORY, size_bytes)
    if header.type == _SPARSE_FILE or _SPARSE_KEY in records:
        return TarMember(name, Kind.UNSUPPORTED, size_bytes, _SPARSE)
    if header.type == b"M":
        return TarMember(name, Kind.UNSUPPORTED, size_bytes, _CONTINUED)
    return TarMember(name, Kind.FILE, size_bytes)
