"""The records of zip archives: the end of the directory, its entries, and the header in front of each member.

PKWARE's APPNOTE.TXT 6.3.10 (ISO/IEC 21320-1 is a part of it); section numbers below are its. The directory at the end
of the file decides about a member; the header in front of it tells where its data begin, and has to agree.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from typing import NamedTuple

from bulkstow.errors import DamagedHead

STORED, DEFLATED, DEFLATE64, BZIP2, LZMA, ZSTD, XZ = 0, 8, 9, 12, 14, 93, 95

METHODS = {
    1: "Shrink", 2: "Reduce", 3: "Reduce", 4: "Reduce", 5: "Reduce", 6: "Implode", DEFLATE64: "Deflate64",
    10: "Implode (PKWARE DCL)", BZIP2: "bzip2", LZMA: "LZMA", ZSTD: "Zstandard", 94: "MP3", XZ: "xz", 96: "JPEG",
    97: "WavPack", 98: "PPMd",
}  # fmt: skip
"""Names of compression methods (4.4.5), but for the stored and the deflated ones."""

_AES = 99
"""The method of an encrypted member whose own method is in an extra field."""

END_BYTES = 22
_LOCATOR_BYTES = 20
_END64_BYTES = 56
"""Sizes of the fixed parts of the records at the end of an archive (4.3.14 to 4.3.16)."""

TAIL_BYTES = _LOCATOR_BYTES + END_BYTES + 2**16 - 1
"""How far before the end of the file the last records may begin: the comment has up to 65,535 bytes (4.3.16)."""

ENTRY_BYTES = 46
LOCAL_BYTES = 30
"""Sizes of the fixed parts of an entry of the directory (4.3.12) and of a local header (4.3.7)."""

_END_MAGIC = b"PK\5\6"
_LOCATOR_MAGIC = b"PK\6\7"
_END64_MAGIC = b"PK\6\6"
_ENTRY_MAGIC = b"PK\1\2"
_LOCAL_MAGIC = b"PK\3\4"

_end = struct.Struct("<4s4H2LH").unpack_from
_locator = struct.Struct("<4sLQL").unpack_from
_end64 = struct.Struct("<4sQ2H2L4Q").unpack_from
_entry = struct.Struct("<4s4B4HL2L5H2L").unpack_from
_local = struct.Struct("<4sH2H2H3L2H").unpack_from
_extra_head = struct.Struct("<2H").unpack_from

_NOT_HERE = 0xFFFF_FFFF
"""A size or offset of 32 bits that is in the extra field instead (4.5.3)."""

_ENCRYPTED = 1 << 0
_HIDDEN = 1 << 13
"""Flags (4.4.4): the data are encrypted; the headers' values are masked, as the directory is encrypted."""

_UNIX = 3
"""The system in `version made by` whose modes are in the upper half of the external attributes (4.4.2)."""

_MOST_INFLATED, _INFLATED_FROM_BYTES = 1032, 64
"""Deflate makes at most 258 bytes of 2 bits (RFC 1951 §3.2.5); the constant covers the beginning of a block."""

MASKED = "encrypted: its directory needs a password: decrypt it and send the files inside"
ENCRYPTED = "encrypted: it needs a password: decrypt it and send the files inside"
IN_PARTS = "a zip archive in several parts, of which this is one: join them, or send the files inside"
NO_END = "cut off: the directory at the end of the archive is missing"
SYMBOLIC_LINK = "a symbolic link in an archive"


class End(NamedTuple):
    """The end of a directory."""

    entries: int
    directory_bytes: int
    directory_at: int
    """As the record tells: other bytes may precede the archive."""
    record_at: int
    """Where the record begins, which follows the directory."""
    is_zip64: bool = False


class Entry(NamedTuple):
    """An entry of the directory."""

    name: bytes
    flags: int
    method: int
    crc32: int
    kept_bytes: int
    """The number of bytes in the archive."""
    size_bytes: int
    local_at: int
    """Where the header in front of the member begins, from the beginning of the archive."""
    unix_mode: int
    """0 if the archive does not tell one."""

    @property
    def is_directory(self) -> bool:
        """True for a directory, which has no content."""
        return self.name.endswith(b"/") and not self.size_bytes

    @property
    def is_link(self) -> bool:
        """True for a symbolic link."""
        return stat.S_ISLNK(self.unix_mode)

    @property
    def problem(self) -> str:
        """Why the member cannot be read, by its entry; empty if it can."""
        if self.flags & _ENCRYPTED or self.method == _AES:
            return MASKED if self.flags & _HIDDEN else ENCRYPTED
        if self.method not in (STORED, DEFLATED) and self.method not in METHODS:
            return f"compressed by an unknown method ({self.method}): unpack it and send the files inside"
        if self.method == STORED and self.kept_bytes != self.size_bytes:
            return f"damaged: {self.kept_bytes} bytes are stored, and {self.size_bytes} announced"
        if self.method == DEFLATED and self.size_bytes > self.kept_bytes * _MOST_INFLATED + _INFLATED_FROM_BYTES:
            return f"damaged: {self.kept_bytes} deflated bytes cannot be the {self.size_bytes} that are announced"
        return ""


def find_ends(tail: bytes, tail_at: int) -> Iterator[End]:
    """Yield candidates for the end of the directory in the last bytes of a file, which begin at `tail_at`.

    The comment may contain anything, even another record, so the last one whose comment ends with the file comes first.
    Raises DamagedHead for an archive in several parts.
    """
    found = list(_find_end_records(tail))
    found.sort(key=lambda at: at + END_BYTES + _end(tail, at)[-1] != len(tail))
    for at in found:
        _, disk, directory_disk, here, entries, directory_bytes, directory_at, _ = _end(tail, at)
        is_zip64 = tail[at - _LOCATOR_BYTES : at].startswith(_LOCATOR_MAGIC) and at >= _LOCATOR_BYTES
        if not is_zip64 and (disk or directory_disk or here != entries):
            raise DamagedHead(IN_PARTS)
        yield End(entries, directory_bytes, directory_at, tail_at + at, is_zip64)


def _find_end_records(tail: bytes) -> Iterator[int]:
    at = len(tail)
    while (at := tail.rfind(_END_MAGIC, 0, at)) >= 0:
        if at + END_BYTES <= len(tail):
            yield at


def places_of_end64(locator: bytes, locator_at: int) -> tuple[int, int]:
    """Return where the end of a zip64 directory may begin, as the locator tells and right before it.

    `locator` is the record in front of the end (4.3.15). Raises DamagedHead for an archive in several parts.
    """
    _, _, at, parts = _locator(locator)
    if parts > 1:
        raise DamagedHead(IN_PARTS)
    return at, locator_at - _END64_BYTES


LOCATOR_BYTES, END64_BYTES = _LOCATOR_BYTES, _END64_BYTES


def read_end64(data: bytes, at: int) -> End | None:
    """Return the end of a zip64 directory (4.3.14) at an offset; None if there is none."""
    if len(data) < _END64_BYTES or not data.startswith(_END64_MAGIC):
        return None
    _, _, _, _, disk, directory_disk, here, entries, directory_bytes, directory_at = _end64(data)
    if disk or directory_disk or here != entries:
        raise DamagedHead(IN_PARTS)
    return End(entries, directory_bytes, directory_at, at, is_zip64=True)


def begins_entry(data: bytes) -> bool:
    """Return whether an entry of a directory begins here."""
    return data.startswith(_ENTRY_MAGIC)


def read_entry(data: bytes, at: int) -> tuple[Entry, int] | None:
    """Return the entry at an offset and its length (4.3.12); None if the data end before it does.

    Raises DamagedHead if there is none.
    """
    if len(data) - at < ENTRY_BYTES:
        return None
    magic, _, system, _, _, flags, method, _, _, crc32, kept_bytes, size_bytes, *lengths, _, _, attributes, local_at = (
        _entry(data, at)
    )
    if magic != _ENTRY_MAGIC:
        raise DamagedHead("damaged: its directory makes no sense")
    name_bytes, extra_bytes, comment_bytes = lengths[:3]
    extra_at = at + ENTRY_BYTES + name_bytes
    end_at = extra_at + extra_bytes + comment_bytes
    if end_at > len(data):
        return None
    if _NOT_HERE in (kept_bytes, size_bytes, local_at):
        size_bytes, kept_bytes, local_at = _in_zip64(
            data[extra_at : extra_at + extra_bytes], (size_bytes, kept_bytes, local_at)
        )
    name = data[at + ENTRY_BYTES : extra_at]
    mode = attributes >> 16 if system == _UNIX else 0
    return Entry(name, flags, method, crc32, kept_bytes, size_bytes, local_at, mode), end_at - at


def _in_zip64(extra: bytes, values: tuple[int, int, int]) -> list[int]:
    """Return size, kept size and offset, those of 64 bits from the extra field (4.5.3)."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = _extra_head(extra, at)
        if kind == 1:
            numbers = iter(struct.unpack_from(f"<{min(length, len(extra) - at - 4) // 8}Q", extra, at + 4))
            # Without a number in the extra field the value itself is meant.
            return [next(numbers, value) if value == _NOT_HERE else value for value in values]
        at += 4 + length
    return list(values)


def content_offset(local: bytes, entry: Entry) -> int:
    """Return where the data of a member begin, from the beginning of its header, which begins `local` (4.3.7).

    Raises DamagedHead if the header is not that of the entry.
    """
    if len(local) < LOCAL_BYTES or not local.startswith(_LOCAL_MAGIC):
        raise DamagedHead("damaged: the archive's directory names a place where it does not begin")
    _, _, flags, method, _, _, _, _, _, name_bytes, extra_bytes = _local(local)
    name = local[LOCAL_BYTES : LOCAL_BYTES + name_bytes]
    if name != entry.name or method != entry.method or (flags ^ entry.flags) & _ENCRYPTED:
        raise DamagedHead("damaged: its header is not the one that the archive's directory tells")
    return LOCAL_BYTES + int(name_bytes) + int(extra_bytes)
