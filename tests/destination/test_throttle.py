"""Claims about the bandwidth limit, on a virtual clock."""

from __future__ import annotations

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from bulkstow.destination.throttle import SMALLEST_PIECE_BYTES, Throttle, local_time_of_day_s
from bulkstow.policy.pacing import BURST_S
from bulkstow.quantities import Timetable, parse_timetable
from tests.virtual_time import BACKEND

pytestmark = pytest.mark.anyio

HOUR_S = 3600.0


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    """Give a loop whose clock jumps."""
    return BACKEND


def timetable(text: str) -> Timetable:
    """Return a timetable that sets a limit."""
    parsed = parse_timetable(text)
    assert parsed is not None
    return parsed


def throttle(text: str, *, begins_s: float = 0.0) -> Throttle:
    """Return a throttle whose time of day follows the loop's clock, from a given time on."""
    return Throttle(timetable(text), time_of_day_s=lambda: (begins_s + anyio.current_time()) % (24 * HOUR_S))


async def send(limit: Throttle, size_bytes: int, piece_bytes: int = 2**18) -> None:
    """Send a body as destinations do."""
    while size_bytes:
        size_bytes -= await limit.admit(min(piece_bytes, size_bytes))


@pytest.mark.parametrize("bodies", [1, 4, 32])
@pytest.mark.parametrize("rate", ["20kB/s", "50MiB/s", "8Gbit/s"])
async def test_the_rate_is_exact(rate: str, bodies: int) -> None:
    """Ten seconds' worth takes ten seconds to 1 %, however many bodies share it."""
    limit = throttle(rate)
    rate_bytes_per_s = timetable(rate).rate_at(0)
    assert rate_bytes_per_s is not None
    began_s = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for _ in range(bodies):
            tasks.start_soon(send, limit, int(10 * rate_bytes_per_s / bodies))
    assert anyio.current_time() - began_s == pytest.approx(10, rel=0.01)


async def test_no_tenth_of_a_second_has_more_than_its_share() -> None:
    """The flow is even: in any 100 ms the rate's share is sent, and at most a burst and a piece more."""
    limit = throttle("10MB/s")
    left: list[tuple[float, int]] = []

    async def body() -> None:
        for _ in range(60):
            piece = await limit.admit(2**18)
            left.append((anyio.current_time(), piece))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(body)
    for begin_s, _ in left:
        within = sum(size_bytes for at_s, size_bytes in left if begin_s <= at_s < begin_s + 0.1)
        assert within <= 10_000_000 * (0.1 + BURST_S + 0.02)


async def test_who_came_first_goes_first() -> None:
    """After the burst, bodies take turns: of any four pieces, each of four bodies has one."""
    limit = throttle("1MB/s")
    order: list[int] = []

    async def body(number: int) -> None:
        for _ in range(20):
            await limit.admit(20_000)
            order.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(body, number)
    for begin in range(4, 60):
        assert set(order[begin : begin + 4]) == {0, 1, 2, 3}


async def test_a_wait_that_is_given_up_costs_nobody() -> None:
    """A body that is cancelled while it waits uses no bandwidth, and the next one has its turn."""
    limit = throttle("1MB/s")
    await send(limit, 1_000_000)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limit.admit, 1_000_000_000)
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    await limit.admit(1)
    assert anyio.current_time() < 1000


async def test_what_is_given_back_is_nobodys_wait() -> None:
    """Bytes that were admitted and not sent do not count."""
    limit = throttle("1MB/s")
    began_s = anyio.current_time()
    for _ in range(100):
        await limit.admit(20_000)
        limit.give_back(19_000)
    assert anyio.current_time() - began_s == pytest.approx(0.1 - BURST_S, abs=0.03)


async def test_unlimited_hours_cost_no_wait() -> None:
    """Outside the hours of a limit everything is admitted at once, in pieces of the requested size."""
    limit = throttle("08:00-18:00=10kB/s", begins_s=7 * HOUR_S)
    began_s = anyio.current_time()
    for _ in range(10):
        assert await limit.admit(2**30) == 2**30
    limit.give_back(2**30)
    assert anyio.current_time() == began_s


@pytest.mark.parametrize(
    ("text", "begins"),
    [("22:00-06:00=1kB/s", 6), ("08:00-18:00=1kB/s,1GB/s", 18)],
    ids=["over midnight", "another rate"],
)
async def test_a_new_hour_counts_within_a_second(text: str, begins: int) -> None:
    """A body that has to wait for minutes at this hour's rate is admitted within a second of the next hour."""
    now_s = anyio.current_time()
    limit = Throttle(timetable(text), time_of_day_s=lambda: begins * HOUR_S - 10 + anyio.current_time() - now_s)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(send, limit, 1_000_000)
    assert 10 <= anyio.current_time() - now_s <= 11


async def test_a_limit_that_begins_counts_at_once() -> None:
    """The first piece of a limited hour is paced, without debt or credit from the hour before."""
    limit = throttle("08:00-18:00=1MB/s", begins_s=8 * HOUR_S - anyio.current_time())
    began_s = anyio.current_time()
    await send(limit, 5_000_000)
    assert anyio.current_time() - began_s == pytest.approx(5, rel=0.02)


@pytest.mark.parametrize(
    ("rate", "wanted_bytes", "expected_bytes"),
    [
        ("1kB/s", 2**20, SMALLEST_PIECE_BYTES),
        ("1kB/s", 100, 100),
        ("1MB/s", 2**20, 20_000),
        ("1GB/s", 2**20, 2**20),
        ("1MB/s", 0, 0),
    ],
)
async def test_pieces(rate: str, wanted_bytes: int, expected_bytes: int) -> None:
    """A piece is a fiftieth of a second of the rate, or the wanted size if that is less, and has a minimum."""
    assert await throttle(rate).admit(wanted_bytes) == expected_bytes


async def test_nothing_is_admitted_at_once() -> None:
    """A request for no bytes does not wait for others."""
    limit = throttle("1kB/s")
    await limit.admit(1_000_000)
    began_s = anyio.current_time()
    await limit.admit(0)
    assert anyio.current_time() == began_s


def test_the_time_of_day_is_local() -> None:
    """Seconds since midnight, as the machine's clock shows them."""
    assert 0 <= local_time_of_day_s() < 24 * HOUR_S + 1
