"""Requests that read: their limits, their order, and their repetitions, on a clock that jumps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from bulkstow.destination.search import Found
from bulkstow.errors import DestinationRefused
from bulkstow.events import Event
from bulkstow.model import Cause, NoResponse, Response
from bulkstow.policy.concurrency import Concurrency
from bulkstow.policy.controllers import RequestLimits
from bulkstow.policy.health import CircuitBreaker
from bulkstow.policy.pacing import Pacer
from bulkstow.policy.request_rate import RequestRate
from bulkstow.policy.retry import Backoff
from bulkstow.verification.requests import Abandoned, Requests, Unanswered
from tests.virtual_time import BACKEND

pytestmark = pytest.mark.anyio

GONE = NoResponse(Cause.UNREACHABLE, body_started=False)
Answer = Found[str] | Response | NoResponse


@pytest.fixture
def anyio_backend() -> tuple[str, Mapping[str, Any]]:
    """Run on a clock that jumps to the next timer."""
    return BACKEND


class Silent:
    """A reporter of nothing."""

    def tell(self, event: Event) -> None:
        """Take an event."""


def requests(
    *, at_once: int = 4, per_s: float | None = None, attempts: int = 3, give_up_after_s: float | None = None
) -> Requests:
    """Return requests with these limits."""
    concurrency = Concurrency(lowest=at_once, highest=at_once)
    return Requests(
        limits=RequestLimits(concurrency=concurrency, request_rate=RequestRate()),
        breaker=CircuitBreaker(give_up_after_s=give_up_after_s),
        pacer=None if per_s is None else Pacer(per_s, burst_s=0.0),
        backoff=Backoff(base_s=1.0),
        attempts=attempts,
        reporter=Silent(),
    )


def answers(*several: Answer) -> Callable[[], Awaitable[Answer]]:
    """Return an attempt that has these answers, one after the other."""
    left = list(several)

    async def attempt() -> Answer:
        await anyio.lowlevel.checkpoint()
        return left.pop(0)

    return attempt


OK = Found("ok", 10, 1)


async def test_no_more_requests_run_than_allowed() -> None:
    """The others wait for their turn."""
    made, running, most = requests(at_once=3), 0, 0

    async def attempt() -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(1)
        running -= 1
        return OK

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(made.make, attempt)
    assert most == 3
    assert (made.tally.requests, made.in_flight, made.tally.received_bytes) == (10, 0, 100)


async def test_the_rate_of_the_user_is_kept() -> None:
    """Eleven requests at two per second take five seconds, repetitions included."""
    made = requests(per_s=2.0)
    began_s = anyio.current_time()
    for _ in range(11):
        await made.make(answers(OK))
    assert anyio.current_time() - began_s == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize(
    ("given", "expected", "retries"),
    [
        ((OK,), "ok", 0),
        ((Response(404, b""),), Response(404, b""), 0),
        ((Response(500, b""), OK), "ok", 1),
        ((NoResponse(Cause.MALFORMED, body_started=False), OK), "ok", 1),
        ((Response(500, b"x"),) * 3, Unanswered("HTTP 500 (x)"), 2),
        ((Response(429, b""),) * 9 + (OK,), "ok", 9),
        ((NoResponse(Cause.OVERLONG, body_started=False),), Unanswered("answer longer than the limit"), 0),
    ],
)
async def test_what_is_repeated(given: tuple[Answer, ...], expected: object, retries: int) -> None:
    """Failures are repeated up to the limit of attempts; rejections because of load do not count."""
    made = requests()
    async with anyio.create_task_group() as tasks:
        made.attend(_Probed(), tasks)
        assert await made.make(answers(*given)) == expected
        made.abandon()
    assert made.tally.retries == retries


async def test_the_server_says_when_to_come_back() -> None:
    """Retry-After is obeyed, and the request holds no place meanwhile."""
    made = requests(at_once=1)
    began_s = anyio.current_time()
    ended: dict[str, float] = {}

    async def make(name: str, *several: Answer) -> None:
        await made.make(answers(*several))
        ended[name] = anyio.current_time() - began_s

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(make, "rejected", Response(503, b"", retry_after_s=30.0), OK)
        tasks.start_soon(make, "other", OK)
    assert ended["rejected"] >= 30.0
    assert ended["other"] < 5.0


class _Probed:
    """A server that answers probes after a time."""

    def __init__(self, silent_until_s: float = 0.0) -> None:
        self._silent_until_s = silent_until_s
        self.probes = 0

    async def probe(self) -> Response | NoResponse:
        """Answer, or not."""
        self.probes += 1
        return GONE if anyio.current_time() < self._silent_until_s else Response(200, b"[]")


async def test_an_outage_uses_up_no_attempts() -> None:
    """While the server is away one probe at a time is made, and every request succeeds afterwards."""
    made, probed = requests(attempts=2), _Probed(anyio.current_time() + 600)
    back_s = anyio.current_time() + 600
    made_requests = 0

    async def attempt() -> Answer:
        nonlocal made_requests
        made_requests += 1
        await anyio.sleep(0.1)
        return GONE if anyio.current_time() < back_s else OK

    results: list[str | Response | Unanswered] = []

    async def make() -> None:
        result = await made.make(attempt)
        results.append(result)

    async with anyio.create_task_group() as watch:
        made.attend(probed, watch)
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(make)
        made.abandon()
    assert results == ["ok"] * 4
    assert probed.probes < 30
    assert made_requests < 20


async def test_the_run_gives_up_if_the_server_stays_away() -> None:
    """After --give-up-after the waiting requests are abandoned, and the error says why."""
    made = requests(attempts=5, give_up_after_s=60.0)

    async def make() -> None:
        with pytest.raises(Abandoned):
            await made.make(answers(*[GONE] * 50))

    async with anyio.create_task_group() as watch:
        made.attend(_Probed(float("inf")), watch)
        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(make)
    assert isinstance(made.stopped_by, DestinationRefused)


async def test_an_abandoned_run_ends_its_pauses() -> None:
    """A request waiting for its retry, and a request waiting for its turn, end at once."""
    made = requests(at_once=1)
    began_s = anyio.current_time()

    async def make(*several: Answer) -> None:
        with pytest.raises(Abandoned):
            await made.make(answers(*several))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(make, Response(503, b"", retry_after_s=3600.0))
        await anyio.sleep(1)
        made.abandon()
    assert anyio.current_time() - began_s < 10
