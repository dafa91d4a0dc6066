import secrets
import string
from email import message_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.wire.multipart import (
    BOUNDARY_DIGITS,
    body_length,
    closing,
    content_type,
    part_head,
)

BOUNDARY = "b0unDary"

boundaries = st.text(string.ascii_letters + string.digits, min_size=1, max_size=70)


def framed(boundary: str, contents: list[bytes]) -> bytes:
    """Return the body that the module's functions build around these instances."""
    parts = [part_head(boundary, len(content), first=number == 0) + content for number, content in enumerate(contents)]
    return b"".join(parts) + closing(boundary)


def test_a_body_of_two_instances_is_these_bytes() -> None:
    """Delimiters, part headers and line breaks are those of RFC 2046, and nothing else is sent."""
    assert framed(BOUNDARY, [b"one", b""]) == (
        b"--b0unDary\r\n"
        b"Content-Type: application/dicom\r\n"
        b"Content-Length: 3\r\n"
        b"\r\n"
        b"one\r\n"
        b"--b0unDary\r\n"
        b"Content-Type: application/dicom\r\n"
        b"Content-Length: 0\r\n"
        b"\r\n"
        b"\r\n"
        b"--b0unDary--\r\n"
    )


@pytest.mark.parametrize(
    ("quoted", "expected"),
    [
        (False, 'multipart/related; type="application/dicom"; boundary=b0unDary'),
        (True, 'multipart/related; type="application/dicom"; boundary="b0unDary"'),
    ],
)
def test_the_boundary_is_quoted_on_demand_only(quoted: bool, expected: str) -> None:
    """The boundary is quoted only on request: old Orthancs store nothing if it is, other servers require it."""
    assert content_type(BOUNDARY, quoted=quoted) == expected


def test_a_boundary_fits_into_the_standard() -> None:
    """A boundary is allowed by RFC 2046 §5.1.1: at most 70 characters, and only letters and digits, without quotes."""
    boundary = secrets.token_hex(BOUNDARY_DIGITS // 2)
    assert len(boundary) == BOUNDARY_DIGITS <= 70
    assert boundary.isalnum()


@given(boundaries, st.lists(st.binary(max_size=200), min_size=1, max_size=12))
def test_the_declared_length_is_the_length_produced(boundary: str, contents: list[bytes]) -> None:
    """The Content-Length of a request is exact for any number of digits in those of the parts."""
    assert body_length(boundary, map(len, contents)) == len(framed(boundary, contents))


@given(boundaries, st.lists(st.binary(max_size=200), min_size=1, max_size=5))
def test_the_standard_library_reads_what_was_framed(boundary: str, contents: list[bytes]) -> None:
    """The parser of the standard library, which searches for the boundary, finds the same instances."""
    contents = [content for content in contents if b"--" not in content] or [b"DICM"]
    head = f"MIME-Version: 1.0\r\nContent-Type: {content_type(boundary)}\r\n\r\n".encode("ascii")
    message = message_from_bytes(head + framed(boundary, contents))
    parts = list(message.walk())[1:]
    assert [part.get_payload(decode=True) for part in parts] == contents
    assert [part["Content-Length"] for part in parts] == [str(len(content)) for content in contents]
    assert not message.defects
