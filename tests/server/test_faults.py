"""Claims about faults on demand: when they apply, what each kind does, and the content of a plan."""

from __future__ import annotations

import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import (
    ClientError,
    ClientOSError,
    ClientPayloadError,
    ClientResponse,
    ClientSession,
    ServerDisconnectedError,
)
from anyio import (
    BrokenResourceError,
    EndOfStream,
    Event,
    aclose_forcefully,
    connect_tcp,
    create_task_group,
    wait_all_tasks_blocked,
)
from anyio.abc import ByteStream, SocketStream
from anyio.streams.tls import TLSStream
from yarl import URL

from bulkstow.errors import ConfigurationError, StoreResponseError
from bulkstow.model import Referenced
from bulkstow.server.fault_injector import FaultInjector
from bulkstow.server.fault_plan import describe, plan_of, read_plan
from bulkstow.server.faults import Arrival, FaultSelector, Kind, Operation, Plan, PlannedFault
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DiscardStorage
from bulkstow.wire.multipart import content_type
from bulkstow.wire.store_response import read
from tests.server.samples import BOUNDARY, CT, body_of, part10, post

pytestmark = pytest.mark.anyio

A, B, C, D = "1.2.1", "1.2.2", "1.2.3", "1.2.4"


# --- when ---------------------------------------------------------------------------------------------------------


def requests_with(fault: PlannedFault, *, requests: int = 12, size_bytes: int | None = 100, seed: int = 1) -> list[int]:
    """Return the numbers of the requests that a fault applies to."""
    selector = FaultSelector(Plan((fault,), seed))
    return [number for number in range(1, requests + 1) if selector.at_request(Arrival(number, size_bytes))]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, range(1, 13)),
        ({"requests": frozenset({1, 5, 40})}, [1, 5]),
        ({"every": 5}, [5, 10]),
        ({"every": 1}, range(1, 13)),
        ({"first": 3}, [1, 2, 3]),
        ({"first": 7, "every": 3}, [3, 6]),
        ({"times": 2}, [1, 2]),
        ({"every": 4, "times": 2}, [4, 8]),
        ({"above_bytes": 99}, range(1, 13)),
        ({"above_bytes": 100}, []),
        ({"probability": 0.0}, []),
        ({"probability": 1.0, "requests": frozenset({2})}, [2]),
        ({"instances": frozenset({A})}, []),
    ],
)
def test_when_a_fault_of_requests_applies(conditions: dict[str, Any], expected: list[int]) -> None:
    """All of its conditions must hold, and a fault that names instances waits for them."""
    assert requests_with(PlannedFault(kind=Kind.SILENT, **conditions)) == list(expected)


def test_a_body_without_a_length_is_above_nothing() -> None:
    """Its size is unknown at its arrival; only such a body gets a 411."""
    assert requests_with(PlannedFault(kind=Kind.TOO_LARGE, above_bytes=1), size_bytes=None) == []
    assert requests_with(PlannedFault(kind=Kind.LENGTH_REQUIRED), requests=2, size_bytes=None) == [1, 2]
    assert requests_with(PlannedFault(kind=Kind.LENGTH_REQUIRED), requests=2, size_bytes=0) == []


def test_chance_is_the_seed_s() -> None:
    """The same seed chooses the same requests, another seed others, and each about the expected number."""
    fault = PlannedFault(kind=Kind.SILENT, probability=0.3)
    runs = {seed: requests_with(fault, requests=1000, seed=seed) for seed in (1, 2, 3)}
    assert runs[1] == requests_with(fault, requests=1000, seed=1)
    assert runs[1] != runs[2] != runs[3]
    assert all(250 < len(run) < 350 for run in runs.values())


def test_chances_are_independent() -> None:
    """Two faults of equal probability choose different requests; chance does not depend on earlier requests."""
    one, two = (PlannedFault(kind=Kind.SILENT, probability=0.5, place=place) for place in (1, 2))
    assert requests_with(one, requests=40) != requests_with(two, requests=40)
    assert [bool(FaultSelector(Plan((one,))).at_request(Arrival(n))) for n in range(1, 41)] == [
        n in requests_with(one, requests=40) for n in range(1, 41)
    ]


def test_the_first_of_several_applies() -> None:
    """A request meets one fault, the first of the plan; when that is used up, the next."""
    selector = FaultSelector(
        Plan((PlannedFault(kind=Kind.SILENT, times=1), PlannedFault(kind=Kind.XML, place=2, requests=frozenset({2}))))
    )
    faults = [selector.at_request(Arrival(number)) for number in (1, 2, 3)]
    assert [fault and fault.kind for fault in faults] == [Kind.SILENT, Kind.XML, None]
    assert selector.injected == Counter({Kind.SILENT: 1, Kind.XML: 1})


def marked(fault: PlannedFault, *requests: str) -> list[str]:
    """Return which instances of each request, named by a string of letters, a fault applies to."""
    selector = FaultSelector(Plan((fault,)))
    found = []
    for number, letters in enumerate(requests, start=1):
        arrival = Arrival(number, 100)
        chosen = selector.at_request(arrival)
        hits = [
            letter
            for at, letter in enumerate(letters)
            if selector.at_instance(arrival, f"1.{ord(letter)}", is_first=at == 0, chosen=chosen)
        ]
        found.append("".join(hits))
    return found


@pytest.mark.parametrize(
    ("kind", "conditions", "requests", "expected"),
    [
        (Kind.NAMELESS, {}, ["abc", "d"], ["a", "d"]),
        (Kind.NAMELESS, {"everyone": True}, ["abc", "d"], ["abc", "d"]),
        (Kind.NAMELESS, {"everyone": True, "every": 2}, ["abc", "de"], ["", "de"]),
        (Kind.NAMELESS, {"times": 1}, ["abc", "ab", "ba"], ["a", "", "b"]),
        (Kind.NAMELESS, {"times": 2, "everyone": True}, ["ab", "abc", "abc"], ["ab", "abc", "c"]),
        (Kind.NAMELESS, {"instances": frozenset({"1.98"})}, ["abc", "cb", "a"], ["b", "b", ""]),
        (Kind.NAMELESS, {"instances": frozenset({"1.98", "1.99"}), "times": 1}, ["abc", "bc"], ["bc", ""]),
        (Kind.NAMELESS, {"instances": frozenset({"1.98"}), "first": 1}, ["ab", "ab"], ["b", ""]),
        (Kind.INVALID, {"first": 1}, ["ab", "ba", "cb"], ["a", "a", ""]),
        (Kind.INVALID, {"instances": frozenset({"1.97"}), "times": 1}, ["ab", "a", "ba"], ["a", "a", "a"]),
        (Kind.RESET, {"instances": frozenset({"1.98"})}, ["abc", "ac", "b"], ["b", "", "b"]),
        (Kind.RESET, {"instances": frozenset({"1.98", "1.97"}), "times": 1}, ["ba", "ab"], ["b", ""]),
        (Kind.RESET, {}, ["abc"], [""]),
    ],
)
def test_which_instances_a_fault_applies_to(
    kind: Kind, conditions: dict[str, Any], requests: list[str], expected: list[str]
) -> None:
    """The first of a chosen request, everyone, or those named; each as often as agreed, invalid ones for good."""
    assert marked(PlannedFault(kind=kind, **conditions), *requests) == expected


def test_a_request_that_has_its_fault_gets_no_second() -> None:
    """An instance that is named brings a fault of requests only where none was chosen; one of its own it has anyway."""
    plan = Plan(
        (
            PlannedFault(kind=Kind.SILENT, first=1),
            PlannedFault(kind=Kind.RESET, place=2, instances=frozenset({A})),
            PlannedFault(kind=Kind.INVALID, place=3, instances=frozenset({B})),
        )
    )
    selector = FaultSelector(plan)
    for number, expected in ((1, [None, Kind.INVALID]), (2, [Kind.RESET, Kind.INVALID])):
        arrival = Arrival(number)
        chosen = selector.at_request(arrival)
        faults = [selector.at_instance(arrival, uid, chosen=chosen) for uid in (A, B)]
        assert [fault and fault.kind for fault in faults] == expected


# --- what ---------------------------------------------------------------------------------------------------------


class FaultyOrigin:
    """An origin with a plan, and its storage."""

    def __init__(self, url: str, storage: DiscardStorage, injector: FaultInjector, session: ClientSession) -> None:
        self.url = url
        self.storage = storage
        self.injector = injector
        self.session = session

    @property
    def held(self) -> set[str]:
        """The UIDs of stored instances."""
        return set(self.storage.digests())

    def send(self, *uids: str) -> Any:
        """Send instances of these UIDs, for `async with`."""
        return self.session.post(
            f"{self.url}/studies",
            data=body_of(*map(part10, uids)),
            headers={"Content-Type": content_type(BOUNDARY), "Accept": "application/dicom+json"},
        )

    async def told(self, *uids: str) -> tuple[int, list[str], list[tuple[str, int | None]]]:
        """Send instances of these UIDs; return status, stored UIDs, and failed ones with their codes."""
        async with self.send(*uids) as response:
            said = read(await response.read())
            return (
                response.status,
                [item.sop_instance_uid for item in said.stored],
                [(item.sop_instance_uid, item.code) for item in said.failed],
            )


@asynccontextmanager
async def faulty(*faults: dict[str, Any], **other: Any) -> AsyncIterator[FaultyOrigin]:
    """Run an origin where these faults are planned, in the keys of the file."""
    storage, injector = DiscardStorage(remember=True), FaultInjector(plan_of({"fault": list(faults), **other}))
    async with serving(Origin(storage, fault=injector)) as url, ClientSession() as session:
        yield FaultyOrigin(url, storage, injector, session)


@pytest.mark.parametrize(
    ("kind", "status", "says"),
    [
        ("unavailable", 503, "come back later"),
        ("too-many", 429, "slow down"),
        ("bad-gateway", 502, "<title>502 Bad Gateway</title>"),
        ("too-large", 413, "<title>413 Request Entity Too Large</title>"),
        ("unauthorised", 401, "a login is needed"),
        ("status", 500, "failed on purpose"),
    ],
)
async def test_early_answers(kind: str, status: int, says: str) -> None:
    """The status comes with its words and with the end of the connection, nothing is stored, and then all is well."""
    async with faulty({"kind": kind, "times": 1}) as origin:
        async with origin.send(A) as response:
            assert response.status == status
            assert says in await response.text()
            assert response.headers["Connection"] == "close"
            assert "Retry-After" not in response.headers
            assert ("WWW-Authenticate" in response.headers) == (status == 401)
        assert origin.held == set()
        assert await origin.told(A) == (200, [A], [])


async def test_too_large_is_answered_before_it_is_sent() -> None:
    """The answer to a body that is announced as too large does not wait for it; a smaller one is taken."""
    async with faulty({"kind": "too-large", "above-bytes": "1KiB"}) as origin:
        head = f"POST {URL(origin.url).path}/studies HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
        async with await connected(origin.url) as client:
            await client.send(head.encode())
            assert (await client.receive()).startswith(b"HTTP/1.1 413 ")
        assert await origin.told(A) == (200, [A], [])


async def test_length_required_of_chunked_bodies() -> None:
    """411 to a body without a length, and to no other."""

    async def chunks() -> AsyncIterator[bytes]:
        yield body_of(part10(A))

    async with faulty({"kind": "length-required"}) as origin:
        status, _ = await post(origin.session, f"{origin.url}/studies", chunks())
        assert status == 411
        assert await origin.told(B) == (200, [B], [])
        assert origin.held == {B}


@pytest.mark.parametrize("kind", ["unavailable", "too-many"])
async def test_retry_after(kind: str) -> None:
    """In seconds, or as the date in so many seconds."""
    faults = [{"kind": kind, "retry-after": "2m", "first": 1}, {"kind": kind, "retry-after": 120, "as-date": True}]
    async with faulty(*faults) as origin:
        async with origin.send(A) as response:
            assert response.headers["Retry-After"] == "120"
        async with origin.send(A) as response:
            after = parsedate_to_datetime(response.headers["Retry-After"])
            now = parsedate_to_datetime(response.headers["Date"])
            assert 118 <= (after - now).total_seconds() <= 120


async def test_half_stored() -> None:
    """A stack trace, and every second instance stored."""
    async with faulty({"kind": "half-stored"}) as origin:
        async with origin.send(A, B, C, D) as response:
            assert response.status == 500
            assert (await response.text()).startswith("java.lang.NullPointerException\n\tat ")
        assert origin.held == {A, C}


LOST = (ServerDisconnectedError, ClientOSError, ConnectionResetError)


async def test_reset_in_the_middle_of_the_body() -> None:
    """The connection is reset after half of the body; the instances that were complete are stored."""
    async with faulty({"kind": "reset", "first": 1}) as origin:
        with pytest.raises(LOST):
            await origin.told(A, B, C, D)
        assert origin.held == {A}
        assert await origin.told(A, B) == (200, [A, B], [])


async def test_silent() -> None:
    """All is stored, and no answer is sent."""
    async with faulty({"kind": "silent", "first": 1}) as origin:
        with pytest.raises(LOST):
            await origin.told(A, B)
        assert origin.held == {A, B}


async def test_truncated() -> None:
    """All is stored, and the answer breaks off before its length."""
    async with faulty({"kind": "truncated"}) as origin:
        async with origin.send(A, B) as response:
            assert response.status == 200
            with pytest.raises(ClientPayloadError):
                await response.read()
        assert origin.held == {A, B}


@pytest.mark.parametrize(
    ("kind", "media_type", "begins"),
    [
        ("not-json", "text/plain", b"success"),
        ("xml", "application/dicom+xml", b"<?xml"),
        ("text-plain", "text/plain", b'{"00081190"'),
        ("lower-case", "application/dicom+json", b'{"00081190"'),
    ],
)
async def test_disguises(kind: str, media_type: str, begins: bytes) -> None:
    """All is stored, and the answer has another form, or no content."""
    async with faulty({"kind": kind}) as origin:
        headers = {"Accept": "application/dicom+json", "Content-Type": content_type(BOUNDARY)}
        data = body_of(part10(A), b"garbage")
        async with origin.session.post(f"{origin.url}/studies", data=data, headers=headers) as response:
            body = await response.read()
            assert (response.status, response.content_type) == (202, media_type)
        assert body.startswith(begins)
        assert origin.held == {A}
        if kind == "lower-case":
            assert b'"0008119a":' in body
            assert b"0008119A" not in body
        if kind != "not-json":
            assert (read(body).stored, read(body).other_failures) == (
                (Referenced(CT, A),),
                (Referenced("", "", 0xC000),),
            )


@pytest.mark.parametrize(
    ("fault", "told", "held"),
    [
        ({"kind": "left-out"}, (200, [A, C], []), {A, B, C}),
        ({"kind": "left-out", "stored": False}, (200, [A, C], []), {A, C}),
        ({"kind": "nameless"}, (202, [A, C], [("", 0x0110)]), {A, C}),
        ({"kind": "nameless", "reason": 0xC000}, (202, [A, C], [("", 0xC000)]), {A, C}),
        ({"kind": "out-of-resources"}, (202, [A, C], [(B, 0xA700)]), {A, C}),
        ({"kind": "out-of-resources", "reason": 0xA701}, (202, [A, C], [(B, 0xA701)]), {A, C}),
        ({"kind": "invalid"}, (202, [A, C], [(B, 0xA900)]), {A, C}),
        ({"kind": "duplicate"}, (202, [A, C], [(B, 45070)]), {A, B, C}),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
async def test_faults_of_an_instance(fault: dict[str, Any], told: tuple[object, ...], held: set[str]) -> None:
    """Only the named instance fails, once, and is stored if its kind stores it."""
    async with faulty({**fault, "instances": [B], "times": 1}) as origin:
        assert await origin.told(A, B, C) == told
        assert origin.held == held
        if fault["kind"] == "invalid":
            assert await origin.told(B) == (409, [], [(B, 0xA900)])
            assert origin.held == {A, C}
        else:
            assert await origin.told(B) == (200, [B], [])
            assert origin.held == {A, B, C}


async def test_made_up() -> None:
    """It failed under a valid UID that no request contained."""
    async with faulty({"kind": "made-up", "first": 1}) as origin:
        status, stored, [(uid, code)] = await origin.told(A, B)
        assert (status, stored, code) == (202, [B], 0x0110)
        assert re.fullmatch(r"2\.25\.[0-9]{1,39}", uid)
        assert origin.held == {B}


async def test_everyone() -> None:
    """The fault applies to each instance of the request, and none is named: 200 with an empty list, as from Orthanc."""
    async with faulty({"kind": "left-out", "everyone": True}) as origin:
        assert await origin.told(A, B) == (200, [], [])
        assert origin.held == {A, B}


@pytest.mark.parametrize(
    ("kind", "status", "held"),
    [
        ("unavailable", 503, {A}),
        ("too-large", 413, {A}),
        ("half-stored", 500, {A, C}),
        ("xml", 200, {A, B, C}),
        ("slow-thinking", 200, {A, B, C}),
        ("frozen", 200, {A, B, C}),
    ],
)
async def test_faults_of_requests_by_instance(kind: str, status: int, held: set[str]) -> None:
    """They apply once the instance's head is read: what precedes it is stored, what follows if the kind does so."""
    times = {"delay": "1ms"} if kind in {"slow-thinking", "frozen"} else {}
    async with faulty({"kind": kind, "instances": [B], "times": 1, **times}) as origin:
        async with origin.send(A, B, C) as response:
            assert response.status == status
        assert origin.held == held
        assert await origin.told(A, B, C) == (200, [A, B, C], [])


async def test_reset_by_instance() -> None:
    """The connection is reset at the instance; the instances before it are stored."""
    async with faulty({"kind": "reset", "instances": [C], "times": 1}) as origin:
        with pytest.raises(LOST):
            await origin.told(A, B, C, D)
        assert origin.held == {A, B}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"kind": "slow-reading", "bytes-per-second": 1000}, [len(body_of(part10(A), part10(B))) / 1000]),
        ({"kind": "slow-thinking", "delay": "2h"}, [7200.0]),
        ({"kind": "trickle", "delay": "2h"}, [7200.0]),
    ],
    ids=["slow-reading", "slow-thinking", "trickle"],
)
async def test_slow_kinds(fault: dict[str, Any], expected: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait as long as agreed, for the body, for the answer, or for each byte of it; then all is well."""
    waits_s: list[float] = []

    async def sleep(delay_s: float) -> None:
        waits_s.append(delay_s)

    monkeypatch.setattr("bulkstow.server.fault_injector.sleep", sleep)
    async with faulty({**fault, "times": 1}) as origin:
        async with origin.send(A, B) as response:
            size_bytes = len(await response.read())
        assert waits_s == pytest.approx(expected * size_bytes if fault["kind"] == "trickle" else expected)
        assert origin.held == {A, B}
        assert await origin.told(A) == (200, [A], [])


async def test_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gets a word, not even to a query, until the time is over; then everybody does."""
    now_s, asleep, thaw = [0.0], [0], Event()
    everybody_waits = Event()

    async def sleep(_delay_s: float) -> None:
        asleep[0] += 1
        if asleep[0] == 3:
            everybody_waits.set()
        await thaw.wait()

    monkeypatch.setattr("bulkstow.server.origin.sleep", sleep)
    monkeypatch.setattr("bulkstow.server.origin.current_time", lambda: now_s[0])
    answers: list[str] = []

    async def ask(name: str, asking: AbstractAsyncContextManager[ClientResponse]) -> None:
        async with asking as response:
            answers.append(f"{name} {response.status}")

    async with faulty({"kind": "frozen", "delay": "1h", "first": 1}) as origin, create_task_group() as tasks:
        tasks.start_soon(ask, "first", origin.send(A))
        await wait_all_tasks_blocked()
        tasks.start_soon(ask, "second", origin.send(B))
        tasks.start_soon(ask, "query", origin.session.get(f"{origin.url}/studies"))
        await everybody_waits.wait()
        assert answers == []
        assert origin.held == set()
        now_s[0] = 3600.0
        thaw.set()
    assert len(answers) == 3
    assert {"first 200", "second 200"} < set(answers)
    assert origin.held == {A, B}


async def test_closed_keep_alive() -> None:
    """The answer promises to keep the connection, which then ends."""
    async with faulty({"kind": "closed-keep-alive"}) as origin:
        body = body_of(part10(A))
        head = f"Host: x\r\nContent-Length: {len(body)}\r\nContent-Type: {content_type(BOUNDARY)}\r\n\r\n"
        received = b""
        async with await connected(origin.url) as client:
            await client.send(f"POST {URL(origin.url).path}/studies HTTP/1.1\r\n{head}".encode() + body)
            async for piece in client:  # up to its end
                received += piece
        head, _, answer = received.decode().partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert "Connection: close" not in head
        assert read(answer.encode()).stored == (Referenced(CT, A),)


async def connected(url: str) -> SocketStream:
    """Connect to where a URL points."""
    address = URL(url)
    return await connect_tcp(str(address.host), int(address.port or 0))


async def test_injected_faults_are_counted_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The injector counts each kind; the log stays empty, whatever breaks."""
    kinds = ["unavailable", "half-stored", "reset", "silent", "truncated", "invalid"]
    async with faulty(*({"kind": kind, "requests": [n]} for n, kind in enumerate(kinds, start=1))) as origin:
        for _ in kinds:
            with suppress(ClientError, ConnectionError, StoreResponseError):
                await origin.told(A, B)
        assert origin.injector.injected == Counter(map(Kind, kinds))
    assert caplog.messages == []


# --- the limit of connections -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_connections_beyond_the_limit_are_closed(scheme: str) -> None:
    """However many come together, so many stand and the others end without a word; when one leaves, there is room."""
    server, client = tls() if scheme == "https" else (None, None)
    async with (
        serving(Origin(DiscardStorage()), ssl_context=server, max_connections=2) as url,
        AsyncExitStack() as held,
    ):
        address = URL(url)
        host, port = str(address.host), int(address.port or 0)
        ask = f"GET {address.path}/studies HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        standing: list[ByteStream] = []
        refused = 0

        async def come() -> None:
            nonlocal refused
            stream: ByteStream = await connect_tcp(host, port)
            if client is not None:
                stream = await TLSStream.wrap(stream, hostname=host, ssl_context=client, standard_compatible=False)
            held.push_async_callback(aclose_forcefully, stream)
            try:
                await stream.send(ask)
                assert (await stream.receive()).startswith(b"HTTP/1.1 204 ")
                standing.append(stream)
            except (EndOfStream, BrokenResourceError):
                refused += 1

        async with create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(come)
        assert (len(standing), refused) == (2, 6)
        await standing.pop().aclose()
        while len(standing) < 2:
            await come()


def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a server and of a client that trusts it."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


# --- plans ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Plan()),
        ("seed = 7", Plan(seed=7)),
        ('[[fault]]\nkind = "xml"', Plan((PlannedFault(kind=Kind.XML),))),
        (
            (
                'seed = 2\n[[fault]]\nkind = "unavailable"\nprobability = 1\nretry-after = "500ms"\nas-date = true\n'
                '[[fault]]\nkind = "out-of-resources"\ninstances = ["1.2", "1.3"]\ntimes = 2\nreason = 0xA701\n'
                '[[fault]]\nkind = "slow-reading"\nrequests = [1, 5]\nabove-bytes = "1KiB"\nbytes-per-second = 10\n'
                '[[fault]]\nkind = "left-out"\nevery = 2\nfirst = 9\nstored = false\neveryone = true\n'
                '[[fault]]\nkind = "frozen"\ndelay = 3\n'
                '[[fault]]\nkind = "page-cap"\npage-instances = 7\nstudies = ["1.2"]\n'
                '[[fault]]\nkind = "status"\non = "retrieve"\nstatus = 404\ninstances = ["1.3"]'
            ),
            Plan(
                (
                    PlannedFault(kind=Kind.UNAVAILABLE, place=1, probability=1, retry_after_s=0.5, as_date=True),
                    PlannedFault(
                        kind=Kind.OUT_OF_RESOURCES,
                        place=2,
                        instances=frozenset({"1.2", "1.3"}),
                        times=2,
                        reason=0xA701,
                    ),
                    PlannedFault(
                        kind=Kind.SLOW_READING,
                        place=3,
                        requests=frozenset({1, 5}),
                        above_bytes=1024,
                        bytes_per_second=10,
                    ),
                    PlannedFault(kind=Kind.LEFT_OUT, place=4, every=2, first=9, stored=False, everyone=True),
                    PlannedFault(kind=Kind.FROZEN, place=5, delay_s=3),
                    PlannedFault(
                        kind=Kind.PAGE_CAP,
                        place=6,
                        on=Operation.SEARCH,
                        page_instances=7,
                        studies=frozenset({"1.2"}),
                    ),
                    PlannedFault(
                        kind=Kind.STATUS, place=7, on=Operation.RETRIEVE, status=404, instances=frozenset({"1.3"})
                    ),
                ),
                seed=2,
            ),
        ),
    ],
)
def test_a_plan_is_read(tmp_path: Path, text: str, expected: Plan) -> None:
    """Sizes and times take units, and each fault knows its place."""
    (tmp_path / "faults.toml").write_text(text)
    assert read_plan(tmp_path / "faults.toml") == expected


def test_each_kind_has_defaults_that_work() -> None:
    """A kind alone is a plan: always, with all that it needs."""
    for kind in Kind:
        fault = plan_of({"fault": [{"kind": kind.value}]}).faults[0]
        assert (fault.bytes_per_second > 0) == (kind is Kind.SLOW_READING)
        is_slow = kind in {Kind.SLOW_THINKING, Kind.FROZEN, Kind.TRICKLE, Kind.LATE_INDEX}
        assert (fault.delay_s > 0) == is_slow
        assert (fault.status >= 400) == (kind is Kind.STATUS)
        assert (fault.page_instances > 0) == (kind is Kind.PAGE_CAP)
        assert (fault.repeated_instances > 0) == (kind is Kind.REPEATED)
        assert fault.times == (1 if kind is Kind.UNAUTHORISED else None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[fault]", "not TOML (Expected ']]' at the end of an array declaration (at line 1, column 8))"),
        ("sed = 1", "no key is called 'sed'; did you mean 'seed'?"),
        ("seed = true", "seed: expected a whole number, found True"),
        ('[fault]\nkind = "xml"', "expected tables named [[fault]], with two brackets"),
        ("[[fault]]\nevery = 2", "fault 1: its kind is missing"),
        ('[[fault]]\nknd = "xml"', "fault 1: no key is called 'knd'; did you mean 'kind'?"),
        ('[[fault]]\nkind = "unavailible"', "fault 1: no kind is called 'unavailible'; did you mean 'unavailable'?"),
        (
            '[[fault]]\nkind = "xml"\n[[fault]]\nkind = "reset"\nprobabilty = 0.1',
            "fault 2: no key is called 'probabilty'; did you mean 'probability'?",
        ),
        (
            '[[fault]]\nkind = "too-many"\nretry_after = "2s"',
            "fault 1: no key is called 'retry_after'; did you mean 'retry-after'?",
        ),
        (
            '[[fault]]\nkind = "reset"\nstored = true',
            (
                "fault 1 (reset): no key of this kind is called 'stored'; there are kind, on, probability, requests, "
                "every, first, above-bytes, instances, times"
            ),
        ),
        (
            '[[fault]]\nkind = "xml"\nprobability = 30',
            "probability: expected a number from 0 to 1, such as 0.1, found 30",
        ),
        (
            '[[fault]]\nkind = "xml"\nprobability = true',
            "probability: expected a number from 0 to 1, such as 0.1, found True",
        ),
        ('[[fault]]\nkind = "xml"\nevery = 0', "every: expected a whole number of 1 or more, found 0"),
        (
            '[[fault]]\nkind = "xml"\nrequests = [0]',
            "requests: expected a list of numbers from 1, such as [1, 5], found [0]",
        ),
        (
            '[[fault]]\nkind = "xml"\nrequests = 3',
            "requests: expected a list of numbers from 1, such as [1, 5], found 3",
        ),
        (
            '[[fault]]\nkind = "xml"\ninstances = ["a.b"]',
            "instances: expected a list of SOP Instance UIDs, such as [\"1.2.3\"], found ['a.b']",
        ),
        (
            '[[fault]]\nkind = "xml"\nabove-bytes = "1 mile"',
            "above-bytes: expected a size such as 1MiB or 4096, found '1 mile'",
        ),
        (
            '[[fault]]\nkind = "frozen"\ndelay = "soon"',
            "fault 1 (frozen): delay: expected a time such as 500ms, found 'soon'",
        ),
        ('[[fault]]\nkind = "frozen"\ndelay = -1', "fault 1 (frozen): delay: expected a time such as 500ms, found -1"),
        (
            '[[fault]]\nkind = "invalid"\nreason = 70000',
            "reason: expected a FailureReason, such as 0xA700, found 70000",
        ),
        ('[[fault]]\nkind = "left-out"\nstored = "no"', "stored: expected true or false, found 'no'"),
        (
            '[[fault]]\nkind = "slow-reading"\nbytes-per-second = 0',
            "bytes-per-second: expected a size such as 64KiB, found 0",
        ),
        (
            '[[fault]]\nkind = "reset"\non = "search"',
            "fault 1 (reset): on: expected 'store', found 'search'",
        ),
        (
            '[[fault]]\nkind = "silent"\non = "query"',
            "fault 1 (silent): on: expected 'store' or 'search' or 'retrieve', found 'query'",
        ),
        (
            '[[fault]]\nkind = "silent"\non = ["search"]',
            "fault 1 (silent): on: expected 'store' or 'search' or 'retrieve', found ['search']",
        ),
        (
            '[[fault]]\nkind = "page-cap"\ninstances = ["1.2"]',
            ("fault 1 (page-cap): no key of this kind is called 'instances'; did you mean 'page-instances'?"),
        ),
        (
            '[[fault]]\nkind = "status"\nstatus = 200',
            "fault 1 (status): status: expected a status from 400 to 599, found 200",
        ),
    ],
)
def test_a_plan_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    """The text names the file, the fault and the key, says what was expected, and suggests the nearest name."""
    path = tmp_path / "faults.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_plan(path)
    assert str(caught.value).startswith(f"--faults {path}: ")
    assert str(caught.value).endswith(message)


def test_a_plan_that_is_not_there(tmp_path: Path) -> None:
    """The text names the file."""
    with pytest.raises(ConfigurationError, match=r"--faults .*nowhere\.toml: cannot be read \(No such file"):
        read_plan(tmp_path / "nowhere.toml")


def test_a_plan_for_a_person() -> None:
    """A line names the kind and its conditions."""
    table = {"kind": "reset", "probability": 0.1, "requests": [5, 1], "every": 2, "first": 7, "above-bytes": 1024}
    fault, always = plan_of({"fault": [table | {"instances": [A], "times": 3}, {"kind": "xml"}]}).faults
    assert describe(always) == "xml: always"
    late, status = plan_of(
        {
            "fault": [
                {"kind": "late-index", "studies": [A]},
                {"kind": "status", "on": "retrieve", "every": 3, "instances": [B]},
            ]
        }
    ).faults
    assert describe(late) == "late-index: of 1.2.1"
    assert describe(status) == "status: every 3 retrieve requests, 1.2.2"
    assert describe(plan_of({"fault": [{"kind": "page-cap"}]}).faults[0]) == "page-cap: every search"
    assert describe(fault) == (
        "reset: 10% of the requests, requests 1, 5, every 2 requests, the first 7 requests, above 1KiB, "
        "1.2.1, at most 3 times"
    )
