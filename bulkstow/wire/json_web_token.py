"""Reads the expiry of a JSON Web Token (RFC 7519 §4.1.4) without verifying the token."""

from __future__ import annotations

import base64

from bulkstow.wire.bounded import parse_json

LATEST_S = 253_402_300_800
"""The end of the year 9999; a later `exp` is not in seconds, as RFC 7519 §2 requires."""


def expires_at_s(token: str) -> float | None:
    """Return the `exp` claim in seconds since 1970; None if the token is opaque, encrypted or has no such claim."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = parse_json(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)).decode())
    except ValueError:
        return None
    match claims:
        case {"exp": int() | float() as seconds} if not isinstance(seconds, bool) and 0 < seconds < LATEST_S:
            return float(seconds)
        case _:
            return None
