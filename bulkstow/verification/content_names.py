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


def name_of(tag: int) -> str:
    """Return a tag with its keyword, such as '(0010,0010) PatientName'; private attributes have none."""
    from pydicom.datadict import keyword_for_tag

    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {keyword_for_tag(tag)}".rstrip()


def dictionary_vr(tag: int) -> bytes:
    """Return the value representation in the standard's dictionary; empty for a private or unknown attribute."""
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag).encode("ascii")
    except KeyError:
        return b""


def syntax_name(uid: str) -> str:
    """Return the name of a transfer syntax, or its UID if it is private."""
    from pydicom.uid import UID

    return UID(uid).name if uid else "an unknown transfer syntax"
