"""Asking what is there: QIDO-RS (PS3.18 §10.6).

The proof that an instance arrived is its SOP Instance UID in a list of instances of its series. Counts prove nothing.
Pages are asked for until one brings nothing new: servers cap a page silently (dcm4chee at 1000, Azure at 200), and
some ignore `offset`. Knows no HTTP client: it is given a function that gets. An instance whose study has no path
(`wire.resource_path`) is not asked for and not listed as found; `policy.settlement` gives it its outcome.
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
"""The only notation that is read here; every server has it."""

PAGE_LIMIT_BYTES = 8 * 2**20
"""1,000 instances of 8 KiB: Orthanc lists an instance in 1 to 4 KiB. A server that ignores `limit` may list 2,000."""

MOST_LISTED = 100_000
"""Instances of one series that are looked through; the largest series of CT or whole slides have some 10,000."""

LARGE_PAGE_BYTES = 100_000
"""What is parsed in 2 ms; larger pages are parsed in a thread."""

SINGLE_QUERIES = 10
"""Up to so many instances of a series are asked for one by one: cheaper than paging through what may be thousands."""

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
        answer = await (_find_singly(get, path, uids) if is_few else _find_paged(get, path, uids, page_instances))
        if not isinstance(answer, set):
            return answer
        found |= answer
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


async def _page(answer: Response | NoResponse) -> set[str] | Response | NoResponse:
    """Return the UIDs of one page; 204 and an empty list are both 'no match'."""
    if isinstance(answer, NoResponse) or answer.status not in (200, 204, 206):
        return answer
    if answer.status == 204 or not answer.body.strip():
        return set()
    try:
        if len(answer.body) > LARGE_PAGE_BYTES:
            return await anyio.to_thread.run_sync(_uids, answer.body)
        return _uids(answer.body)
    except (ValueError, LookupError, TypeError):
        return Response(status=406, body=b"the answer to QIDO-RS is not DICOM JSON")


def _uids(body: bytes) -> set[str]:
    """Return the SOP Instance UIDs of a page; ValueError, LookupError or TypeError where it is not DICOM JSON."""
    items = parse_json(text_of(body))
    if not isinstance(items, list):
        raise TypeError("expected a list")
    return {str(item[_SOP_INSTANCE_UID]["Value"][0]).rstrip("\0 ") for item in items if _SOP_INSTANCE_UID in item}
