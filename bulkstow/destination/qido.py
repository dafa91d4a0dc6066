"""Queries for stored instances: QIDO-RS (PS3.18 §10.6).

The proof that an instance arrived is its SOP Instance UID in a list of instances of its series. Counts prove nothing,
nor does an instance of another study.
Pages are requested until one contains nothing new: servers limit a page silently (dcm4chee at 1000, Azure at 200), and
some ignore `offset`. Knows no HTTP client: the caller gives a function for GET. An instance whose study has no path
(`wire.resource_path`) is neither searched nor found; `policy.settlement` gives it its outcome.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import anyio.to_thread

from bulkstow.model import Cause, Instance, NoResponse, Response
from bulkstow.wire.resource_path import instances_path
from bulkstow.wire.search_result import instances_in

Get = Callable[[str, Mapping[str, str]], Awaitable[Response | NoResponse]]

ACCEPT = "application/dicom+json"
"""The only format that is parsed here; every server offers it."""

PAGE_LIMIT_BYTES = 8 * 2**20
"""1,000 instances of 8 KiB: Orthanc lists an instance in 1 to 4 KiB. A server that ignores `limit` may list 2,000."""

MOST_LISTED = 100_000
"""The most instances of one series that are listed; the largest series of CT or whole slides have some 10,000."""

LARGE_PAGE_BYTES = 100_000
"""Larger pages are parsed in a thread; one of this size takes 2 ms."""

SINGLE_QUERIES = 10
"""The most instances of a series that are searched one by one, which costs less than listing perhaps thousands."""


async def find(get: Get, instances: Iterable[Instance], page_instances: int) -> frozenset[str] | Response | NoResponse:
    """Return the SOP Instance UIDs among `instances` that the server lists, or the exchange that failed."""
    found: set[str] = set()
    headers = sorted((i.header for i in instances), key=lambda h: (h.study_uid, h.series_uid))
    for path, series in groupby(headers, key=instances_path):
        if path is None:
            continue
        wanted = list(series)
        study_uid, uids = wanted[0].study_uid, {header.sop_instance_uid for header in wanted}
        is_few = len(uids) <= SINGLE_QUERIES
        ask = _Search(get, path, study_uid)
        response = await (_find_singly(ask, uids) if is_few else _find_paged(ask, uids, page_instances))
        if not isinstance(response, set):
            return response
        found |= response
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class _Search:
    """Searches for the instances of one series of a study."""

    get: Get
    path: str
    study_uid: str

    async def page(self, query: Mapping[str, str]) -> set[str] | Response | NoResponse:
        """Return the UIDs of one page; 204 and an empty list both mean 'no match'."""
        response = await self.get(self.path, query)
        if isinstance(response, NoResponse) or response.status not in (200, 204, 206):
            return response
        if response.status == 204 or not response.body.strip():
            return set()
        parse = partial(instances_in, response.body, self.study_uid)
        try:
            is_large = len(response.body) > LARGE_PAGE_BYTES
            return set(await anyio.to_thread.run_sync(parse) if is_large else parse())
        except ValueError as error:
            return Response(status=406, body=f"the answer to QIDO-RS is not usable: {error}".encode())


async def _find_singly(search: _Search, uids: set[str]) -> set[str] | Response | NoResponse:
    found: set[str] = set()
    for uid in sorted(uids):
        page = await search.page({"SOPInstanceUID": uid})
        if not isinstance(page, set):
            return page
        found |= page & {uid}
    return found


async def _find_paged(search: _Search, uids: set[str], page_instances: int) -> set[str] | Response | NoResponse:
    listed: set[str] = set()
    offset = 0
    while not uids <= listed:
        if len(listed) > MOST_LISTED:
            return NoResponse(Cause.OVERLONG, body_started=False, detail=f"more than {MOST_LISTED} instances")
        query = {"limit": str(page_instances), "offset": str(offset)}
        page = await search.page(query)
        if not isinstance(page, set):
            return page
        if page <= listed:
            break
        listed |= page
        offset += len(page)
    return listed & uids
