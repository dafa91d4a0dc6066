"""Results of QIDO-RS."""

from __future__ import annotations

import json

import pytest

from bulkstow.wire.search_result import instances_in, studies_in


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
