"""Queries for stored instances: QIDO-RS (PS3.18 §10.6).

The proof that an instance arrived is its SOP Instance UID in a list of instances of its series. Counts prove nothing.
Pages are requested until one contains nothing new: servers limit a page silently (dcm4chee at 1000, Azure at 200), and
some ignore `offset`. Knows no HTTP client: the caller gives a function for GET. An instance whose study has no path
(`wire.resource_path`) is neither searched nor found; `policy.settlement` gives it its outcome.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import groupby

import anyio.to_thread

from bulkstow.model import Cause, Instance, NoResponse, Response
from bulkstow.wire.bounded import parse_json
from bulkstow.wire.resource_path import instances_path
from bulkstow.wire.server_text import text_of

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

_SOP_INSTANCE_UID = "00080018"


async def find(get: Get, instances: Iterable[Instance], page_instances: int) -> frozenset[str] | Response | NoResponse:
    """Return the SOP Instance UIDs among `instances` that the server lists, or the exchange that failed."""
    found: set[str] = set()
    headers = sorted((i.header for i in instances), key=lambda h: (h.study_uid, h.series_uid))
    for path, series in groupby(headers, key=instances_path):
        if path is None:
            continue
        uids = {header.sop_instance_uid for header in series}
        is_few = len(uids) <= SINGLE_QUERIES
        response = await (_find_singly(get, path, uids) if is_few else _find_paged(get, path, uids, page_instances))
        if not isinstance(response, set):
            return response
        found |= response
    return frozenset(found)


async def _find_singly(get: Get, path: str, uids: set[str]) -> set[str] | Response | NoResponse:
    found: set[str] = set()
    for uid in sorted(uids):
        page = await _page(await get(path, {"SOPInstanceUID": uid}))
        if not isinstance(page, set):
            return page
        found |= page & {uid}
    return found


async def _find_paged(get: Get, path: str, uids: set[str], page_instances: int) -> set[str] | Response | NoResponse:
    listed: set[str] = set()
    offset = 0
    while not uids <= listed:
        if len(listed) > MOST_LISTED:
            return NoResponse(Cause.OVERLONG, body_started=False, detail=f"more than {MOST_LISTED} instances")
        query = {"limit": str(page_instances), "offset": str(offset)}
        page = await _page(await get(path, query))
        if not isinstance(page, set):
            return page
        if page <= listed:
            break
        listed |= page
        offset += len(page)
    return listed & uids


async def _page(response: Response | NoResponse) -> set[str] | Response | NoResponse:
    """Return the UIDs of one page; 204 and an empty list both mean 'no match'."""
    if isinstance(response, NoResponse) or response.status not in (200, 204, 206):
        return response
    if response.status == 204 or not response.body.strip():
        return set()
    try:
        if len(response.body) > LARGE_PAGE_BYTES:
            return await anyio.to_thread.run_sync(_uids, response.body)
        return _uids(response.body)
    except (ValueError, LookupError, TypeError):
        return Response(status=406, body=b"the answer to QIDO-RS is not DICOM JSON")


def _uids(body: bytes) -> set[str]:
    """Return the SOP Instance UIDs of a page; raise ValueError, LookupError or TypeError if it is not DICOM JSON."""
    items = parse_json(text_of(body))
    if not isinstance(items, list):
        raise TypeError("expected a list")
    return {str(item[_SOP_INSTANCE_UID]["Value"][0]).rstrip("\0 ") for item in items if _SOP_INSTANCE_UID in item}
