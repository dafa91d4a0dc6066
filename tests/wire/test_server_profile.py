"""Server profiles: the meaning of codes and comments, and the ways to delete, as tables."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.config import DestinationSettings
from bulkstow.wire.failure_reasons import FAILURE_REASONS, WARNING_REASONS, FailureClass, FailureReason, FailureWords
from bulkstow.wire.server_profile import DEFAULT, ORTHANC, PROFILES, PrivateElement
from bulkstow.wire.store_response import read

classify, meaning = DEFAULT.classify, DEFAULT.meaning

EXISTS_AND_DIFFERS = (
    "An instance already exists in this DICOM Store with the same Study/Series/SOPInstance UID, but the DICOM files "
    "differ (checksum mismatch)."
)


@pytest.mark.parametrize(
    ("code", "words", "expected"),
    [
        (272, "already exists", FailureClass.DUPLICATE),
        (272, "instance already exists", FailureClass.DUPLICATE),
        (None, "ALREADY_EXISTS", FailureClass.DUPLICATE),
        (0xC000, "DICOM instance 1.2.3 already exists.", FailureClass.DUPLICATE),
        (0xD000, "SOP Instance has already been stored", FailureClass.DUPLICATE),
        (
            272,
            "An instance already exists in this DICOM Store with the same Study/Series/SOPInstance UID.",
            FailureClass.DUPLICATE,
        ),
        (272, "SOPInstanceUID 1.2.3 already exists", FailureClass.DUPLICATE),
        (272, "already exists: SOPInstanceUID=1.2.3", FailureClass.DUPLICATE),
        (272, "instance already exists in DICOM store projects/p/datasets/d/dicomStores/s", FailureClass.DUPLICATE),
        (272, "instance already exists in the store of another study", FailureClass.AMBIGUOUS),
        (272, "SeriesInstanceUID 1.2.3 already exists", FailureClass.AMBIGUOUS),
        (272, "Series Instance UID 1.2.3 already exists", FailureClass.AMBIGUOUS),
        (272, "Study Instance UID 1.2.3 already exists with different content", FailureClass.AMBIGUOUS),
        (272, "SOP Instance UID 1.2.3 already exists", FailureClass.DUPLICATE),
        (272, "StudyInstanceUID 1.2.3 already exists in the archive", FailureClass.AMBIGUOUS),
        (272, EXISTS_AND_DIFFERS, FailureClass.OTHER_CONTENT),
        (272, "instance already exists with different content", FailureClass.OTHER_CONTENT),
        (272, "study already exists", FailureClass.AMBIGUOUS),
        (272, "patient of this instance already exists elsewhere", FailureClass.AMBIGUOUS),
        (272, "instance already exists in another study", FailureClass.AMBIGUOUS),
        (272, "no instance exists", FailureClass.AMBIGUOUS),
        (272, "the pixel data is cut off", FailureClass.AMBIGUOUS),
        (0xC000, "the pixel data is cut off", FailureClass.PERMANENT),
        (0xC122, "instance already exists", FailureClass.PERMANENT),
        (0xA700, "instance already exists", FailureClass.BUSY),
    ],
)
def test_known_comments_decide_if_the_code_is_vague(code: int | None, words: str, expected: FailureClass) -> None:
    """An instance that exists is a duplicate unless its content differs; unknown words change nothing."""
    assert classify(code, words) is expected


@pytest.mark.parametrize(
    ("code", "words", "expected"),
    [
        (0xC122, "JPEG XL", "C122 transfer syntax not supported: JPEG XL"),
        (0xB007, "no StudyDate", "B007 data set does not match SOP class: no StudyDate"),
        (None, "disk full", "disk full"),
        (None, "", "no reason given"),
    ],
)
def test_a_reason_ends_with_the_comment(code: int | None, words: str, expected: str) -> None:
    """The text has the code, its meaning and the server's comment."""
    assert meaning(code, words) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (None, FailureClass.AMBIGUOUS),
        (0, FailureClass.AMBIGUOUS),
        (0xA6FF, FailureClass.AMBIGUOUS),
        (0xA700, FailureClass.BUSY),
        (0xA76F, FailureClass.BUSY),
        (0xA770, FailureClass.PERMANENT),
        (0xA779, FailureClass.PERMANENT),
        (0xA77A, FailureClass.RETRY_SLOWLY),
        (0xA77B, FailureClass.PERMANENT),
        (0xA77C, FailureClass.BUSY),
        (0xA7FF, FailureClass.BUSY),
        (0xA800, FailureClass.AMBIGUOUS),
        (43264, FailureClass.PERMANENT),
        (43519, FailureClass.PERMANENT),
        (49152, FailureClass.PERMANENT),
        (49442, FailureClass.PERMANENT),
        (53247, FailureClass.PERMANENT),
        (0xD000, FailureClass.AMBIGUOUS),
        (272, FailureClass.AMBIGUOUS),
        (273, FailureClass.DUPLICATE),
        (262, FailureClass.PERMANENT),
        (274, FailureClass.PERMANENT),
        (279, FailureClass.PERMANENT),
        (0x011F, FailureClass.PERMANENT),
        (290, FailureClass.PERMANENT),
        (0x0123, FailureClass.AMBIGUOUS),
        (292, FailureClass.NOT_AUTHORISED),
        (0x0214, FailureClass.NOT_AUTHORISED),
        (528, FailureClass.PERMANENT),
        (530, FailureClass.PERMANENT),
        (531, FailureClass.RETRY),
        (45070, FailureClass.DUPLICATE),
        (45071, FailureClass.RETRY),
        (0xB000, FailureClass.AMBIGUOUS),
        (-1, FailureClass.AMBIGUOUS),
        (0x10000, FailureClass.AMBIGUOUS),
    ],
)
def test_failures_are_classified(code: int | None, expected: FailureClass) -> None:
    """Every code of the table has its class, at both ends of its range; codes outside of all ranges are ambiguous."""
    assert classify(code) is expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (None, "no reason given"),
        (0, "no reason given"),
        (0xA700, "A700 out of resources"),
        (0xA77A, "A77A study is being deleted"),
        (272, "0110 processing failure"),
        (45070, "B00E already stored"),
        (0xC122, "C122 transfer syntax not supported"),
        (0xC123, "C123 cannot understand"),
        (0xB000, "B000 coerced"),
        (0xB006, "B006 elements discarded"),
        (0xB007, "B007 data set does not match SOP class"),
        (1, "0001 unknown reason"),
    ],
)
def test_reasons_have_a_meaning(code: int | None, expected: str) -> None:
    """A reason is shown as the standard prints it, with its meaning, for failures and warnings alike."""
    assert meaning(code) == expected


@pytest.mark.parametrize("row", FAILURE_REASONS, ids=lambda row: f"{row.first:04X}-{row.last:04X}")
def test_every_row_can_be_reached(row: FailureReason) -> None:
    """No row is hidden by those above it."""
    assert row.first <= row.last
    assert any(meaning(code).endswith(row.meaning) for code in range(row.first, row.last + 1))


def test_what_is_special_stands_above_its_range() -> None:
    """Of two rows that share a code, the upper one lies wholly inside the lower one."""
    for upper, lower in combinations(FAILURE_REASONS, 2):
        if upper.first <= lower.last and lower.first <= upper.last:
            assert lower.first <= upper.first <= upper.last <= lower.last


def test_a_warning_is_no_failure() -> None:
    """No code is in both tables."""
    assert not [code for code in WARNING_REASONS for row in FAILURE_REASONS if row.first <= code <= row.last]


@given(st.none() | st.integers())
def test_every_number_has_a_class_and_a_meaning(code: int | None) -> None:
    """Any code and comment is classified and shown on one line."""
    assert classify(code) in FailureClass
    assert meaning(code).isprintable()


def test_ways_to_delete_a_study() -> None:
    """By DICOMweb, then by Orthanc's REST interface, which names a study by SHA-1 of both IDs in groups of eight."""
    ways = [(way.interface, way.levels_up, way.path("4711", "1.2.3")) for way in DEFAULT.deletions]
    orthanc = ("Orthanc's own", 1, "/studies/0d496228-8637b3cb-89a5e38e-52adfee0-c0308c37")
    assert ways == [("", 0, "/studies/1.2.3"), orthanc]
    assert ORTHANC.deletions == DEFAULT.deletions[1:]


def test_profiles_have_names() -> None:
    """Every profile can be chosen in the settings."""
    names = get_args(get_type_hints(DestinationSettings)["server_profile"])
    assert set(names) == PROFILES.keys()
    assert DestinationSettings(url="http://localhost").profile is DEFAULT


def test_a_row_is_enough_for_a_quirk() -> None:
    """A server with a code, words and a private element of its own is a profile with three rows."""
    words = FailureWords(re.compile("schon da"), FailureClass.DUPLICATE)
    profile = replace(
        DEFAULT,
        failure_reasons=(FailureReason(0xA801, 0xA801, FailureClass.RETRY, "short of tape"), *FAILURE_REASONS),
        failure_words=(words,),
        comments=(PrivateElement("ACME", "0011", "02"),),
    )
    assert (profile.classify(0xA801), profile.meaning(0xA801)) == (FailureClass.RETRY, "A801 short of tape")
    private = b'"00110010":{"Value":["ACME"]},"00111002":{"Value":["schon da"]}'
    body = b'{"00081198":{"Value":[{"00081197":{"Value":[272]},%s}]}}' % private
    (item,) = read(body, profile).failed
    assert profile.classify(item.code, item.comment) is FailureClass.DUPLICATE
    assert read(body).failed[0].comment == ""
