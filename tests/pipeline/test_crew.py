"""Claims about the threads: one at work, and more where it is held up."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import anyio
import pytest

from bulkstow.pipeline.crew import Crew, by

pytestmark = pytest.mark.anyio

PATIENCE_S = 20.0


@pytest.fixture
def crew(anyio_backend: str) -> Iterator[Crew]:
    """Give four hands."""
    with Crew(4) as hands:
        yield hands


class Census:
    """How many were at a job at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_once = 0
        self.most = 0

    def job(self) -> None:
        """Be counted."""
        with self._lock:
            self._at_once += 1
            self.most = max(self.most, self._at_once)
        sum(range(1000))
        with self._lock:
            self._at_once -= 1


async def test_quick_jobs_are_done_one_at_a_time(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as no job is held up there is one hand: threads that compete for the interpreter slow each other."""
    monkeypatch.setattr("bulkstow.pipeline.crew.HELD_UP_S", 10.0)
    census = Census()
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(by, crew, census.job)
    assert census.most == 1


async def test_held_up_jobs_do_not_hold_up_the_others(crew: Crew) -> None:
    """While three hands wait for their disks, the fourth does what else there is to do."""
    disk, done = threading.Event(), 0
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(by, crew, disk.wait)
            for _ in range(50):
                done += await by(crew, int, "1")
            disk.set()
    assert done == 50


async def test_waiting_hands_are_as_many_as_there_may_be(crew: Crew) -> None:
    """With as many jobs held up as there are hands, the next waits; when one is free again, it is done."""
    disk, waiting = threading.Semaphore(0), 0
    lock = threading.Lock()

    def wait_for_disk() -> None:
        nonlocal waiting
        with lock:
            waiting += 1
        disk.acquire()

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(by, crew, wait_for_disk)
            while waiting < 4:
                await anyio.lowlevel.checkpoint()
            assert waiting == 4
            disk.release(6)
    assert waiting == 6


async def test_a_jobs_error_is_its_callers(crew: Crew) -> None:
    """What a job raises is raised where it was asked for, and the hand goes on."""
    with pytest.raises(ZeroDivisionError):
        await by(crew, divmod, 1, 0)
    assert await by(crew, divmod, 7, 2) == (3, 1)


async def test_a_cancelled_caller_waits_for_its_job(crew: Crew) -> None:
    """Who is cancelled is not let go before the job has ended: it may use what is closed next."""
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        may_end.wait()
        ended.set()

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(by, crew, job)
            while not begun.is_set():
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
            may_end.set()
        assert ended.is_set()
