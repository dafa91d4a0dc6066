"""Recognises archives and compressed files, which may contain instances, among the files that are not DICOM.

The first bytes decide, never the name. The preamble of a DICOM file may contain anything (PS3.10 §7.1), so the caller
checks first that a file is not DICOM.
"""

from __future__ import annotations

from dataclasses import dataclass

TAR_HEADER_BYTES = 512

DISC_IMAGE_MAGIC_AT, DISC_IMAGE_MAGIC = 32_769, b"CD001"
"""The first 32 KiB of a CD image may contain anything (ECMA-119 §6.2.1, §8.1.2)."""

_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08", b"PK00PK\x03\x04")
"""A zip archive, an empty one, one in several parts, and one planned for several parts that has only one."""

_MAGIC_NUMBERS = {
    "a gzip file": (b"\x1f\x8b",),
    "a 7z archive": (b"7z\xbc\xaf\x27\x1c",),
    "a rar archive": (b"Rar!\x1a\x07", b"RE~^"),  # the second is of versions before 1.5
    "an xz file": (b"\xfd7zXZ\0",),
    "a zstd file": (b"\x28\xb5\x2f\xfd",),
    "an lz4 file": (b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18"),  # the second is the format of the kernel
    "a file compressed by compress (.Z)": (b"\x1f\x9d", b"\x1f\xa0"),  # the second is by LZH
    "an lzip file": (b"LZIP",),
    "an lzop file": (b"\x89LZO\0\r\n\x1a\n",),
    "a cpio archive": (b"070701", b"070702", b"070707", b"\xc7\x71", b"\x71\xc7"),
    "an ar archive": (b"!<arch>\n",),
    "a cab archive": (b"MSCF\0\0\0\0",),
    "an arj archive": (b"\x60\xea",),
}
"""From each format's specification, or from the magic of file(1) if there is none."""

_BZIP2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")
"""The bytes after 'BZh' and a digit: a block, or the end of an empty file."""

_OFFICE_ENTRIES = (b"[Content_Types].xml", b"_rels/", b"docProps/", b"mimetype", b"META-INF/")
"""Names of the first entry in office documents, electronic books and programs, which are zip files, too."""


@dataclass(frozen=True, slots=True)
class Format:
    """An archive format."""

    name: str
    """With its article, for a sentence."""
    may_hold_instances: bool = True


def recognise(data: bytes) -> Format | None:
    """Return the format of a file that begins with `data`; None for a format that cannot contain instances.

    A tar archive needs the first 512 bytes, the others fewer.
    """
    if data.startswith(_ZIP):
        return _zip(data)
    for name, magic_numbers in _MAGIC_NUMBERS.items():
        if data.startswith(magic_numbers):
            return Format(name)
    if data.startswith(b"BZh") and data[4:10] in _BZIP2_BLOCKS:
        return Format("a bzip2 file")
    if data[1:4] == b"\x2a\x4d\x18" and data[:1] and data[0] >> 4 == 5:
        return Format("a zstd file")  # or lz4: a skippable frame (RFC 8878 §3.1.2)
    if _is_lzma(data):
        return Format("an lzma file")
    if data[2:5] == b"-lh" and data[6:7] == b"-":
        return Format("an lha archive")
    if data[257:262] == b"ustar" or _has_tar_checksum(data):
        return Format("a tar archive")
    return None


def _zip(data: bytes) -> Format:
    name_bytes = int.from_bytes(data[26:28], "little")
    entry = data[30 : 30 + name_bytes]
    if data.startswith(b"PK\x03\x04") and entry.startswith(_OFFICE_ENTRIES):
        return Format("an office document or a program", may_hold_instances=False)
    return Format("a zip archive")


def _is_lzma(data: bytes) -> bool:
    """Return whether `data` begins with usual properties, and a size that is unknown or below 4 GiB."""
    return data[:3] == b"\x5d\0\0" and len(data) > 13 and (data[5:13] == b"\xff" * 8 or data[9:13] == bytes(4))


def _has_tar_checksum(data: bytes) -> bool:
    """Return whether the checksum of an old tar header is right; its own field counts as spaces in the sum."""
    header = data[:TAR_HEADER_BYTES]
    if len(header) < TAR_HEADER_BYTES or not header[0]:
        return False
    try:
        expected = int(header[148:156].strip(b"\0 "), 8)
    except ValueError:
        return False
    return sum(header) - sum(header[148:156]) + 8 * ord(" ") == expected
