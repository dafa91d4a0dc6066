"""One request of a load: what it counts for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bulkstow.bench.sender import Answered, Sender, Supply, sending
from bulkstow.bench.workload import workload
from bulkstow.config import DestinationSettings
from bulkstow.destination.auth import login
from bulkstow.errors import DestinationRefused, LoginRefused
from bulkstow.model import Batch, Cause, Exchange, Instance, NoResponse, Referenced, Response, StoreResponse
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DirectoryStorage
from bulkstow.wire.store_response import to_json

pytestmark = pytest.mark.anyio

SR = workload("sr", "sender")
SR_BYTES = int(SR.mean_bytes)


class Server:
    """A destination that gives one answer to everything."""

    name = "http://archive.example"

    def __init__(self, result: Exchange | StoreResponse) -> None:
        self._result = result if not isinstance(result, StoreResponse) else Response(200, to_json(result))
        self.batches: list[Batch] = []

    async def send(self, batch: Batch) -> Exchange:
        """Answer."""
        self.batches.append(batch)
        return self._result

    async def find(self, instances: tuple[Instance, ...]) -> frozenset[str]:
        """Find nothing."""
        return frozenset()

    async def probe(self) -> Response:
        """Be there."""
        return Response(204, b"")


NAMES = [one.header for one in Supply(SR).take(0, 4)]
"""What the first batch of any supply of this load carries."""


def named(*numbers: int, code: int | None = None) -> tuple[Referenced, ...]:
    """Return instances of the first batch, as an answer names them."""
    return tuple(Referenced(NAMES[n].sop_class_uid, NAMES[n].sop_instance_uid, code) for n in numbers)


async def answered(server: Server, *, trust_status: bool = False) -> Answered:
    """Return what a batch of four comes to."""
    sender = Sender(server, Supply(SR), {}, trust_status=trust_status, now=lambda: 7.0)
    found = await sender.send(sender.take(0, 4), started_s=5.0, intended_s=4.0)
    assert len(server.batches) == 1
    return found


@pytest.mark.parametrize(
    ("result", "stored", "errors"),
    [
        (StoreResponse(stored=named(0, 1, 2, 3)), 4, {}),
        (StoreResponse(stored=named(0, 1), warned=named(2, 3, code=0xB000)), 4, {}),
        (StoreResponse(stored=named(0), failed=named(1, 2, 3, code=0xA700)), 1, {"failure reason A700 out of": 3}),
        (StoreResponse(stored=named(0, 1, 2), failed=named(3)), 3, {"failure reason no reason given": 1}),
        (StoreResponse(failed=named(0, 1, 2, 3, code=0x0111)), 0, {"failure reason 0111 duplicate": 4}),
        (StoreResponse(failed=named(0, 1, 2, 3, code=0x0124)), 0, {"failure reason 0124 not authorised": 4}),
        (StoreResponse(stored=named(0, 1, 2)), 3, {"HTTP 200, not named": 1}),
        (Response(200, b""), 0, {"HTTP 200, not named": 4}),
        (Response(202, to_json(StoreResponse(stored=named(0), failed=named(1, code=0x0110)))), 1, None),
        (Response(409, b"<html>"), 0, {"HTTP 409": 4}),
        (Response(413, b""), 0, {"HTTP 413": 4}),
        (Response(503, b"", retry_after_s=5.0), 0, {"HTTP 503": 4}),
        (NoResponse(Cause.DISCONNECTED, body_started=True), 0, {"connection lost": 4}),
        (NoResponse(Cause.UNANSWERED, body_started=True), 0, {"no answer in time": 4}),
        (NoResponse(Cause.UNREACHABLE, body_started=False), 0, {"no connection": 4}),
    ],
)
async def test_goodput_is_what_is_named_as_stored(
    result: Exchange | StoreResponse, stored: int, errors: dict[str, int] | None
) -> None:
    """All else is an error, by its kind; nothing is sent again, and a duplicate was not stored for us."""
    found = await answered(Server(result))
    assert (found.ended.instances, found.ended.size_bytes) == (stored, stored * SR_BYTES)
    assert len(found.stored) == stored
    assert sum(found.ended.errors.values()) == 4 - stored
    if errors is not None:
        assert sorted(found.ended.errors.values()) == sorted(errors.values())
        assert all(any(kind.startswith(words) for kind in found.ended.errors) for words in errors)


async def test_a_status_may_be_trusted() -> None:
    """For servers that answer with an empty body, where the user says so."""
    assert (await answered(Server(Response(200, b"")), trust_status=True)).ended.instances == 4


@pytest.mark.parametrize(
    ("result", "is_unanswered", "is_unreachable"),
    [
        (Response(503, b""), False, False),
        (NoResponse(Cause.UNANSWERED, body_started=True), True, False),
        (NoResponse(Cause.DISCONNECTED, body_started=True), True, False),
        (NoResponse(Cause.UNREACHABLE, body_started=False), False, True),
    ],
)
async def test_no_answer_is_told_from_no_connection(
    result: Exchange, is_unanswered: bool, is_unreachable: bool
) -> None:
    """Who took bytes and did not answer took that long at least; who was not there took nothing."""
    found = await answered(Server(result))
    assert (found.ended.is_unanswered, found.is_unreachable) == (is_unanswered, is_unreachable)
    assert (found.ended.intended_s, found.ended.started_s, found.ended.ended_s) == (4.0, 5.0, 7.0)


@pytest.mark.parametrize(("status", "stop"), [(401, LoginRefused), (403, LoginRefused), (404, DestinationRefused)])
async def test_what_no_retry_mends_is_raised(status: int, stop: type[Exception]) -> None:
    """The same as in an upload."""
    with pytest.raises(stop):
        await answered(Server(Response(status, b"")))


async def test_what_is_sent_is_what_was_made(tmp_path: Path) -> None:
    """Over a real connection, as `upload` sends: byte for byte, small heads and large pixels."""
    for name in ("sr", "mr", "cr"):
        load = workload(name, "sender")
        async with serving(Origin(DirectoryStorage(tmp_path / name))) as url:
            settings = DestinationSettings(url=url)
            async with sending(settings, login(settings, {}), load) as (server, sender):
                batch = sender.take(3, 5)
                found = await sender.send(batch, started_s=time.perf_counter(), intended_s=time.perf_counter())
                uids = frozenset(instance.header.sop_instance_uid for instance in batch.instances)
                assert await server.find(batch.instances) == uids
        assert found.ended.instances == 5
        files = {path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}
        made = [b"".join(load.instance(3, number).pieces()) for number in range(5)]
        assert files == set(made)


async def test_the_time_of_a_request_is_split(tmp_path: Path) -> None:
    """Connect, send and thinking follow each other and end with the answer."""
    async with serving(Origin(DirectoryStorage(tmp_path))) as url:
        settings = DestinationSettings(url=url)
        async with sending(settings, login(settings, {}), SR) as (_, sender):
            began_s = time.perf_counter()
            ended = (await sender.send(sender.take(0, 3), started_s=began_s, intended_s=began_s)).ended
    assert ended.connected_s is not None
    assert ended.taken_s is not None
    assert began_s < ended.connected_s < ended.taken_s < ended.ended_s < time.perf_counter()
