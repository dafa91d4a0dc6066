"""Scales, ticks, and markup that escapes."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bulkstow.bench.report.drawing import (
    CHARACTER_PX,
    LOG_FROM_RATIO,
    Scale,
    apart,
    area,
    clock_ticks,
    line,
    linear_ticks,
    log_ticks,
    scale_of,
    tag,
    text,
    x_axis,
)
from bulkstow.printing import shown

positive = st.floats(1e-9, 1e12)


class Found(HTMLParser):
    """What a parser that is not ours finds in markup."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.words = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        """Keep its words."""
        self.words += data


@given(st.text())
@example("<script>&lt;\"'\x00\ud800\u202e")
def test_words_come_through_as_words(words: str) -> None:
    """Whatever stands in a text or an attribute is found there again, and nothing beside it."""
    found = Found(tag("p", text(words), data_words=words))
    assert found.tags == [("p", [("data-words", shown(words))])]
    assert found.words == shown(words)


def test_attributes() -> None:
    """Reserved names and dashes are written as HTML has them, numbers with a tenth of a pixel, None not at all."""
    assert (
        tag("g", "<a></a>", class_="x", data_row=3, y=1.26, z=None) == '<g class="x" data-row="3" y="1.3"><a></a></g>'
    )


@given(positive)
def test_linear_ticks_reach_just_far_enough(high: float) -> None:
    """They begin at 0, end at or above the highest value, and one less would not do; there are two to six."""
    ticks = linear_ticks(high)
    assert ticks[0] == 0
    assert ticks[-1] >= high * (1 - 1e-6)
    assert ticks[-2] < high
    assert 2 <= len(ticks) <= 6


@given(positive, positive)
def test_log_ticks_hold_both_ends(one: float, other: float) -> None:
    """The first is not above the lowest value, the last not below the highest, and they rise."""
    low, high = sorted((one, other))
    ticks = log_ticks(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert list(ticks) == sorted(set(ticks))


@given(st.lists(st.just(0.0) | positive), st.booleans())
def test_a_scale_holds_its_values(values: list[float], may_be_log: bool) -> None:
    """Every value, zero among them, has a place between the ends, larger ones higher; ticks do not crowd."""
    scale, ticks = scale_of(values, 196, 26, may_be_log=may_be_log)
    places = [scale(value) for value in sorted(values)]
    assert all(26 - 1e-6 <= place <= 196 + 1e-6 for place in places)
    assert all(above <= below + 1e-6 for below, above in pairwise(places))
    assert 1 <= len(ticks) <= 7


@pytest.mark.parametrize(
    ("values", "may_be_log", "is_log"),
    [
        ([1, LOG_FROM_RATIO], True, True),
        ([1, LOG_FROM_RATIO - 1], True, False),
        ([1, LOG_FROM_RATIO], False, False),
        ([0, LOG_FROM_RATIO], True, False),
        ([], True, False),
    ],
)
def test_a_scale_is_logarithmic_where_it_has_to_be(values: list[float], may_be_log: bool, is_log: bool) -> None:
    """Only where it may be, and the values, zeros left out, are orders apart."""
    assert scale_of(values, 100, 0, may_be_log=may_be_log)[0].is_log == is_log


def test_a_scale_of_one_value_has_it_in_the_middle() -> None:
    """There is no way to say where else."""
    assert Scale(3, 3, 0, 100)(3) == 50


@given(st.floats(0, 1e5, allow_subnormal=False), st.floats(0.1, 1e6), st.integers(2, 12))
def test_clock_ticks_are_few_and_in_range(low_s: float, span_s: float, most: int) -> None:
    """No more than asked for, but for the one at the beginning, and none outside."""
    ticks = clock_ticks(low_s, low_s + span_s, most)
    assert len(ticks) <= most + 1
    assert all(low_s <= at_s <= low_s + span_s for at_s, _ in ticks)


@given(st.lists(st.floats(0, 300), max_size=12), st.floats(1, 30))
def test_labels_stand_apart_in_their_order(places_px: list[float], gap_px: float) -> None:
    """Within the ends, as far apart as asked, or as there is room for."""
    moved = apart(places_px, gap_px, 0, 300)
    order = sorted(range(len(places_px)), key=lambda index: places_px[index])
    stand = [moved[index] for index in order]
    room_px = min(gap_px, 300 / max(len(places_px), 1))
    assert all(-1e-6 <= place <= 300 + 1e-6 for place in stand)
    assert all(after - before >= room_px - 1e-6 for before, after in pairwise(stand))


def test_labels_that_are_apart_stay() -> None:
    """What needs no moving is not moved."""
    assert apart([200.0, 10.0, 100.0], 14, 0, 300) == [200.0, 10.0, 100.0]


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=40, unique=True).map(sorted))
def test_labels_of_an_axis_do_not_touch(values: list[int]) -> None:
    """Those for which there is no room are left out, the first never."""
    scale = Scale(values[0], values[-1], 60, 320)
    found = Found(x_axis(scale, [(value, str(value)) for value in values], 200, 340))
    labels = [dict(attributes) for name, attributes in found.tags if name == "text"]
    assert found.words.startswith(str(values[0]))
    places = [float(at["x"] or 0) for at in labels]
    assert all(after - before >= CHARACTER_PX for before, after in pairwise(places))


def test_a_line_has_gaps_and_its_lone_places_are_seen() -> None:
    """Each run is a stroke of its own, a place alone a dash, an empty run nothing; an area goes down to its base."""
    assert line([[(1, 2), (3, 4)], [], [(10, 5)]]) == "M1.0 2.0L3.0 4.0M7.0 5.0L13.0 5.0"
    assert area([[(1, 2), (3, 4)], []], 9) == "M1.0 9.0L1.0 2.0L3.0 4.0L3.0 9.0Z"
