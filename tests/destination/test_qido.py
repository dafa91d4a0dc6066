"""Claims about queries for stored instances."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import partial

import pytest

from bulkstow.config import DestinationSettings
from bulkstow.destination import qido
from bulkstow.destination.auth import NoLogin
from bulkstow.destination.qido import LARGE_PAGE_BYTES, MOST_LISTED, SINGLE_QUERIES
from bulkstow.model import Candidate, Cause, Header, Instance, NoResponse, Response
from tests.archives import header
from tests.destination.peers import answer, peer, read_head
from tests.stow import FileStow

pytestmark = pytest.mark.anyio

PAGE_INSTANCES = 200
find = partial(qido.find, page_instances=PAGE_INSTANCES)


def instances(count: int, *, study: int = 1) -> tuple[Instance, ...]:
    """Return instances 1 to `count` of a study."""
    return tuple(Instance(Candidate(f"/{n}", 1, 1), header(n, study=study)) for n in range(1, count + 1))


def listing(uids: list[str]) -> Response:
    """Return a page of instances as DICOM JSON."""
    return Response(200, json.dumps([{"00080018": {"vr": "UI", "Value": [uid]}} for uid in uids]).encode())


class Server:
    """Responds to queries from a list of UIDs, a page at a time, as real servers do."""

    def __init__(self, held: list[str], *, page: int = 1000, ignores_offset: bool = False) -> None:
        self.held, self.page, self.ignores_offset = held, page, ignores_offset
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def get(self, path: str, query: Mapping[str, str]) -> Response:
        """Respond to a query."""
        self.asked.append((path, dict(query)))
        if uid := query.get("SOPInstanceUID"):
            return listing([uid]) if uid in self.held else Response(204, b"")
        start = 0 if self.ignores_offset else int(query["offset"])
        return listing(self.held[start : start + min(self.page, int(query["limit"]))])


def uids(several: tuple[Instance, ...]) -> list[str]:
    """Return SOP Instance UIDs."""
    return [instance.header.sop_instance_uid for instance in several]


async def test_few_are_asked_for_one_by_one() -> None:
    """A few instances of a series are searched by their UID, in their series."""
    wanted = instances(2)
    server = Server(uids(wanted)[:1])
    assert await find(server.get, wanted) == frozenset({"2.25.1.1.1"})
    assert server.asked == [
        ("/studies/2.25.1/series/2.25.1.1/instances", {"SOPInstanceUID": "2.25.1.1.1"}),
        ("/studies/2.25.1/series/2.25.1.1/instances", {"SOPInstanceUID": "2.25.1.1.2"}),
    ]


@pytest.mark.parametrize("page", [1000, 200, 7])
async def test_many_are_paged_through(page: int) -> None:
    """Many are compared with the series' pages, whatever the server's own limit on a page is."""
    wanted = instances(500)
    server = Server(uids(wanted)[:-1], page=page)
    assert await find(server.get, wanted) == frozenset(uids(wanted)[:-1])


async def test_server_that_ignores_offset_is_left() -> None:
    """Pages that repeat themselves end the query."""
    wanted = instances(PAGE_INSTANCES + 50)
    server = Server(uids(wanted), ignores_offset=True)
    assert len(await find(server.get, wanted) or ()) == PAGE_INSTANCES  # type: ignore[arg-type]
    assert len(server.asked) == 2


async def test_server_that_ignores_the_filter_proves_nothing() -> None:
    """A list without the UID that was searched is no proof of it."""

    async def get(_path: str, _query: Mapping[str, str]) -> Response:
        return listing(["2.25.1.1.99", "2.25.1.1.2\0"])

    assert await find(get, instances(2)) == frozenset({"2.25.1.1.2"})


async def test_series_are_asked_apart() -> None:
    """Instances of several studies are searched in their own."""
    wanted = instances(1) + instances(1, study=2)
    server = Server(uids(wanted))
    assert await find(server.get, wanted) == frozenset(uids(wanted))
    assert {path for path, _ in server.asked} == {f"/studies/2.25.{n}/series/2.25.{n}.1/instances" for n in (1, 2)}


@pytest.mark.parametrize(
    "answer",
    [Response(503, b""), Response(404, b"no"), NoResponse(Cause.UNREACHABLE, body_started=False)],
    ids=["busy", "none", "gone"],
)
@pytest.mark.parametrize("count", [1, SINGLE_QUERIES + 1])
async def test_failed_query_is_handed_on(answer: Response | NoResponse, count: int) -> None:
    """A failed query is returned as such, never as 'not found'."""

    async def get(_path: str, _query: Mapping[str, str]) -> Response | NoResponse:
        return answer

    assert await find(get, instances(count)) is answer


@pytest.mark.parametrize("count", [1, 50])
async def test_an_instance_of_another_study_is_no_proof(count: int) -> None:
    """A server that ignores the study of a search lists the UIDs, but in another study: that is a failed query."""
    wanted = instances(count)

    async def get(_path: str, _query: Mapping[str, str]) -> Response:
        study = {"0020000D": {"vr": "UI", "Value": ["2.25.2"]}}
        items = [{"00080018": {"vr": "UI", "Value": [uid]}, **study} for uid in uids(wanted)]
        return Response(200, json.dumps(items).encode())

    answer = await find(get, wanted)
    assert isinstance(answer, Response)
    assert (answer.status, b"another study" in answer.body) == (406, True)


@pytest.mark.parametrize("body", [b"<html>", b"{}}", b'{"a": 1}', b"[1]", b'[{"00080018": {}}]', b"[" * 100_000])
async def test_nonsense_is_not_an_empty_list(body: bytes) -> None:
    """A response that is not a DICOM JSON list is a failed query."""

    async def get(_path: str, _query: Mapping[str, str]) -> Response:
        return Response(200, body)

    answer = await find(get, instances(1))
    assert isinstance(answer, Response)
    assert answer.status == 406


@pytest.mark.parametrize(
    "response", [Response(204, b""), Response(200, b"[]"), Response(200, b"")], ids=["204", "[]", "empty"]
)
async def test_no_match(response: Response) -> None:
    """No match is 204 by the standard and an empty list at Orthanc."""

    async def get(_path: str, _query: Mapping[str, str]) -> Response:
        return response

    assert await find(get, instances(1)) == frozenset()


@pytest.mark.parametrize(
    "study_uid", ["../../admin", "..", "1/../../../x", "%2e%2e%2fx", "1\\..\\x", "1\r\nHost: y", "."]
)
async def test_study_uid_that_leaves_the_root_is_not_asked_for(study_uid: str) -> None:
    """An instance without a path is not searched and not found; the others are searched."""
    odd = Instance(Candidate("/odd", 1, 1), Header(study_uid, "1.2", "2.25.9", "1", "1"))
    wanted = instances(1)
    server = Server([*uids(wanted), "2.25.9"])
    assert await find(server.get, (odd, *wanted)) == frozenset(uids(wanted))
    assert [path for path, _ in server.asked] == ["/studies/2.25.1/series/2.25.1.1/instances"]


async def test_reserved_characters_stay_in_their_place() -> None:
    """On the wire a UID with reserved characters is one segment of the path, or one value of the query."""
    lines: list[str] = []

    async def list_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            lines.append((await read_head(reader)).line)
            answer(writer, "204 No Content", b"")

    odd = Instance(Candidate("/odd", 1, 1), Header("1.2?x=#é", "3;4", "5&limit=9#\r\n é", "1", "1"))
    async with peer(list_nothing) as url:
        settings = DestinationSettings(url=url)
        async with FileStow(settings, NoLogin()) as stow:
            assert await stow.find((odd,)) == frozenset()
    path = "/dicom-web/studies/1.2%3Fx%3D%23%C3%A9/series/3%3B4/instances"
    assert lines == [f"GET {path}?SOPInstanceUID=5%26limit%3D9%23%0D%0A%20%C3%A9 HTTP/1.1"]


async def test_a_large_page_is_read_like_a_small_one() -> None:
    """A page of many attributes, parsed in a thread, proves the same."""
    wanted = instances(1)
    item = {
        "00080018": {"vr": "UI", "Value": uids(wanted)},
        "00081030": {"vr": "LO", "Value": ["x" * LARGE_PAGE_BYTES]},
    }

    async def get(path: str, query: Mapping[str, str]) -> Response:
        return Response(200, json.dumps([item]).encode())

    assert await find(get, wanted) == frozenset(uids(wanted))


async def test_a_series_without_end_is_given_up() -> None:
    """A server whose pages never end gets a bounded number of requests."""

    async def get(path: str, query: Mapping[str, str]) -> Response:
        return listing([f"9.{int(query['offset']) + n}" for n in range(10_000)])

    answered = await find(get, instances(SINGLE_QUERIES + 1))
    assert answered == NoResponse(Cause.OVERLONG, body_started=False, detail=f"more than {MOST_LISTED} instances")


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[" + b"{}," * 100_000 + b"{}]"], ids=["deep", "dense"])
async def test_a_page_that_would_fill_the_memory_is_not_parsed(body: bytes) -> None:
    """A page of deeply nested brackets is not DICOM JSON."""

    async def get(path: str, query: Mapping[str, str]) -> Response:
        return Response(200, body)

    answered = await find(get, instances(1))
    assert isinstance(answered, Response)
    assert answered.status == 406
