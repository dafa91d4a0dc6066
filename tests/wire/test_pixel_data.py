"""Pixel data that are longer than the file, recognised from the bytes of its head."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.wire.pixel_data import PixelData, missing_pixel_data
from bulkstow.wire.steps import CutOff
from tests.wire.test_part10 import (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    JPEG_2000,
    SEQUENCE_END,
    data_set,
    element,
    item,
    meta,
)

PIXEL_DATA = 0x7FE00010
PADDING = element(0xFFFCFFFC, "OB", bytes(100))


def image(pixel_data: bytes, *, syntax: str = EXPLICIT_LITTLE, before: bytes = b"") -> bytes:
    """Return a file with pixel data after `before`."""
    return meta(syntax) + data_set(explicit=syntax != IMPLICIT_LITTLE) + before + pixel_data


def told(data: bytes, *, missing_bytes: int = 0, syntax: str = EXPLICIT_LITTLE, reach_bytes: int = 4096) -> str:
    """Return the result for the first bytes of a file that lacks `missing` bytes at its end."""
    size_bytes = len(data) - missing_bytes
    found = missing_pixel_data(data[: min(size_bytes, reach_bytes)], size_bytes, syntax)
    return str(found) if isinstance(found, CutOff) else ""


@pytest.mark.parametrize("missing_bytes", [1, 512, 524_288])
@pytest.mark.parametrize(("syntax", "vr"), [(EXPLICIT_LITTLE, "OW"), (EXPLICIT_LITTLE, "OB"), (IMPLICIT_LITTLE, "")])
def test_missing_bytes_are_counted(syntax: str, vr: str, missing_bytes: int) -> None:
    """The message has the number of missing bytes and the length."""
    data = image(element(PIXEL_DATA, vr, bytes(524_288), explicit=bool(vr)), syntax=syntax)
    expected = f"pixel data cut off: {missing_bytes} of 524288 bytes missing"
    assert told(data, missing_bytes=missing_bytes, syntax=syntax) == expected
    assert told(data, syntax=syntax) == ""


@pytest.mark.parametrize("before", [b"", element(0x00880200, "SQ", item(element(PIXEL_DATA, "OW", bytes(50))))])
def test_padding_and_icons_are_not_missing_bytes(before: bytes) -> None:
    """Padding after the pixel data and the pixel data of an icon before them are not reported."""
    data = image(element(PIXEL_DATA, "OW", bytes(9_000)), before=before)
    assert told(data + PADDING) == ""
    assert told(data, missing_bytes=7) == "pixel data cut off: 7 of 9000 bytes missing"


def test_the_tag_within_a_value_proves_nothing() -> None:
    """Bytes within a value that look like pixel data are not reported."""
    alike = element(0x00291010, "OB", element(PIXEL_DATA, "OW", b"")[:8] + struct.pack("<I", 2**30))
    assert told(image(element(PIXEL_DATA, "OW", bytes(9_000)), before=alike)) == ""


def test_encapsulated_pixel_data_lack_their_end() -> None:
    """A file that ends within the first fragment is truncated; if it ends later, the result is open."""
    fragments = item(b"") + item(bytes(9_000)) + SEQUENCE_END
    data = image(element(PIXEL_DATA, "OB", fragments, undefined=True), syntax=JPEG_2000)
    assert told(data, syntax=JPEG_2000) == ""
    assert told(data, missing_bytes=9, syntax=JPEG_2000) == "pixel data cut off: its end is missing"


def test_what_is_not_in_the_bytes_is_open() -> None:
    """The result is open for pixel data that begin after the bytes that were read."""
    data = image(element(PIXEL_DATA, "OW", bytes(9_000)), before=element(0x00291010, "OB", bytes(5_000)))
    assert told(data, missing_bytes=7) == ""
    assert told(data, missing_bytes=7, reach_bytes=20_000) == "pixel data cut off: 7 of 9000 bytes missing"


@given(
    tail=st.binary(max_size=100) | st.binary(max_size=30).map(lambda tail: b"\xe0\x7f\x10\0" + tail),
    size_bytes=st.integers(0, 10_000),
    syntax=st.sampled_from([EXPLICIT_LITTLE, IMPLICIT_LITTLE]),
)
def test_any_bytes_have_an_answer(tail: bytes, size_bytes: int, syntax: str) -> None:
    """Any bytes after the head raise nothing."""
    data = image(tail, syntax=syntax)
    assert isinstance(missing_pixel_data(data, max(size_bytes, len(data)), syntax), CutOff | PixelData)
