"""A set of hashes equals Python's set, in less memory."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from bulkstow.source.hash_set import HashSet
from bulkstow.source.member_names import MemberLocations


@given(texts=st.lists(st.text(max_size=3)))
def test_a_text_is_new_once(texts: list[str]) -> None:
    """Adding tells whether a text was there before, as with a set."""
    hashes, known = HashSet(), set[str]()
    for text in texts:
        assert hashes.add(text) is (text not in known)
        known.add(text)


def test_many_texts_take_little_memory() -> None:
    """All are found again after the set has grown, and each takes at most 24 bytes."""
    texts = [f"IM{number:06}" for number in range(20_000)]
    tracemalloc.start()
    hashes = HashSet()
    assert all(hashes.add(text) for text in texts)
    used_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert not any(hashes.add(text) for text in texts)
    assert used_bytes < 24 * len(texts)


def test_many_members_of_one_name_are_numbered() -> None:
    """The number of the next one is known, so that a hundred thousand of one name take no time."""
    locations = MemberLocations("/a.zip")
    taken = [locations.take("IM") for _ in range(100_000)]
    assert taken[:3] == ["/a.zip!/IM", "/a.zip!/IM#2", "/a.zip!/IM#3"]
    assert taken[-1] == "/a.zip!/IM#100000"


def test_a_number_that_is_a_name_is_passed_over() -> None:
    """A member may be called 'IM#2' itself."""
    locations = MemberLocations("/a.zip")
    names = ["IM", "IM#2", "IM", "./IM", "IM#2"]
    assert [locations.take(name) for name in names] == [
        f"/a.zip!/{name}" for name in ("IM", "IM#2", "IM#3", "IM#4", "IM#2#2")
    ]
