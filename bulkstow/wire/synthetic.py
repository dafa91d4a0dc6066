"""Synthetic instances: small valid Part 10 files for demonstrations and tests.

Writes secondary capture images in Explicit VR Little Endian (PS3.10 §7.1, PS3.5 §7.1.2). The same arguments give the
same bytes. The patient is fictitious.
"""

from __future__ import annotations

import struct

from bulkstow.model import Header

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
BASIC_DIRECTORY = "1.2.840.10008.1.3.10"

_LONG_VRS = frozenset({"OB", "OW", "SQ", "UN", "UT"})


def part10(header: Header, *, rows: int = 16, columns: int = 16, number: int = 1) -> bytes:
    """Return a file with an 8-bit image of `rows` x `columns`, whose pixels depend on `number`."""
    pixels = bytes((number * 7 + i) & 0xFF for i in range(256)) * (rows * columns // 256 + 1)
    elements: list[tuple[int, int, str, str | bytes]] = [
        (0x0008, 0x0016, "UI", header.sop_class_uid),
        (0x0008, 0x0018, "UI", header.sop_instance_uid),
        (0x0008, 0x0020, "DA", "20260101"),
        (0x0008, 0x0030, "TM", "120000"),
        (0x0008, 0x0060, "CS", "OT"),
        (0x0008, 0x0064, "CS", "WSD"),
        (0x0010, 0x0010, "PN", "Nobody"),
        (0x0010, 0x0020, "LO", "SYNTHETIC"),
        (0x0010, 0x0030, "DA", ""),
        (0x0010, 0x0040, "CS", "O"),
        (0x0020, 0x000D, "UI", header.study_uid),
        (0x0020, 0x000E, "UI", header.series_uid),
        (0x0020, 0x0010, "SH", "1"),
        (0x0020, 0x0011, "IS", "1"),
        (0x0020, 0x0013, "IS", str(number)),
        (0x0028, 0x0002, "US", struct.pack("<H", 1)),
        (0x0028, 0x0004, "CS", "MONOCHROME2"),
        (0x0028, 0x0010, "US", struct.pack("<H", rows)),
        (0x0028, 0x0011, "US", struct.pack("<H", columns)),
        (0x0028, 0x0100, "US", struct.pack("<H", 8)),
        (0x0028, 0x0101, "US", struct.pack("<H", 8)),
        (0x0028, 0x0102, "US", struct.pack("<H", 7)),
        (0x0028, 0x0103, "US", struct.pack("<H", 0)),
        (0x7FE0, 0x0010, "OB", pixels[: rows * columns]),
    ]
    body = b"".join(_element(*element) for element in elements)
    return _preamble_and_meta(header.sop_class_uid, header.sop_instance_uid, header.transfer_syntax_uid) + body


def dicomdir() -> bytes:
    """Return the head of a DICOMDIR: a Part 10 file that is not an instance (PS3.10 §8)."""
    return _preamble_and_meta(BASIC_DIRECTORY, "2.25.1", EXPLICIT_VR_LITTLE_ENDIAN)


def _preamble_and_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    meta = b"".join(
        (
            _element(0x0002, 0x0001, "OB", b"\x00\x01"),
            _element(0x0002, 0x0002, "UI", sop_class_uid),
            _element(0x0002, 0x0003, "UI", sop_instance_uid),
            _element(0x0002, 0x0010, "UI", transfer_syntax_uid),
            _element(0x0002, 0x0012, "UI", "2.25.183247298523475623984756239847"),
        )
    )
    return bytes(128) + b"DICM" + _element(0x0002, 0x0000, "UL", struct.pack("<I", len(meta))) + meta


def _element(group: int, element: int, vr: str, value: str | bytes) -> bytes:
    raw = value.encode("ascii") if isinstance(value, str) else value
    if len(raw) % 2:
        raw += b"\0" if vr in ("UI", "OB") else b" "
    tag = struct.pack("<HH", group, element) + vr.encode("ascii")
    length = struct.pack("<HI", 0, len(raw)) if vr in _LONG_VRS else struct.pack("<H", len(raw))
    return tag + length + raw
