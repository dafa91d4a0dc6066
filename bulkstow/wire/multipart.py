"""Framing of a STOW-RS request body: multipart/related, and its exact length.

Returns the bytes around the instances (RFC 2046 §5.1.1, RFC 2387, PS3.18 §10.5.1). Reading and sending are left to
`destination.body`; the caller chooses a random boundary.
"""

from __future__ import annotations

from collections.abc import Iterable

BOUNDARY_DIGITS = 40
"""Hexadecimal digits of a boundary: 160 random bits do not occur in pixel data. RFC 2046 allows 70 characters.
Letters and digits need no quotes in a Content-Type; Orthanc before 1.4 stored nothing if there were quotes."""

PART_OVERHEAD_BYTES = 128
"""The most that framing adds to an instance: delimiter, two headers and a length of 20 digits are 124 bytes."""


DICOM = "application/dicom"
"""Media type of a Part 10 file (PS3.18 §8.7.3)."""


def content_type(boundary: str, *, quoted: bool = False, part_type: str = DICOM) -> str:
    """Return the Content-Type of a body; `type` is quoted as it contains a slash, the boundary only if `quoted`."""
    shown = f'"{boundary}"' if quoted else boundary
    return f'multipart/related; type="{part_type}"; boundary={shown}'


def part_head(boundary: str, size_bytes: int, *, first: bool, part_type: str = DICOM) -> bytes:
    """Return what precedes an instance of `size_bytes`: delimiter, headers, empty line.

    The CRLF before a delimiter belongs to it (RFC 2046 §5.1.1); the first delimiter of a body needs none. Because of
    the part's Content-Length, Orthanc does not search pixel data for the boundary.
    """
    lead = "" if first else "\r\n"
    return (f"{lead}--{boundary}\r\nContent-Type: {part_type}\r\nContent-Length: {size_bytes}\r\n\r\n").encode("ascii")


def closing(boundary: str) -> bytes:
    """Return the delimiter that ends the body."""
    return f"\r\n--{boundary}--\r\n".encode("ascii")


def body_length(boundary: str, sizes_bytes: Iterable[int], *, part_type: str = DICOM) -> int:
    """Return the exact length in bytes of a body with instances of these sizes."""
    total = len(closing(boundary))
    first = True
    for size_bytes in sizes_bytes:
        total += len(part_head(boundary, size_bytes, first=first, part_type=part_type)) + size_bytes
        first = False
    return total
