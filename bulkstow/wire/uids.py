"""The form of a UID (PS3.5 §9.1)."""

from __future__ import annotations

import re

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def is_uid(text: str) -> bool:
    """Return whether a text is 1 to 64 digits and dots (PS3.5 §9.1); leading zeros, which are common, are accepted."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None
