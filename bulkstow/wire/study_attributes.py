"""Modality and study date in the head of an instance, for filters and reports (PS3.3 §C.7.3.1, §C.7.2.1).

A value is normalised or dropped: other text may be a patient's name, so it must not reach ledger and reports.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache

STUDY_DATE = 0x0008_0020
MODALITY = 0x0008_0060
STUDY_ATTRIBUTES = frozenset({STUDY_DATE, MODALITY})

READ_BYTES = 64
"""As much of a value is read. A modality has 16 characters at most, a date 8, and 10 in the old form (PS3.5 §6.2)."""

_KEPT = 64
"""Values that are not converted again, as all files of a study share them."""

_MODALITY = re.compile(rb"[A-Z0-9][A-Z0-9_ ]{0,15}")
_DATE = re.compile(rb"([0-9]{4})(\.?)([0-9]{2})\2([0-9]{2})")
"""A date as PS3.5 §6.2 writes it, or with dots, as ACR-NEMA did."""


def study_attribute(tag: int, value: bytes) -> str:
    """Return the text of a modality, or of a study date as YYYYMMDD; empty if the value is none."""
    return modality_of(value) if tag == MODALITY else study_date_of(value)


@lru_cache(_KEPT)
def modality_of(value: bytes) -> str:
    """Return the Modality (0008,0060) in a value, in capitals; the first if there are several."""
    text = value.partition(b"\\")[0].strip(b"\0 ").upper()
    return text.decode("ascii") if _MODALITY.fullmatch(text) else ""


@lru_cache(_KEPT)
def study_date_of(value: bytes) -> str:
    """Return the Study Date (0008,0020) in a value as YYYYMMDD; empty if it is no date of the calendar."""
    match = _DATE.fullmatch(value.strip(b"\0 "))
    if match is None:
        return ""
    year, _, month, day = match.groups()
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return ""
    return (year + month + day).decode("ascii")
