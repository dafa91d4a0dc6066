"""The threads that do what blocks: one at work, and more only as long as that one is held up by the storage.

Owns how many. Python runs one thread at a time; each that has work takes the interpreter from the others whenever they
read or send, and that costs more than the work: 8,000 CT slices with eight threads at once cost 67,000 switches and
half of the processor's time. But a thread that waits for a disk takes nothing from anybody, and the next must not wait
with it. So one hand takes job after job, and when it has been at the same job for a while the next hand lends it help.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.lowlevel

HELD_UP_S = 0.003
"""About the longest that a job takes on warm files: 32 heads take 0.5 ms, 16 MiB into a socket of this machine 3 ms;
shorter than a disk's seek, or a round trip to a file server that is busy. A turn that waits for a slow network counts
as held up, too: it leaves the interpreter to others."""

P = ParamSpec("P")
T = TypeVar("T")


class Crew(Executor):
    """Up to `hands` threads; `submit` belongs to the event loop that is running."""

    def __init__(self, hands: int) -> None:
        self._most = hands
        self._threads = ThreadPoolExecutor(hands, thread_name_prefix="hand")
        self._lock = threading.Lock()
        self._jobs: deque[tuple[Future[Any], Callable[[], None]]] = deque()
        self._hands = 0
        self._began_s: dict[int, float] = {}
        """When each hand took its job, by thread."""
        self._is_watching = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a job done when a hand is free."""
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it is the caller's to see
                future.set_exception(error)

        with self._lock:
            self._jobs.append((future, job))
            is_idle = self._hands == 0
            self._hands += is_idle
        if is_idle:
            self._threads.submit(self._work)
        elif not self._is_watching:
            self._is_watching = True
            asyncio.get_running_loop().call_later(HELD_UP_S, self._watch)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs."""
        if cancel_futures:
            with self._lock:
                waiting, self._jobs = self._jobs, deque()
            for future, _ in waiting:
                future.cancel()
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)

    def _watch(self) -> None:
        """Lend a hand where jobs wait and all hands are held up; look again as long as jobs wait."""
        with self._lock:
            self._is_watching = bool(self._jobs)
            is_short = self._is_watching and self._hands < self._most and not self._is_any_at_work()
            self._hands += is_short
        if is_short:
            self._threads.submit(self._work)
        if self._is_watching:
            asyncio.get_running_loop().call_later(HELD_UP_S, self._watch)

    def _is_any_at_work(self) -> bool:
        """Some hand took its job a moment ago; the others wait for their disks."""
        since_s = time.perf_counter() - HELD_UP_S
        return any(began_s > since_s for began_s in self._began_s.values())

    def _work(self) -> None:
        """Take job after job, until none is left, or they are quick and another hand is at work.

        Who was held up stays: the next job will be, too.
        """
        me = threading.get_ident()
        while True:
            with self._lock:
                began_s = self._began_s.pop(me, None)
                was_held_up = began_s is not None and time.perf_counter() - began_s > HELD_UP_S
                if not self._jobs or (not was_held_up and self._is_any_at_work()):
                    self._hands -= 1
                    return
                _, job = self._jobs.popleft()
                self._began_s[me] = time.perf_counter()
            job()


async def by(crew: Executor, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Have a job done by a thread, and wait for it to the end even when cancelled: what it uses may be closed then."""
    await anyio.lowlevel.checkpoint()
    done = asyncio.wrap_future(crew.submit(job, *args, **kwargs))
    with anyio.CancelScope(shield=True):
        await asyncio.wait([done])
    return done.result()
