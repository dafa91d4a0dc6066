"""Claims about a request's deadlines and the account of its time, on a virtual clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from bulkstow.blocking import GRACE_S, ReadLimit
from bulkstow.config import DestinationSettings
from bulkstow.destination.request_timer import RESPONSE_S_PER_INSTANCE, RESPONSE_S_PER_MIB, RequestState, RequestTimer
from bulkstow.model import Batch, Candidate, Instance, RequestTiming
from tests import virtual_time
from tests.archives import header

pytestmark = pytest.mark.anyio

SETTINGS = DestinationSettings(url="http://h", connect_timeout_s=10, stall_timeout_s=60, response_timeout_s=120)
READ_TIMEOUT_S = 30.0
BATCH = Batch(1, tuple(Instance(Candidate(f"/{n}", 2**20, 0), header(n)) for n in range(3)))


@pytest.fixture
def anyio_backend() -> tuple[str, Mapping[str, Any]]:
    """Give a loop whose clock jumps."""
    return virtual_time.BACKEND


def new_timer(limit: ReadLimit | None = None) -> RequestTimer:
    """Return a timer that starts now."""
    return RequestTimer(SETTINGS, BATCH, limit or ReadLimit(READ_TIMEOUT_S))


@pytest.mark.parametrize(
    ("states", "allowed_s"),
    [
        ([], 10 + 60),
        ([RequestState.SENDING], 60),
        ([RequestState.READING], READ_TIMEOUT_S),
        ([RequestState.WAITING], 120 + 3 * (RESPONSE_S_PER_MIB + RESPONSE_S_PER_INSTANCE)),
        ([RequestState.THROTTLED, RequestState.SENDING], 60),
    ],
)
async def test_each_state_has_its_deadline(states: list[RequestState], allowed_s: float) -> None:
    """A state that lasts too long ends the request, and the timer still has it."""
    timer = new_timer()
    with timer.running():
        for state in states:
            await anyio.sleep(1)
            timer.enter(state)
        began_s = anyio.current_time()
        await anyio.sleep_forever()
    assert anyio.current_time() - began_s == pytest.approx(allowed_s)
    assert timer.state is (states[-1] if states else RequestState.CONNECTING)


async def test_entering_a_state_again_begins_its_time_anew() -> None:
    """A server that accepts some bytes now and then is never too slow; waiting for the throttle has no deadline."""
    timer = new_timer()
    with timer.running():
        for state in [RequestState.SENDING] * 10:
            timer.enter(state)
            await anyio.sleep(59)
        timer.enter(RequestState.THROTTLED)
        await anyio.sleep(80_000)
        assert timer.timing().sending_s == 590
        return
    pytest.fail("a deadline was met")


async def test_time_is_accounted_by_state() -> None:
    """Each state has its own time; a read has what worker threads measured, without their wait for the socket."""
    timer = new_timer()
    await anyio.sleep(1)
    timer.begin_body()
    for state, duration_s in [
        (RequestState.THROTTLED, 2),
        (RequestState.READING, 4),
        (RequestState.SENDING, 8),
        (RequestState.READING, 16),
    ]:
        timer.enter(state)
        await anyio.sleep(duration_s)
    timer.add_turn(reading_s=10, sending_s=5)
    timer.add_receive_window(0.5)
    timer.enter(RequestState.WAITING)
    await anyio.sleep(32)
    assert timer.timing() == RequestTiming(
        elapsed_s=63,
        connecting_s=1,
        reading_s=10,
        sending_s=13,
        waiting_s=32,
        throttled_s=2,
        receive_window_s=6.5,
    )


async def test_an_unfinished_state_counts() -> None:
    """The last state counts until the end; without a connection, that is connecting."""
    timer = new_timer()
    await anyio.sleep(3)
    assert timer.timing().connecting_s == 3
    timer.begin_body()
    timer.enter(RequestState.SENDING)
    await anyio.sleep(5)
    assert timer.timing().sending_s == 5


async def test_a_replay_begins_the_account_anew() -> None:
    """The time of an earlier connection counts as connecting."""
    timer = new_timer()
    timer.begin_body()
    timer.enter(RequestState.SENDING)
    await anyio.sleep(7)
    timer.begin_body()
    timing = timer.timing()
    assert (timing.connecting_s, timing.sending_s, timing.elapsed_s) == (7, 0, 7)


async def test_how_long_a_read_has_lasted() -> None:
    """A read lasts only while the request waits for the storage."""
    timer = new_timer()
    timer.enter(RequestState.READING)
    await anyio.sleep(4)
    assert timer.reading_for_s == 4
    timer.enter(RequestState.SENDING)
    await anyio.sleep(4)
    assert timer.reading_for_s == 0


@pytest.mark.parametrize(("state", "ends"), [(RequestState.READING, True), (RequestState.SENDING, False)])
async def test_a_run_that_ends_waits_for_storage_only_a_moment_longer(
    monkeypatch: pytest.MonkeyPatch, state: RequestState, ends: bool
) -> None:
    """When the run is about to end, storage that hangs gets a grace time; the server keeps its whole time."""
    monkeypatch.setattr("bulkstow.blocking.time.monotonic", anyio.current_time)
    limit = ReadLimit(3600)
    timer = new_timer(limit)
    survived = False
    with timer.running():
        timer.enter(state)
        await anyio.sleep(20)
        limit.shorten()
        await anyio.sleep(GRACE_S + 1)
        survived = True
    assert survived is not ends


async def test_a_read_after_the_end_began_has_the_same_grace_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request may be finished long after Ctrl-C: its reads are then given up when they hang, and not at once."""
    monkeypatch.setattr("bulkstow.blocking.time.monotonic", anyio.current_time)
    limit = ReadLimit(3600)
    timer = new_timer(limit)
    with timer.running():
        limit.shorten()
        timer.enter(RequestState.THROTTLED)
        await anyio.sleep(GRACE_S + 60)
        timer.enter(RequestState.READING)
        began_s = anyio.current_time()
        await anyio.sleep_forever()
    assert anyio.current_time() - began_s == GRACE_S
