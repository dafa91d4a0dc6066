"""The scheduler: which item is sent next, and why none is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from bulkstow.events import Event, Reporter, Waited
from bulkstow.model import Batch, Candidate, Instance
from bulkstow.pipeline.scheduler import RETRIES_PER_REQUEST, WIDE_WINDOW_PER_REQUEST, WINDOW_PER_REQUEST, Scheduler
from bulkstow.policy.bottleneck import Wait
from bulkstow.policy.concurrency import Concurrency
from bulkstow.policy.gates import ConcurrencyGate, Gate, PaceGate
from bulkstow.policy.health import CircuitBreaker, ProbeResult
from bulkstow.policy.pacing import BURST_S, Pacer
from bulkstow.policy.retry_budget import RetryBudget
from bulkstow.policy.study_limiter import StudyLimiter
from bulkstow.policy.work_items import HealthSignal, Query, Store, WorkItem
from tests.archives import header
from tests.virtual_time import BACKEND

pytestmark = pytest.mark.anyio

EASED = HealthSignal.EASED


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    """Use the virtual clock."""
    return BACKEND


def batch(number: int, *, study: int | None = None, instances: int = 1) -> Batch:
    """Return a batch with one instance, of a study of its own unless one is named."""
    one = Instance(Candidate(f"/{number}", 1, 1), header(number, study=study or number))
    return Batch(number, (one, *(replace(one, header=header(100 * number + n)) for n in range(1, instances))))


class Waits:
    """Counts for how long no request started, by reason."""

    def __init__(self) -> None:
        self.waited_s: dict[Wait, float] = {}

    def tell(self, event: Event) -> None:
        """Count a wait."""
        assert isinstance(event, Waited)
        self.waited_s[event.wait] = self.waited_s.get(event.wait, 0.0) + event.duration_s


def new_scheduler(
    *,
    at_once: int = 8,
    per_study: int = 4,
    breaker: CircuitBreaker | None = None,
    budget: RetryBudget | None = None,
    requests_per_s: float | None = None,
    reporter: Reporter | None = None,
    gates: Sequence[Gate] = (),
) -> Scheduler:
    """Return a scheduler with the gates of a run, and further ones."""
    breaker = breaker or CircuitBreaker()
    pace = [] if requests_per_s is None else [PaceGate(Pacer(requests_per_s))]
    return Scheduler(
        concurrency=ConcurrencyGate(Concurrency(lowest=at_once, highest=at_once)),
        gates=[breaker, *pace, StudyLimiter(per_study), budget or RetryBudget(), *gates],
        rank=breaker.rank,
        reporter=reporter or Waits(),
    )


def trip(breaker: CircuitBreaker) -> None:
    """Open a circuit breaker."""
    breaker.ended(Store(batch(99)), anyio.current_time(), HealthSignal.GONE)
    assert breaker.is_open


async def take(scheduler: Scheduler) -> WorkItem:
    """Take an item that must be available."""
    item = await scheduler.take()
    assert item is not None
    return item


async def test_fresh_batches_come_in_order_and_then_none() -> None:
    """Each batch is taken once, in order; after the end every sender gets None."""
    scheduler = new_scheduler()
    for number in range(3):
        await scheduler.offer(batch(number + 1))
    scheduler.end()
    taken = [await take(scheduler) for _ in range(3)]
    for item in taken:
        scheduler.done(item, EASED)
    assert [item.batch.number for item in taken] == [1, 2, 3]
    assert await scheduler.take() is None
    assert await scheduler.take() is None


async def test_offer_waits_while_the_window_is_full() -> None:
    """The assembler waits until a sender has taken a batch: that is the backpressure."""
    scheduler = new_scheduler(at_once=1)
    offered: list[int] = []

    async def assemble() -> None:
        for number in range(WINDOW_PER_REQUEST + 2):
            await scheduler.offer(batch(number + 1))
            offered.append(number + 1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(assemble)
        await wait_all_tasks_blocked()
        assert len(offered) == WINDOW_PER_REQUEST
        scheduler.done(await take(scheduler), EASED)
        await wait_all_tasks_blocked()
        assert len(offered) == WINDOW_PER_REQUEST + 1
        scheduler.done(await take(scheduler), EASED)


async def test_the_window_is_wider_while_no_batch_in_it_may_start() -> None:
    """Batches of a study with enough requests in flight leave room for those of another one, up to a bound."""
    scheduler = new_scheduler(at_once=2, per_study=1)
    offered: list[int] = []

    async def assemble(studies: Sequence[int]) -> None:
        for study in studies:
            await scheduler.offer(batch(len(offered), study=study))
            offered.append(study)

    async with anyio.create_task_group() as tasks:
        await scheduler.offer(batch(99, study=1))
        in_flight = await take(scheduler)
        tasks.start_soon(assemble, [1] * (2 * WINDOW_PER_REQUEST + 1) + [2] * 2)
        await wait_all_tasks_blocked()
        assert offered == [1] * (2 * WINDOW_PER_REQUEST + 1) + [2]
        scheduler.done(in_flight, EASED)
        for _ in range(len(offered) + 1):
            scheduler.done(await take(scheduler), EASED)
        await scheduler.offer(batch(98, study=1))
        in_flight = await take(scheduler)
        offered.clear()
        tasks.start_soon(assemble, [1] * 99)
        await wait_all_tasks_blocked()
        assert len(offered) == 2 * WIDE_WINDOW_PER_REQUEST
        scheduler.abandon()
        scheduler.done(in_flight, EASED)


async def test_offer_waits_while_too_many_retries_wait() -> None:
    """The number of waiting retries is bounded, so memory is too if the server rejects everything."""
    scheduler = new_scheduler(at_once=1)
    now_s = anyio.current_time()
    for number in range(RETRIES_PER_REQUEST):
        await scheduler.offer(batch(number + 1))
        item = await take(scheduler)
        scheduler.done(item, EASED, [(now_s + 1000, item)])
    with anyio.move_on_after(0) as scope:
        await checkpoint()
    with anyio.move_on_after(0.01) as scope:
        await scheduler.offer(batch(99))
    assert scope.cancelled_caught


async def test_a_retry_comes_when_it_is_due() -> None:
    """A retry that waits for its time does not delay fresh batches, and precedes them once it is due."""
    scheduler = new_scheduler()
    await scheduler.offer(batch(1))
    first = await take(scheduler)
    scheduler.done(first, EASED, [(anyio.current_time() + 0.05, first)])
    await scheduler.offer(batch(2))
    second = await take(scheduler)
    assert second.batch.number == 2
    again = await take(scheduler)
    assert again is first
    assert anyio.current_time() >= 0.05


async def test_senders_wait_for_requests_under_way() -> None:
    """The end comes only when no request under way can bring a retry."""
    scheduler = new_scheduler()
    await scheduler.offer(batch(1))
    scheduler.end()
    item = await take(scheduler)
    ended: list[WorkItem | None] = []

    async def wait() -> None:
        ended.append(await scheduler.take())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await wait_all_tasks_blocked()
        assert ended == []
        scheduler.done(item, EASED, [(anyio.current_time(), Store(batch(2)))])
        await wait_all_tasks_blocked()
        assert ended == [Store(batch(2))]


async def test_the_first_request_of_a_study_is_sent_alone() -> None:
    """Another batch of a study that is new to the server waits; a batch of another study overtakes it."""
    scheduler = new_scheduler(per_study=2)
    for number, study in ((1, 1), (2, 1), (3, 1), (4, 1), (5, 2)):
        await scheduler.offer(batch(number, study=study))
    first, other = await take(scheduler), await take(scheduler)
    assert (first.batch.number, other.batch.number) == (1, 5)
    scheduler.done(first, EASED)
    assert [(await take(scheduler)).batch.number for _ in range(2)] == [2, 3]
    with anyio.move_on_after(0.01) as scope:
        await scheduler.take()
    assert scope.cancelled_caught


async def test_nothing_starts_while_the_breaker_is_open() -> None:
    """During an outage no sender gets an item, not even a due retry; after it every sender does."""
    breaker = CircuitBreaker(trip_after=1)
    scheduler = new_scheduler(breaker=breaker)
    await scheduler.offer(batch(1))
    first = await take(scheduler)
    scheduler.done(first, EASED, [(anyio.current_time(), first)])
    await scheduler.offer(batch(2))
    trip(breaker)
    taken: list[WorkItem] = []

    async def send() -> None:
        taken.append(await take(scheduler))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        tasks.start_soon(send)
        await wait_all_tasks_blocked()
        assert taken == []
        breaker.ended(first, anyio.current_time(), EASED)
        scheduler.wake()
    assert {item.batch.number for item in taken} == {1, 2}


async def test_half_open_lets_one_store_through() -> None:
    """After an answered probe one store is sent, before a query that is due, and nothing else until it has ended."""
    breaker = CircuitBreaker(trip_after=1)
    scheduler = new_scheduler(breaker=breaker)
    await scheduler.offer(batch(1))
    query = Query((await take(scheduler)).batch, "no answer")
    scheduler.done(query, EASED, [(anyio.current_time(), query)])
    for number in (2, 3):
        await scheduler.offer(batch(number))
    trip(breaker)
    breaker.probed(ProbeResult.SERVICE, anyio.current_time())
    scheduler.wake()
    trial = await take(scheduler)
    assert trial == Store(batch(2))
    with anyio.move_on_after(3600) as scope:
        await scheduler.take()
    assert scope.cancelled_caught
    scheduler.done(trial, EASED)
    assert [(await take(scheduler)).batch.number for _ in range(2)] == [1, 3]


async def test_trials_take_turns() -> None:
    """A batch that failed as the trial comes after the others, so one that the server cannot process blocks no run."""
    breaker = CircuitBreaker(trip_after=1)
    scheduler = new_scheduler(breaker=breaker)
    for number in (1, 2, 3):
        await scheduler.offer(batch(number))
    trip(breaker)
    trials = []
    for _ in range(6):
        outage = breaker.outage
        assert outage is not None
        await anyio.sleep(outage.next_attempt_s - anyio.current_time())
        breaker.probed(ProbeResult.SERVICE, anyio.current_time())
        trial = await take(scheduler)
        trials.append(trial.batch.number)
        scheduler.done(trial, HealthSignal.GONE, [(anyio.current_time() + 0.5, again(trial))])
    assert sorted(trials[:3]) == sorted(trials[3:]) == [1, 2, 3]


def again(item: WorkItem) -> WorkItem:
    """Return the item after a request without a response."""
    return Store(replace(item.batch, requests=1, failed_attempts=1))


async def test_retries_without_budget_come_after_fresh_batches() -> None:
    """Without budget a due retry waits; fresh batches and parts of a split batch do not."""
    scheduler = new_scheduler(budget=RetryBudget(most=1.0, share=0.0, minimum_per_s=20.0))
    await scheduler.offer(batch(1))
    first = await take(scheduler)
    now_s = anyio.current_time()
    split = Store(replace(first.batch, requests=1))
    scheduler.done(first, EASED, [(now_s, again(first)), (now_s, again(first)), (now_s, split)])
    await scheduler.offer(batch(2))
    order = []
    for _ in range(4):
        item = await take(scheduler)
        order.append((item.batch.number, item.batch.requests, item.batch.failed_attempts))
        scheduler.done(item, EASED)
    assert order == [(1, 1, 1), (1, 1, 0), (2, 0, 0), (1, 1, 1)]


async def test_no_more_requests_are_under_way_than_the_limit() -> None:
    """A sender waits until a request under way has ended, although more items wait."""
    scheduler = new_scheduler(at_once=2)
    for number in range(3):
        await scheduler.offer(batch(number + 1))
    first, _ = await take(scheduler), await take(scheduler)
    assert scheduler.is_wanting
    taken: list[WorkItem] = []

    async def take_third() -> None:
        taken.append(await take(scheduler))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take_third)
        await wait_all_tasks_blocked()
        assert taken == []
        scheduler.done(first, EASED)
    assert [item.batch.number for item in taken] == [3]
    assert not scheduler.is_wanting


async def test_the_wait_for_a_probe_ends_with_the_run() -> None:
    """The wait for a probe ends early if nothing is left to send, and for no other reason."""
    breaker = CircuitBreaker(trip_after=1)
    scheduler = new_scheduler(breaker=breaker)
    trip(breaker)
    ended: list[str] = []

    async def rest() -> None:
        await scheduler.wait_to_probe(lambda: breaker.is_open, 1000)
        ended.append("rested")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rest)
        await scheduler.offer(batch(1))
        await wait_all_tasks_blocked()
        assert ended == []
        scheduler.abandon()
    assert ended == ["rested"]


async def test_an_abandoned_scheduler_ends_the_senders() -> None:
    """After a stop nothing new starts: batches are dropped, retries too, and the senders end."""
    scheduler = new_scheduler(at_once=1)
    await scheduler.offer(batch(1))
    await scheduler.offer(batch(2))
    item = await take(scheduler)
    scheduler.abandon()
    await scheduler.offer(batch(3))
    scheduler.done(item, EASED, [(anyio.current_time(), item)])
    assert await scheduler.take() is None


async def test_there_is_plenty_while_twice_as_many_wait_as_may_be_under_way() -> None:
    """Half as many batches would then still keep all senders busy."""
    scheduler = new_scheduler(at_once=2)
    for number in range(4):
        assert not scheduler.is_plentiful
        await scheduler.offer(batch(number + 1))
    assert scheduler.is_plentiful
    await take(scheduler)
    assert not scheduler.is_plentiful


@pytest.mark.parametrize("senders", [1, 8])
@pytest.mark.parametrize("requests_per_s", [0.5, 3.0, 50.0])
async def test_requests_are_handed_out_at_their_rate(requests_per_s: float, senders: int) -> None:
    """Sixty requests take as long as they should, to 1 %, for any number of senders."""
    scheduler = new_scheduler(at_once=senders, requests_per_s=requests_per_s)
    times_s: list[float] = []

    async def assemble() -> None:
        for number in range(60):
            await scheduler.offer(batch(number + 1))
        scheduler.end()

    async def send() -> None:
        while (item := await scheduler.take()) is not None:
            times_s.append(anyio.current_time())
            scheduler.done(item, EASED)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(assemble)
        for _ in range(senders):
            tasks.start_soon(send)
    expected_s = 59 / requests_per_s - BURST_S
    assert times_s[-1] - times_s[0] == pytest.approx(expected_s, rel=0.01)


async def test_retries_and_queries_count_as_requests() -> None:
    """Retries and queries pass the rate limit like fresh batches."""
    scheduler = new_scheduler(requests_per_s=1.0)
    await scheduler.offer(batch(1))
    first = await take(scheduler)
    began_s = anyio.current_time()
    scheduler.done(first, EASED, [(began_s, again(first)), (began_s, Query(first.batch, "no answer"))])
    await scheduler.offer(batch(2))
    for _ in range(3):
        scheduler.done(await take(scheduler), EASED)
    assert anyio.current_time() - began_s == pytest.approx(3 - BURST_S)


@pytest.mark.parametrize(("requests_per_s", "expected"), [(1.0, [1, 1, 1]), (None, [3])])
async def test_with_a_rate_an_item_is_one_request(requests_per_s: float | None, expected: list[int]) -> None:
    """A query for several instances becomes one query for each; without a rate it stays one item."""
    scheduler = new_scheduler(requests_per_s=requests_per_s)
    await scheduler.offer(batch(1, instances=3))
    first = await take(scheduler)
    began_s = anyio.current_time()
    scheduler.done(first, EASED, [(began_s, Query(first.batch, "no answer", asked=2))])
    scheduler.end()
    asked: list[WorkItem] = []
    while (item := await scheduler.take()) is not None:
        asked.append(item)
        scheduler.done(item, EASED)
    assert [len(item.batch.instances) for item in asked] == expected
    assert tuple(i for item in asked for i in item.batch.instances) == first.batch.instances
    assert {(item.asked, item.reason) for item in asked if isinstance(item, Query)} == {(2, "no answer")}
    assert anyio.current_time() - began_s == pytest.approx(len(expected) - BURST_S if requests_per_s else 0)


async def test_a_probe_counts_as_a_request() -> None:
    """A probe waits for the rate limit, and the next request waits for it in turn."""
    breaker = CircuitBreaker(trip_after=1)
    scheduler = new_scheduler(breaker=breaker, requests_per_s=0.1)
    await scheduler.offer(batch(1))
    scheduler.done(await take(scheduler), EASED)
    began_s = anyio.current_time()
    trip(breaker)
    await scheduler.offer(batch(2))
    assert await scheduler.wait_to_probe(lambda: breaker.is_open, 1.0)
    assert anyio.current_time() - began_s == pytest.approx(10 - BURST_S)
    breaker.ended(Store(batch(1)), anyio.current_time(), EASED)
    await take(scheduler)
    assert anyio.current_time() - began_s == pytest.approx(20 - BURST_S, rel=0.01)


@pytest.mark.parametrize(
    ("senders", "requests_per_s", "offered", "expected"),
    [
        (1, None, (), {Wait.NOTHING: 5.0}),
        (1, None, (1,), {}),
        (2, None, (1,), {Wait.NOTHING: 5.0}),
        (2, None, (1, 1), {Wait.STUDY: 5.0}),
        (2, None, (1, 1, 2), {}),
        (2, 0.1, (1, 2), {Wait.PACE: 5.0}),
    ],
    ids=["nothing there", "all busy", "nothing more there", "its study is busy", "another study", "the pace"],
)
async def test_the_reason_for_waiting_is_reported(
    senders: int, requests_per_s: float | None, offered: tuple[int, ...], expected: dict[Wait, float]
) -> None:
    """While one more request is allowed and none starts, the reason and the duration are reported."""
    waits = Waits()
    scheduler = new_scheduler(at_once=senders, requests_per_s=requests_per_s, reporter=waits)
    for number, study in enumerate(offered):
        await scheduler.offer(batch(number + 1, study=study))

    async def send() -> None:
        while await scheduler.take() is not None:
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.sleep(5.0)
        tasks.cancel_scope.cancel()
    assert waits.waited_s == pytest.approx(expected)


async def test_waiting_for_the_budget_is_no_bottleneck() -> None:
    """The time until the budget allows a retry counts for no bottleneck: neither a busy study nor a slow disk."""
    waits = Waits()
    scheduler = new_scheduler(budget=RetryBudget(most=1.0, share=0.0, minimum_per_s=0.1), reporter=waits)
    await scheduler.offer(batch(1))
    again = [(anyio.current_time(), Store(replace(batch(n, study=n), failed_attempts=1))) for n in (1, 2)]
    scheduler.done(await take(scheduler), EASED, again)
    began_s = anyio.current_time()
    scheduler.done(await take(scheduler), EASED)
    scheduler.done(await take(scheduler), EASED)
    assert anyio.current_time() - began_s == pytest.approx(10.0)
    assert waits.waited_s == {}


async def test_idle_senders() -> None:
    """Each fresh batch and each request under way occupies a sender; at the end no sender is idle."""
    scheduler = new_scheduler(at_once=2)
    seen = [scheduler.idle]
    await scheduler.offer(batch(1))
    seen.append(scheduler.idle)
    item = await take(scheduler)
    seen.append(scheduler.idle)
    for _ in range(3):
        await scheduler.offer(batch(2))
    seen.append(scheduler.idle)
    scheduler.done(item, EASED)
    seen.append(scheduler.idle)
    scheduler.abandon()
    assert [*seen, scheduler.idle] == [2, 1, 1, 0, 0, 0]


class OpensAt(Gate):
    """A gate that opens at a given time, for all items or for stores only, as a run window would."""

    why = Wait.PACE

    def __init__(self, opens_s: float, *, for_queries: bool = True) -> None:
        self.opens_s = opens_s
        self._for_queries = for_queries

    def wait_s(self, item: WorkItem | None, now_s: float) -> float:
        """Return the time until it opens."""
        return 0.0 if isinstance(item, Query) and not self._for_queries else max(0.0, self.opens_s - now_s)


async def test_a_new_gate_opens_at_its_time() -> None:
    """A gate that the scheduler does not know keeps requests until it opens, to the moment, and gives the reason."""
    began_s, waits = anyio.current_time(), Waits()
    scheduler = new_scheduler(gates=[OpensAt(began_s + 3600)], reporter=waits)
    await scheduler.offer(batch(1))
    assert not scheduler.is_wanting
    await take(scheduler)
    assert anyio.current_time() - began_s == pytest.approx(3600)
    assert waits.waited_s == pytest.approx({Wait.PACE: 3600})


async def test_a_gate_for_some_items_lets_the_others_pass() -> None:
    """Stores wait until their gate opens; the queries after one of them that is under way do not."""
    began_s = anyio.current_time()
    gate = OpensAt(began_s, for_queries=False)
    scheduler = new_scheduler(gates=[gate])
    for number in (1, 2):
        await scheduler.offer(batch(number))
    first = await take(scheduler)
    gate.opens_s = began_s + 60
    query = Query(first.batch, "no answer")
    scheduler.done(first, EASED, [(began_s + 10, query)])
    assert await take(scheduler) == query
    assert anyio.current_time() - began_s == pytest.approx(10)
    assert await take(scheduler) == Store(batch(2))
    assert anyio.current_time() - began_s == pytest.approx(60)
