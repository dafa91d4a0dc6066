"""Claims about faults of searches and retrievals: pages, indexes, answers that break off, other instances."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientSession, ServerDisconnectedError

from bulkstow.server.fault_injector import FaultInjector
from bulkstow.server.fault_plan import plan_of
from bulkstow.server.faults import Kind
from bulkstow.server.origin import Origin, serving
from bulkstow.server.read_faults import ReadFaultInjector
from bulkstow.server.storage import DirectoryStorage
from tests.server.samples import INSTANCE, SERIES, STUDY, part10, single_part, store, uids_of

pytestmark = pytest.mark.anyio

OTHER_STUDY = "1.2.20"
UIDS = [f"{SERIES}.{number}" for number in range(1, 11)]


@dataclass(frozen=True, slots=True)
class FaultyOrigin:
    """An origin with ten instances in a study and one in another."""

    url: str
    session: ClientSession
    injector: ReadFaultInjector
    storage: DirectoryStorage
    now_s: list[float]
    """The time of the injector's clock."""

    async def status(self, path: str) -> int:
        """Return the status of a search or a retrieval."""
        async with self.session.get(self.url + path) as response:
            return response.status

    async def listed(self, query: str = "", study: str = STUDY) -> list[object]:
        """Return the SOP Instance UIDs of one page of a study's instances."""
        async with self.session.get(f"{self.url}/studies/{study}/instances{query}") as response:
            return uids_of(await response.json(content_type=None), "00080018") if response.status == 200 else []


@asynccontextmanager
async def faulty(directory: Path, *faults: dict[str, Any]) -> AsyncIterator[FaultyOrigin]:
    """Run an origin with these planned faults."""
    plan = plan_of({"fault": list(faults)})
    now_s = [0.0]
    injector = ReadFaultInjector(plan, clock=lambda: now_s[0])
    storage = DirectoryStorage(directory / "root")
    origin = Origin(storage, fault=FaultInjector(plan), read_fault=injector)
    async with serving(origin) as url, ClientSession() as session:
        await store(session, url, *(part10(uid) for uid in UIDS), part10("1.2.20.1.1", study=OTHER_STUDY))
        yield FaultyOrigin(url, session, injector, storage, now_s)


@pytest.mark.parametrize(
    ("faults", "pages"),
    [
        ([], {"": UIDS, "?limit=4&offset=8": UIDS[8:], "?limit=4&offset=10": []}),
        ([{"kind": "page-cap", "page-instances": 3}], {"": UIDS[:3], "?limit=9": UIDS[:3], "?limit=2": UIDS[:2]}),
        ([{"kind": "ignored-limit"}], {"?limit=2": UIDS, "?limit=2&offset=8": UIDS[8:], "?limit=2&offset=10": []}),
        (
            [{"kind": "ignored-limit"}, {"kind": "page-cap", "page-instances": 6}],
            {"?limit=2": UIDS[:6], "?limit=9&offset=6": UIDS[6:]},
        ),
        ([{"kind": "ignored-offset"}], {"?limit=4&offset=8": UIDS[:4], "?offset=99": UIDS}),
        (
            [{"kind": "repeated", "repeated-instances": 2}],
            {
                "?limit=4": UIDS[:4],
                "?limit=4&offset=4": UIDS[2:6],
                "?limit=4&offset=8": UIDS[4:8],
                "?limit=4&offset=12": UIDS[6:],
                "?limit=4&offset=16": [],
                "?limit=10": UIDS,
            },
        ),
    ],
    ids=["none", "page-cap", "ignored-limit", "ignored-limit-and-page-cap", "ignored-offset", "repeated"],
)
async def test_pages(tmp_path: Path, faults: list[dict[str, Any]], pages: dict[str, list[str]]) -> None:
    """Each kind changes the pages as it says, and several together."""
    async with faulty(tmp_path, *faults) as origin:
        assert {query: await origin.listed(query) for query in pages} == pages


async def test_the_warning_of_more_results_depends_on_the_page(tmp_path: Path) -> None:
    """A capped page says that there are additional results; the last does not."""
    async with faulty(tmp_path, {"kind": "page-cap", "page-instances": 6}) as origin:
        found = {}
        for offset in (0, 6):
            async with origin.session.get(f"{origin.url}/studies/{STUDY}/instances?offset={offset}") as response:
                found[offset] = "Warning" in response.headers
        assert found == {0: True, 6: False}


async def test_an_empty_list(tmp_path: Path) -> None:
    """A search without results is answered by 200 and []."""
    async with faulty(tmp_path, {"kind": "empty-list"}) as origin:
        async with origin.session.get(f"{origin.url}/studies/1.9/instances") as response:
            assert (response.status, await response.read()) == (200, b"[]")
        assert await origin.listed() == UIDS


async def test_a_late_index(tmp_path: Path) -> None:
    """Instances are listed and counted only after the delay, and retrieved at any time."""
    async with faulty(tmp_path, {"kind": "late-index", "delay": "1h"}) as origin:
        stored_at_s = [held.stored_at_s for held in origin.storage.catalogue.instances(STUDY)]
        origin.now_s[0] = stored_at_s[0]
        assert await origin.status(f"/studies?StudyInstanceUID={STUDY}") == 204
        assert await origin.listed() == []
        assert await origin.status(f"/studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}") == 200
        origin.now_s[0] = stored_at_s[6] + 3600
        assert await origin.listed() == UIDS[:7]
        async with origin.session.get(f"{origin.url}/studies?StudyInstanceUID={STUDY}") as response:
            (study,) = await response.json(content_type=None)
        assert study["00201208"]["Value"] == [7]
        origin.now_s[0] = stored_at_s[-1] + 3600
        assert await origin.listed() == UIDS


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"kind": "unavailable", "times": 1}, [503, 200]),
        ({"kind": "too-many", "requests": [2]}, [200, 429]),
        ({"kind": "bad-gateway", "every": 2}, [200, 502]),
        ({"kind": "unauthorised"}, [401, 200]),
        ({"kind": "status", "status": 404, "first": 1}, [404, 200]),
        ({"kind": "status", "studies": [STUDY]}, [500, 500]),
        ({"kind": "status", "studies": [OTHER_STUDY]}, [200, 200]),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("on", ["search", "retrieve"])
async def test_statuses(tmp_path: Path, fault: dict[str, Any], expected: list[int], on: str) -> None:
    """Requests of the operation get the status under the conditions of the plan; the other operation has none."""
    paths = {"search": f"/studies/{STUDY}/instances", "retrieve": f"/studies/{STUDY}"}
    async with faulty(tmp_path, {**fault, "on": on}) as origin:
        other = paths["search" if on == "retrieve" else "retrieve"]
        assert [await origin.status(other) for _ in range(2)] == [200, 200]
        assert [await origin.status(paths[on]) for _ in range(2)] == expected
        injected = sum(status != 200 for status in expected)
        assert origin.injector.injected == Counter({Kind(fault["kind"]): injected} if injected else {})


async def test_a_study_is_found_in_the_query_too(tmp_path: Path) -> None:
    """A search of one study by `StudyInstanceUID` is a search of that study."""
    async with faulty(tmp_path, {"kind": "status", "on": "search", "studies": [STUDY]}) as origin:
        assert await origin.status(f"/studies?StudyInstanceUID={STUDY}") == 500
        assert await origin.status(f"/studies?StudyInstanceUID={OTHER_STUDY}") == 200
        assert await origin.status("/studies") == 200


async def test_one_instance_cannot_be_retrieved(tmp_path: Path) -> None:
    """A fault that names instances applies to the retrievals with their UIDs in the URL."""
    series = f"/studies/{STUDY}/series/{SERIES}"
    async with faulty(tmp_path, {"kind": "status", "on": "retrieve", "instances": [UIDS[1]]}) as origin:
        assert [await origin.status(f"{series}/instances/{uid}") for uid in UIDS[:3]] == [200, 500, 200]
        assert await origin.status(series) == 200


@pytest.mark.parametrize("path", ["/studies/1.2.10/instances", "/studies/1.2.10/series/1.2.10.1/instances/1.2.10.1.1"])
async def test_truncated(tmp_path: Path, path: str) -> None:
    """Half of the announced bytes arrive, then the connection ends; the next answer is whole."""
    on = "retrieve" if "series" in path else "search"
    async with faulty(tmp_path, {"kind": "truncated", "on": on, "first": 1}) as origin:
        async with origin.session.get(origin.url + path) as response:
            assert response.status == 200
            received = await response.content.readexactly(int(response.headers["Content-Length"]) // 2)
            with pytest.raises(ClientPayloadError):
                await response.content.read(1)
            assert received.startswith((b"[{", b"\r\n--", b"--"))
        async with origin.session.get(origin.url + path) as response:
            assert len(await response.read()) == int(response.headers["Content-Length"])


@pytest.mark.parametrize("on", ["search", "retrieve"])
async def test_silent(tmp_path: Path, on: str, caplog: pytest.LogCaptureFixture) -> None:
    """The connection ends without an answer, and nothing is logged."""
    path = f"/studies/{STUDY}" if on == "retrieve" else "/studies"
    # aiohttp repeats a GET once.
    async with faulty(tmp_path, {"kind": "silent", "on": on, "first": 2}) as origin:
        with pytest.raises(ServerDisconnectedError):
            await origin.status(path)
        assert await origin.status(path) == 200
    assert caplog.messages == []


async def test_not_json(tmp_path: Path) -> None:
    """A search is answered by a text with status 200."""
    async with (
        faulty(tmp_path, {"kind": "not-json", "on": "search"}) as origin,
        origin.session.get(f"{origin.url}/studies") as response,
    ):
        assert (response.status, await response.read()) == (200, b"success")


@pytest.mark.parametrize("on", ["search", "retrieve"])
async def test_slow_thinking(tmp_path: Path, on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer comes after the delay."""
    waits_s: list[float] = []

    async def sleep(delay_s: float) -> None:
        waits_s.append(delay_s)

    monkeypatch.setattr("bulkstow.server.read_faults.sleep", sleep)
    async with faulty(tmp_path, {"kind": "slow-thinking", "on": on, "delay": "2h"}) as origin:
        assert await origin.status(f"/studies/{STUDY}" if on == "retrieve" else "/studies") == 200
    assert waits_s == [7200.0]


async def test_wrong_instance(tmp_path: Path) -> None:
    """The next instance of the study is sent in place of the requested instance."""
    series = f"studies/{STUDY}/series/{SERIES}"
    async with faulty(tmp_path, {"kind": "wrong-instance", "instances": [UIDS[0], UIDS[-1]]}) as origin:
        for uid, sent in ((UIDS[0], UIDS[1]), (UIDS[1], UIDS[1]), (UIDS[-1], UIDS[0])):
            async with origin.session.get(f"{origin.url}/{series}/instances/{uid}") as response:
                assert await single_part(response) == part10(sent)
