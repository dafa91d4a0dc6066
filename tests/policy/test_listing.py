"""The pages of a search: the last page, and the next request."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.policy.listing import STALE_PAGES, Listing

PAGE = 3


def listed(pages: Sequence[Sequence[str]], listing: Listing) -> tuple[set[str], int]:
    """Return the results and the number of requests of a list, if the server sends these pages and then empty ones."""
    requests = 0
    while not listing.is_ended:
        listing.take(pages[requests] if requests < len(pages) else ())
        requests += 1
    return listing.listed, requests


@pytest.mark.parametrize(
    ("pages", "expected", "longest_page", "requests"),
    [
        ([], "", 0, 1),
        (["abc"], "abc", 0, 2),
        (["abc", "de"], "abcde", 0, 3),
        (["abc", "de"], "abcde", 3, 2),
        (["a", "b", "c"], "abc", 0, 4),
        (["abc", "de"], "abcdef", 3, 3),  # the last page is short, but something expected is left
        (["abcd", "abcd"], "abcd", 0, 2),  # a server that ignores the offset
        (["abcd", "abcd"], "abcde", 9, 2),
        (["abc", "cab", "de"], "abcde", 0, 4),  # a page of repeats is not the last one
        (["ab", "ba"] * STALE_PAGES, "abc", 0, STALE_PAGES + 1),  # pages in a circle
    ],
)
def test_where_a_list_ends(pages: list[str], expected: str, longest_page: int, requests: int) -> None:
    """An empty page ends a list, a page that repeats the last, and a short page if all expected results are listed."""
    found, count = listed(pages, Listing(PAGE, tuple(expected), longest_page))
    assert (found, count) == (set("".join(pages)), requests)


def test_the_offset_is_the_number_of_results_so_far() -> None:
    """Repeated results count: the server's list is longer by them."""
    listing = Listing(200)
    assert listing.query == {"limit": "200", "offset": "0"}
    listing.take(["1.1", "1.2"])
    listing.take(["1.2"])
    assert listing.query == {"limit": "200", "offset": "3"}


@pytest.mark.parametrize(
    ("pages", "is_suspect"),
    [
        (["abc", "de"], False),
        (["abc", "abc"], True),  # a full page at every offset: others may follow
        (["abcd", "abcd"], False),  # the limit is ignored, too: it is everything
        (["ab", "ab"], False),  # shorter than the limit
        (["abc", "abd", "abc"], False),
    ],
)
def test_a_full_page_at_every_offset_may_be_a_part(pages: list[str], is_suspect: bool) -> None:
    """A list that ends because a page of exactly the limit is repeated may be cut off."""
    listing = Listing(PAGE)
    listed(pages, listing)
    assert listing.may_be_cut_off == is_suspect


@st.composite
def pages_of(draw: st.DrawFn) -> list[list[str]]:
    """Return pages that a server may send: each has a new result, and some repeat earlier results."""
    uids = [f"1.{number}" for number in range(draw(st.integers(0, 40)))]
    pages: list[list[str]] = []
    begin = 0
    while begin < len(uids):
        end = begin + draw(st.integers(1, 7))
        repeats = draw(st.lists(st.sampled_from(uids[:begin]), max_size=3)) if begin else []
        pages.append(draw(st.permutations([*uids[begin:end], *repeats])))
        begin = end
    return pages


@given(pages_of(), st.integers(0, 10), st.data())
def test_any_partition_into_pages_is_found_whole(
    pages: list[list[str]], longest_page: int, data: st.DataObject
) -> None:
    """All expected results are found, for any lengths and repetitions of pages."""
    everything = sorted({uid for page in pages for uid in page})
    expected = data.draw(st.lists(st.sampled_from(everything), unique=True)) if everything else []
    found, requests = listed(pages, Listing(PAGE, expected, longest_page))
    assert set(expected) <= found
    assert found == set(everything) or longest_page > 0
    assert requests <= len(pages) + 1


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), min_size=1, max_size=5))
def test_every_list_ends(circle: list[list[str]]) -> None:
    """A server that sends the same pages again and again gets a bounded number of requests."""
    pages = [page for _ in range(100) for page in circle]
    _, requests = listed(pages, Listing(PAGE, "abcdefg"))
    assert requests <= (len(set("abcdef")) + 1) * STALE_PAGES
