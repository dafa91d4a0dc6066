"""Spans of study dates, as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date

_DATE = re.compile(r"([0-9]{4})(?:(-?)([0-9]{2})(?:\2([0-9]{2}))?)?")
_NO_DATE = ("", "")
_FIRST_DAY, _LAST_DAY = "00000000", "99999999"


@dataclass(frozen=True, slots=True)
class Days:
    """Spans of days; a day is a text such as 20201231. The empty text stands for no date."""

    spans: tuple[tuple[str, str], ...]
    """The first and the last day of each span. The bounds are compared as texts, so any text may be a bound."""
    written: str = field(default="", compare=False)
    """The text of the setting."""

    def __contains__(self, day: str) -> bool:
        return any(first <= day <= last for first, last in self.spans)

    def __str__(self) -> str:
        return self.written


def parse_days(text: str) -> Days:
    """Return the days for `2020-01-01..2022-12-31`, `2020..`, `..2022-06`, `20201231`, `none` (no date), or several.

    Several are separated by commas. Raises ValueError for anything else.
    """
    return Days(tuple(_parse_span_of_days(span.strip()) for span in text.split(",")), text.strip())


def _parse_span_of_days(text: str) -> tuple[str, str]:
    if text == "none":
        return _NO_DATE
    first, dots, last = text.partition("..")
    if not (first or last):
        raise ValueError(f"{text!r} is not dates such as 2020-01-01..2022-12-31, 2020.. or none")
    first_day = _parse_days(first)[0] if first else _FIRST_DAY
    last_day = _parse_days(last)[1] if last else _LAST_DAY if dots else _parse_days(first)[1]
    if last_day < first_day:
        raise ValueError(f"{text!r} ends before it begins")
    return first_day, last_day


def _parse_days(text: str) -> tuple[str, str]:
    """Return the first and the last day of a day, a month or a year."""
    match = _DATE.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        year, month, day = match[1], match[3] or "", match[4] or ""
        date(int(year), int(month or 1), int(day or 1))
    except ValueError:
        raise ValueError(f"{text!r} is not a date such as 2020-12-31, 20201231, 2020-12 or 2020") from None
    return f"{year}{month}{day}".ljust(8, "0"), f"{year}{month}{day}".ljust(8, "9")
