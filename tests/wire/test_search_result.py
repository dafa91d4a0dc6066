"""Results of QIDO-RS."""

from __future__ import annotations

import json

import pytest

from bulkstow.model import Header
from bulkstow.wire.search_result import (
    ListedStudy,
    headers_in,
    instances_in,
    listed_studies,
    series_in,
    studies_in,
)


def item(**attributes: object) -> dict[str, object]:
    """Return a result with these attributes; the names are `_` and a tag."""
    return {name.removeprefix("_"): {"vr": "UI", "Value": [value]} for name, value in attributes.items()}


@pytest.mark.parametrize("body", [b"", b"  ", b"[]"])
def test_no_result(body: bytes) -> None:
    """An empty body and an empty list have no result."""
    assert instances_in(body, "1") == ()
    assert studies_in(body) == {}


def test_instances_keep_their_order_and_lose_their_padding() -> None:
    """A UID may be padded with NUL or space; repeated results stay."""
    uids = ["1.2\0", "1.3 ", "1.1", "1.3"]
    assert instances_in(json.dumps([item(_00080018=uid) for uid in uids]).encode(), "1") == ("1.2", "1.3", "1.1", "1.3")


def test_an_instance_of_another_study_is_an_error() -> None:
    """A server that ignores the study of a search proves nothing; the study's own UID may be padded."""
    own, other = item(_00080018="1.2", _0020000D="1.7\0"), item(_00080018="1.3", _0020000D="1.8")
    assert instances_in(json.dumps([own]).encode(), "1.7") == ("1.2",)
    with pytest.raises(ValueError, match="another study"):
        instances_in(json.dumps([own, other]).encode(), "1.7")


@pytest.mark.parametrize(
    ("count", "expected"), [(7, 7), ("7", 7), ("7 ", 7), ("", None), (None, None), ("seven", None), ([], None)]
)
def test_the_count_of_a_study(count: object, expected: int | None) -> None:
    """A count may be a number or a text; anything else is none."""
    body = json.dumps([item(_0020000D="1.2", _00201208=count)]).encode()
    assert studies_in(body) == {"1.2": expected}


def test_a_study_without_count() -> None:
    """Some servers send the count only on request, others never."""
    assert studies_in(json.dumps([item(_0020000D="1.2")]).encode()) == {"1.2": None}


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b'{"a": 1}',
        b"[1]",
        b"[null]",
        b'[{"00080018": {}}]',
        b'[{"00080018": {"vr": "UI", "Value": []}}]',
        b"[{",
    ],
)
def test_nonsense_is_not_an_empty_list(body: bytes) -> None:
    """Anything but a list of instances is an error, also a truncated list."""
    with pytest.raises(ValueError, match=r"list|result|JSON"):
        instances_in(body, "1")


def test_the_attributes_of_a_listed_study() -> None:
    """Count, date and modalities are read, normalised, and None where the server does not tell them."""
    told = item(_0020000D="1.2\0", _00201208="7", _00080020="2020.01.31")
    told["00080061"] = {"vr": "CS", "Value": ["CT", "sr "]}
    odd = item(_0020000D="1.3", _00080020="Müller", _00080061=None)
    untold: dict[str, object] = {**item(_0020000D="1.4"), "00080020": {"vr": "DA"}, "00080061": {"vr": "CS"}}
    assert listed_studies(json.dumps([told, odd, untold]).encode()) == (
        ListedStudy("1.2", 7, "20200131", frozenset({"CT", "SR"})),
        ListedStudy("1.3", None, ""),
        ListedStudy("1.4"),
    )


def test_headers_have_what_the_server_tells() -> None:
    """UIDs lose their padding; missing ones are empty, or None for modality and date."""
    whole = item(_00080018="1.2.1\0", _0020000E="1.2.9 ", _00080016="1.5", _00083002="1.6", _00080060="ct")
    bare = item(_00080018="1.2.2", _0020000E="1.2.9")
    found = headers_in(json.dumps([whole, bare]).encode(), "1.2")
    assert found == (Header("1.2", "1.2.9", "1.2.1", "1.5", "1.6"), Header("1.2", "1.2.9", "1.2.2", "", ""))
    assert [(header.modality, header.study_date) for header in found] == [("CT", None), (None, None)]


def test_the_series_of_a_header_is_that_of_the_list() -> None:
    """A list of one series need not repeat its UID, and may not have another."""
    assert headers_in(json.dumps([item(_00080018="1")]).encode(), "1.2", "1.3")[0].series_uid == "1.3"
    with pytest.raises(ValueError, match="Series Instance UID"):
        headers_in(json.dumps([item(_00080018="1")]).encode(), "1.2")
    with pytest.raises(ValueError, match="another series"):
        headers_in(json.dumps([item(_00080018="1", _0020000E="1.4")]).encode(), "1.2", "1.3")
    with pytest.raises(ValueError, match="another study"):
        headers_in(json.dumps([item(_00080018="1", _0020000D="1.4")]).encode(), "1.2", "1.3")


def test_the_series_of_a_study() -> None:
    """Series are listed in order; one of another study is an error."""
    assert series_in(json.dumps([item(_0020000E="1.2\0"), item(_0020000E="1.1")]).encode(), "1") == ("1.2", "1.1")
    with pytest.raises(ValueError, match="another study"):
        series_in(json.dumps([item(_0020000E="1.2", _0020000D="7")]).encode(), "1")


@pytest.mark.parametrize("body", [b"<html>", b'{"a": 1}', b"[1]", b"[null]", b'["00080018"]', b'[{"0020000D": 1}]'])
def test_nonsense_is_neither_studies_nor_series_nor_headers(body: bytes) -> None:
    """Anything but a list of results is an error for every kind of list."""
    for parse in (listed_studies, lambda text: series_in(text, "1"), lambda text: headers_in(text, "1")):
        with pytest.raises(ValueError, match=r"list|result|JSON"):
            parse(body)
