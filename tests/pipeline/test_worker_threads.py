"""Claims about the threads: one at work, and more where it is held up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import anyio
import pytest

from bulkstow.pipeline.worker_threads import ERRANDS_AT_ONCE, AtJob, WorkerThreads, run_abandonable, run_blocking

pytestmark = pytest.mark.anyio

PATIENCE_S = 20.0


@pytest.fixture
def threads(anyio_backend: str) -> Iterator[WorkerThreads]:
    """Give four hands."""
    with WorkerThreads(4) as readers:
        yield readers


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


async def test_quick_jobs_are_done_one_at_a_time(threads: WorkerThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as no job is held up there is one hand: threads that compete for the interpreter slow each other."""
    monkeypatch.setattr("bulkstow.pipeline.worker_threads.HELD_UP_S", 10.0)
    census = Census()
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(run_blocking, threads, census.job)
    assert census.most == 1


async def test_held_up_jobs_do_not_hold_up_the_others(threads: WorkerThreads) -> None:
    """While three hands wait for their disks, the fourth does what else there is to do."""
    disk, done = threading.Event(), 0
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(run_blocking, threads, disk.wait)
            for _ in range(50):
                done += await run_blocking(threads, int, "1")
            disk.set()
    assert done == 50


async def test_waiting_hands_are_as_many_as_there_may_be(threads: WorkerThreads) -> None:
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
                tasks.start_soon(run_blocking, threads, wait_for_disk)
            while waiting < 4:
                await anyio.lowlevel.checkpoint()
            for _ in range(20):  # each is done by a hand that would take a read next, if it might
                await run_blocking(threads.calls, int)
            assert waiting == 4
            disk.release(6)
    assert waiting == 6


async def test_errands_wait_for_no_reader(threads: WorkerThreads) -> None:
    """With every reader held up by a disk that hangs, what else blocks is done nevertheless."""
    disk = threading.Event()
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(run_blocking, threads, disk.wait)
            for _ in range(3):
                assert await run_blocking(threads.calls, int, "1") == 1
            disk.set()


async def test_errands_come_first(threads: WorkerThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for an errand is a whole list, or a batch; what waits for a read is a part of one."""
    monkeypatch.setattr("bulkstow.pipeline.worker_threads.HELD_UP_S", 10.0)
    may_go_on, done = threading.Event(), list[str]()
    threads.submit(may_go_on.wait)
    reads = [threads.submit(done.append, "read") for _ in range(3)]
    item = threads.calls.submit(done.append, "errand")
    may_go_on.set()
    with anyio.fail_after(PATIENCE_S):
        for job in (*reads, item):
            await asyncio.wrap_future(job)
    assert done == ["errand", "read", "read", "read"]


async def test_what_waits_is_given_up(threads: WorkerThreads) -> None:
    """At the end nothing is begun any more, neither reads nor errands, and nobody waits for what hangs."""
    disk, has_begun = threading.Event(), threading.Event()

    def hang() -> None:
        has_begun.set()
        disk.wait()

    begun = threads.submit(hang)
    while not has_begun.is_set():
        await anyio.lowlevel.checkpoint()
    waiting = [threads.submit(int), threads.calls.submit(int)]
    threads.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    with pytest.raises(RuntimeError, match="nothing is begun any more"):
        threads.submit(int)
    disk.set()
    with anyio.fail_after(PATIENCE_S):
        await asyncio.wrap_future(begun)


async def test_hands_on_their_way_are_not_called_again(threads: WorkerThreads) -> None:
    """However long everything hangs, hands are no more than can be at work."""
    disk = threading.Event()
    hanging = [threads.calls.submit(disk.wait) for _ in range(40)]
    for _ in range(20 * ERRANDS_AT_ONCE):
        threads._lend_hand()
        await anyio.lowlevel.checkpoint()
    assert threads._hands <= ERRANDS_AT_ONCE
    disk.set()
    with anyio.fail_after(PATIENCE_S):
        for job in hanging:
            await asyncio.wrap_future(job)


@pytest.mark.parametrize(
    ("elapsed_s", "used_s", "is_held_up"),
    [(0.002, 0.0, False), (0.01, 0.0, True), (0.01, 0.001, True), (0.05, 0.05, False), (0.07, 0.07, True)],
)
def test_held_up_is_who_waits(
    monkeypatch: pytest.MonkeyPatch, elapsed_s: float, used_s: float, is_held_up: bool
) -> None:
    """A hand that uses the processor is at work, for as long as a turn may take; one that waits is held up."""
    clocks = iter([(7.0, 3.0), (7.0 + elapsed_s, 3.0 + used_s)])
    now = SimpleNamespace(perf_counter=0.0, clock_gettime=0.0)

    def pass_time() -> None:
        now.perf_counter, now.clock_gettime = next(clocks)

    clock = SimpleNamespace(perf_counter=lambda: now.perf_counter)
    monkeypatch.setattr("bulkstow.pipeline.worker_threads.time", clock)
    monkeypatch.setattr("bulkstow.pipeline.worker_threads.thread_cpu_clock", lambda: lambda: now.clock_gettime)
    pass_time()
    hand = AtJob()
    pass_time()
    assert hand.is_held_up is is_held_up


async def test_a_jobs_error_is_its_callers(threads: WorkerThreads) -> None:
    """What a job raises is raised where it was asked for, and the hand goes on."""
    with pytest.raises(ZeroDivisionError):
        await run_blocking(threads, divmod, 1, 0)
    assert await run_blocking(threads, divmod, 7, 2) == (3, 1)


async def test_a_cancelled_reader_lets_go(threads: WorkerThreads) -> None:
    """A head that is never read does not keep the run from ending; what has not begun is not begun."""
    disk = threading.Event()
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(run_abandonable, threads, disk.wait)
            while threads._reads.under_way < 4:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    disk.set()


async def test_a_cancelled_caller_waits_for_nothing_that_has_not_begun(threads: WorkerThreads) -> None:
    """Behind hands that hang, a job is taken back."""
    disk = threading.Event()
    hanging = [threads.submit(disk.wait) for _ in range(4)]
    with anyio.move_on_after(0.01) as gone, anyio.fail_after(PATIENCE_S):
        await run_blocking(threads, disk.wait)
    assert gone.cancelled_caught
    disk.set()
    for job in hanging:
        await asyncio.wrap_future(job)


async def test_a_cancelled_caller_waits_for_its_job(threads: WorkerThreads) -> None:
    """Who is cancelled is not let go before the job has ended: it may use what is closed next."""
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        may_end.wait()
        ended.set()

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_blocking, threads, job)
            while not begun.is_set():
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
            may_end.set()
        assert ended.is_set()
