"""Claims about the values of response fields."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.wire.http_fields import RETRY_AFTER_LIMIT_S, field_text, retry_after_s


@pytest.mark.parametrize(
    ("value", "expected_s"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("Sun, 22 Nov 2026 12:00:30 -0000", 30.0),
        ("999999999999999999999999", RETRY_AFTER_LIMIT_S),
        ("Sun, 22 Nov 2099 12:00:30 GMT", RETRY_AFTER_LIMIT_S),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("9" * 5000, RETRY_AFTER_LIMIT_S),
        ("Fri, 31 Dec 9999 23:59:59 -1200", RETRY_AFTER_LIMIT_S),
        ("Mon, 01 Jan 0100 00:00:00 +2300", 0.0),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("1 Jan 2026 99999999999999999999:1:1 GMT", None),
        ("1 Jan 2026 0:0:0 +9999999999999999999", None),
        ("Sun, 22 Nov 2026 12:00:30 -2400", None),
    ],
)
def test_retry_after(value: str, expected_s: float | None) -> None:
    """Retry-After is seconds or a date (RFC 9110 §10.2.3); nonsense counts as absent, and the wait is limited."""
    assert retry_after_s(value, datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)) == expected_s


_DATES = st.builds(
    "{}{} {} {} {}:{}:{} {}".format,
    st.sampled_from(["", "Fri, ", "x, "]),
    st.integers(),
    st.sampled_from(["Jan", "Dec", "x", "13"]),
    st.integers() | st.sampled_from([0, 1, 9999, 10000]),
    st.integers() | st.sampled_from([0, 23]),
    st.integers() | st.sampled_from([0, 59]),
    st.integers() | st.sampled_from([0, 60]),
    st.sampled_from(["GMT", "-0000", "+2359", "-2359", ""]) | st.integers().map("{:+}".format),
)


@given(st.text() | _DATES | st.integers().map(str))
def test_no_retry_after_raises(value: str) -> None:
    """Any value is a wait within the limit, or None."""
    wait_s = retry_after_s(value, datetime(2026, 11, 22, tzinfo=UTC))
    assert wait_s is None or 0 <= wait_s <= RETRY_AFTER_LIMIT_S


@pytest.mark.parametrize(
    ("octets", "expected"), [("é".encode(), "é"), ("é".encode("latin-1"), "é"), (b"\xff\xfe", "ÿþ"), (b"", "")]
)
def test_field_text(octets: bytes, expected: str) -> None:
    """A field is UTF-8, or else ISO 8859-1; it never keeps a lone surrogate."""
    assert field_text(octets.decode("utf-8", "surrogateescape")) == expected
