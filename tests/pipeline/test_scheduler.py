"""Claims about what waits to be sent, and who may go next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from bulkstow.events import Event, Reporter, Waited
from bulkstow.model import Batch, Candidate, Instance
from bulkstow.pipeline.scheduler import RETRIES_PER_SENDER, WINDOW_PER_SENDER, Scheduler
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
    """Let time jump."""
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


def scheduler(
    *,
    senders: int = 8,
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
        concurrency=ConcurrencyGate(Concurrency(lowest=senders, highest=senders)),
        gates=[breaker, *pace, StudyLimiter(per_study), budget or RetryBudget(), *gates],
        rank=breaker.rank,
        reporter=reporter or Waits(),
    )


def trip(breaker: CircuitBreaker) -> None:
    """Open a circuit breaker."""
    breaker.ended(Store(batch(99)), anyio.current_time(), HealthSignal.GONE)
    assert breaker.is_open


async def take(box: Scheduler) -> WorkItem:
    """Take an errand that must be there."""
    item = await box.take()
    assert item is not None
    return item


async def test_fresh_batches_come_in_order_and_then_none() -> None:
    """What was offered is taken once, in order; after the end there is None for every sender."""
    box = scheduler()
    for number in range(3):
        await box.offer(batch(number + 1))
    box.end()
    taken = [await take(box) for _ in range(3)]
    for item in taken:
        box.done(item, EASED)
    assert [item.batch.number for item in taken] == [1, 2, 3]
    assert await box.take() is None
    assert await box.take() is None


async def test_offer_waits_while_the_window_is_full() -> None:
    """The assembler waits until a sender has taken something: that is the backpressure."""
    box = scheduler(senders=1)
    offered: list[int] = []

    async def assemble() -> None:
        for number in range(WINDOW_PER_SENDER + 2):
            await box.offer(batch(number + 1))
            offered.append(number + 1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(assemble)
        await wait_all_tasks_blocked()
        assert len(offered) == WINDOW_PER_SENDER
        box.done(await take(box), EASED)
        await wait_all_tasks_blocked()
        assert len(offered) == WINDOW_PER_SENDER + 1
        box.done(await take(box), EASED)


async def test_offer_waits_while_too_much_waits_for_its_retry() -> None:
    """What waits for a retry is bounded, so memory is too when the server refuses everything."""
    box = scheduler(senders=1)
    now_s = anyio.current_time()
    for number in range(RETRIES_PER_SENDER):
        await box.offer(batch(number + 1))
        item = await take(box)
        box.done(item, EASED, [(now_s + 1000, item)])
    with anyio.move_on_after(0) as scope:
        await checkpoint()
    with anyio.move_on_after(0.01) as scope:
        await box.offer(batch(99))
    assert scope.cancelled_caught


async def test_a_parked_errand_comes_when_it_is_due() -> None:
    """What waits for its time does not hold up what is fresh, and comes first once it is due."""
    box = scheduler()
    await box.offer(batch(1))
    first = await take(box)
    box.done(first, EASED, [(anyio.current_time() + 0.05, first)])
    await box.offer(batch(2))
    second = await take(box)
    assert second.batch.number == 2
    again = await take(box)
    assert again is first
    assert anyio.current_time() >= 0.05


async def test_senders_wait_for_what_is_under_way() -> None:
    """The end comes only when nothing under way can bring more to do."""
    box = scheduler()
    await box.offer(batch(1))
    box.end()
    item = await take(box)
    ended: list[WorkItem | None] = []

    async def wait() -> None:
        ended.append(await box.take())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await wait_all_tasks_blocked()
        assert ended == []
        box.done(item, EASED, [(anyio.current_time(), Store(batch(2)))])
        await wait_all_tasks_blocked()
        assert ended == [Store(batch(2))]


async def test_first_request_of_a_study_goes_alone() -> None:
    """Another batch of a study that is new to the server waits; one of another study overtakes it."""
    box = scheduler(per_study=2)
    for number, study in ((1, 1), (2, 1), (3, 1), (4, 1), (5, 2)):
        await box.offer(batch(number, study=study))
    first, other = await take(box), await take(box)
    assert (first.batch.number, other.batch.number) == (1, 5)
    box.done(first, EASED)
    assert [(await take(box)).batch.number for _ in range(2)] == [2, 3]
    with anyio.move_on_after(0.01) as scope:
        await box.take()
    assert scope.cancelled_caught


async def test_nothing_starts_while_the_breaker_is_open() -> None:
    """While the destination is gone nobody gets anything, not even what is due; once it is back everybody does."""
    breaker = CircuitBreaker(trip_after=1)
    box = scheduler(breaker=breaker)
    await box.offer(batch(1))
    first = await take(box)
    box.done(first, EASED, [(anyio.current_time(), first)])
    await box.offer(batch(2))
    trip(breaker)
    taken: list[WorkItem] = []

    async def send() -> None:
        taken.append(await take(box))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        tasks.start_soon(send)
        await wait_all_tasks_blocked()
        assert taken == []
        breaker.ended(first, anyio.current_time(), EASED)
        box.wake()
    assert {item.batch.number for item in taken} == {1, 2}


async def test_half_open_lets_one_store_through() -> None:
    """After a question was answered one store goes, before a question that is due, and nothing else until it ends."""
    breaker = CircuitBreaker(trip_after=1)
    box = scheduler(breaker=breaker)
    await box.offer(batch(1))
    question = Query((await take(box)).batch, "no answer")
    box.done(question, EASED, [(anyio.current_time(), question)])
    for number in (2, 3):
        await box.offer(batch(number))
    trip(breaker)
    breaker.probed(ProbeResult.SERVICE, anyio.current_time())
    box.wake()
    trial = await take(box)
    assert trial == Store(batch(2))
    with anyio.move_on_after(3600) as scope:
        await box.take()
    assert scope.cancelled_caught
    box.done(trial, EASED)
    assert [(await take(box)).batch.number for _ in range(2)] == [1, 3]


async def test_trials_take_turns() -> None:
    """A batch that failed as the trial goes behind the others, so that one on which a server chokes blocks no run."""
    breaker = CircuitBreaker(trip_after=1)
    box = scheduler(breaker=breaker)
    for number in (1, 2, 3):
        await box.offer(batch(number))
    trip(breaker)
    trials = []
    for _ in range(6):
        outage = breaker.outage
        assert outage is not None
        await anyio.sleep(outage.next_attempt_s - anyio.current_time())
        breaker.probed(ProbeResult.SERVICE, anyio.current_time())
        trial = await take(box)
        trials.append(trial.batch.number)
        box.done(trial, HealthSignal.GONE, [(anyio.current_time() + 0.5, again(trial))])
    assert sorted(trials[:3]) == sorted(trials[3:]) == [1, 2, 3]


def again(item: WorkItem) -> WorkItem:
    """Return the errand after a request without an answer."""
    return Store(replace(item.batch, requests=1, failed_attempts=1))


async def test_retries_without_budget_let_what_is_fresh_go_first() -> None:
    """When the budget is spent, a retry that is due waits for it, and what is fresh and what is split does not."""
    box = scheduler(budget=RetryBudget(most=1.0, share=0.0, minimum_per_s=20.0))
    await box.offer(batch(1))
    first = await take(box)
    now_s = anyio.current_time()
    split = Store(replace(first.batch, requests=1))
    box.done(first, EASED, [(now_s, again(first)), (now_s, again(first)), (now_s, split)])
    await box.offer(batch(2))
    order = []
    for _ in range(4):
        item = await take(box)
        order.append((item.batch.number, item.batch.requests, item.batch.failed_attempts))
        box.done(item, EASED)
    assert order == [(1, 1, 1), (1, 1, 0), (2, 0, 0), (1, 1, 1)]


async def test_no_more_are_under_way_than_the_limit() -> None:
    """Whoever takes waits until something under way has ended, though more is waiting."""
    box = scheduler(senders=2)
    for number in range(3):
        await box.offer(batch(number + 1))
    first, _ = await take(box), await take(box)
    assert box.is_wanting
    taken: list[WorkItem] = []

    async def take_third() -> None:
        taken.append(await take(box))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take_third)
        await wait_all_tasks_blocked()
        assert taken == []
        box.done(first, EASED)
    assert [item.batch.number for item in taken] == [3]
    assert not box.is_wanting


async def test_rest_ends_with_the_run() -> None:
    """Who rests between two questions is woken when nothing is left to do, and by nothing else before its time."""
    breaker = CircuitBreaker(trip_after=1)
    box = scheduler(breaker=breaker)
    trip(breaker)
    ended: list[str] = []

    async def rest() -> None:
        await box.wait_to_probe(lambda: breaker.is_open, 1000)
        ended.append("rested")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rest)
        await box.offer(batch(1))
        await wait_all_tasks_blocked()
        assert ended == []
        box.abandon()
    assert ended == ["rested"]


async def test_abandoned_outbox_ends_everyone() -> None:
    """After a stop nothing new starts: offers go nowhere, what waits is left, senders end once they are idle."""
    box = scheduler(senders=1)
    await box.offer(batch(1))
    await box.offer(batch(2))
    item = await take(box)
    box.abandon()
    await box.offer(batch(3))
    box.done(item, EASED, [(anyio.current_time(), item)])
    assert await box.take() is None


async def test_there_is_plenty_while_twice_as_many_wait_as_may_be_under_way() -> None:
    """Half as many batches would then still keep everybody busy."""
    box = scheduler(senders=2)
    for number in range(4):
        assert not box.is_plentiful
        await box.offer(batch(number + 1))
    assert box.is_plentiful
    await take(box)
    assert not box.is_plentiful


@pytest.mark.parametrize("senders", [1, 8])
@pytest.mark.parametrize("requests_per_s", [0.5, 3.0, 50.0])
async def test_requests_are_handed_out_at_their_rate(requests_per_s: float, senders: int) -> None:
    """Sixty take as long as they should to 1 %, however many could be sent at once."""
    box = scheduler(senders=senders, requests_per_s=requests_per_s)
    times_s: list[float] = []

    async def assemble() -> None:
        for number in range(60):
            await box.offer(batch(number + 1))
        box.end()

    async def send() -> None:
        while (item := await box.take()) is not None:
            times_s.append(anyio.current_time())
            box.done(item, EASED)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(assemble)
        for _ in range(senders):
            tasks.start_soon(send)
    expected_s = 59 / requests_per_s - BURST_S
    assert times_s[-1] - times_s[0] == pytest.approx(expected_s, rel=0.01)


async def test_retries_and_questions_count_as_requests() -> None:
    """What is sent again and what is asked for have their turns with the rest."""
    box = scheduler(requests_per_s=1.0)
    await box.offer(batch(1))
    first = await take(box)
    began_s = anyio.current_time()
    box.done(first, EASED, [(began_s, again(first)), (began_s, Query(first.batch, "no answer"))])
    await box.offer(batch(2))
    for _ in range(3):
        box.done(await take(box), EASED)
    assert anyio.current_time() - began_s == pytest.approx(3 - BURST_S)


@pytest.mark.parametrize(("requests_per_s", "expected"), [(1.0, [1, 1, 1]), (None, [3])])
async def test_with_a_rate_an_errand_is_one_request(requests_per_s: float | None, expected: list[int]) -> None:
    """A question after several instances is asked for one at a time; without a rate it stays one errand."""
    box = scheduler(requests_per_s=requests_per_s)
    await box.offer(batch(1, instances=3))
    first = await take(box)
    began_s = anyio.current_time()
    box.done(first, EASED, [(began_s, Query(first.batch, "no answer", asked=2))])
    box.end()
    asked: list[WorkItem] = []
    while (item := await box.take()) is not None:
        asked.append(item)
        box.done(item, EASED)
    assert [len(item.batch.instances) for item in asked] == expected
    assert tuple(i for item in asked for i in item.batch.instances) == first.batch.instances
    assert {(item.asked, item.reason) for item in asked if isinstance(item, Query)} == {(2, "no answer")}
    assert anyio.current_time() - began_s == pytest.approx(len(expected) - BURST_S if requests_per_s else 0)


async def test_a_question_whether_the_server_is_back_counts_too() -> None:
    """Who rests before it rests for its turn, and what follows it has the next."""
    breaker = CircuitBreaker(trip_after=1)
    box = scheduler(breaker=breaker, requests_per_s=0.1)
    await box.offer(batch(1))
    box.done(await take(box), EASED)
    began_s = anyio.current_time()
    trip(breaker)
    await box.offer(batch(2))
    assert await box.wait_to_probe(lambda: breaker.is_open, 1.0)
    assert anyio.current_time() - began_s == pytest.approx(10 - BURST_S)
    breaker.ended(Store(batch(1)), anyio.current_time(), EASED)
    await take(box)
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
async def test_why_no_request_begins_is_told(
    senders: int, requests_per_s: float | None, offered: tuple[int, ...], expected: dict[Wait, float]
) -> None:
    """While one more request is allowed and none begins, it is known why, and for how long."""
    waits = Waits()
    box = scheduler(senders=senders, requests_per_s=requests_per_s, reporter=waits)
    for number, study in enumerate(offered):
        await box.offer(batch(number + 1, study=study))

    async def send() -> None:
        while await box.take() is not None:
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.sleep(5.0)
        tasks.cancel_scope.cancel()
    assert waits.waited_s == pytest.approx(expected)


async def test_retries_that_the_budget_holds_back_wait_for_no_study() -> None:
    """The time until the budget allows a retry is nobody's: neither a busy study nor a slow disk is told."""
    waits = Waits()
    box = scheduler(budget=RetryBudget(most=1.0, share=0.0, minimum_per_s=0.1), reporter=waits)
    await box.offer(batch(1))
    again = [(anyio.current_time(), Store(replace(batch(n, study=n), failed_attempts=1))) for n in (1, 2)]
    box.done(await take(box), EASED, again)
    began_s = anyio.current_time()
    box.done(await take(box), EASED)
    box.done(await take(box), EASED)
    assert anyio.current_time() - began_s == pytest.approx(10.0)
    assert waits.waited_s == {}


async def test_a_request_is_idle_while_it_might_begin_and_nothing_is_there_for_it() -> None:
    """What is fresh and what is under way has its request; at the end none is idle."""
    box = scheduler(senders=2)
    seen = [box.idle]
    await box.offer(batch(1))
    seen.append(box.idle)
    item = await take(box)
    seen.append(box.idle)
    for _ in range(3):
        await box.offer(batch(2))
    seen.append(box.idle)
    box.done(item, EASED)
    seen.append(box.idle)
    box.abandon()
    assert [*seen, box.idle] == [2, 1, 1, 0, 0, 0]


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
    box = scheduler(gates=[OpensAt(began_s + 3600)], reporter=waits)
    await box.offer(batch(1))
    assert not box.is_wanting
    await take(box)
    assert anyio.current_time() - began_s == pytest.approx(3600)
    assert waits.waited_s == pytest.approx({Wait.PACE: 3600})


async def test_a_gate_for_some_items_lets_the_others_pass() -> None:
    """Stores wait until their gate opens; the queries after one of them that is under way do not."""
    began_s = anyio.current_time()
    gate = OpensAt(began_s, for_queries=False)
    box = scheduler(gates=[gate])
    for number in (1, 2):
        await box.offer(batch(number))
    first = await take(box)
    gate.opens_s = began_s + 60
    query = Query(first.batch, "no answer")
    box.done(first, EASED, [(began_s + 10, query)])
    assert await take(box) == query
    assert anyio.current_time() - began_s == pytest.approx(10)
    assert await take(box) == Store(batch(2))
    assert anyio.current_time() - began_s == pytest.approx(60)
