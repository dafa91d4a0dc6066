"""Claims about fetching from a source server into the spool."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bulkstow.errors import DestinationRefused, LoginRefused
from bulkstow.events import SourceOutageBegan, SourceOutageEnded
from bulkstow.model import Candidate, FileResult, Header, Instance, Outcome
from bulkstow.policy.health import CircuitBreaker
from bulkstow.ports import Found
from bulkstow.server.faults import Kind
from bulkstow.source_settings import SourceSettings
from bulkstow.wire.synthetic import part10
from tests.retrieval.servers import (
    Opened,
    Stored,
    archive,
    candidates_of,
    header,
    opened,
    origin_with,
    quick_backoff,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulkstow.retrieval.server.Backoff", quick_backoff)


async def fetched(source: Opened) -> dict[str, Found]:
    """Fetch everything that the server lists; return the results by SOP Instance UID."""
    lists = await source.scanned()
    found: list[Found] = []
    for listed in lists:
        found += await source.fetched(candidates_of([listed]))
    assert len(found) == len(candidates_of(lists))
    return {_uid(item if isinstance(item, Candidate) else item.candidate): item for item in found}


def _uid(candidate: Candidate) -> str:
    return candidate.location.rpartition("/")[2]


async def assert_staged(source: Opened, stored: Stored, found: dict[str, Found], held: Sequence[Header]) -> None:
    """Check that the spool has each instance byte for byte, and nothing after they are released."""
    for number, one in enumerate(held):
        item = found[one.sop_instance_uid]
        assert isinstance(item, Candidate), item
        assert item.content_bytes == len(part10(one, number=number))
        assert await source.content(item) == part10(one, number=number)
    source.source.release([item for item in found.values() if isinstance(item, Candidate)])
    assert source.spool.used_bytes == 0


FAULTS: dict[str, tuple[list[dict[str, Any]], int]] = {
    "plain": ([], 4),
    "series break off": ([{"kind": "truncated", "on": "retrieve", "first": 2}], 0),
    "fails now and then": ([{"kind": "status", "on": "retrieve", "status": 500, "every": 2}], 0),
    "is too busy": ([{"kind": "unavailable", "on": "retrieve", "first": 3}], 0),
    "closes without an answer": ([{"kind": "silent", "on": "retrieve", "first": 2}], 0),
}


@pytest.mark.parametrize(("faults", "requests"), FAULTS.values(), ids=FAULTS)
async def test_everything_comes_byte_for_byte(tmp_path: Path, faults: list[dict[str, Any]], requests: int) -> None:
    """Series are fetched in one request each; failed requests are repeated until every instance is there."""
    held = archive()
    async with origin_with(tmp_path, held, *faults) as stored, opened(stored.name) as source:
        searches = len(await source.scanned()) and source.server.requests.tally.requests
        found = await fetched(source)
        if requests:
            assert source.server.requests.tally.requests == 2 * searches + requests
        await assert_staged(source, stored, found, held)


async def test_a_part_of_a_series_is_fetched_by_instance(tmp_path: Path) -> None:
    """An instance that the ledger has settled is not fetched again with the rest of its series."""
    held = archive(1, 1, 4)
    async with origin_with(tmp_path, held) as stored, opened(stored.name) as source:
        candidates = candidates_of(await source.scanned())
        before = source.server.requests.tally.requests
        found = await source.fetched(candidates[1:])
        assert source.server.requests.tally.requests - before == 3
        assert {_uid(item) for item in found if isinstance(item, Candidate)} == {f"2.25.1.1.{n}" for n in (2, 3, 4)}
        source.source.release([item for item in found if isinstance(item, Candidate)])
        assert source.spool.used_bytes == 0


async def test_a_server_that_sends_no_series_is_asked_for_instances(tmp_path: Path) -> None:
    """After its refusal no series is requested any more."""
    held = archive(1, 3, 2)
    fault = {"kind": "status", "on": "retrieve", "status": 400, "times": 1}
    async with (
        origin_with(tmp_path, held, fault) as stored,
        opened(stored.name, SourceSettings(source_concurrency=1)) as source,
    ):
        found = await fetched(source)
        await assert_staged(source, stored, found, held)


async def test_another_instance_is_not_taken(tmp_path: Path) -> None:
    """A server that sends another instance than the requested one leaves nothing in the spool."""
    held = archive(1, 1, 2)
    fault = {"kind": "wrong-instance"}
    async with origin_with(tmp_path, held, fault) as stored, opened(stored.name) as source:
        candidates = candidates_of(await source.scanned())
        (result,) = await source.fetched(candidates[:1])
        assert isinstance(result, FileResult)
        assert (result.outcome, result.reason) == (
            Outcome.UNREADABLE,
            "the source server sent another instance instead of the requested one",
        )
        assert source.spool.used_bytes == 0


async def test_a_failure_has_the_words_of_the_server(tmp_path: Path) -> None:
    """An instance that the server lists and does not send is unreadable; the others of its series are fetched."""
    held = archive(1, 1, 3)
    faults: list[dict[str, Any]] = [
        {"kind": "status", "on": "retrieve", "status": 403, "instances": ["2.25.1.1.2"]},
        {"kind": "truncated", "on": "retrieve", "requests": [1]},
    ]
    async with origin_with(tmp_path, held, *faults) as stored, opened(stored.name) as source:
        found = await fetched(source)
        failed = found.pop("2.25.1.1.2")
        assert isinstance(failed, FileResult)
        assert failed.reason.startswith("QIDO-RS lists it, but WADO-RS answers HTTP 403")
        assert all(isinstance(item, Candidate) for item in found.values())


async def test_a_login_that_ends_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused instance is unreadable; many in succession are the login's fault, and are not recorded one by one."""
    monkeypatch.setattr("bulkstow.retrieval.fetching.MOST_REFUSED_IN_SUCCESSION", 4)
    fault = {"kind": "status", "on": "retrieve", "status": 401}
    async with origin_with(tmp_path, archive(), fault) as stored, opened(stored.name) as source:
        candidates = candidates_of(await source.scanned())
        some = await source.fetched(candidates[:3])
        assert [item.outcome for item in some if isinstance(item, FileResult)] == [Outcome.UNREADABLE] * 3
        with pytest.raises(LoginRefused, match="4 instances in succession: HTTP 401"):
            await source.fetched(candidates[3:])
        assert source.spool.used_bytes == 0


async def test_a_lasting_failure_is_retried_and_then_told(tmp_path: Path) -> None:
    """The number of attempts is that of the run."""
    fault = {"kind": "status", "on": "retrieve", "status": 500}
    async with origin_with(tmp_path, archive(1, 1, 1), fault) as stored, opened(stored.name, attempts=3) as source:
        found = await fetched(source)
        (result,) = found.values()
        assert isinstance(result, FileResult)
        assert result.reason.startswith("HTTP 500")
        assert stored.injector.injected[Kind.STATUS] == 3


async def test_a_spool_smaller_than_the_archive_is_never_exceeded(tmp_path: Path) -> None:
    """Fetching waits for room; released contents make room for the rest."""
    held = archive(2, 2, 20)
    most_bytes = 100_000
    async with (
        origin_with(tmp_path, held, rows=64) as stored,
        opened(stored.name, spool_bytes=most_bytes) as source,
    ):
        found: Counter[str] = Counter()
        for listed in await source.scanned():
            async for several in source.source.fetch(candidates_of([listed])):
                assert source.spool.used_bytes <= most_bytes
                for item in several:
                    assert isinstance(item, Candidate), item
                    found[_uid(item)] += 1
                    source.source.release([item])
        assert found == Counter(one.sop_instance_uid for one in held)
        assert source.spool.used_bytes == 0


async def test_an_instance_larger_than_the_spool_is_unreadable(tmp_path: Path) -> None:
    """The reason names the setting; smaller instances are fetched."""
    async with (
        origin_with(tmp_path, [header(1, 1, 1)], rows=512) as stored,
        opened(stored.name, spool_bytes=100_000) as source,
    ):
        (result,) = (await fetched(source)).values()
        assert isinstance(result, FileResult)
        assert result.reason.startswith("larger than the spool")
        assert "--spool-bytes" in result.reason
        assert source.spool.used_bytes == 0


async def test_large_instances_grow_in_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance that is not held until it is whole arrives byte for byte, as do several at a time."""
    monkeypatch.setattr("bulkstow.retrieval.reception.WHOLE_BYTES", 20_000)
    monkeypatch.setattr("bulkstow.retrieval.reception.GROWTH_BYTES", 10_000)
    held = archive(2, 2, 2)
    async with origin_with(tmp_path, held, rows=512) as stored, opened(stored.name) as source:
        found = await fetched(source)
        for number, one in enumerate(held):
            item = found[one.sop_instance_uid]
            assert isinstance(item, Candidate), item
            assert await source.content(item) == part10(one, rows=512, columns=512, number=number)
            source.source.release([item])
        assert source.spool.used_bytes == 0


async def test_a_connection_that_is_lost_while_the_spool_is_full_is_no_failed_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may close connections that do not proceed; how slow the destination is makes nothing unreadable."""
    monkeypatch.setattr("bulkstow.retrieval.reception.WHOLE_BYTES", 20_000)
    monkeypatch.setattr("bulkstow.retrieval.fetching.STALLED_S", 0.0)
    held, fault = archive(1, 1, 1), {"kind": "truncated", "on": "retrieve", "first": 2}
    async with (
        origin_with(tmp_path, held, fault, rows=512) as stored,
        opened(stored.name, spool_bytes=1_000_000, attempts=1) as source,
    ):
        found = await fetched(source)
        item = found[held[0].sop_instance_uid]
        assert isinstance(item, Candidate), item
        assert stored.injector.injected[Kind.TRUNCATED] == 2
        assert await source.content(item) == part10(held[0], rows=512, columns=512, number=0)
        source.source.release([item])
        assert source.spool.used_bytes == 0


async def test_large_instances_that_fill_the_spool_give_way_to_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several that grow at a time do not wait for each other for ever."""
    monkeypatch.setattr("bulkstow.retrieval.reception.WHOLE_BYTES", 20_000)
    monkeypatch.setattr("bulkstow.retrieval.reception.GROWTH_BYTES", 10_000)
    held = archive(6, 1, 1)
    async with (
        origin_with(tmp_path, held, rows=512) as stored,
        opened(stored.name, spool_bytes=400_000) as source,
    ):
        candidates = candidates_of(await source.scanned())
        found = set()
        async for several in source.source.fetch(candidates):
            for item in several:
                assert isinstance(item, Candidate), item
                found.add(_uid(item))
                source.source.release([item])
        assert found == {one.sop_instance_uid for one in held}
        assert source.spool.used_bytes == 0


async def test_what_is_not_in_the_spool_is_fetched_to_be_read(tmp_path: Path) -> None:
    """A candidate of the ledger, which has its location only, is read as well, and leaves nothing in the spool."""
    held = archive(1, 1, 2)
    async with origin_with(tmp_path, held) as stored, opened(stored.name) as source:
        listed = candidates_of(await source.scanned())
        for candidate in (*listed, *(Candidate(one.location, 0, "") for one in listed)):
            number = int(_uid(candidate).rpartition(".")[2]) - 1
            assert await source.content(candidate) == part10(held[number], number=number)
        await asyncio.sleep(0)
        assert source.spool.used_bytes == 0


async def test_what_another_source_has_sent_is_not_looked_for_here(tmp_path: Path) -> None:
    """A file, or an instance of another server, that a ledger knows cannot be compared, so it counts as changed."""
    async with origin_with(tmp_path, archive(1, 1, 1)) as stored, opened(stored.name) as source:
        (listed,) = candidates_of(await source.scanned())
        for location in ("/archive/IM1", f"dicomweb+http://elsewhere/root/studies{listed.location}"):
            other = Instance(Candidate(location, 0, ""), header(1, 1, 1))
            assert source.source.verify(other) == f"it is not below {stored.name}"
        assert source.source.verify(Instance(listed, header(1, 1, 1))) == ""


async def test_an_outage_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the source does not answer nothing is lost, and both ends of the outage are told."""
    monkeypatch.setattr("bulkstow.retrieval.server.CircuitBreaker", partial(CircuitBreaker, first_probe_s=0.01))
    held = archive(1, 4, 2)
    fault = {"kind": "silent", "on": "retrieve", "first": 20}
    async with origin_with(tmp_path, held, fault) as stored, opened(stored.name, attempts=20) as source:
        found = await fetched(source)
        await assert_staged(source, stored, found, held)
        kinds = [type(event) for event in source.told.events]
        assert kinds[0] is SourceOutageBegan
        assert kinds[-1] is SourceOutageEnded


async def test_a_long_outage_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time of --give-up-after the error names the source, and no fetch is left."""
    monkeypatch.setattr("bulkstow.retrieval.server.CircuitBreaker", partial(CircuitBreaker, first_probe_s=0.01))
    fault = {"kind": "silent", "on": "retrieve"}
    async with (
        origin_with(tmp_path, archive(1, 4, 2), fault) as stored,
        opened(stored.name, attempts=1000, give_up_after_s=0.1) as source,
    ):
        with pytest.raises(DestinationRefused, match=r"the source server has not answered for .*: run again"):
            await fetched(source)
        assert source.server.requests.in_flight == 0
        assert source.spool.used_bytes == 0
