"""The record of the parts of a file that are taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.wire import spans
from bulkstow.wire.spans import Spans


@given(
    parts=st.lists(st.tuples(st.integers(-2, 60), st.integers(0, 12)), max_size=30),
    gap_bytes=st.integers(0, 3),
)
def test_an_overlap_is_noticed_in_any_order(parts: list[tuple[int, int]], gap_bytes: int) -> None:
    """A part is taken if it is within the file and no byte of it is; a joined gap is too small for another part."""
    size_bytes = 50
    taken, free = Spans(size_bytes, gap_bytes=gap_bytes), set(range(size_bytes))
    for begin, length_bytes in parts:
        part = set(range(begin, begin + length_bytes))
        if 0 < length_bytes <= gap_bytes:
            continue  # parts are longer than gaps
        is_free = begin >= 0 and begin + length_bytes <= size_bytes and part <= free
        if length_bytes:
            assert taken.take(begin, begin + length_bytes) is is_free
        if is_free:
            free -= part
        else:
            return  # nothing is taken after the first overlap


def test_neighbours_count_as_one() -> None:
    """An archive whose members follow each other needs one span, in ascending and in descending order."""
    for order in (range(0, 1000, 10), range(990, -10, -10)):
        taken = Spans(2000, gap_bytes=2)
        assert all(taken.take(begin, begin + 8) for begin in order)
        assert taken.count == 1


def test_beyond_the_limit_the_sum_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that are not remembered can overlap unnoticed, but not have more bytes than the file."""
    monkeypatch.setattr(spans, "MOST_SPANS", 2)
    taken = Spans(100)
    assert all(taken.take(begin, begin + 10) for begin in (0, 20, 40))
    assert taken.take(40, 80)
    assert not taken.take(60, 100)
