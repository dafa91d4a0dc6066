"""Values of HTTP response fields (RFC 9110 §5.5).

A server may send any value: none raises an exception here, and a meaningless value counts as absent.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

RETRY_AFTER_LIMIT_S = 3600.0
"""The longest wait that one Retry-After can cause.
Longer ones come from wrong clocks; a server that really needs longer costs one request per hour."""


def field_text(value: str) -> str:
    """Return a field's value as text: UTF-8, or else ISO 8859-1 (RFC 9110 §5.5).

    In `value`, bytes that are not UTF-8 are lone surrogates, as aiohttp returns them.
    """
    octets = value.encode("utf-8", "surrogateescape")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def retry_after_s(value: str, now: datetime) -> float | None:
    """Return the seconds of a Retry-After field, a number or a date (RFC 9110 §10.2.3); None without one."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), RETRY_AFTER_LIMIT_S)
    try:
        when = parsedate_to_datetime(value)
        left_s = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now.timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return min(max(0.0, left_s), RETRY_AFTER_LIMIT_S)
