"""The simulated server inside the sink: slots, queue, limit, spread, freeze; and the sink as a process."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.server.sink import Service


@dataclass
class Clock:
    """A clock that the test advances."""

    now_s: float = 0.0
    _order: Iterator[int] = field(default_factory=count)
    _calls: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call after so many seconds."""
        heapq.heappush(self._calls, (self.now_s + delay_s, next(self._order), call))

    def run(self) -> None:
        """Let all the time pass that somebody waits for."""
        while self._calls:
            self.now_s, _, call = heapq.heappop(self._calls)
            call()


def serve(service: Service, clock: Clock, requests: int) -> list[tuple[int, float]]:
    """Send requests all at once; return which were answered when."""
    answered: list[tuple[int, float]] = []

    def answer(number: int) -> Callable[[], None]:
        return lambda: answered.append((number, clock.now_s))

    for number in range(requests):
        assert service.admit()
        service.serve(1, answer(number))
    clock.run()
    return answered


@pytest.mark.parametrize(
    ("slots", "answered_s"),
    [(1, [1.0, 2.0, 3.0, 4.0]), (2, [1.0, 1.0, 2.0, 2.0]), (4, [1.0] * 4), (0, [1.0] * 4)],
)
def test_as_many_are_served_at_once_as_there_are_slots(slots: int, answered_s: list[float]) -> None:
    """Requests without a slot wait in the order of arrival; with no slots none waits."""
    clock = Clock()
    answered = serve(Service(slots=slots, service_s=1.0, later=clock.later), clock, 4)
    assert [number for number, _ in answered] == [0, 1, 2, 3]
    assert [when_s for _, when_s in answered] == pytest.approx(answered_s)


def test_the_limit_counts_what_is_served_and_what_queues() -> None:
    """Beyond the limit there is no room, until one has been answered, or has gone."""
    clock = Clock()
    service = Service(slots=1, limit=2, service_s=1.0, later=clock.later)
    assert [service.admit() for _ in range(3)] == [True, True, False]
    service.serve(1, lambda: None)
    assert not service.admit()
    clock.run()
    assert service.admit()
    assert not service.admit()
    service.leave()
    assert service.admit()


def test_each_instance_takes_its_time() -> None:
    """A request takes longer by the time of each of its instances."""
    clock = Clock()
    Service(service_s=1.0, instance_s=0.5, later=clock.later).serve(4, lambda: None)
    clock.run()
    assert clock.now_s == pytest.approx(3.0)


def test_without_a_service_time_an_answer_comes_at_once() -> None:
    """A plain sink does not go through the clock."""
    answered: list[int] = []
    Service().serve(1, lambda: answered.append(1))
    assert answered == [1]


@given(spread=st.floats(0.0, 0.9), requests=st.integers(50, 200))
def test_a_spread_changes_no_capacity(spread: float, requests: int) -> None:
    """Services are longer and shorter by at most the spread, and as long as before in the mean."""
    clock = Clock()
    answered = serve(Service(slots=1, service_s=1.0, spread=spread, later=clock.later), clock, requests)
    ends_s = [0.0, *(when_s for _, when_s in answered)]
    services_s = [end_s - begin_s for begin_s, end_s in pairwise(ends_s)]
    assert min(services_s) >= 1 - spread - 1e-6
    assert max(services_s) <= 1 + spread + 1e-6
    assert clock.now_s == pytest.approx(requests, rel=0.02)


def test_a_freeze_comes_once_after_the_first_request() -> None:
    """It blocks everything for its duration, once; without a freeze nothing sleeps."""
    clock, slept_s = Clock(), list[tuple[float, float]]()

    def sleep(duration_s: float) -> None:
        slept_s.append((clock.now_s, duration_s))

    Service(later=clock.later, sleep=sleep).admit()
    service = Service(freeze_at_s=8.0, freeze_for_s=3.0, later=clock.later, sleep=sleep)
    clock.now_s = 5.0
    serve(service, clock, 3)
    serve(service, clock, 3)
    assert slept_s == [(13.0, 3.0)]
