"""Claims about what waits to be sent, and who may go next."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from bulkstow.model import Batch, Candidate, Instance
from bulkstow.pipeline.outbox import WAITING_PER_SENDER, WINDOW_PER_SENDER, Outbox
from bulkstow.policy.concurrency import Concurrency
from bulkstow.policy.errands import Errand, Send
from bulkstow.policy.lanes import Lanes
from bulkstow.policy.retry import Breaker, RetryBudget
from tests.archives import header

pytestmark = pytest.mark.anyio


def batch(number: int, *, study: int | None = None) -> Batch:
    """Return a batch with one instance, of a study of its own unless one is named."""
    return Batch(number, (Instance(Candidate(f"/{number}", 1, 1), header(number, study=study or number)),))


def outbox(
    *, senders: int = 8, per_study: int = 4, breaker: Breaker | None = None, budget: RetryBudget | None = None
) -> Outbox:
    """Return an outbox."""
    return Outbox(
        concurrency=Concurrency(lowest=senders, highest=senders),
        lanes=Lanes(per_study),
        breaker=breaker or Breaker(),
        budget=budget or RetryBudget(),
    )


async def take(box: Outbox) -> Errand:
    """Take an errand that must be there."""
    errand = await box.take()
    assert errand is not None
    return errand


async def test_fresh_batches_come_in_order_and_then_none() -> None:
    """What was offered is taken once, in order; after the end there is None for every sender."""
    box = outbox()
    for number in range(3):
        await box.offer(batch(number + 1))
    box.end()
    taken = [await take(box) for _ in range(3)]
    for errand in taken:
        box.done(errand, ())
    assert [errand.batch.number for errand in taken] == [1, 2, 3]
    assert await box.take() is None
    assert await box.take() is None


async def test_offer_waits_while_the_window_is_full() -> None:
    """The assembler waits until a sender has taken something: that is the backpressure."""
    box = outbox(senders=1)
    offered: list[int] = []

    async def assemble() -> None:
        for number in range(WINDOW_PER_SENDER + 2):
            await box.offer(batch(number + 1))
            offered.append(number + 1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(assemble)
        await wait_all_tasks_blocked()
        assert len(offered) == WINDOW_PER_SENDER
        box.done(await take(box), ())
        await wait_all_tasks_blocked()
        assert len(offered) == WINDOW_PER_SENDER + 1
        box.done(await take(box), ())


async def test_offer_waits_while_too_much_waits_for_its_retry() -> None:
    """What waits for a retry is bounded, so memory is too when the server refuses everything."""
    box = outbox(senders=1)
    now_s = anyio.current_time()
    for number in range(WAITING_PER_SENDER):
        await box.offer(batch(number + 1))
        errand = await take(box)
        box.done(errand, [(now_s + 1000, errand)])
    with anyio.move_on_after(0) as scope:
        await checkpoint()
    with anyio.move_on_after(0.01) as scope:
        await box.offer(batch(99))
    assert scope.cancelled_caught


async def test_a_parked_errand_comes_when_it_is_due() -> None:
    """What waits for its time does not hold up what is fresh, and comes first once it is due."""
    box = outbox()
    await box.offer(batch(1))
    first = await take(box)
    box.done(first, [(anyio.current_time() + 0.05, first)])
    await box.offer(batch(2))
    second = await take(box)
    assert second.batch.number == 2
    again = await take(box)
    assert again is first
    assert anyio.current_time() >= 0.05


async def test_senders_wait_for_what_is_under_way() -> None:
    """The end comes only when nothing under way can bring more to do."""
    box = outbox()
    await box.offer(batch(1))
    box.end()
    errand = await take(box)
    ended: list[Errand | None] = []

    async def wait() -> None:
        ended.append(await box.take())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await wait_all_tasks_blocked()
        assert ended == []
        box.done(errand, [(anyio.current_time(), Send(batch(2)))])
        await wait_all_tasks_blocked()
        assert ended == [Send(batch(2))]


async def test_first_request_of_a_study_goes_alone() -> None:
    """Another batch of a study that is new to the server waits; one of another study overtakes it."""
    box = outbox(per_study=2)
    for number, study in ((1, 1), (2, 1), (3, 1), (4, 1), (5, 2)):
        await box.offer(batch(number, study=study))
    first, other = await take(box), await take(box)
    assert (first.batch.number, other.batch.number) == (1, 5)
    box.done(first, ())
    assert [(await take(box)).batch.number for _ in range(2)] == [2, 3]
    with anyio.move_on_after(0.01) as scope:
        await box.take()
    assert scope.cancelled_caught


async def test_nothing_starts_while_the_breaker_is_open() -> None:
    """While the destination is gone nobody gets anything, not even what is due; once it is back everybody does."""
    breaker = Breaker(trip_after=1)
    box = outbox(breaker=breaker)
    await box.offer(batch(1))
    first = await take(box)
    box.done(first, [(anyio.current_time(), first)])
    await box.offer(batch(2))
    breaker.gone(anyio.current_time())
    taken: list[Errand] = []

    async def send() -> None:
        taken.append(await take(box))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        tasks.start_soon(send)
        await wait_all_tasks_blocked()
        assert taken == []
        breaker.alive()
        box.look_again()
    assert {errand.batch.number for errand in taken} == {1, 2}


def again(errand: Errand) -> Errand:
    """Return the errand after a request without an answer."""
    return Send(replace(errand.batch, requests=1, faults=1))


async def test_retries_without_budget_let_what_is_fresh_go_first() -> None:
    """When the budget is spent, a retry that is due waits for it, and what is fresh and what is split does not."""
    box = outbox(budget=RetryBudget(most=1.0, share=0.0, minimum_per_s=20.0))
    await box.offer(batch(1))
    first = await take(box)
    now_s = anyio.current_time()
    split = Send(replace(first.batch, requests=1))
    box.done(first, [(now_s, again(first)), (now_s, again(first)), (now_s, split)])
    await box.offer(batch(2))
    order = []
    for _ in range(4):
        errand = await take(box)
        order.append((errand.batch.number, errand.batch.requests, errand.batch.faults))
        box.done(errand, ())
    assert order == [(1, 1, 1), (1, 1, 0), (2, 0, 0), (1, 1, 1)]


async def test_no_more_are_under_way_than_the_limit() -> None:
    """Whoever takes waits until something under way has ended, though more is waiting."""
    box = outbox(senders=2)
    for number in range(3):
        await box.offer(batch(number + 1))
    first, _ = await take(box), await take(box)
    assert box.is_wanting
    taken: list[Errand] = []

    async def take_third() -> None:
        taken.append(await take(box))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take_third)
        await wait_all_tasks_blocked()
        assert taken == []
        box.done(first, ())
    assert [errand.batch.number for errand in taken] == [3]
    assert not box.is_wanting


async def test_rest_ends_with_the_run() -> None:
    """Who rests between two questions is woken when nothing is left to do, and by nothing else before its time."""
    breaker = Breaker(trip_after=1)
    box = outbox(breaker=breaker)
    breaker.gone(anyio.current_time())
    ended: list[str] = []

    async def rest() -> None:
        await box.rest(1000)
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
    box = outbox(senders=1)
    await box.offer(batch(1))
    await box.offer(batch(2))
    errand = await take(box)
    box.abandon()
    await box.offer(batch(3))
    box.done(errand, [(anyio.current_time(), errand)])
    assert await box.take() is None
