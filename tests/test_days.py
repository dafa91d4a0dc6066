"""Spans of study dates: as they are written, and which days they have."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.days import parse_days


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("2020-01-01..2022-12-31", ["20200101", "20211105", "20221231"], ["20191231", "20230101", ""]),
        ("2020-01-01..", ["20200101", "99991231"], ["20191231", ""]),
        ("..2022-12-31", ["00010101", "20221231"], ["20230101", ""]),
        ("2020-02-29", ["20200229"], ["20200228", "20200301", ""]),
        ("20200229", ["20200229"], ["20200228", "20200301", ""]),
        ("20200101..20200131", ["20200101", "20200131"], ["20200201"]),
        ("2020", ["20200101", "20201231"], ["20191231", "20210101"]),
        ("2020..2022", ["20200101", "20221231"], ["20191231", "20230101"]),
        ("2020-03", ["20200301", "20200331"], ["20200229", "20200401"]),
        ("2020-03..", ["20200301"], ["20200229"]),
        ("..2020-03", ["20200331"], ["20200401"]),
        ("none", [""], ["20200101"]),
        ("2019, 2021..2022, none", ["20190101", "20220101", ""], ["20200101"]),
    ],
)
def test_dates_are_read(text: str, inside: list[str], outside: list[str]) -> None:
    """Days, months and years, spans of them with both ends or one, and none."""
    days = parse_days(text)
    assert [day for day in inside + outside if day in days] == inside
    assert str(days) == text


@pytest.mark.parametrize(
    "text",
    ["", "..", "2020-02-30", "20200230", "2020-13", "0000", "20", "20-01-01", "2020-1-1", "2020-0101", "202001-01",
     "2020..2021..2022", "yesterday", "2020,", "2020-01-01...", "٢٠٢٠", "none..2020"],
)  # fmt: skip
def test_what_is_no_date_is_refused(text: str) -> None:
    """Any other text is a ValueError with the expected form."""
    with pytest.raises(ValueError, match=r"is not (a date such as 2020-12-31|dates such as 2020-01-01\.\.2022)"):
        parse_days(text)


def test_a_span_of_days_does_not_end_before_it_begins() -> None:
    """A span without any day is a mistake."""
    with pytest.raises(ValueError, match=r"'2022\.\.2020' ends before it begins"):
        parse_days("2022..2020")


_DAYS = st.dates().map(lambda day: day.isoformat().replace("-", ""))


@given(st.dates(min_value=date(1, 1, 2)), st.one_of(_DAYS, st.just("")))
def test_spans_that_adjoin_have_each_day_once(cut: date, day: str) -> None:
    """Every instance is in exactly one of `..D-1`, `D..` and `none`."""
    spans = [f"..{cut - timedelta(days=1)}", f"{cut}..", "none"]
    assert sum(day in parse_days(span) for span in spans) == 1


@given(st.dates(), st.dates())
def test_a_span_has_the_days_between_its_ends(first: date, last: date) -> None:
    """Texts and days have the same order."""
    low, high = sorted((first, last))
    middle = low + (high - low) / 2
    assert middle.isoformat().replace("-", "") in parse_days(f"{low}..{high}")
