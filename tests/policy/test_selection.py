"""The decisions of filters: by path, size and age, and by head."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.days import parse_days
from bulkstow.model import Candidate, Header, Instance
from bulkstow.policy.globs import globs
from bulkstow.policy.selection import EVERYTHING, Filter, Selection

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
MINUTE_NS = 60 * 10**9
NOW_NS = 1_700_000_000 * 10**9


def candidate(
    path: str = "/a/CT/1.dcm", size_bytes: int = 1000, version: int | str = NOW_NS - 60 * MINUTE_NS
) -> Candidate:
    """Return a file of the scan."""
    return Candidate(path, size_bytes, version)


FILE = candidate()


def header(
    *, modality: str | None = "CT", study_date: str | None = "20200615", study_uid: str = "1.1", sop_class: str = CT
) -> Header:
    """Return the head of an instance."""
    return Header(study_uid, "1.2", "1.3", sop_class, "1.2.840.10008.1.2.1", modality, study_date)


def excluding(*patterns: str, **others: Any) -> Selection:
    """Return a selection with `--exclude`."""
    return Selection(exclude=globs("--exclude", patterns), **others)


def including(*patterns: str, **others: Any) -> Selection:
    """Return a selection with `--include`."""
    return Selection(include=globs("--include", patterns), **others)


@pytest.mark.parametrize(
    ("selection", "file", "expected"),
    [
        (EVERYTHING, candidate(), None),
        (excluding("*.dcm"), candidate(), Filter.EXCLUDE),
        (excluding("*.ima"), candidate(), None),
        (excluding("CT"), candidate(), Filter.EXCLUDE),
        (including("*.dcm"), candidate(), None),
        (including("*.ima"), candidate(), Filter.INCLUDE),
        (including("*.ima", "CT"), candidate(), None),
        (excluding("1.*", include=globs("--include", ["*.dcm"])), candidate(), Filter.EXCLUDE),
        (Selection(max_size_bytes=1000), candidate(), None),
        (Selection(max_size_bytes=999), candidate(), Filter.MAX_SIZE),
        (Selection(max_size_bytes=1), candidate(size_bytes=0), None),
        (Selection(min_age_ns=MINUTE_NS), candidate(version=NOW_NS - MINUTE_NS), None),
        (Selection(min_age_ns=MINUTE_NS), candidate(version=NOW_NS - MINUTE_NS + 1), Filter.MIN_AGE),
        (Selection(min_age_ns=MINUTE_NS), candidate(version=NOW_NS + MINUTE_NS), Filter.MIN_AGE),
        (Selection(min_age_ns=MINUTE_NS), candidate(version="an ETag"), None),
    ],
)
def test_a_file_is_selected_by_path_size_and_age(
    selection: Selection, file: Candidate, expected: Filter | None
) -> None:
    """The first filter that leaves a file out is named; an age that is not known leaves none out."""
    assert selection.filter_of(file, NOW_NS) is expected


@pytest.mark.parametrize(
    ("selection", "head", "expected"),
    [
        (EVERYTHING, header(), None),
        (Selection(modalities=frozenset(["CT", "MR"])), header(), None),
        (Selection(modalities=frozenset(["CT", "MR"])), header(modality="ct"), None),
        (Selection(modalities=frozenset(["CT", "MR"])), header(modality="CR"), Filter.MODALITY),
        (Selection(modalities=frozenset(["CT"])), header(modality=""), Filter.MODALITY),
        (Selection(modalities=frozenset(["CT"])), header(modality=None), None),
        (Selection(modalities=frozenset([""])), header(modality=""), None),
        (Selection(modalities=frozenset([""])), header(), Filter.MODALITY),
        (Selection(study_dates=parse_days("2020")), header(), None),
        (Selection(study_dates=parse_days("2021..")), header(), Filter.STUDY_DATE),
        (Selection(study_dates=parse_days("2020")), header(study_date=""), Filter.STUDY_DATE),
        (Selection(study_dates=parse_days("none")), header(study_date=""), None),
        (Selection(study_dates=parse_days("2021")), header(study_date=None), None),
        (Selection(sop_classes=frozenset([CT])), header(), None),
        (Selection(sop_classes=frozenset([MR])), header(), Filter.SOP_CLASS),
        (Selection(studies=frozenset(["1.1"])), header(), None),
        (Selection(studies=frozenset(["1.11"])), header(), Filter.STUDIES),
        (Selection(studies=frozenset()), header(), Filter.STUDIES),
        (Selection(studies=frozenset(["2"]), modalities=frozenset(["MR"])), header(), Filter.STUDIES),
        (Selection(modalities=frozenset(["MR"]), study_dates=parse_days("2021")), header(), Filter.MODALITY),
        (Selection(study_dates=parse_days("2021"), sop_classes=frozenset([MR])), header(), Filter.STUDY_DATE),
    ],
)
def test_an_instance_is_selected_by_its_head(selection: Selection, head: Header, expected: Filter | None) -> None:
    """The first filter that leaves an instance out is named; unknown values leave none out."""
    assert selection.filter_of_instance(Instance(FILE, head)) is expected


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(studies=frozenset(["1.1"])), None),
        (Selection(studies=frozenset(["2.25.1"])), None),
        (Selection(studies=frozenset(["2.25.2"])), Filter.STUDIES),
        (Selection(modalities=frozenset(["CT"])), None),
        (Selection(modalities=frozenset(["OT"])), Filter.MODALITY),
    ],
)
def test_an_edited_instance_is_selected_by_its_head_at_the_source(
    selection: Selection, expected: Filter | None
) -> None:
    """Its study can be named by the new UID too, as a report has it."""
    edited = Instance(FILE, header(study_uid="2.25.1", modality="OT"), original=header())
    assert selection.filter_of_instance(edited) is expected


@pytest.mark.parametrize(
    ("selection", "by_path", "by_header"),
    [
        (EVERYTHING, False, False),
        (excluding("a"), True, False),
        (including("a"), True, False),
        (Selection(max_size_bytes=1), True, False),
        (Selection(min_age_ns=1), True, False),
        (Selection(modalities=frozenset(["CT"])), False, True),
        (Selection(study_dates=parse_days("2020")), False, True),
        (Selection(sop_classes=frozenset([CT])), False, True),
        (Selection(studies=frozenset()), False, True),
    ],
)
def test_a_selection_knows_which_questions_it_has(selection: Selection, by_path: bool, by_header: bool) -> None:
    """Without a filter of a kind, no file is compared with it."""
    assert (selection.has_path_filters, selection.has_header_filters) == (by_path, by_header)


def test_a_path_that_cannot_be_read_is_left_out_by_exclude_only() -> None:
    """A directory that cannot be listed has no name that `--include` would match, but may have selected files."""
    assert not including("*.dcm").excludes("/a/closed directory")
    assert excluding("closed*").excludes("/a/closed directory")
    assert excluding("closed*").excludes_directory("/a/closed directory")
    assert not including("*.dcm").excludes_directory("/a/b")


_HEADERS = st.builds(
    header,
    modality=st.sampled_from(["CT", "MR", "", None]),
    study_date=st.sampled_from(["20200101", "20210101", "", None]),
    study_uid=st.sampled_from(["1.1", "1.2"]),
    sop_class=st.sampled_from([CT, MR]),
)
_SELECTIONS = st.builds(
    Selection,
    studies=st.one_of(st.none(), st.frozensets(st.sampled_from(["1.1", "1.2"]))),
    modalities=st.frozensets(st.sampled_from(["CT", "MR", ""])),
    study_dates=st.one_of(st.none(), st.sampled_from(["2020", "2021..", "none"]).map(parse_days)),
    sop_classes=st.frozensets(st.sampled_from([CT, MR])),
)


@given(_HEADERS, _SELECTIONS)
def test_each_filter_decides_by_itself(head: Header, selection: Selection) -> None:
    """An instance is selected if each filter alone selects it."""
    alone = [
        Selection(studies=selection.studies),
        Selection(modalities=selection.modalities),
        Selection(study_dates=selection.study_dates),
        Selection(sop_classes=selection.sop_classes),
    ]
    one = Instance(FILE, head)
    assert (selection.filter_of_instance(one) is None) == all(each.filter_of_instance(one) is None for each in alone)
