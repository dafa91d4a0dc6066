"""Names of attributes, transfer syntaxes and value representations, from pydicom's dictionary.

pydicom is imported where it is needed: most comparisons need no name.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_ATTRIBUTES = 20
"""The most attributes that are listed; a server that coerces patients changes some ten."""


def list_attributes(names: Sequence[str]) -> tuple[str, ...]:
    """Return the first names, and how many others there are."""
    more = len(names) - MOST_ATTRIBUTES
    return (*names[:MOST_ATTRIBUTES], *([f"and {more} more"] if more > 0 else ()))


def syntax_name(uid: str) -> str:
    """Return the name of a transfer syntax, or its UID if it is private."""
    from pydicom.uid import UID

    return UID(uid).name if uid else "an unknown transfer syntax"
