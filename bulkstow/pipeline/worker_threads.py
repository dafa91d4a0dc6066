"""Worker threads for blocking calls: fixed pools, and a new thread in the place of each that hangs.

A call on a file system may never return, and its thread cannot be stopped. A call that takes longer than a limit
therefore no longer counts, and the pool starts another thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.lowlevel

from bulkstow.blocking import STUCK_S
from bulkstow.errors import StorageGone

SCANNERS = 1
"""Threads that list directories. A run has one walk, and one thread works at it as long as that does not hang."""

CALLERS = 4
"""Threads for everything else. Look-ups for the scan, look-ups for copies, results for the ledger: one of each at a
time, and now and then a size that a server refused."""

MOST_STUCK = 256
"""Hanging threads to replace. Each takes some 30 KB; a container often allows 1,000 threads in all."""

LOOKS = 10
"""How often to look for hanging calls within the time after which one counts as hanging."""

_GONE = (
    f"the storage does not answer: {MOST_STUCK} reads hang, and nothing more is read; run the same command again when "
    "it is back"
)

P = ParamSpec("P")
T = TypeVar("T")


class _Call:
    """A blocking call, from when it is submitted."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self.future: Future[Any] = Future()
        self.began_s = 0.0
        self.is_stuck = False
        self._do = do

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


class _Pool(Executor):
    """Up to `size` threads, not counting those that hang; guarded by the lock of its WorkerThreads."""

    def __init__(self, size: int, add: Callable[[_Pool, _Call], None], *, uses_storage: bool = True) -> None:
        self._add = add
        self.uses_storage = uses_storage
        self.size = size
        self.busy = 0
        """Threads at work or about to start, without those that hang."""
        self.waiting: deque[_Call] = deque()
        self.running: set[_Call] = set()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a call made as soon as a thread is free."""
        call = _Call(partial(fn, *args, **kwargs))
        self._add(self, call)
        return call.future


class WorkerThreads(Executor):
    """The threads for all blocking calls of a run; belongs to the running event loop.

    `submit` is for reading files, with `readers` threads; `scans` is for listing directories; `calls` is for what uses
    no archive's storage, so that results are recorded even while a disk hangs. A call that takes longer than `stuck_s`
    counts as hanging, and another thread starts in its place, for up to MOST_STUCK of them. Beyond that the storage is
    gone: calls that wait for it, and later ones, raise StorageGone.
    """

    def __init__(self, readers: int, *, stuck_s: float = STUCK_S) -> None:
        self._reads = _Pool(readers, self._add)
        self._scans = _Pool(SCANNERS, self._add)
        self._calls = _Pool(CALLERS, self._add, uses_storage=False)
        self._pools = (self._calls, self._scans, self._reads)
        self._threads = ThreadPoolExecutor(
            sum(pool.size for pool in self._pools) + MOST_STUCK, thread_name_prefix="worker"
        )
        self._stuck_s = stuck_s
        self._lock = threading.Lock()
        self._stuck = 0
        self._is_storage_gone = False
        self._watched_by: asyncio.AbstractEventLoop | None = None
        self._is_shut = False

    @property
    def scans(self) -> Executor:
        """For listing directories."""
        return self._scans

    @property
    def calls(self) -> Executor:
        """For blocking calls that use no archive's storage."""
        return self._calls

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have something read as soon as a thread is free."""
        return self._reads.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls."""
        self._is_shut = True
        if cancel_futures:
            with self._lock:
                for pool in self._pools:
                    for call in pool.waiting:
                        call.future.cancel()
                    pool.waiting.clear()
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)

    def _add(self, pool: _Pool, call: _Call) -> None:
        if self._is_shut:
            raise RuntimeError("the worker threads are shut down")
        if self._is_storage_gone and pool.uses_storage:
            raise StorageGone(_GONE)
        loop = asyncio.get_running_loop()
        with self._lock:
            pool.waiting.append(call)
        self._start(pool)
        if self._watched_by is not loop:
            self._watched_by = loop
            loop.call_later(self._stuck_s / LOOKS, self._watch, loop)

    def _start(self, pool: _Pool) -> None:
        """Start threads for the calls that wait, as many as the pool may have."""
        with self._lock:
            missing = min(pool.size - pool.busy, len(pool.waiting))
            pool.busy += max(0, missing)
        for started in range(missing):
            try:
                self._threads.submit(self._work, pool)
            except RuntimeError:  # the system has no more threads, or it is the end
                with self._lock:
                    pool.busy -= missing - started
                raise

    def _work(self, pool: _Pool) -> None:
        """Make one call after the other, until none waits, or another thread has taken this one's place."""
        while True:
            with self._lock:
                if not pool.waiting:
                    pool.busy -= 1
                    return
                call = pool.waiting.popleft()
                call.began_s = time.monotonic()
                pool.running.add(call)
            call.run()
            with self._lock:
                pool.running.discard(call)
                if call.is_stuck:
                    self._stuck -= 1
                    return

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look for hanging calls again and again, as long as others wait."""
        if not any(pool.waiting for pool in self._pools):
            self._watched_by = None
            return
        self._pass_over_stuck()
        loop.call_later(self._stuck_s / LOOKS, self._watch, loop)
        for pool in self._pools:
            self._start(pool)

    def _pass_over_stuck(self) -> None:
        """Stop counting the calls that hang, or refuse those that wait for the storage if too many hang."""
        stuck_since_s = time.monotonic() - self._stuck_s
        refused: list[_Call] = []
        with self._lock:
            for pool in self._pools:
                for call in pool.running:
                    if call.is_stuck or call.began_s > stuck_since_s:
                        continue
                    if self._stuck == MOST_STUCK:
                        self._is_storage_gone = True
                        break
                    call.is_stuck = True
                    self._stuck += 1
                    pool.busy -= 1
                if self._is_storage_gone and pool.uses_storage:
                    refused += pool.waiting
                    pool.waiting.clear()
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
