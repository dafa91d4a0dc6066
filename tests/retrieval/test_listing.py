"""Claims about the listing of a source server's instances."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bulkstow.days import parse_days
from bulkstow.model import Header
from bulkstow.policy.selection import Selection
from tests.retrieval.servers import archive, candidates_of, failures_of, opened, origin_with, quick_backoff
from tests.wire.test_search_result import item

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulkstow.retrieval.server.Backoff", quick_backoff)


QUIRKS: dict[str, list[dict[str, Any]]] = {
    "plain": [],
    "pages of 4": [{"kind": "page-cap", "on": "search", "page-instances": 4}],
    "ignores limit": [{"kind": "ignored-limit"}],
    "ignores limit and offset": [{"kind": "ignored-limit"}, {"kind": "ignored-offset"}],
    "repeats results": [
        {"kind": "page-cap", "page-instances": 5},
        {"kind": "repeated", "repeated-instances": 2},
    ],
    "no match is a list": [{"kind": "empty-list"}],
    "fails now and then": [{"kind": "status", "on": "search", "status": 500, "every": 3}],
    "is too busy": [{"kind": "too-many", "on": "search", "requests": [2]}],
    "no JSON at first": [{"kind": "not-json", "on": "search", "first": 2}],
}


@pytest.mark.parametrize("faults", QUIRKS.values(), ids=QUIRKS)
async def test_every_instance_is_listed_once(tmp_path: Path, faults: list[dict[str, Any]]) -> None:
    """However a server divides its lists, each instance is found once, whole series in one list."""
    held = archive(studies=11, series=2, instances=6)
    async with origin_with(tmp_path, held, *faults) as stored, opened(stored.name) as source:
        lists = await source.scanned()
        assert failures_of(lists) == {}
        found = candidates_of(lists)
        assert {candidate.announced for candidate in found} == {replace(one, transfer_syntax_uid="") for one in held}
        assert len(found) == len(held)
        for listed in lists:
            of_list = {c.announced.series_uid for c in listed if c.announced}  # type: ignore[union-attr]
            others = {c.announced.series_uid for one in lists if one is not listed for c in one if c.announced}  # type: ignore[union-attr]
            assert not of_list & others
        assert source.source.empty_parts == ()


async def test_a_location_is_the_url_of_the_instance(tmp_path: Path) -> None:
    """It is the same in every run, and names the UIDs; size and version are not known."""
    async with origin_with(tmp_path, archive(1, 1, 1)) as stored, opened(f"{stored.name}/") as source:
        (candidate,) = candidates_of(await source.scanned())
        assert candidate.location == f"{stored.name}/studies/2.25.1/series/2.25.1.1/instances/2.25.1.1.1"
        assert (candidate.size_bytes, candidate.version) == (0, "")


async def test_fewer_listed_than_counted_is_a_failure(tmp_path: Path) -> None:
    """A server that always lists the first page only loses nothing in silence."""
    faults: list[dict[str, Any]] = [{"kind": "page-cap", "page-instances": 4}, {"kind": "ignored-offset"}]
    async with origin_with(tmp_path, archive(1, 2, 6), *faults) as stored, opened(stored.name) as source:
        lists = await source.scanned()
        # Listed by series too, the server still sends no more than four of each.
        assert len(candidates_of(lists)) == 8
        assert failures_of(lists) == {"/studies/2.25.1": "the source server counts 12 instances, and lists 8"}


async def test_named_studies_are_asked_by_uid(tmp_path: Path) -> None:
    """Only the studies of --studies are listed, and one that the server lacks is a failure."""
    selection = Selection(studies=frozenset({"2.25.2", "2.25.7"}))
    async with origin_with(tmp_path, archive()) as stored, opened(stored.name, selection=selection) as source:
        lists = await source.scanned()
        assert {c.announced.study_uid for c in candidates_of(lists) if c.announced} == {"2.25.2"}
        assert failures_of(lists) == {"/studies/2.25.7": "the source server has no such study"}


async def test_an_empty_server_is_named(tmp_path: Path) -> None:
    """A server without a selected study counts as an empty source."""
    async with origin_with(tmp_path, []) as stored, opened(stored.name) as source:
        assert await source.scanned() == []
        assert source.source.empty_parts == (stored.name,)


async def test_a_study_whose_list_fails_has_a_reason(tmp_path: Path) -> None:
    """Other studies are listed nevertheless."""
    fault = {"kind": "status", "on": "search", "status": 500, "studies": ["2.25.1"]}
    async with origin_with(tmp_path, archive(), fault) as stored, opened(stored.name) as source:
        lists = await source.scanned()
        assert {c.announced.study_uid for c in candidates_of(lists) if c.announced} == {"2.25.2"}
        ((location, reason),) = failures_of(lists).items()
        assert location == "/studies/2.25.1"
        assert reason.startswith("its instances cannot be listed: HTTP 500")


@dataclass
class OddServer:
    """A QIDO-RS server that lists instances by series only, or refuses keys or one series."""

    held: Sequence[Header]
    refuses_keys: bool = False
    refused_series: str = ""
    odd_series: str = ""
    """A further series, whose UID cannot be a part of a URL."""
    requests: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a search."""
        self.requests.append(request.path_qs.partition("/dicom-web")[2])
        study, series = request.match_info.get("study"), request.match_info.get("series")
        if self.refuses_keys and "StudyDate" in request.query:
            return web.Response(status=400, text="unknown key")
        if study is None:
            counts = Counter(one.study_uid for one in self.held)
            items = [item(_0020000D=uid, _00201208=count, _00080020="20260101") for uid, count in counts.items()]
        elif request.path.endswith("/series"):
            found = dict.fromkeys(one.series_uid for one in self.held if one.study_uid == study)
            items = [item(_0020000E=uid) for uid in [*found, *([self.odd_series] if self.odd_series else [])]]
        elif series is None:
            return web.Response(status=400, text="give a series")
        elif series == self.refused_series:
            return web.Response(status=403, text="not for you")
        else:
            items = [item(_00080018=one.sop_instance_uid) for one in self.held if one.series_uid == series]
        first = int(request.query["offset"])
        page = items[first : first + int(request.query["limit"])]
        return web.json_response(page, content_type="application/dicom+json")


@asynccontextmanager
async def serving_odd(server: OddServer) -> AsyncIterator[str]:
    """Serve on a free port, and give the name as a source."""
    app = web.Application()
    below = "/dicom-web/studies"
    for path in (below, f"{below}/{{study}}/series", f"{below}/{{study}}/instances"):
        app.router.add_get(path, server.answer)
    app.router.add_get(f"{below}/{{study}}/series/{{series}}/instances", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"dicomweb+http://127.0.0.1:{runner.addresses[0][1]}/dicom-web"
    finally:
        await runner.cleanup()


async def test_a_server_that_lists_series_only() -> None:
    """After its refusal, the instances of every study are listed by series; the series of a list need no UID."""
    server = OddServer(archive(20, 2, 2))
    async with serving_odd(server) as name, opened(name) as source:
        lists = await source.scanned()
        assert failures_of(lists) == {}
        uids = {candidate.announced.sop_instance_uid for candidate in candidates_of(lists) if candidate.announced}
        assert uids == {one.sop_instance_uid for one in server.held}
        refused = [path for path in server.requests if "/series" not in path and "/instances" in path]
        assert len(refused) < 20


async def test_one_refused_series_does_not_hide_the_others() -> None:
    """The study is a failure with the reason, and the instances of its other series are listed."""
    server = OddServer(archive(1, 3, 2), refused_series="2.25.1.1")
    async with serving_odd(server) as name, opened(name) as source:
        lists = await source.scanned()
        assert len(candidates_of(lists)) == 4
        assert failures_of(lists) == {
            "/studies/2.25.1": "its instances cannot be listed: HTTP 403 (not for you)",
        }


async def test_a_series_that_cannot_be_named_is_a_failure_of_its_study() -> None:
    """Unless all instances that the server counts are listed in other series."""
    server = OddServer(archive(1, 2, 2), odd_series="..")
    async with serving_odd(server) as name, opened(name) as source:
        assert failures_of(await source.scanned()) == {}
    counted = OddServer(archive(1, 2, 2), odd_series="..", refused_series="2.25.1.2")
    async with serving_odd(counted) as name, opened(name) as source:
        assert failures_of(await source.scanned()) == {
            "/studies/2.25.1": "its instances cannot be listed: the UID of a series is no UID"
        }


async def test_keys_that_are_refused_are_left_out() -> None:
    """The studies are then listed without them, and compared with the filters here."""
    selection = Selection(study_dates=parse_days("2025..2026"))
    server = OddServer(archive(2, 1, 1), refuses_keys=True)
    async with serving_odd(server) as name, opened(name, selection=selection) as source:
        assert len(candidates_of(await source.scanned())) == 2
    other = Selection(study_dates=parse_days("2020"))
    async with serving_odd(server) as name, opened(name, selection=other) as source:
        assert await source.scanned() == []
