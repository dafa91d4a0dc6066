"""Searches page by page, to the end of the list (see `policy.listing`).

If a server refuses long pages, shorter ones are requested; later searches begin with the length that was accepted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TypeVar

from bulkstow.destination.search import Found
from bulkstow.model import NoResponse, Response
from bulkstow.policy.listing import Listing
from bulkstow.verification.requests import Requests, Unanswered

R = TypeVar("R")

PAGE_RESULTS = 1000
"""Results in a page, if the server accepts that: dcm4chee's maximum. A list of 500 instances is 3 requests with 200 in
a page, and one or two with 1,000."""

Search = Callable[[Mapping[str, str]], Awaitable[Found[Sequence[R]] | Response | NoResponse]]
"""Makes one search with the parameters of a page."""


class NotListed(Exception):
    """A list ended early: the server's refusal, or a search that failed however often it was repeated."""

    def __init__(self, answer: Response | Unanswered) -> None:
        super().__init__()
        self.answer = answer


class Pages:
    """Reads the pages of searches at one server; `short_page_results` in a page are always accepted."""

    def __init__(self, requests: Requests, *, short_page_results: int) -> None:
        self._requests = requests
        self._short_page_results = short_page_results
        self._page_results = PAGE_RESULTS
        self._longest_page = 0

    async def read(
        self,
        search: Search[R],
        uid_of: Callable[[R], str],
        *,
        expected: Collection[str] | None = None,
        count: int | None = None,
    ) -> AsyncGenerator[Sequence[R]]:
        """Yield the pages of a list; after a refusal of long pages they begin again, so results may be repeated.

        The list ends early after a short page if all `expected` results or at least `count` of them are listed. If both
        are None, only the server ends it, and a list that may be cut off is an error. Raises NotListed, and as
        `Requests.make`.
        """
        listing = self._listing(expected)
        while not listing.is_ended:
            page = await self._requests.make(partial(search, listing.query))
            if isinstance(page, Response) and page.status == 400 and self._shorten():
                listing = self._listing(expected)
                continue
            if isinstance(page, Response | Unanswered):
                raise NotListed(page)
            listing.take([uid_of(result) for result in page])
            self._longest_page = max(self._longest_page, len(page))
            yield page
            if count is not None and len(listing.listed) >= count and len(page) < self._page_results:
                return
        if listing.may_be_cut_off and expected is None and count is None:
            raise NotListed(Unanswered(f"repeats its first {len(listing.listed):,} results at every offset"))

    def _listing(self, expected: Collection[str] | None) -> Listing:
        longest_page = 0 if expected is None else self._longest_page
        return Listing(self._page_results, expected or (), longest_page)

    def _shorten(self) -> bool:
        """Request shorter pages from now on; return whether they were longer."""
        was_longer = self._page_results > self._short_page_results
        self._page_results = self._short_page_results
        return was_longer
