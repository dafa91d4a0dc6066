"""The names of sources: each file is found once."""

from __future__ import annotations

import pytest

from bulkstow.engine.names import distinct


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ((), []),
        (("a", "b"), ["a", "b"]),
        (("a", "a"), ["a"]),
        (("a", "./a", "b/../a"), ["b/../a"]),
        (("a", "a/b", "a/b/c"), ["a"]),
        (("a/b/c", "a/b", "a"), ["a"]),
        (("a/b", "ab", "a/bc"), ["a/b", "ab", "a/bc"]),
        (("/", "a"), ["/"]),
        ((".", "a", ".."), [".."]),
        (("a/", "a"), ["a"]),
    ],
    ids=["none", "apart", "twice", "spelled otherwise", "below", "above", "alike", "root", "dots", "slash"],
)
def test_sources_in_each_other(sources: tuple[str, ...], expected: list[str]) -> None:
    """A source that is the same as another, or below it, is left out, as its files are found there."""
    assert distinct(sources) == expected
