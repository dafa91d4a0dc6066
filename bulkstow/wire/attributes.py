"""Names and value representations of attributes, from pydicom's dictionary.

pydicom is imported where it is needed: most runs need neither.
"""

from __future__ import annotations

from functools import lru_cache

_KEPT = 4096
"""Tags whose value representation is not looked up again; the dictionary has 5,091."""


def name_of(tag: int) -> str:
    """Return a tag with its keyword, such as '(0010,0010) PatientName'; private attributes have none."""
    from pydicom.datadict import keyword_for_tag

    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {keyword_for_tag(tag)}".rstrip()


@lru_cache(_KEPT)
def dictionary_vr(tag: int) -> bytes:
    """Return the value representation in the standard's dictionary; empty for a private or unknown attribute."""
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag).encode("ascii")
    except KeyError:
        return b""
