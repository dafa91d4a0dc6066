"""Worker threads for blocking calls: one, more while all wait for the storage, and a new one for each that hangs.

`policy.worker_threads` decides whether another thread should run. A call on a file system may never return, and its
thread cannot be stopped: a call that takes longer than a limit no longer counts, and another thread takes its place.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from operator import attrgetter
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.lowlevel

from bulkstow.blocking import STUCK_S
from bulkstow.errors import StorageGone
from bulkstow.platform.process import thread_cpu_clock
from bulkstow.policy.worker_threads import WAITING_AFTER_S, RunningCall, should_start_another

SCANS_AT_ONCE = 1
"""Calls that list directories. A run has one walk, and one thread works at it as long as that does not hang."""

CALLS_AT_ONCE = 4
"""All other calls. Look-ups for the scan, look-ups for copies and results for the ledger: one of each at a time; and
sometimes a size that a server refused."""

MOST_STUCK = 256
"""Hanging threads to replace. Each takes some 30 KB; a container often allows 1,000 threads in all."""

_GONE = (
    f"the storage does not answer: {MOST_STUCK} reads hang, and nothing more is read; run the same command again when "
    "it is back"
)

P = ParamSpec("P")
T = TypeVar("T")


class _Call:
    """A blocking call, from when it is submitted."""

    def __init__(self, do: Callable[[], Any], pool: _Pool) -> None:
        self.future: Future[Any] = Future()
        self.pool = pool
        self.submitted_s = time.perf_counter()
        self.is_stuck = False
        """It has taken so long that it no longer counts."""
        self._do = do
        self._cpu_clock: Callable[[], float] = float
        self._began_s = self._cpu_before_s = 0.0

    def begin(self, cpu_clock: Callable[[], float]) -> None:
        """Start the clocks; called by the thread that makes the call."""
        self._cpu_clock, self._began_s, self._cpu_before_s = cpu_clock, time.perf_counter(), cpu_clock()

    @property
    def so_far(self) -> RunningCall:
        """The time that the call has taken; read by other threads, too."""
        return RunningCall(time.perf_counter() - self._began_s, self._cpu_clock() - self._cpu_before_s)

    def run(self) -> None:
        """Block, and hand the result or the error to the future."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self._do())
        except BaseException as error:  # noqa: BLE001 - the caller handles it
            self.future.set_exception(error)

    def refuse(self, error: Exception) -> None:
        """Fail a call that has not begun."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class _Slots:
    """How many calls may run at a time, without those that hang."""

    def __init__(self, free: int) -> None:
        self.free = free


class _Pool(Executor):
    """Calls of one kind; each running call takes a slot, which pools may share."""

    def __init__(self, slots: _Slots, add: Callable[[_Call], None], *, uses_storage: bool = True) -> None:
        self._slots = slots
        self._add = add
        self.uses_storage = uses_storage
        self.running = 0
        """Without calls that hang."""
        self.waiting: deque[_Call] = deque()
        self.last_waited = False
        """The last call that ended has waited, so the next one will probably wait, too."""

    @property
    def may_begin(self) -> bool:
        """A call waits, and may run."""
        return bool(self.waiting) and self._slots.free > 0

    @property
    def waits_since_s(self) -> float:
        """When the call that waits longest was submitted; there must be one."""
        return self.waiting[0].submitted_s

    def take(self) -> _Call:
        """Return the next call, which gets a slot."""
        self.running += 1
        self._slots.free -= 1
        return self.waiting.popleft()

    def free_slot(self) -> None:
        """Give back the slot of a call that has ended, or hangs."""
        self.running -= 1
        self._slots.free += 1

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a call made as soon as a thread may make it."""
        call = _Call(partial(fn, *args, **kwargs), self)
        self._add(call)
        return call.future


class WorkerThreads(Executor):
    """The threads for all blocking calls of a run; belongs to the running event loop.

    `submit` is for reading files that are sent, and `heads` for reading heads, together up to `readers` at a time;
    `scans` is for listing directories; `calls` is for what uses no archive's storage, so that results are recorded even
    while a disk hangs. While a head is read, files that are sent go before other heads: what is read is sent soon, and
    the storage is not used for heads that have to wait. Otherwise the call that waits longest is next.

    A call that takes longer than `stuck_s` counts as hanging and leaves its place to another, for up to MOST_STUCK of
    them. Beyond that the storage is gone: calls that wait for it, and later ones, raise StorageGone.
    """

    def __init__(self, readers: int, *, stuck_s: float = STUCK_S) -> None:
        slots = _Slots(readers)
        self._reads, self._heads = _Pool(slots, self._add), _Pool(slots, self._add)
        self.heads: Executor = self._heads
        self.scans: Executor = _Pool(_Slots(SCANS_AT_ONCE), self._add)
        self.calls: Executor = _Pool(_Slots(CALLS_AT_ONCE), self._add, uses_storage=False)
        # Whole lists and batches wait for `calls` and `scans`, only a part of one for a read.
        self._pools: tuple[_Pool, ...] = (self.calls, self.scans, self._reads, self._heads)
        self._threads = ThreadPoolExecutor(
            readers + SCANS_AT_ONCE + CALLS_AT_ONCE + MOST_STUCK, thread_name_prefix="worker"
        )
        self._stuck_s = stuck_s
        self._lock = threading.Lock()
        self._alive = 0
        """Threads that run, or are about to."""
        self._running: set[_Call] = set()
        self._stuck = 0
        self._is_storage_gone = False
        self._watched_by: asyncio.AbstractEventLoop | None = None
        self._is_shut = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have something read as soon as a thread may read it."""
        return self._reads.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls."""
        self._is_shut = True
        if cancel_futures:
            with self._lock:
                waiting = [call for pool in self._pools for call in pool.waiting]
                for pool in self._pools:
                    pool.waiting.clear()
            for call in waiting:
                call.future.cancel()
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)

    def _add(self, call: _Call) -> None:
        if self._is_shut:
            raise RuntimeError("the worker threads are shut down")
        if self._is_storage_gone and call.pool.uses_storage:
            raise StorageGone(_GONE)
        loop = asyncio.get_running_loop()
        with self._lock:
            call.pool.waiting.append(call)
        self._start_thread()
        if self._watched_by is not loop:
            self._watched_by = loop
            loop.call_later(WAITING_AFTER_S, self._watch, loop)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look again and again, as long as calls wait, whether another thread should run."""
        if any(pool.waiting for pool in self._pools):
            self._pass_over_stuck()
            loop.call_later(WAITING_AFTER_S, self._watch, loop)
        else:
            self._watched_by = None
        self._start_thread()

    def _start_thread(self) -> None:
        """Start a thread if a call may begin and the policy agrees; one that is about to begin is enough."""
        with self._lock:
            is_one_coming = self._alive > len(self._running)
            pool = self._next_pool()
            if is_one_coming or pool is None or not self._should_start_another(pool):
                return
            self._alive += 1
        try:
            self._threads.submit(self._work)
        except RuntimeError:  # the system has no more threads, or it is the end
            with self._lock:
                self._alive -= 1
            raise

    def _work(self) -> None:
        """Make one call after the other, until none may begin, or calls are quick and another thread makes them.

        A thread whose call waited goes on: the next call will wait, too.
        """
        cpu_clock, ended = thread_cpu_clock(), None
        while True:
            with self._lock:
                has_waited = ended is not None and self._end(ended)
                pool = self._next_pool()
                if pool is None or not (has_waited or self._should_start_another(pool)):
                    self._alive -= 1
                    return
                call = pool.take()
                call.begin(cpu_clock)
                self._running.add(call)
            call.run()
            ended = call

    def _end(self, call: _Call) -> bool:
        """Take note that a call has ended; return whether it waited for the storage."""
        self._running.discard(call)
        if call.is_stuck:
            self._stuck -= 1
        else:
            call.pool.free_slot()
        call.pool.last_waited = call.so_far.is_waiting
        return call.pool.last_waited

    def _next_pool(self) -> _Pool | None:
        first = next((pool for pool in self._pools if pool.may_begin), None)
        if first is not self._reads or self._heads.running or not self._heads.waiting:
            return first
        return min(self._reads, self._heads, key=attrgetter("waits_since_s"))

    def _should_start_another(self, pool: _Pool) -> bool:
        # A body's turn may have waited for the socket, which tells nothing about the next one.
        return (pool is self._heads and pool.last_waited) or should_start_another(call.so_far for call in self._running)

    def _pass_over_stuck(self) -> None:
        """Stop counting the calls that hang, or refuse those that wait for the storage if too many hang."""
        refused: list[_Call] = []
        with self._lock:
            for call in self._running:
                if call.is_stuck or call.so_far.elapsed_s < self._stuck_s:
                    continue
                if self._stuck == MOST_STUCK:
                    self._is_storage_gone = True
                    for pool in self._pools:
                        if pool.uses_storage:
                            refused += pool.waiting
                            pool.waiting.clear()
                    break
                call.is_stuck = True
                self._stuck += 1
                call.pool.free_slot()
        for call in refused:
            call.refuse(StorageGone(_GONE))


async def run_blocking(threads: Executor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Make a blocking call in a thread. A cancelled caller still waits for a call that has begun.

    What the call uses may be closed afterwards.
    """
    await anyio.lowlevel.checkpoint()
    future = threads.submit(call, *args, **kwargs)
    done = asyncio.wrap_future(future)
    try:
        await asyncio.wait([done])
    except asyncio.CancelledError:
        if not future.cancel():
            with anyio.CancelScope(shield=True):
                await asyncio.wait([done])
        raise
    return done.result()


async def run_abandonable(threads: Executor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Read something in a thread. A cancelled caller abandons the call, which may hang and uses nothing of the run."""
    await anyio.lowlevel.checkpoint()
    return await asyncio.wrap_future(threads.submit(call, *args, **kwargs))
