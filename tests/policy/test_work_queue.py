"""Which item starts next, or how long to wait and why."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.model import Batch, Candidate, Instance
from bulkstow.policy.bottleneck import Wait
from bulkstow.policy.gates import Gate
from bulkstow.policy.work_items import Query, Store, WorkItem
from bulkstow.policy.work_queue import Hold, WorkQueue
from tests.archives import header


def store(number: int) -> Store:
    """Return an item with a number."""
    return Store(Batch(number, (Instance(Candidate(f"/{number}", 1, 1), header(number)),)))


class Fixed(Gate):
    """A gate that is closed for some items, or for every item."""

    def __init__(self, why: Wait | None, wait_s: float, *numbers: int) -> None:
        self.why, self.hold_s, self._numbers = why, wait_s, numbers
        self.is_by_item = bool(numbers)

    def wait_s(self, item: WorkItem | None, now_s: float) -> float:
        """Return the same for the same item."""
        return self.hold_s if item is None or item.batch.number in self._numbers else 0.0


def no_rank(_item: WorkItem) -> int:
    """Prefer none."""
    return 0


@pytest.mark.parametrize(
    ("fresh", "scheduled", "gates", "expected"),
    [
        ((1, 2), (), [], 1),
        ((1,), ((2, 100.0),), [], 2),
        ((1,), ((2, 100.5),), [], 1),
        ((), ((2, 103.0), (1, 101.0)), [], Hold(1.0, Wait.NOTHING)),
        ((), (), [], Hold(math.inf, Wait.NOTHING)),
        ((1, 2), (), [Fixed(None, math.inf)], Hold(math.inf, None)),
        ((1, 2), (), [Fixed(Wait.PACE, 2.0), Fixed(Wait.SERVER_RATE, 9.0)], Hold(2.0, Wait.PACE)),
        ((), (), [Fixed(Wait.SERVER_RATE, 2.0)], Hold(2.0, Wait.NOTHING)),
        ((), (), [Fixed(None, math.inf)], Hold(math.inf, None)),
        ((1, 2), (), [Fixed(Wait.STUDY, math.inf, 1)], 2),
        ((1, 2), (), [Fixed(Wait.STUDY, math.inf, 1, 2)], Hold(math.inf, Wait.STUDY)),
        ((1, 2), (), [Fixed(Wait.STUDY, math.inf, 1), Fixed(None, 5.0, 2)], Hold(5.0, Wait.STUDY)),
        ((1, 2), (), [Fixed(None, 7.0, 1), Fixed(None, 5.0, 2)], Hold(5.0, None)),
        ((1,), ((2, 101.0),), [Fixed(None, 7.0, 1)], Hold(1.0, None)),
        ((1,), ((2, 100.0),), [Fixed(Wait.STUDY, math.inf, 2)], 1),
    ],
    ids=[
        "the first one",
        "a retry that is due",
        "a retry that is not due",
        "only retries that are not due",
        "nothing",
        "a gate for all",
        "the first of two gates for all",
        "a rate while nothing is to be sent",
        "a limit that is reached, while nothing is to be sent",
        "a gate for one item",
        "the same gate for all items",
        "an item that waits for an event and one that waits for a time",
        "the shorter wait",
        "until a retry is due",
        "a retry that is held back",
    ],
)
def test_what_starts_next(
    fresh: tuple[int, ...], scheduled: tuple[tuple[int, float], ...], gates: list[Gate], expected: int | Hold
) -> None:
    """Retries that are due first, then fresh items in order; a closed gate keeps its items, and no others."""
    queue = WorkQueue(gates, no_rank)
    for number in fresh:
        queue.add(store(number))
    for number, due_s in scheduled:
        queue.schedule(store(number), due_s)
    taken = queue.take(100.0)
    assert taken == (expected if isinstance(expected, Hold) else store(expected))


def test_nothing_is_missing_at_the_end() -> None:
    """Once no fresh item will come, an empty queue is no bottleneck."""
    queue = WorkQueue([], no_rank)
    queue.end()
    assert queue.take(0.0) == Hold(math.inf, None)


def test_the_lowest_rank_goes_first() -> None:
    """Of all items that may start, and of equal ones the first."""
    queue = WorkQueue([Fixed(None, 1.0, 1)], lambda item: item.batch.number // 2)
    for number in (5, 3, 1, 4, 2):
        queue.add(store(number))
    taken = [queue.take(0.0) for _ in range(4)]
    assert taken == [store(number) for number in (3, 2, 5, 4)]


class Counting(Gate):
    """A gate that limits requests per time."""

    counts_requests = True


def test_a_query_for_several_instances_passes_a_counting_gate_one_by_one() -> None:
    """It may take as many requests as instances; what is left of it keeps its place."""
    batch = store(1).batch
    instances = tuple(replace(batch.instances[0], header=header(number)) for number in range(3))
    query = Query(replace(batch, instances=instances), "no answer")
    queue = WorkQueue([Counting()], no_rank)
    queue.schedule(query, 0.0)
    queue.add(store(2))
    taken = [queue.take(0.0) for _ in range(4)]
    assert [len(item.batch.instances) for item in taken if isinstance(item, Query)] == [1, 1, 1]
    assert taken[-1] == store(2)
    unlimited = WorkQueue([], no_rank)
    unlimited.schedule(query, 0.0)
    assert unlimited.take(0.0) == query


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=40), st.lists(st.integers(0, 39), max_size=10))
def test_every_item_is_taken_once(items: list[tuple[bool, int]], closed: list[int]) -> None:
    """Whatever waits and however gates open, no item is lost or taken twice."""
    gate = Fixed(None, math.inf, *closed, -1)
    queue = WorkQueue([gate], no_rank)
    for number, (is_fresh, due_s) in enumerate(items):
        if is_fresh:
            queue.add(store(number))
        else:
            queue.schedule(store(number), float(due_s))
    taken: list[int] = []
    for now_s in range(51):
        gate.hold_s = math.inf if now_s < 50 else 0.0
        while not isinstance(item := queue.take(float(now_s)), Hold):
            taken.append(item.batch.number)
    assert sorted(taken) == list(range(len(items)))
    assert not queue
