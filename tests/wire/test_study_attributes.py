"""Modality and study date are normalised, and everything else is dropped."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.wire.study_attributes import MODALITY, STUDY_DATE, study_attribute


@pytest.mark.parametrize(
    ("tag", "value", "expected"),
    [
        (MODALITY, b"CT", "CT"),
        (MODALITY, b"MR\0", "MR"),
        (MODALITY, b" us ", "US"),
        (MODALITY, b"PT\\CT", "PT"),
        (MODALITY, b"", ""),
        (MODALITY, "Müller".encode("latin-1"), ""),
        (MODALITY, b"X" * 17, ""),
        (MODALITY, b"DOE^JOHN", ""),
        (STUDY_DATE, b"20200229", "20200229"),
        (STUDY_DATE, b"2020.02.29", "20200229"),
        (STUDY_DATE, b"20200229 \0", "20200229"),
        (STUDY_DATE, b"20210229", ""),
        (STUDY_DATE, b"2020-02-29", ""),
        (STUDY_DATE, b"202002.29", ""),
        (STUDY_DATE, b"00000000", ""),
        (STUDY_DATE, b"2020", ""),
        (STUDY_DATE, b"", ""),
        (STUDY_DATE, b"20200229 and more", ""),
    ],
)
def test_values(tag: int, value: bytes, expected: str) -> None:
    """The first modality in capitals, and a date of the calendar, with dots or without."""
    assert study_attribute(tag, value) == expected


@given(st.dates())
def test_every_date_is_kept(day: date) -> None:
    """Every day of the calendar from year 1 to 9999 is read as it is written."""
    text = f"{day.year:04}{day.month:02}{day.day:02}"
    assert study_attribute(STUDY_DATE, text.encode()) == text


@given(st.sampled_from([MODALITY, STUDY_DATE]), st.binary(max_size=80))
def test_nothing_else_passes(tag: int, value: bytes) -> None:
    """For any bytes, the text is a date or a code of at most 16 characters."""
    text = study_attribute(tag, value)
    assert len(text) <= 16
    assert text == "" or text.replace("_", "").replace(" ", "").isalnum()
