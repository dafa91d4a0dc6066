"""Claims about the worker threads: their number, hanging calls, cancellation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import anyio
import pytest

from bulkstow.errors import StorageGone
from bulkstow.pipeline import worker_threads
from bulkstow.pipeline.worker_threads import CALLS_AT_ONCE, WorkerThreads, run_abandonable, run_blocking

pytestmark = pytest.mark.anyio

PATIENCE_S = 20.0


@pytest.fixture
def threads(anyio_backend: str) -> Iterator[WorkerThreads]:
    """Give four threads for reading."""
    with WorkerThreads(4) as four:
        yield four


class Disk:
    """A disk whose reads hang until it answers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers = threading.Semaphore(0)
        self.begun = 0

    def read(self) -> None:
        """Hang."""
        with self._lock:
            self.begun += 1
        self._answers.acquire()

    def answer(self, reads: int) -> None:
        """Let so many reads end."""
        self._answers.release(reads)

    async def has_begun(self, reads: int) -> None:
        """Wait until so many reads hang."""
        while self.begun < reads:
            await anyio.lowlevel.checkpoint()


@pytest.fixture
def disk() -> Iterator[Disk]:
    """Give a disk that answers at the end of the test."""
    hanging = Disk()
    yield hanging
    hanging.answer(1000)


async def test_quick_calls_are_made_one_at_a_time(threads: WorkerThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as no call waits for the storage, one thread makes them all, whatever their kind."""
    monkeypatch.setattr("bulkstow.policy.worker_threads.WAITING_AFTER_S", PATIENCE_S)
    lock, most, at_once = threading.Lock(), 0, 0

    def count() -> None:
        nonlocal most, at_once
        with lock:
            at_once += 1
            most = max(most, at_once)
        sum(range(1000))
        with lock:
            at_once -= 1

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for number in range(90):
                tasks.start_soon(run_blocking, (threads, threads.scans, threads.calls)[number % 3], count)
    assert most == 1


async def test_other_calls_come_before_reads(threads: WorkerThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole lists and batches wait for other calls, a part of one for a read."""
    monkeypatch.setattr("bulkstow.policy.worker_threads.WAITING_AFTER_S", PATIENCE_S)
    may_go_on, done = threading.Event(), list[str]()
    threads.submit(may_go_on.wait)
    reads = [threads.submit(done.append, "read") for _ in range(3)]
    other = threads.calls.submit(done.append, "other")
    may_go_on.set()
    with anyio.fail_after(PATIENCE_S):
        for call in (*reads, other):
            await asyncio.wrap_future(call)
    assert done == ["other", "read", "read", "read"]


@pytest.mark.parametrize("is_head_being_read", [True, False])
async def test_files_that_are_sent_go_before_heads_while_one_is_read(disk: Disk, is_head_being_read: bool) -> None:
    """While no head is being read, the call that waits longest is next: heads are read at any rate."""
    done = list[str]()
    with WorkerThreads(1 + is_head_being_read) as threads, anyio.fail_after(PATIENCE_S):
        if is_head_being_read:
            threads.heads.submit(disk.read)
            await disk.has_begun(1)
        may_go_on = threading.Event()
        threads.submit(may_go_on.wait)
        calls = [threads.heads.submit(done.append, "head") for _ in range(2)]
        calls += [threads.submit(done.append, "body") for _ in range(2)]
        may_go_on.set()
        for call in calls:
            await asyncio.wrap_future(call)
        disk.answer(1)
    assert done == (["body", "body", "head", "head"] if is_head_being_read else ["head", "head", "body", "body"])


async def test_heads_and_files_that_are_sent_share_the_readers(threads: WorkerThreads, disk: Disk) -> None:
    """Both together do not ask the storage for more than four readers may."""
    reads = [executor.submit(disk.read) for executor in (threads, threads.heads) for _ in range(4)]
    with anyio.fail_after(PATIENCE_S):
        await disk.has_begun(4)
        for _ in range(20):
            await run_blocking(threads.calls, int)
        assert disk.begun == 4
        disk.answer(8)
        for read in reads:
            await asyncio.wrap_future(read)


async def test_no_thread_is_started_beside_one_that_is_about_to_run(threads: WorkerThreads, disk: Disk) -> None:
    """However long all calls hang, there are no more threads than calls that may run."""
    hanging = [threads.calls.submit(disk.read) for _ in range(40)]
    for _ in range(20 * CALLS_AT_ONCE):
        threads._start_thread()
        await anyio.lowlevel.checkpoint()
    assert threads._alive <= CALLS_AT_ONCE
    disk.answer(40)
    with anyio.fail_after(PATIENCE_S):
        for call in hanging:
            await asyncio.wrap_future(call)


async def test_slow_calls_do_not_delay_the_others(threads: WorkerThreads, disk: Disk) -> None:
    """While three threads wait for a disk, the fourth makes all other calls."""
    done = 0
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(run_blocking, threads, disk.read)
            for _ in range(50):
                done += await run_blocking(threads, int, "1")
            disk.answer(3)
    assert done == 50


@pytest.mark.parametrize(("pool", "size"), [("reads", 4), ("scans", 1), ("calls", CALLS_AT_ONCE)])
async def test_calls_of_a_kind_are_limited(threads: WorkerThreads, disk: Disk, pool: str, size: int) -> None:
    """While as many calls of a kind run as may, the next one waits; when one ends, it is made."""
    executor = threads if pool == "reads" else getattr(threads, pool)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for _ in range(size + 2):
                tasks.start_soon(run_blocking, executor, disk.read)
            await disk.has_begun(size)
            for other in (threads, threads.scans, threads.calls):
                if other is not executor:
                    await run_blocking(other, int)
            assert disk.begun == size
            disk.answer(size + 2)
    assert disk.begun == size + 2


async def test_other_calls_wait_for_no_reader(threads: WorkerThreads, disk: Disk) -> None:
    """With every reader at a disk that hangs, directories are listed and results recorded."""
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(run_blocking, threads, disk.read)
            await disk.has_begun(4)
            assert await run_blocking(threads.calls, int, "1") == 1
            assert await run_blocking(threads.scans, int, "1") == 1
            disk.answer(5)


async def test_a_hanging_call_is_replaced(disk: Disk) -> None:
    """A call that takes longer than the limit leaves its place to another thread."""
    threads = WorkerThreads(2, stuck_s=0.02)
    hanging = [threads.submit(disk.read) for _ in range(2)]
    with anyio.fail_after(PATIENCE_S):
        assert await run_blocking(threads, int, "7") == 7
    disk.answer(2)
    with anyio.fail_after(PATIENCE_S):
        for future in hanging:
            await asyncio.wrap_future(future)
    threads.shutdown()


async def test_a_call_that_hung_frees_no_second_place(disk: Disk) -> None:
    """When replaced calls end after all, the pool has as many threads as before."""
    threads = WorkerThreads(2, stuck_s=0.02)
    with anyio.fail_after(PATIENCE_S):
        hung = [threads.submit(disk.read) for _ in range(2)]
        await run_blocking(threads, int)
        disk.answer(2)
        for future in hung:
            await asyncio.wrap_future(future)
        threads._stuck_s = PATIENCE_S
        reads = [threads.submit(disk.read) for _ in range(6)]
        await disk.has_begun(4)
        for _ in range(20):
            await run_blocking(threads.calls, int)
        assert disk.begun == 4
        disk.answer(6)
        for future in reads:
            await asyncio.wrap_future(future)
    threads.shutdown()


async def test_too_many_hanging_calls_mean_that_the_storage_is_gone(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the most that may hang, waiting and later reads and scans fail; other calls are still made."""
    monkeypatch.setattr(worker_threads, "MOST_STUCK", 3)
    threads = WorkerThreads(2, stuck_s=0.02)
    reads = [threads.submit(disk.read) for _ in range(9)]
    with anyio.fail_after(PATIENCE_S), pytest.raises(StorageGone, match="the storage does not answer"):
        await asyncio.wrap_future(reads[-1])
    assert disk.begun <= worker_threads.MOST_STUCK + 2
    for executor in (threads, threads.scans):
        with pytest.raises(StorageGone):
            executor.submit(int)
    with anyio.fail_after(PATIENCE_S):
        assert await run_blocking(threads.calls, int, "7") == 7
    threads.shutdown(wait=False)


async def test_a_shutdown_drops_what_waits(threads: WorkerThreads, disk: Disk) -> None:
    """After a shutdown no call begins, reads and others alike, and nobody waits for those that hang."""
    reads = [threads.submit(disk.read) for _ in range(5)]
    others = [threads.calls.submit(disk.read) for _ in range(CALLS_AT_ONCE + 1)]
    with anyio.fail_after(PATIENCE_S):
        await disk.has_begun(4 + CALLS_AT_ONCE)
    threads.shutdown(wait=False, cancel_futures=True)
    assert [future.cancelled() for future in reads] == [False] * 4 + [True]
    assert [future.cancelled() for future in others] == [False] * CALLS_AT_ONCE + [True]
    with pytest.raises(RuntimeError, match="the worker threads are shut down"):
        threads.submit(int)
    disk.answer(100)
    with anyio.fail_after(PATIENCE_S):
        await asyncio.wrap_future(reads[0])


async def test_an_error_is_raised_in_the_caller(threads: WorkerThreads) -> None:
    """An exception of a call is raised where it was awaited, and the thread goes on."""
    with pytest.raises(ZeroDivisionError):
        await run_blocking(threads, divmod, 1, 0)
    assert await run_blocking(threads, divmod, 7, 2) == (3, 1)


async def test_a_cancelled_reader_abandons_its_call(threads: WorkerThreads, disk: Disk) -> None:
    """A head that is never read does not keep the run from ending; a call that has not begun never begins."""
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(run_abandonable, threads, disk.read)
            await disk.has_begun(4)
            tasks.cancel_scope.cancel()
        disk.answer(6)
        await run_blocking(threads, int)
    assert disk.begun == 4


async def test_a_cancelled_caller_withdraws_a_call_that_has_not_begun(threads: WorkerThreads, disk: Disk) -> None:
    """Behind threads that hang, a cancelled call is withdrawn at once."""
    hanging = [threads.submit(disk.read) for _ in range(4)]
    with anyio.fail_after(PATIENCE_S):
        await disk.has_begun(4)
        with anyio.move_on_after(0.01) as gone:
            await run_blocking(threads, disk.read)
        assert gone.cancelled_caught
        disk.answer(4)
        for future in hanging:
            await asyncio.wrap_future(future)
    assert disk.begun == 4


async def test_a_cancelled_caller_waits_for_a_call_that_has_begun(threads: WorkerThreads) -> None:
    """`run_blocking` returns only after its call has ended: the call may use what is closed next."""
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        may_end.wait()
        ended.set()

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_blocking, threads, call)
            while not begun.is_set():
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
            may_end.set()
        assert ended.is_set()
