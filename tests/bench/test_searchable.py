"""When QIDO-RS finds what was acknowledged, on a clock that jumps."""

from __future__ import annotations

import anyio
import pytest

from bulkstow.bench.recorder import RecordedRequest
from bulkstow.bench.searchable import GIVE_UP_S, PROBE_INTERVAL_S, QUERY_INTERVAL_S, Probe
from bulkstow.bench.sender import Answered, Supply
from bulkstow.bench.workload import workload
from bulkstow.model import Cause, Instance, NoResponse, Response
from tests.virtual_time import BACKEND

pytestmark = pytest.mark.anyio

SUPPLY = Supply(workload("sr", "searchable"))


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    """Let time jump."""
    return BACKEND


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the probe read the loop's clock."""
    monkeypatch.setattr("bulkstow.bench.searchable.time.perf_counter", anyio.current_time)


class Index:
    """A server that finds everything from a moment on."""

    def __init__(self, from_s: float, before: Response | NoResponse | None = None) -> None:
        self._from_s = from_s
        self._before = before
        self.asked: list[str] = []

    async def find(self, instances: tuple[Instance, ...]) -> frozenset[str] | Response | NoResponse:
        """Answer."""
        self.asked.append(instances[0].header.sop_instance_uid)
        if anyio.current_time() < self._from_s:
            return frozenset() if self._before is None else self._before
        return frozenset({self.asked[-1]})


def answer(instances: int) -> Answered:
    """Return a request that stored so many instances and ended now."""
    now_s = anyio.current_time()
    return Answered(RecordedRequest(now_s, now_s, now_s), SUPPLY.take(0, instances), is_unreachable=False)


async def told(index: Index, *answers: int, for_s: float = 2 * GIVE_UP_S) -> list[float]:
    """Return the times of a probe that hears of these answers at once."""
    times_s: list[float] = []
    probe = Probe(index.find)
    for instances in answers:
        probe.heard(answer(instances))
    with anyio.move_on_after(for_s):
        await probe.run(times_s.append)
    return times_s


@pytest.mark.parametrize("before", [None, Response(503, b""), NoResponse(Cause.UNANSWERED, body_started=False)])
async def test_it_asks_until_it_is_found(before: Response | NoResponse | None) -> None:
    """The time from the answer on, as exact as it asks often; a question that fails finds nothing."""
    (time_s,) = await told(Index(anyio.current_time() + 3.0, before), 4)
    assert time_s == pytest.approx(3.0, abs=QUERY_INTERVAL_S)


async def test_what_is_not_found_is_given_up() -> None:
    """It counts as a minute then."""
    (time_s,) = await told(Index(float("inf")), 4)
    assert time_s == pytest.approx(GIVE_UP_S, abs=QUERY_INTERVAL_S)


async def test_only_what_was_stored_is_asked_for() -> None:
    """Of several answers the last that stored something; nothing is asked for where none did."""
    index = Index(0.0)
    assert await told(index, 0) == []
    assert index.asked == []
    assert len(await told(index, 3, 2, 0)) == 1


async def test_it_asks_for_one_a_second() -> None:
    """A server is not loaded with questions, however many answers come."""
    index = Index(0.0)
    probe = Probe(index.find)
    times_s: list[float] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(probe.run, times_s.append)
        for _ in range(100):
            probe.heard(answer(1))
            await anyio.sleep(0.1)
        tasks.cancel_scope.cancel()
    assert len(index.asked) == pytest.approx(10 / PROBE_INTERVAL_S, abs=1)
