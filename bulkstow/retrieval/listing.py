"""Lists the instances of a server: its studies page by page, and the instances of each, several studies at a time.

The filters of the run are keys of the search for studies; the listed studies are compared with them again. A study of
which fewer instances are listed than the server counts has an outcome of its own, so that none is lost in silence.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import attrgetter

from bulkstow.destination.search import Found as Page
from bulkstow.destination.search import SearchService
from bulkstow.errors import StorageGone
from bulkstow.model import Candidate, FileResult, Header, NoResponse, Outcome, Response
from bulkstow.policy.reading import failure_reason
from bulkstow.policy.selection import Selection
from bulkstow.policy.sharding import Sharding
from bulkstow.policy.study_keys import may_select, study_queries
from bulkstow.ports import Found
from bulkstow.retrieval.locations import NO_PATH, Locations
from bulkstow.verification.pages import NotListed, Pages
from bulkstow.verification.requests import Requests, Unanswered
from bulkstow.wire.resource_path import is_segment, resource_path
from bulkstow.wire.search_result import ListedStudy, headers_in, listed_studies, series_in

STUDIES_AHEAD = 8
"""Studies whose instances are listed at a time, within the limit of requests. One at a time, 20,000 studies take 17
minutes at a round trip of 50 ms."""

LIST_INSTANCES = 1000
"""A list ends with the series that reaches so many instances: fewer lists for small series, and none divides a
series."""

MOST_LISTED = 200_000
"""The most instances of a study that are listed, which take 200 MB: twice the largest studies of functional MR."""


_COUNT = {"includefield": "00201208"}
"""Number of Study Related Instances; all other attributes are returned without a request (PS3.18 Table 10.6.3-3)."""

_GONE = (404, 410)
_KEY_REFUSED = (400, 422, 500, 501)
"""Statuses with which servers refuse a key that they do not know."""


class InstanceListing:
    """Lists the selected instances of one server, once."""

    def __init__(
        self,
        requests: Requests,
        search: SearchService,
        locations: Locations,
        selection: Selection,
        sharding: Sharding | None,
        *,
        short_page_results: int,
    ) -> None:
        self._search = search
        self._locations = locations
        self._selection = selection
        self._sharding = sharding
        self._study_pages = Pages(requests, short_page_results=short_page_results)
        self._pages = Pages(requests, short_page_results=short_page_results)
        self._lists_studies = True
        """The server has not refused to list the instances of a study."""
        self.studies = 0
        """Studies found so far."""

    async def lists(self) -> AsyncGenerator[Sequence[Found]]:
        """Yield everything in lists of whole series.

        Raises StorageGone if the studies cannot be listed, and as `Requests.make`.
        """
        ahead: deque[asyncio.Task[list[Sequence[Found]]]] = deque()
        try:
            async with aclosing(self._studies()) as studies:
                async for study in studies:
                    ahead.append(asyncio.create_task(self._lists_of(study)))
                    if len(ahead) >= STUDIES_AHEAD:
                        for found in await ahead.popleft():
                            yield found
            while ahead:
                for found in await ahead.popleft():
                    yield found
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _studies(self) -> AsyncGenerator[ListedStudy | FileResult]:
        """Yield the selected studies, each once, and the outcome of each that the user named and the server lacks."""
        seen: set[str] = set()
        for query in study_queries(self._selection):
            named_uid = query.get("StudyInstanceUID")
            is_found = False
            async with aclosing(self._study_list(query)) as studies:
                async for study in studies:
                    is_found = is_found or study.uid == named_uid
                    if study.uid not in seen:
                        seen.add(study.uid)
                        if self._is_of_shard(study.uid) and may_select(self._selection, study):
                            self.studies += 1
                            yield study
            if named_uid is not None and not is_found and self._is_of_shard(named_uid):
                yield _unreadable(self._locations.study(named_uid), "the source server has no such study")

    def _is_of_shard(self, study_uid: str) -> bool:
        return self._sharding is None or self._sharding.owns((study_uid,))

    async def _study_list(self, query: Mapping[str, str]) -> AsyncGenerator[ListedStudy]:
        """Yield the studies of one search, some more than once; without its keys if the server refuses them."""
        pages = self._study_pages.read(partial(self._search_studies, query), attrgetter("uid"))
        try:
            async with aclosing(pages):
                async for page in pages:
                    for study in page:
                        yield study
        except NotListed as refusal:
            is_named, status = "StudyInstanceUID" in query, _status(refusal)
            if is_named and status in _GONE:
                return
            if not query or is_named or status not in _KEY_REFUSED:
                reason = _reason(refusal)
                raise StorageGone(f"the studies of {self._locations.source} cannot be listed: {reason}") from None
        else:
            return
        async with aclosing(self._study_list({})) as studies:
            async for study in studies:
                yield study

    async def _search_studies(
        self, query: Mapping[str, str], page: Mapping[str, str]
    ) -> Page[tuple[ListedStudy, ...]] | Response | NoResponse:
        return await self._search.search("/studies", {**query, **_COUNT, **page}, listed_studies)

    async def _lists_of(self, study: ListedStudy | FileResult) -> list[Sequence[Found]]:
        """Return the instances of a study in lists, and its own outcome if not all of them are listed."""
        if isinstance(study, FileResult):
            return [[study]]
        if not is_segment(study.uid):
            return [[_unreadable(self._locations.nameless("studies", study.uid), NO_PATH)]]
        found, failure = await self._headers(study)
        lists: list[list[Found]] = [[]]
        in_order = sorted(found.values(), key=attrgetter("series_uid"))
        for _, series in groupby(in_order, attrgetter("series_uid")):
            if len(lists[-1]) >= LIST_INSTANCES:
                lists.append([])
            lists[-1] += map(self._found, series)
        if not failure and (len(found) < (1 if study.instances is None else study.instances)):
            counted = "has the study" if study.instances is None else f"counts {study.instances:,} instances"
            failure = f"the source server {counted}, and lists {len(found):,}"
        if failure:
            lists[-1].append(_unreadable(self._locations.study(study.uid), failure))
        return [one for one in lists if one]

    def _found(self, header: Header) -> Candidate | FileResult:
        candidate = self._locations.candidate(header)
        return candidate or _unreadable(self._locations.nameless("instances", header.sop_instance_uid), NO_PATH)

    async def _headers(self, study: ListedStudy) -> tuple[dict[str, Header], str]:
        """Return the listed instances of a study, by `_key`, and why others are not listed; empty if all are.

        If the server does not list all of them for the study as a whole, they are listed by series, too.
        """
        found: dict[str, Header] = {}
        if self._lists_studies:
            refusal = await self._add(study, found, resource_path("studies", study.uid, "instances"))
            if refusal is None and found and len(found) >= (study.instances or 0):
                return found, ""
            if refusal is not None and isinstance(refusal.answer, Response):
                # A server may answer 404 while it indexes the study, and forbid a single one.
                self._lists_studies = refusal.answer.status in _GONE
        refusal = await self._add_by_series(study, found)
        if refusal is None or (study.instances and len(found) >= study.instances):
            return found, ""
        return found, f"its instances cannot be listed: {_reason(refusal)}"

    async def _add_by_series(self, study: ListedStudy, found: dict[str, Header]) -> NotListed | None:
        """Add the instances of each series; return the first refusal."""
        series_uids: set[str] = set()
        path = resource_path("studies", study.uid, "series")
        search = partial(self._search.search, path, parse=partial(series_in, study_uid=study.uid))
        try:
            async with aclosing(self._pages.read(search, str)) as pages:
                async for page in pages:
                    series_uids.update(page)
        except NotListed as refusal:
            return refusal
        first = None if all(map(is_segment, series_uids)) else NotListed(Unanswered("the UID of a series is no UID"))
        for series_uid in filter(is_segment, sorted(series_uids)):
            path = resource_path("studies", study.uid, "series", series_uid, "instances")
            refused = await self._add(study, found, path, series_uid)
            first = first or refused
        return first

    async def _add(
        self, study: ListedStudy, found: dict[str, Header], path: str, series_uid: str = ""
    ) -> NotListed | None:
        """Add the instances of one list; return the refusal if it ends early."""
        parse = partial(headers_in, study_uid=study.uid, series_uid=series_uid)
        count = None if series_uid else study.instances
        read = self._pages.read(partial(self._search.search, path, parse=parse), _key, count=count)
        try:
            async with aclosing(read) as pages:
                async for page in pages:
                    for header in page:
                        is_dated = header.study_date is not None
                        dated = header if is_dated else replace(header, study_date=study.study_date)
                        found.setdefault(_key(header), dated)
                    if len(found) > MOST_LISTED:
                        return NotListed(Unanswered(f"more than {MOST_LISTED:,}"))
        except NotListed as refusal:
            return refusal
        return None


def _key(header: Header) -> str:
    return f"{header.series_uid}/{header.sop_instance_uid}"


def _status(refusal: NotListed) -> int:
    return refusal.answer.status if isinstance(refusal.answer, Response) else 0


def _reason(refusal: NotListed) -> str:
    answer = refusal.answer
    return failure_reason(answer) if isinstance(answer, Response) else answer.reason


def _unreadable(candidate: Candidate, reason: str) -> FileResult:
    return FileResult(candidate, None, Outcome.UNREADABLE, reason)
