"""Outages on a virtual clock: what is sent during one, what is reported, and when the run stops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import astuple, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import anyio
import pytest

from bulkstow.blocking import ReadLimit
from bulkstow.config import UploadSettings
from bulkstow.errors import DestinationRefused, RunStopped
from bulkstow.events import Event, OutageBegan, OutageContinues, OutageEnded
from bulkstow.ledger import Ledger
from bulkstow.model import (
    Batch,
    Candidate,
    Cause,
    Exchange,
    FileResult,
    Instance,
    NoResponse,
    Outcome,
    Referenced,
    Response,
    StoreResponse,
)
from bulkstow.pipeline.batch_check import BatchCheck
from bulkstow.pipeline.health_monitor import HealthMonitor
from bulkstow.pipeline.run import controllers_for
from bulkstow.pipeline.scheduler import Scheduler
from bulkstow.pipeline.send import Send
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.policy.gates import ConcurrencyGate
from bulkstow.policy.health import CircuitBreaker, OutageCause
from bulkstow.policy.request_rate import ServerRateGate
from bulkstow.policy.retry import Backoff
from bulkstow.policy.retry_budget import RetryBudget
from bulkstow.policy.study_limiter import StudyLimiter
from bulkstow.policy.work_items import Rules
from bulkstow.quantities import Span
from bulkstow.source.files import FileSource
from bulkstow.source_check import SourceCheck
from bulkstow.wire.store_response import to_json
from tests.archives import header
from tests.virtual_time import BACKEND

pytestmark = pytest.mark.anyio

HANGS_S = 120.0
UNANSWERED = NoResponse(Cause.UNANSWERED, body_started=True)
UNREACHABLE = NoResponse(Cause.UNREACHABLE, body_started=False)
ROOMLESS = 0xA700


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    """Use the virtual clock."""
    return BACKEND


def stored(batch: Batch) -> Response:
    """Return the response of a server that has stored everything."""
    items = tuple(Referenced(i.header.sop_class_uid, i.header.sop_instance_uid) for i in batch.instances)
    return Response(200, to_json(StoreResponse(stored=items)))


def roomless(batch: Batch) -> Response:
    """Return the response of a server that has no space for anything."""
    items = tuple(Referenced(i.header.sop_class_uid, i.header.sop_instance_uid, ROOMLESS) for i in batch.instances)
    return Response(409, to_json(StoreResponse(failed=items)))


async def hang(batch: Batch) -> Exchange:
    """Do not respond until the timeout."""
    await anyio.sleep(HANGS_S)
    return UNANSWERED


@dataclass
class Server:
    """A destination made of two functions."""

    name: ClassVar[str] = "http://archive.example"
    store: Callable[[Batch], Awaitable[Exchange]]
    question: Callable[[], Awaitable[Response | NoResponse]]
    sent: list[tuple[float, Batch]] = field(default_factory=list)
    under_way: int = 0
    most_under_way: dict[str, int] = field(default_factory=dict)

    async def send(self, batch: Batch) -> Exchange:
        """Store a batch, in 0.1 s at least."""
        self.sent.append((anyio.current_time(), batch))
        await anyio.sleep(0.1)
        return await self.store(batch)

    async def find(self, instances: tuple[Instance, ...]) -> frozenset[str] | Response | NoResponse:
        """Find nothing."""
        return frozenset()

    async def probe(self) -> Response | NoResponse:
        """Answer a probe."""
        return await self.question()


async def answered() -> Response:
    """Answer a probe."""
    return Response(200, b"[]")


async def nobody() -> NoResponse:
    """Be unreachable."""
    return UNREACHABLE


@dataclass
class Course:
    """The result of a run."""

    outcomes: dict[int, Outcome]
    events: list[tuple[float, Event]]
    stopped_by: RunStopped | None
    ended_s: float


class Events:
    """Keeps the events of outages, with their times."""

    def __init__(self) -> None:
        self.told: list[tuple[float, Event]] = []

    def tell(self, event: Event) -> None:
        """Keep an event."""
        if isinstance(event, OutageBegan | OutageContinues | OutageEnded):
            self.told.append((anyio.current_time(), event))


async def deliver(
    server: Server, ledger: Path, *, batches: int = 12, give_up_after_s: float | None = None, concurrency: int = 4
) -> Course:
    """Send batches of one instance, each of another study."""
    reporter, settings = Events(), UploadSettings(concurrency=Span(concurrency, concurrency))
    controllers = controllers_for(settings)
    breaker = CircuitBreaker(give_up_after_s=give_up_after_s)
    scheduler = Scheduler(
        concurrency=ConcurrencyGate(controllers.concurrency),
        gates=[breaker, ServerRateGate(controllers.request_rate, breaker), StudyLimiter(4), RetryBudget()],
        rank=breaker.rank,
        reporter=reporter,
    )
    results_in, results = anyio.create_memory_object_stream[list[FileResult]](1000)
    settled: dict[int, Outcome] = {}
    with Ledger(ledger, "http://archive.example") as opened:
        async with anyio.create_task_group() as tasks:
            monitor = HealthMonitor(
                breaker=breaker, destination=server, scheduler=scheduler, reporter=reporter, tasks=tasks
            )
            send = Send(
                source=FileSource(),
                batch_check=BatchCheck(SourceCheck(FileSource(), WorkerThreads(1), ReadLimit(60))),
                destination=server,
                scheduler=scheduler,
                breaker=breaker,
                monitor=monitor,
                controllers=controllers,
                backoff=Backoff(),
                rules=Rules(),
                ledger=opened,
                threads=WorkerThreads(1),
                results=results_in,
                reporter=reporter,
            )
            tasks.start_soon(send.run)
            for batch in numbered(batches):
                await scheduler.offer(batch)
            scheduler.end()
        async with results:
            async for arrived in results:
                settled |= {int(result.candidate.location[1:]): result.outcome for result in arrived}
    return Course(settled, reporter.told, scheduler.stopped_by, anyio.current_time())


def numbered(count: int) -> Iterator[Batch]:
    """Yield batches of one instance each, from 1."""
    for number in range(1, count + 1):
        yield Batch(number, (Instance(Candidate(f"/{number}", 1, 1), header(number, study=number)),))


async def test_a_server_whose_stores_hang_is_given_up(tmp_path: Path) -> None:
    """Although QIDO-RS answers, the run stops at the limit, counted from the first failure, after few stores."""
    server, began_s = Server(hang, answered), anyio.current_time()
    course = await deliver(server, tmp_path / "l.db", batches=200, give_up_after_s=600.0)
    first_failure_s = began_s + 0.1 + HANGS_S
    assert course.ended_s == pytest.approx(first_failure_s + 600.0)
    assert isinstance(course.stopped_by, DestinationRefused)
    assert "has not answered for 10m" in str(course.stopped_by)
    assert course.outcomes == {}
    assert len(server.sent) <= 4 + 5


async def test_stores_that_hang_for_an_hour_cost_no_instance(tmp_path: Path) -> None:
    """One store at a time is tried until stores succeed; then everything is stored."""

    async def hang_for_an_hour(batch: Batch) -> Exchange:
        return await hang(batch) if anyio.current_time() - began_s < 3600 else stored(batch)

    server, began_s = Server(hang_for_an_hour, answered), anyio.current_time()
    course = await deliver(server, tmp_path / "l.db", batches=30)
    assert set(course.outcomes.values()) == {Outcome.STORED}
    assert len(course.outcomes) == 30
    trials = [at_s for at_s, _ in server.sent if began_s + 121 < at_s < began_s + 3600]
    assert all(later - earlier >= HANGS_S for earlier, later in pairwise(trials))
    assert 10 <= len(trials) <= 25
    began, *continued, ended = (event for _, event in course.events)
    assert began == OutageBegan(OutageCause.NO_ANSWER, 0.0, 1.0)
    assert all(isinstance(event, OutageContinues) for event in continued)
    assert isinstance(ended, OutageEnded)
    assert ended.duration_s == pytest.approx(course.events[-1][0] - course.events[0][0])


@pytest.mark.parametrize("batches", [1, 12])
async def test_what_a_server_chokes_on_does_not_block_the_run(tmp_path: Path, batches: int) -> None:
    """An instance whose stores all hang is given up after its attempts, alone or not; the others are stored."""

    async def choke(batch: Batch) -> Exchange:
        return await hang(batch) if batch.number == 1 else stored(batch)

    course = await deliver(Server(choke, answered), tmp_path / "l.db", batches=batches)
    assert course.outcomes == {1: Outcome.UNCONFIRMED} | dict.fromkeys(range(2, batches + 1), Outcome.STORED)
    assert course.stopped_by is None


@pytest.mark.parametrize(
    "question_s", [0.0, 1000.0], ids=["a question fails at once", "a question is under way at the limit"]
)
@pytest.mark.parametrize("limit_s", [20.0, 0.5])
async def test_gone_for_too_long(tmp_path: Path, limit_s: float, question_s: float) -> None:
    """The run stops at the limit, not at the next probe, nor at the end of a probe or a request under way."""

    async def question() -> NoResponse:
        await anyio.sleep(question_s)
        return UNREACHABLE

    async def gone(batch: Batch) -> Exchange:
        return await hang(batch) if batch.number == 4 else UNREACHABLE

    server, began_s = Server(gone, question), anyio.current_time()
    course = await deliver(server, tmp_path / "l.db", give_up_after_s=limit_s)
    assert course.ended_s == pytest.approx(began_s + 0.1 + limit_s)
    assert "has not answered for" in str(course.stopped_by)
    assert course.outcomes == {}


@pytest.mark.parametrize("answer", [roomless, lambda _: Response(507, b"")], ids=["A700", "507"])
async def test_full_for_too_long(tmp_path: Path, answer: Callable[[Batch], Response]) -> None:
    """A server without space is given up at the same limit, with that reason."""

    async def full(batch: Batch) -> Exchange:
        return answer(batch)

    server, began_s = Server(full, answered), anyio.current_time()
    course = await deliver(server, tmp_path / "l.db", batches=100, give_up_after_s=20.0)
    assert course.ended_s == pytest.approx(began_s + 0.1 + 20.0)
    assert "has had no room for 20s" in str(course.stopped_by)
    assert course.events[0][1] == OutageBegan(OutageCause.NO_ROOM, 0.0, 1.0)


def shown(value: object) -> str:
    """Return a value of an event as a short text."""
    return f"{value:.1f}" if isinstance(value, float) else str(value)


class Limiter:
    """Accepts a rate of requests and a burst, as nginx's limit_req does with `nodelay`."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate_per_s, self._burst = rate_per_s, burst
        self._excess, self._last_s = 0.0, -1000.0
        self.rejections = 0

    async def store(self, batch: Batch) -> Exchange:
        """Store a batch, or reject it."""
        now_s = anyio.current_time()
        elapsed_s = int((now_s - self._last_s) * 1000) / 1000
        excess = max(self._excess - self._rate_per_s * elapsed_s + 1, 0)
        if excess > self._burst:
            self.rejections += 1
            return Response(503, b"")
        self._excess, self._last_s = excess, now_s
        return stored(batch)


@pytest.mark.parametrize("concurrency", [4, 32])
@pytest.mark.parametrize("burst", [0, 5])
@pytest.mark.parametrize("rate_per_s", [2.0, 10.0])
async def test_behind_a_limiter_everything_is_stored(
    tmp_path: Path, rate_per_s: float, burst: int, concurrency: int
) -> None:
    """There are few rejections and no outage, the rate is found and kept, and nothing is unconfirmed."""
    limiter, began_s = Limiter(rate_per_s, burst), anyio.current_time()
    server = Server(limiter.store, answered)
    course = await deliver(server, tmp_path / "l.db", batches=300, concurrency=concurrency)
    assert set(course.outcomes.values()) == {Outcome.STORED}
    assert len(course.outcomes) == 300
    assert limiter.rejections <= 0.05 * 300 + 2 * concurrency + 5
    assert course.ended_s - began_s <= 1.5 * 300 / rate_per_s
    assert course.events == []


async def test_an_instance_that_is_always_rejected_is_given_up(tmp_path: Path) -> None:
    """The others are stored meanwhile, and the run ends."""

    async def store(batch: Batch) -> Exchange:
        return Response(503, b"") if batch.number == 1 else stored(batch)

    course = await deliver(Server(store, answered), tmp_path / "l.db")
    assert course.outcomes == {1: Outcome.UNCONFIRMED} | dict.fromkeys(range(2, 13), Outcome.STORED)


async def test_an_outage_is_told_with_its_next_attempts(tmp_path: Path) -> None:
    """Reported are its beginning, each failed attempt with the time until the next one, and its end after 10 s."""

    async def away(batch: Batch) -> Exchange:
        return UNREACHABLE if anyio.current_time() - began_s < 10.1 else stored(batch)

    async def question() -> Response | NoResponse:
        return UNREACHABLE if anyio.current_time() - began_s < 10.1 else Response(200, b"[]")

    server, began_s = Server(away, question), anyio.current_time()
    course = await deliver(server, tmp_path / "l.db", give_up_after_s=60.0)
    told = [(round(at_s - began_s, 1), type(event), *map(shown, astuple(event))) for at_s, event in course.events]
    assert told == [
        (0.1, OutageBegan, "no answer", "0.0", "1.0"),
        (1.1, OutageContinues, "no answer", "1.0", "2.0"),
        (3.1, OutageContinues, "no answer", "3.0", "4.0"),
        (7.1, OutageContinues, "no answer", "7.0", "8.0"),
        (15.2, OutageEnded, "15.1"),
    ]
    assert course.stopped_by is None
    assert set(course.outcomes.values()) == {Outcome.STORED}


@pytest.mark.parametrize(
    "silence", [UNANSWERED, Response(503, b""), NoResponse(Cause.DISCONNECTED, body_started=False)]
)
async def test_questions_in_vain_do_not_keep_stores_away(tmp_path: Path, silence: Response | NoResponse) -> None:
    """If stores succeed again while probes hang, or are answered by a proxy, the run continues."""

    async def hang_for_a_while(batch: Batch) -> Exchange:
        return await hang(batch) if anyio.current_time() - began_s < 1000 else stored(batch)

    async def question() -> Response | NoResponse:
        return silence

    began_s = anyio.current_time()
    course = await deliver(Server(hang_for_a_while, question), tmp_path / "l.db")
    assert set(course.outcomes.values()) == {Outcome.STORED}
    assert len(course.outcomes) == 12
