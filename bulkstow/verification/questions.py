"""Queries about a study: its list of instances, its number of instances, and single instances.

If a server refuses to list the instances of a study, they are listed by series; later studies begin with the form that
was accepted.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from bulkstow.destination.search import SearchService
from bulkstow.model import Response
from bulkstow.policy.reading import failure_reason
from bulkstow.verification.expected import ExpectedStudy
from bulkstow.verification.pages import NotListed, Pages
from bulkstow.verification.requests import Requests, Unanswered
from bulkstow.wire.resource_path import is_segment, resource_path

MOST_LISTED = 1_000_000
"""The most instances of a study that are listed: ten times the largest studies of whole slides and functional MR."""

NO_UID = "its Study Instance UID is not a UID, so that the server cannot be asked for it"


@dataclass(frozen=True, slots=True)
class StudyCount:
    """The server's answer about a study as a whole."""

    is_there: bool
    instances: int | None = None
    """None if the server does not tell it."""


class Questions:
    """Asks one server. Each method returns Unanswered if no retry helps, and raises as `Requests.make`."""

    def __init__(self, requests: Requests, search: SearchService, *, short_page_instances: int) -> None:
        self._requests = requests
        self._search = search
        self._pages = Pages(requests, short_page_results=short_page_instances)
        self._lists_studies = True
        """The server has not refused to list the instances of a study."""

    async def count(self, study_uid: str) -> StudyCount | Unanswered:
        """Ask whether the server has a study, and how many instances of it."""
        query = {"StudyInstanceUID": study_uid, "includefield": "00201208"}
        found = await self._requests.make(partial(self._search.studies, query))
        match found:
            case Unanswered():
                return found
            case Response():
                return Unanswered(failure_reason(found))
            case _:
                return StudyCount(study_uid in found, found.get(study_uid))

    async def listed(self, study: ExpectedStudy) -> frozenset[str] | Unanswered:
        """Return the SOP Instance UIDs that the server lists of a study."""
        expected = study.expected
        if not is_segment(study.uid):
            return Unanswered(NO_UID)
        if self._lists_studies:
            listed = await self._list(study.uid, resource_path("studies", study.uid, "instances"), expected)
            if not isinstance(listed, Response):
                return listed
            count = await self.count(study.uid)
            if isinstance(count, Unanswered):
                return count
            is_gone = listed.status in (404, 410)
            if is_gone and not count.is_there:
                return frozenset()
            by_series = await self._listed_by_series(study)
            # A server may answer 404 while it indexes the study, and forbid a single one.
            self._lists_studies = is_gone or isinstance(by_series, Unanswered)
            return by_series
        return await self._listed_by_series(study)

    async def has(self, study_uid: str, series_uid: str, sop_instance_uid: str) -> bool | Unanswered:
        """Ask for one instance by its UID."""
        series = ("series", series_uid) if is_segment(series_uid) else ()
        path = resource_path("studies", study_uid, *series, "instances")
        found = await self._requests.make(
            partial(self._search.instances, study_uid, path, {"SOPInstanceUID": sop_instance_uid})
        )
        match found:
            case Unanswered():
                return found
            case Response(status=404 | 410):
                return False
            case Response():
                return Unanswered(failure_reason(found))
            case _:
                return sop_instance_uid in found

    async def _listed_by_series(self, study: ExpectedStudy) -> frozenset[str] | Unanswered:
        by_series: dict[str, set[str]] = {}
        for file in study.files:
            by_series.setdefault(file.series_uid, set()).add(file.sop_instance_uid)
        found: set[str] = set()
        for series_uid, uids in sorted(by_series.items()):
            if not is_segment(series_uid):
                continue
            path = resource_path("studies", study.uid, "series", series_uid, "instances")
            listed = await self._list(study.uid, path, uids & study.expected)
            match listed:
                case Unanswered():
                    return listed
                case Response(status=404 | 410):
                    continue
                case Response():
                    return Unanswered(failure_reason(listed))
                case _:
                    found |= listed
        return frozenset(found)

    async def _list(
        self, study_uid: str, path: str, expected: Collection[str]
    ) -> frozenset[str] | Response | Unanswered:
        """Return all results of a list, page by page; a Response if the server refuses it."""
        listed: set[str] = set()
        pages = self._pages.read(partial(self._search.instances, study_uid, path), _uid, expected=expected)
        try:
            async with aclosing(pages):
                async for page in pages:
                    listed.update(page)
                    if len(listed) > MOST_LISTED:
                        return Unanswered(f"lists more than {MOST_LISTED:,} instances")
        except NotListed as refusal:
            return refusal.answer
        return frozenset(listed)


def _uid(result: str) -> str:
    """Return the UID of a result, which is one."""
    return result
