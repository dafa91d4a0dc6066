"""The pages of a search, to the end of the list (PS3.18 §8.3.4).

Servers limit pages differently: dcm4chee sends at most 1,000 results for any `limit`, some servers ignore `limit` or
`offset`, and an index that changes between two pages repeats results. So a short page does not end the list; an empty
page does, and so does a page that repeats the page before it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

STALE_PAGES = 8
"""Consecutive pages without a new result after which a list ends. A server that repeats its pages in a cycle never
sends an empty page."""


class Listing:
    """One search, page by page: `query` is the next request, until `is_ended`; `listed` has the results.

    `expected` are the results that should be listed, `longest_page` the number of results in the longest page that this
    server has sent: a shorter page is the last one, if nothing expected is left.
    """

    def __init__(self, page_results: int, expected: Collection[str] = (), longest_page: int = 0) -> None:
        self._page_results = page_results
        self._unlisted = set(expected)
        self._longest_page = longest_page
        self._offset = 0
        self._before: Sequence[str] = ()
        self._stale_pages = 0
        self.listed: set[str] = set()
        """The results so far."""
        self.is_ended = False
        """No page follows."""
        self.may_be_cut_off = False
        """The list ended because a server that ignores `offset` repeated a full page: more results may exist."""

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters of the next request."""
        return {"limit": str(self._page_results), "offset": str(self._offset)}

    def take(self, page: Sequence[str]) -> None:
        """Take the results of the next page, in their order."""
        count_before = len(self.listed)
        self.listed.update(page)
        self._unlisted.difference_update(page)
        self._offset += len(page)
        self._stale_pages = 0 if len(self.listed) > count_before else self._stale_pages + 1
        is_last = not self._unlisted and len(page) < self._longest_page
        is_repeated = bool(page) and page == self._before
        self.is_ended = is_last or not page or is_repeated or self._stale_pages >= STALE_PAGES
        self.may_be_cut_off = is_repeated and len(page) == self._page_results
        self._before = page
