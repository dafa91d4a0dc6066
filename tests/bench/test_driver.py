"""Loads on a server that is a plain function, on a clock that jumps: what was put on, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import anyio
import pytest

from bulkstow.bench import schedule
from bulkstow.bench.driver import LONGEST, NO_CONNECTION_S, Driver, LoadPhase
from bulkstow.bench.recorder import Measured
from bulkstow.bench.result import Load
from bulkstow.bench.sender import Answered, Sender, Supply
from bulkstow.bench.workload import workload
from bulkstow.errors import LoginRefused
from bulkstow.model import Batch, Cause, Exchange, Instance, NoResponse, Referenced, Response, StoreResponse
from bulkstow.wire.store_response import to_json
from tests.virtual_time import BACKEND

pytestmark = pytest.mark.anyio

SR = workload("sr", "driver")


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    """Let time jump."""
    return BACKEND


def stored(batch: Batch) -> Response:
    """Return the answer of a server that has stored everything."""
    items = tuple(Referenced(i.header.sop_class_uid, i.header.sop_instance_uid) for i in batch.instances)
    return Response(200, to_json(StoreResponse(stored=items)))


class Server:
    """Serves so many requests at once, each for so long; it is frozen in a span of time from the first one on."""

    name = "http://archive.example"

    def __init__(
        self,
        slots: int = 1000,
        service_s: float = 0.1,
        *,
        frozen_s: tuple[float, float] = (0.0, 0.0),
        answer: Callable[[Batch], Exchange] = stored,
    ) -> None:
        self._slots = anyio.Semaphore(slots)
        self._service_s = service_s
        self._frozen_s = frozen_s
        self._answer = answer
        self.began_s: list[float] = []
        self.batches: list[Batch] = []
        self.most_within = self._within = 0

    async def send(self, batch: Batch) -> Exchange:
        """Serve a request."""
        self.began_s.append(anyio.current_time())
        self.batches.append(batch)
        self._within += 1
        self.most_within = max(self.most_within, self._within)
        try:
            async with self._slots:
                await anyio.sleep(self._service_s)
                from_s, until_s = (self.began_s[0] + at_s for at_s in self._frozen_s)
                if from_s <= anyio.current_time() < until_s:
                    await anyio.sleep_until(until_s)
        finally:
            self._within -= 1
        return self._answer(batch)

    async def find(self, instances: tuple[Instance, ...]) -> frozenset[str]:
        """Find nothing."""
        return frozenset()

    async def probe(self) -> Response:
        """Be there."""
        return Response(204, b"")


def driver(server: Server, phase: LoadPhase, heard: list[Answered] | None = None) -> Driver:
    """Return a driver of a load on this server."""
    sender = Sender(server, Supply(SR), {}, now=anyio.current_time)
    answers: list[Answered] = [] if heard is None else heard
    return Driver(phase, sender, on_answered=answers.append)


async def put_on(server: Server, phase: LoadPhase) -> Measured:
    """Put a load on and return its figures."""
    return await driver(server, phase).carry_out()


def closed(
    connections: int, *, batch: int = 1, duration_s: float = 20.0, warmup_s: float | None = 2.0, rounds: int = 0
) -> LoadPhase:
    """Return a closed load."""
    return LoadPhase(Load(batch, connections=connections), connections, duration_s, warmup_s, rounds=rounds)


def opened(rate_per_s: float, *, slots: int = 64, batch: int = 1, duration_s: float = 20.0) -> LoadPhase:
    """Return an open load at a constant rate."""
    starts = partial(schedule.constant, rate_per_s, batch)
    return LoadPhase(Load(batch, rate_per_s=rate_per_s), slots, duration_s, 2.0, starts)


@pytest.mark.parametrize("connections", [1, 2, 4, 8, 16])
async def test_a_closed_load_does_what_queueing_theory_says(connections: int) -> None:
    """Four slots of 100 ms: goodput grows with the connections up to four, beyond them the wait does (Little)."""
    server = Server(slots=4, service_s=0.1)
    found = await put_on(server, closed(connections, batch=3))
    assert found.instances / found.elapsed_s == pytest.approx(3 * min(connections, 4) / 0.1, rel=0.02)
    assert found.latency.percentiles().p50_s == pytest.approx(0.1 * max(connections / 4, 1), rel=0.02)
    assert server.most_within == connections


async def test_a_freeze_shows_in_an_open_load_and_hides_in_a_closed_one() -> None:
    """3 s of 20: requests due meanwhile wait for up to 3 s; a closed load has one slow request for each connection."""
    frozen_s = (8.0, 11.0)
    in_open = (await put_on(Server(frozen_s=frozen_s), opened(50, slots=200))).latency.percentiles()
    in_closed = (await put_on(Server(frozen_s=frozen_s), closed(4))).latency.percentiles()
    assert in_open.p99_s == pytest.approx(2.9, rel=0.02)
    assert in_closed.p99_s == pytest.approx(0.1, rel=0.02)
    assert in_closed.max_s == pytest.approx(3.05, rel=0.02)


async def test_a_freeze_shows_though_slots_run_out() -> None:
    """Requests without a slot wait, their latency counts from when they were due, and none is dropped for 3 s."""
    server = Server(frozen_s=(8.0, 11.0))
    found = await put_on(server, opened(50, slots=10))
    assert found.latency.percentiles().p99_s == pytest.approx(2.9, rel=0.02)
    assert found.dropped == 0
    assert server.most_within == 10


async def test_an_open_load_keeps_its_schedule() -> None:
    """Requests begin when they are due, however long answers take, and never late where a slot is free."""
    server = Server(service_s=1.0)
    found = await put_on(server, opened(20, batch=2))
    gaps_s = [later - earlier for earlier, later in zip(server.began_s, server.began_s[1:], strict=False)]
    assert gaps_s == pytest.approx([0.1] * len(gaps_s))
    assert found.slip.percentiles().max_s < 0.001
    assert found.instances / found.elapsed_s == pytest.approx(20, rel=0.02)


async def test_what_cannot_be_sent_is_dropped() -> None:
    """At twice what the slots can do half is dropped, or still waiting at the end, and that counts as dropped too."""
    server = Server(slots=2, service_s=0.1)
    found = await put_on(server, opened(40, slots=2, duration_s=60.0))
    assert found.instances / found.elapsed_s == pytest.approx(20, rel=0.02)
    due = found.instances + found.dropped + found.drained_instances
    assert due == pytest.approx(40 * 60, rel=0.02)


async def test_a_load_ends_and_waits_for_what_is_under_way() -> None:
    """Nothing begins after the end; what was under way has its latency and is no goodput."""
    server = Server(service_s=3.0)
    found = await put_on(server, closed(2, duration_s=10.0, warmup_s=0.0))
    assert max(server.began_s) < 10.1
    assert found.elapsed_s == pytest.approx(10, abs=0.05)
    assert (found.instances, found.drained_instances, found.latency.count) == (6, 2, 8)


async def test_a_load_that_is_told_to_end_ends() -> None:
    """What was measured until then is returned."""
    running = driver(Server(), closed(2))
    async with anyio.create_task_group() as tasks:

        async def end() -> None:
            await anyio.sleep(7.0)
            running.end()

        tasks.start_soon(end)
        found = await running.carry_out()
    assert found.elapsed_s == pytest.approx(5, abs=0.05)
    assert found.instances == pytest.approx(100, abs=2)


@pytest.mark.parametrize("phase", [closed(3), opened(3)], ids=["closed", "open"])
async def test_what_is_cancelled_counts_as_unanswered(phase: LoadPhase) -> None:
    """Whoever ends at once has the figures nevertheless: requests that hang took that long at least."""
    running = driver(Server(service_s=1e6), phase)
    with anyio.move_on_after(10):
        await running.carry_out()
    found = running.recorder.finish(anyio.current_time())
    assert found.instances == 0
    assert found.warmup_latency.percentiles().max_s == pytest.approx(10)


async def test_what_no_retry_mends_ends_the_load() -> None:
    """A login that is refused is told, once, and nothing more is sent."""
    server = Server(answer=lambda _: Response(401, b""))
    running = driver(server, closed(3))
    found = await running.carry_out()
    assert isinstance(running.stopped_by, LoginRefused)
    assert found.instances == 0
    assert len(server.batches) == 3


async def test_nobody_is_called_again_and_again() -> None:
    """A connection that is refused tries again after a moment, not at once, and every instance of it is an error."""
    server = Server(service_s=0.0, answer=lambda _: NoResponse(Cause.UNREACHABLE, body_started=False))
    found = await put_on(server, closed(1, duration_s=10.0, warmup_s=0.0))
    assert len(server.batches) == pytest.approx(10 / NO_CONNECTION_S, abs=1)
    assert found.errors == {"no connection": len(server.batches)}
    assert (found.latency.count, found.failed.count) == (0, len(server.batches))


async def test_a_warm_up_may_last_until_everyone_had_an_answer() -> None:
    """A load with rounds is warm then, and goes on until every connection has had them again."""
    server = Server(slots=1, service_s=2.0)
    found = await put_on(server, closed(4, duration_s=3.0, warmup_s=None, rounds=2))
    assert [found.warmup_s, found.elapsed_s] == pytest.approx([8, 16])
    assert found.instances == 8


@pytest.mark.parametrize("service_s", [0.7, 1.3, 2.9])
@pytest.mark.parametrize("connections", [1, 3])
async def test_a_load_with_rounds_is_measured_from_answer_to_answer(service_s: float, connections: int) -> None:
    """Whole rounds, however long a request takes; of answers that come at one moment the order is chance."""
    phase = closed(connections, duration_s=5.0, warmup_s=None, rounds=3)
    found = await put_on(Server(service_s=service_s), phase)
    rounds = found.elapsed_s / service_s
    assert rounds == pytest.approx(round(rounds))
    assert found.instances == pytest.approx(connections * rounds, abs=connections - 1 + 1e-6)


async def test_rounds_are_not_waited_for_for_ever() -> None:
    """A server that answers no more ends the load after a few times its duration."""
    found = await put_on(Server(slots=1, service_s=10.0), closed(4, duration_s=3.0, warmup_s=None, rounds=3))
    assert found.elapsed_s == pytest.approx(LONGEST * 3, abs=0.05)


async def test_a_warm_up_ends_when_goodput_has_settled() -> None:
    """Where nothing is said: after as many seconds as it takes to see."""
    found = await put_on(Server(), closed(2, warmup_s=None))
    assert (found.is_settled, found.warmup_s) == (True, 10)
    assert found.elapsed_s == pytest.approx(20, abs=0.05)


async def test_workers_go_on_where_they_were() -> None:
    """Two loads of one sender have no instance in common, whatever their connections and batches."""
    server = Server()
    sender = Sender(server, Supply(SR), {}, now=anyio.current_time)
    for phase in (closed(2, batch=5), closed(4, batch=2), opened(20)):
        await Driver(phase, sender).carry_out()
    uids = [instance.header.sop_instance_uid for batch in server.batches for instance in batch.instances]
    assert len(set(uids)) == len(uids)


async def test_whoever_listens_hears_of_every_answer() -> None:
    """And of the instances that it stored."""
    heard: list[Answered] = []
    server = Server()
    await driver(server, closed(2, batch=3), heard).carry_out()
    assert len(heard) == len(server.batches)
    assert {len(answered.stored) for answered in heard} == {3}
