"""The number of concurrent requests, found on simulated servers."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from bulkstow.policy.concurrency import LADDER, Concurrency

CT_BYTES = 8_000_000
SERVICE_S = 0.3


def one_size(_chance: random.Random) -> int:
    """Return the size of a request; all are equal."""
    return CT_BYTES


def two_sizes(chance: random.Random) -> int:
    """Return the size of a request; most are small, a few are large."""
    return 1_000_000 if chance.random() < 0.7 else 30_000_000


@dataclass
class Server:
    """A number of slots, a service time by size, a queue, and optionally a limit above which it responds with 503."""

    slots: int
    rejects_above: int | None = None
    sizes: Callable[[random.Random], int] = one_size
    later_slots: int | None = None
    """The number of slots from `changes_s` on."""
    changes_s: float = 60.0


@dataclass
class Course:
    """The result of the second half."""

    bytes_per_s: float
    rejected_share: float
    settled: int


def simulate(server: Server, controller: Concurrency, *, seed: int = 1, duration_s: float = 200.0) -> Course:
    """Send to a simulated server as the controller decides; return the result."""
    chance = random.Random(seed)
    now_s, in_flight, busy, number = 0.0, 0, 0, 0
    queue: deque[tuple[int, float]] = deque()
    ends: list[tuple[float, int, int]] = []
    served_bytes = ended = rejected = 0

    def slots() -> int:
        return server.slots if server.later_slots is None or now_s < server.changes_s else server.later_slots

    while now_s < duration_s:
        while in_flight < controller.limit:
            in_flight += 1
            number += 1
            if server.rejects_above is not None and in_flight > server.rejects_above:
                heapq.heappush(ends, (now_s + 0.005, number, 0))
                continue
            size_bytes = server.sizes(chance)
            queue.append((size_bytes, SERVICE_S * size_bytes / CT_BYTES * chance.uniform(0.9, 1.1)))
        while queue and busy < slots():
            size_bytes, service_s = queue.popleft()
            busy += 1
            number += 1
            heapq.heappush(ends, (now_s + service_s, number, size_bytes))
        now_s, _, size_bytes = heapq.heappop(ends)
        in_flight -= 1
        busy -= size_bytes > 0
        controller.ended(now_s, size_bytes, size_bytes // 500_000, is_rejected=size_bytes == 0)
        if now_s > duration_s / 2:
            served_bytes += size_bytes
            ended += 1
            rejected += size_bytes == 0
    return Course(served_bytes / (duration_s / 2), rejected / max(ended, 1), controller.settled)


def fixed(number: int) -> Concurrency:
    """Return a controller with one number to choose from."""
    return Concurrency(lowest=number, highest=number)


def best(server: Server, seed: int) -> float:
    """Return the goodput of the best fixed number."""
    return max(simulate(server, fixed(number), seed=seed).bytes_per_s for number in (1, 2, 4, 8, 16, 24, 32, 48))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("slots", [1, 2, 8, 24])
@pytest.mark.parametrize("sizes", [one_size, two_sizes])
def test_a_knee_is_found(slots: int, sizes: Callable[[random.Random], int], seed: int) -> None:
    """It comes within 10 % of the best fixed number for any knee, for requests of one size and of two."""
    server = Server(slots, sizes=sizes)
    course = simulate(server, Concurrency(highest=64), seed=seed)
    assert course.bytes_per_s >= 0.9 * best(server, seed)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("slots", [2, 8, 24])
def test_a_server_that_refuses_is_not_pushed(slots: int, seed: int) -> None:
    """With 503 above a limit the goodput is within 10 % of the best, and at most 2 % of requests are rejected."""
    server = Server(slots, rejects_above=slots + slots // 2 + 1)
    course = simulate(server, Concurrency(highest=64), seed=seed)
    best_allowed = simulate(server, fixed(slots), seed=seed).bytes_per_s
    assert course.bytes_per_s >= 0.9 * best_allowed
    assert course.rejected_share <= 0.02


@pytest.mark.parametrize(("before", "after"), [(16, 4), (4, 16)], ids=["slows down", "speeds up"])
def test_a_server_that_changes_is_followed(before: int, after: int) -> None:
    """If the server's capacity falls or rises, so does the number."""
    server = Server(before, later_slots=after)
    course = simulate(server, Concurrency(highest=64), duration_s=600)
    assert course.bytes_per_s >= 0.9 * simulate(Server(after), fixed(after), duration_s=600).bytes_per_s
    assert after / 2 <= course.settled <= after * 2


def test_no_more_than_is_good() -> None:
    """On a plateau the lower end is held: more would not be faster."""
    assert simulate(Server(8), Concurrency(highest=64)).settled <= 12


def test_it_does_not_grow_while_it_is_not_used() -> None:
    """While nothing more waits to be sent, samples do not raise the number."""
    controller = Concurrency()
    for number in range(1000):
        controller.ended(number * 0.1, CT_BYTES, 16, is_wanted=False)
    assert controller.limit == 4


def test_a_fixed_number_stays() -> None:
    """With one number to choose from, nothing changes it."""
    controller = fixed(5)
    for number in range(100):
        controller.ended(number * 0.1, CT_BYTES, 16, is_rejected=number % 7 == 0)
        assert controller.limit == 5


@pytest.mark.parametrize(("lowest", "highest"), [(1, 32), (2, 6), (5, 7), (10, 10), (1, 1), (40, 200)])
def test_bounds_are_kept(lowest: int, highest: int) -> None:
    """The limit never leaves its bounds, and is always a number of the ladder."""
    controller = Concurrency(lowest=lowest, highest=highest)
    chance = random.Random(1)
    seen = set()
    for number in range(5000):
        size_bytes = chance.randrange(1, CT_BYTES)
        controller.ended(number * 0.01, size_bytes, 1, is_rejected=chance.random() < 0.01)
        seen.add(controller.limit)
    assert min(seen) >= lowest
    assert max(seen) <= highest
    assert seen <= {lowest, highest, *LADDER}
