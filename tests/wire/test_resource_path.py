"""Claims about paths that contain UIDs."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from bulkstow.model import Header
from bulkstow.wire.resource_path import instances_path, is_segment, resource_path


@pytest.mark.parametrize(
    ("study_uid", "series_uid", "expected"),
    [
        ("1.2.3", "1.2.3.4", "/studies/1.2.3/series/1.2.3.4/instances"),
        ("1.2.3", "", "/studies/1.2.3/instances"),
        ("1.2?a=b", "1#2", "/studies/1.2%3Fa%3Db/series/1%232/instances"),
        ("1.2 é", "x;y", "/studies/1.2%20%C3%A9/series/x%3By/instances"),
        ("...", "1..2", "/studies/.../series/1..2/instances"),
        ("1.2.3", "../x", "/studies/1.2.3/instances"),
        ("", "1", None),
        (".", "1", None),
        ("..", "1", None),
        ("../../admin", "1", None),
        ("1/2", "1", None),
        ("1\\2", "1", None),
        ("..%2f..%2fadmin", "1", None),
        ("%2e%2e", "1", None),
        ("1.2\r\nX: y", "1", None),
        ("1.2\x00", "1", None),
        ("1.2\udcff", "1", None),
    ],
)
def test_instances_path(study_uid: str, series_uid: str, expected: str | None) -> None:
    """Reserved characters are encoded; without a safe Series UID the path is that of the study, or there is none."""
    assert instances_path(Header(study_uid, series_uid, "1", "1", "1")) == expected


def test_what_is_no_segment_is_refused() -> None:
    """A UID that may leave its segment raises ValueError."""
    with pytest.raises(ValueError, match=r"'\.\.' cannot be a segment"):
        resource_path("studies", "..")


@given(st.text(alphabet=st.one_of(st.sampled_from("./\\%?#;2fFeE5cC \0"), st.characters()), max_size=12))
def test_a_segment_stays_one_segment(text: str) -> None:
    """A segment adds one level and no query, even if it is decoded repeatedly and its dots are resolved."""
    if not is_segment(text):
        with pytest.raises(ValueError, match="cannot be a segment"):
            resource_path("a", text, "b")
        return
    path = resource_path("a", text, "b")
    assert unquote(path) == unquote(unquote(unquote(path))) == f"/a/{text}/b"
    assert path.isascii()
    assert not set("?# ") & set(path)
    resolved = URL(f"http://h{path}")
    assert (len(resolved.parts), resolved.query_string, resolved.fragment) == (4, "", "")
