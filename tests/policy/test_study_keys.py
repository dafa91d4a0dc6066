"""Filters as the keys of searches."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.days import parse_days
from bulkstow.policy.selection import EVERYTHING, Selection
from bulkstow.policy.study_keys import may_select, study_queries
from bulkstow.wire.search_result import ListedStudy


def dated(text: str) -> Selection:
    """Return the filter of --study-date."""
    return Selection(study_dates=parse_days(text))


@pytest.mark.parametrize(
    ("selection", "queries"),
    [
        (EVERYTHING, [{}]),
        (dated("2020-01-31"), [{"StudyDate": "20200131-20200131"}]),
        (dated("2020"), [{"StudyDate": "20200101-20201231"}]),
        (dated("2020-02"), [{"StudyDate": "20200201-20200229"}]),
        (dated("2020..2021-04"), [{"StudyDate": "20200101-20210430"}]),
        (dated("2020-06.."), [{"StudyDate": "20200601-"}]),
        (dated("..2022-06-15"), [{"StudyDate": "-20220615"}]),
        (dated("2019,2021"), [{"StudyDate": "20190101-20191231"}, {"StudyDate": "20210101-20211231"}]),
        (dated("2019,none"), [{}]),  # no key finds studies without a date
        (dated("1900.."), [{"StudyDate": "19000101-"}]),
        (Selection(modalities=frozenset({"MR", "CT"})), [{"ModalitiesInStudy": "CT"}, {"ModalitiesInStudy": "MR"}]),
        (Selection(modalities=frozenset({"MR", ""})), [{}]),
        (
            Selection(modalities=frozenset({"MR"}), study_dates=parse_days("2020")),
            [{"StudyDate": "20200101-20201231", "ModalitiesInStudy": "MR"}],
        ),
        (
            Selection(modalities=frozenset({"MR"}), studies=frozenset({"1.3", "1.2"})),
            [{"StudyInstanceUID": "1.2"}, {"StudyInstanceUID": "1.3"}],
        ),
    ],
)
def test_the_queries_of_filters(selection: Selection, queries: list[dict[str, str]]) -> None:
    """Spans and modalities become keys, one search for each combination; listed studies are searched by UID alone."""
    assert list(study_queries(selection)) == queries


DAYS = st.dates(date(1900, 1, 1), date(2100, 1, 1))


@given(st.sampled_from(["%Y", "%Y-%m", "%Y%m%d"]), DAYS, st.integers(0, 2000), DAYS)
def test_a_key_matches_just_the_selected_days(form: str, first: date, length_days: int, day: date) -> None:
    """The span of the key has the days of the filter, for every notation."""
    last = first + timedelta(days=length_days)
    selection = dated(f"{first:{form}}..{last:{form}}")
    (query,) = study_queries(selection)
    lowest, _, highest = query["StudyDate"].partition("-")
    for one in (day, first, last):
        text = f"{one:%Y%m%d}"
        assert selection.study_dates is not None
        assert (lowest <= text <= highest) == (text in selection.study_dates)


@pytest.mark.parametrize(
    ("study", "is_selected"),
    [
        (ListedStudy("1.2"), True),
        (ListedStudy("1.4"), False),
        (ListedStudy("1.2", study_date="20200501", modalities=frozenset({"CT", "SR"})), True),
        (ListedStudy("1.2", study_date="20210501"), False),
        (ListedStudy("1.2", study_date=""), False),
        (ListedStudy("1.2", modalities=frozenset({"SR"})), False),
    ],
)
def test_a_listed_study_is_compared_again(study: ListedStudy, is_selected: bool) -> None:
    """A server that ignores a key gets nothing past the filters; an attribute it omits excludes nothing."""
    selection = Selection(
        studies=frozenset({"1.2", "1.3"}), study_dates=parse_days("2020"), modalities=frozenset({"CT"})
    )
    assert may_select(selection, study) == is_selected


def test_instances_without_modality_may_be_in_any_study() -> None:
    """A study's list of modalities does not tell whether it has instances without one."""
    selection = Selection(modalities=frozenset({"CT", ""}))
    assert may_select(selection, ListedStudy("1.2", modalities=frozenset({"SR"})))
