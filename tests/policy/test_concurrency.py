"""The number of concurrent requests, found on simulated servers."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.policy.concurrency import HOLD_MOST_S, HOLD_S, LADDER, Concurrency
from bulkstow.policy.gates import ConcurrencyGate

CT_BYTES = 8_000_000
SERVICE_S = 0.3
REJECTED_S = 0.005
"""The time in which a server rejects a request."""


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
    spread: float = 0.1
    """The share of the service time by which it varies."""
    later_slots: int | None = None
    """The number of slots from `changes_s` on."""
    changes_s: float = 60.0


@dataclass
class Course:
    """The result of a run."""

    elapsed_s: float
    bytes_per_s: float
    """In the second half of the time."""
    rejected_share: float
    settled: int


def simulate(
    server: Server, controller: Concurrency, *, seed: int = 1, duration_s: float = 200.0, requests: int = 10**9
) -> Course:
    """Send requests for a time, or a number of them, as the controller decides; rejected ones are sent again."""
    chance = random.Random(seed)
    gate = ConcurrencyGate(controller)
    now_s, busy, number, accepted, begun, rejected, late_bytes = 0.0, 0, 0, 0, 0, 0, 0
    queue: deque[tuple[int, float, float, int]] = deque()
    ends: list[tuple[float, int, int, float, int]] = []
    while now_s < duration_s and accepted < requests:
        slots = server.slots if server.later_slots is None or now_s < server.changes_s else server.later_slots
        while (is_left := accepted + gate.in_flight < requests) and not gate.wait_s(None, now_s):
            gate.started(None, now_s)
            begun += 1
            if server.rejects_above is not None and busy + len(queue) >= server.rejects_above:
                rejected += 1
                heapq.heappush(ends, (now_s + REJECTED_S, begun, 0, now_s, gate.in_flight))
                continue
            size_bytes = server.sizes(chance)
            varied = chance.uniform(1 - server.spread, 1 + server.spread)
            queue.append((size_bytes, SERVICE_S * size_bytes / CT_BYTES * varied, now_s, gate.in_flight))
        while queue and busy < slots:
            size_bytes, service_s, started_s, at_once = queue.popleft()
            busy += 1
            number += 1
            heapq.heappush(ends, (now_s + service_s, -number, size_bytes, started_s, at_once))
        opens_s = now_s + gate.wait_s(None, now_s) if is_left else float("inf")
        if not ends or opens_s < ends[0][0]:
            now_s = opens_s
            continue
        now_s, _, size_bytes, started_s, at_once = heapq.heappop(ends)
        busy -= size_bytes > 0
        accepted += size_bytes > 0
        late_bytes += size_bytes if now_s > duration_s / 2 else 0
        controller.ended(
            started_s,
            now_s,
            size_bytes,
            size_bytes // 500_000,
            at_once=at_once,
            is_rejected=size_bytes == 0,
            is_wanted=is_left,
        )
        gate.in_flight -= 1
    return Course(now_s, late_bytes / (duration_s / 2), rejected / begun, controller.settled)


def fixed(number: int) -> Concurrency:
    """Return a controller with one number to choose from."""
    return Concurrency(lowest=number, highest=number)


def rung_of(slots: int) -> int:
    """Return the place of the lowest number of the ladder that uses all slots."""
    return next(place for place, rung in enumerate(LADDER) if rung >= slots)


SEEDS = pytest.mark.parametrize("seed", [1, 2, 3])


@SEEDS
@pytest.mark.parametrize("spread", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("slots", [1, 2, 3, 5, 8, 13, 24, 40, 64])
def test_a_knee_is_found(slots: int, spread: float, seed: int) -> None:
    """It settles at most one rung from the lowest number that uses all slots, however much service times vary."""
    course = simulate(Server(slots, spread=spread), Concurrency(highest=128), seed=seed)
    assert abs(LADDER.index(course.settled) - rung_of(slots)) <= 1
    assert course.bytes_per_s >= 0.9 * slots * CT_BYTES / SERVICE_S


@SEEDS
@pytest.mark.parametrize("slots", [1, 2, 8, 24])
def test_a_knee_is_found_by_requests_of_two_sizes(slots: int, seed: int) -> None:
    """It comes within 10 % of the best fixed number if a few requests are 30 times as large as the others."""
    server = Server(slots, sizes=two_sizes)
    best = max(simulate(server, fixed(number), seed=seed).bytes_per_s for number in (1, 2, 4, 8, 16, 24, 32, 48))
    assert simulate(server, Concurrency(highest=64), seed=seed).bytes_per_s >= 0.9 * best


@SEEDS
@pytest.mark.parametrize(("slots", "factor"), [(2, 1.1), (4, 1.1), (8, 1.1), (16, 1.2), (24, 1.2), (32, 1.2)])
def test_a_short_run_takes_little_longer_than_with_the_best_number(slots: int, factor: float, seed: int) -> None:
    """The number is found within the first of twelve rounds."""
    server, requests = Server(slots, spread=0.3), 12 * slots
    best_s = simulate(server, fixed(slots), seed=seed, requests=requests).elapsed_s
    assert simulate(server, Concurrency(), seed=seed, requests=requests).elapsed_s <= factor * best_s


@SEEDS
@pytest.mark.parametrize("beyond", [1, 1.25, 1.5])
@pytest.mark.parametrize("slots", [2, 4, 8, 16, 24])
def test_a_server_that_rejects_is_not_pushed(slots: int, beyond: float, seed: int) -> None:
    """With 503 just beyond the knee, 2 % of the requests of a run of some seconds are rejected at most."""
    server = Server(slots, rejects_above=max(slots + 1, int(slots * beyond)), spread=0.3)
    course = simulate(server, Concurrency(), seed=seed, requests=300)
    assert course.rejected_share <= 0.02


@SEEDS
@pytest.mark.parametrize("beyond", [1, 1.25, 1.5])
@pytest.mark.parametrize("slots", [2, 4, 8, 16, 24])
def test_a_server_that_rejects_is_used_fully(slots: int, beyond: float, seed: int) -> None:
    """In the long run the goodput is within 10 % of the best, and at most 1 % of the requests is rejected."""
    server = Server(slots, rejects_above=max(slots + 1, int(slots * beyond)))
    course = simulate(server, Concurrency(highest=64), seed=seed)
    assert course.bytes_per_s >= 0.9 * simulate(server, fixed(slots), seed=seed).bytes_per_s
    assert course.rejected_share <= 0.01


@pytest.mark.parametrize(("before", "after"), [(16, 4), (4, 16)], ids=["slows down", "speeds up"])
def test_a_server_that_changes_is_followed(before: int, after: int) -> None:
    """If the server's capacity falls or rises, so does the number."""
    server = Server(before, later_slots=after)
    course = simulate(server, Concurrency(highest=64), duration_s=600)
    assert course.bytes_per_s >= 0.9 * simulate(Server(after), fixed(after), duration_s=600).bytes_per_s
    assert after / 2 <= course.settled <= after * 2


def end(
    controller: Concurrency,
    now_s: float,
    *,
    started_s: float | None = None,
    at_once: int | None = None,
    is_rejected: bool = False,
    is_wanted: bool = True,
) -> int:
    """Tell of a request of 0.3 s; return the limit afterwards."""
    controller.ended(
        now_s - SERVICE_S if started_s is None else started_s,
        now_s,
        CT_BYTES,
        16,
        at_once=controller.limit if at_once is None else at_once,
        is_rejected=is_rejected,
        is_wanted=is_wanted,
    )
    return controller.limit


def test_the_slow_start_allows_one_more_for_each_request_that_ends() -> None:
    """The number doubles in a round."""
    controller = Concurrency(highest=20)
    rounds = [[end(controller, number * SERVICE_S) for _ in range(4 * 2 ** (number - 1))] for number in (1, 2, 3)]
    assert rounds[0] == [5, 6, 7, 8]
    assert rounds[1] == list(range(9, 17))
    assert rounds[2] == [17, 18, 19, *[20] * 13]
    assert controller.settled == 20


def test_quick_requests_double_the_number_no_sooner_than_in_a_fifth_of_a_second() -> None:
    """A round has a least time, as pauses would decide otherwise."""
    controller = Concurrency(highest=128)
    limits = [end(controller, number / 1000, started_s=(number - 5) / 1000) for number in range(5, 420)]
    assert limits[90] == 6
    assert max(limits[:195]) == 8
    assert max(limits) <= 16


def test_a_round_that_mostly_uses_less_grows_nothing() -> None:
    """If more requests are wanted now and then only, the number returns to that of the round's begin."""
    controller = Concurrency()
    limits = [end(controller, number * 0.3, is_wanted=number % 4 == 1) for number in range(1, 101)]
    assert limits == [5, 5, 5, 4] * 25


def test_the_slow_start_ends_when_a_round_gains_little() -> None:
    """The number is then that of the best goodput, by the duration of a request when few were under way."""
    controller = Concurrency(highest=64)
    for number in range(4):
        end(controller, 0.3 + number / 1e6, started_s=0.0)
    for number in range(8):
        end(controller, 0.6 + number / 1e6, started_s=0.3)
    assert controller.limit == 16
    for number in range(16):  # eight slots: half of the requests wait for the other half
        end(controller, 0.9 + 0.3 * (number // 8), started_s=0.6)
    assert (controller.limit, controller.settled) == (12, 12)


def test_the_number_does_not_grow_while_it_is_not_used() -> None:
    """While nothing more waits to be sent, requests do not raise the number."""
    controller = Concurrency()
    for number in range(1000):
        assert end(controller, number * 0.1, is_wanted=False) == 4


@pytest.mark.parametrize(
    ("at_once", "lower"),
    [(2, 1), (3, 2), (4, 3), (5, 4), (11, 8), (14, 8), (17, 12), (18, 12), (20, 16), (25, 16), (31, 24), (99, 24)],
)
def test_a_rejection_lowers_the_number_at_once(at_once: int, lower: int) -> None:
    """The number becomes a rung at four fifths of the number of the rejected request, or less."""
    controller = Concurrency(highest=64)
    for number in range(28):
        end(controller, 0.3 * (1 + (number >= 4) + (number >= 12)))
    assert controller.limit == 32
    assert end(controller, 1.0, started_s=0.99, at_once=at_once, is_rejected=True) == lower
    assert controller.settled == lower


def test_one_round_of_rejections_lowers_the_number_once() -> None:
    """Rejections of requests that started before say nothing new; one that started later does."""
    controller = Concurrency(start=16)
    assert end(controller, 1.0, started_s=0.9, is_rejected=True) == 12
    assert end(controller, 1.1, started_s=0.95, at_once=16, is_rejected=True) == 12
    assert end(controller, 1.2, started_s=1.05, at_once=12, is_rejected=True) == 8


def test_a_trial_that_is_rejected_returns_to_the_number_before() -> None:
    """A number at which requests were accepted is held again; the next trial comes after twice the time."""
    controller, trials_s, now_s = Concurrency(start=16), list[float](), 1.0
    assert end(controller, now_s, is_rejected=True) == 12
    while now_s < 1000:
        now_s += SERVICE_S / controller.limit
        if controller.limit <= 12:
            end(controller, now_s)
        else:
            trials_s.append(now_s)
            assert end(controller, now_s, started_s=now_s - REJECTED_S, at_once=13, is_rejected=True) == 12
    waits_s = [later_s - earlier_s for earlier_s, later_s in pairwise(trials_s)]
    assert all(HOLD_S <= wait_s <= 1.2 * HOLD_MOST_S for wait_s in waits_s)
    assert all(later_s >= 1.5 * earlier_s for earlier_s, later_s in pairwise(waits_s[:4]))


def test_a_fixed_number_stays() -> None:
    """With one number to choose from, nothing changes it."""
    controller = fixed(5)
    for number in range(100):
        assert end(controller, number * 0.1, is_rejected=number % 7 == 0) == 5


Told = st.tuples(
    st.floats(0, 5), st.floats(0, 20), st.integers(1, 2**34), st.integers(1, 200), st.booleans(), st.integers(0, 9)
)


@given(
    st.lists(Told, max_size=300),
    st.sampled_from([(1, 32), (2, 6), (5, 7), (10, 10), (1, 1), (40, 200), (1, 3), (3, 4)]),
)
def test_bounds_are_kept(told: list[tuple[float, float, int, int, bool, int]], bounds: tuple[int, int]) -> None:
    """Whatever is told, the limit never leaves its bounds."""
    controller, now_s = Concurrency(lowest=bounds[0], highest=bounds[1]), 0.0
    for later_s, took_s, size_bytes, at_once, is_wanted, rejected in told:
        now_s += later_s
        controller.ended(
            now_s - took_s,
            now_s,
            size_bytes,
            1,
            at_once=at_once,
            is_rejected=rejected == 0,
            is_wanted=is_wanted,
        )
        assert bounds[0] <= controller.limit <= bounds[1]
        assert bounds[0] <= controller.settled <= bounds[1]
