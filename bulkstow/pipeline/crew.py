"""The threads that do what blocks: one at work, and more only as long as that one is held up by the storage.

Owns how many. Python runs one thread at a time; each that has work takes the interpreter from the others whenever they
read or send, and that costs more than the work: 8,000 CT slices with eight threads at once cost 67,000 switches and
half of the processor's time. But a thread that waits for a disk takes nothing from anybody, and the next must not wait
with it. So one hand takes job after job, and when it has been at the same job for a while without using the processor,
the next hand lends it help.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.lowlevel

HELD_UP_S = 0.003
"""Shorter than a disk's seek, or a round trip to a file server that is busy; 32 warm heads take 0.5 ms."""

AT_WORK_SHARE = 0.25
"""Of a job's time: who uses the processor for so much of it is at work. 16 MiB into a socket take 3 to 12 ms, most of
them the processor's, and lending hands meanwhile made 4.2 GB a quarter slower; reading 64 MiB from a local disk used
0.16 of its time. A turn that waits for a slow network uses none, and counts as held up: it leaves the interpreter to
others."""

AT_WORK_S = 0.06
"""However busy it is: a body's turn is over by then, and what takes longer (a walk, the comparison of two large copies)
has others beside it."""

ERRANDS_AT_ONCE = 4
"""The walk, claims, outcomes for the ledger: of each one at a time; and now and then a size that a server refused."""

_TELLS = hasattr(time, "pthread_getcpuclockid")

P = ParamSpec("P")
T = TypeVar("T")


class AtJob:
    """A hand from when it took its job; belongs to the hand, and others may look."""

    def __init__(self) -> None:
        # Not every system tells a thread's time to others (macOS); there, whoever takes long is held up.
        self._clock = time.pthread_getcpuclockid(threading.get_ident()) if _TELLS else None
        self._began_s, self._used_before_s = time.perf_counter(), self._used_s

    @property
    def _used_s(self) -> float:
        """Of the processor, since the thread began."""
        return 0.0 if self._clock is None else time.clock_gettime(self._clock)

    @property
    def is_held_up(self) -> bool:
        """It has been at the job for a while, and mostly waited; or for long."""
        elapsed_s = time.perf_counter() - self._began_s
        if elapsed_s <= HELD_UP_S:
            return False
        return elapsed_s > AT_WORK_S or self._used_s - self._used_before_s < AT_WORK_SHARE * elapsed_s


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done, and whether it counts among those that read."""

    run: Callable[[], None]
    future: Future[Any]
    reads: bool


class Crew(Executor):
    """Threads for everything that blocks in a run; belongs to the event loop that is running.

    `submit` is for what reads the files' contents: so many of these jobs as there are `readers` are under way at once,
    at most. What else blocks goes to `errands`, and waits for no reader: a disk that hangs does not keep an outcome
    from being recorded.
    """

    def __init__(self, readers: int) -> None:
        self._most_reading = readers
        self._threads = ThreadPoolExecutor(readers + ERRANDS_AT_ONCE, thread_name_prefix="hand")
        self._lock = threading.Lock()
        self._reads: deque[Job] = deque()
        self._errands: deque[Job] = deque()
        self._reading = 0
        self._hands = 0
        self._at_jobs: dict[int, AtJob] = {}
        """By thread; none of them ends while it is in here."""
        self._watched_by: asyncio.AbstractEventLoop | None = None
        self._is_shut = False
        self.errands = Errands(self)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have something read when a hand is free."""
        return self._add(self._reads, partial(fn, *args, **kwargs))

    def run_errand(self, errand: Callable[[], T]) -> Future[T]:
        """Have an errand done when a hand is free, before what is to be read: whole lists and batches wait for it."""
        return self._add(self._errands, errand)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs."""
        self._is_shut = True
        if cancel_futures:
            with self._lock:
                waiting = [*self._errands, *self._reads]
                self._errands.clear()
                self._reads.clear()
            for job in waiting:
                job.future.cancel()
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)

    def _add(self, jobs: deque[Job], do: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(do())
            except BaseException as error:  # noqa: BLE001 - it is the caller's to see
                future.set_exception(error)

        if self._is_shut:
            raise RuntimeError("nothing is begun any more")
        loop = asyncio.get_running_loop()
        with self._lock:
            jobs.append(Job(run, future, reads=jobs is self._reads))
        self._lend_hand()
        if self._watched_by is not loop:
            loop.call_later(HELD_UP_S, self._watch, loop)
            self._watched_by = loop
        return future

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look again and again, as long as jobs wait, whether a hand is missing."""
        if self._errands or self._reads:
            loop.call_later(HELD_UP_S, self._watch, loop)
        else:
            self._watched_by = None
        self._lend_hand()

    def _lend_hand(self) -> None:
        """Have one more hand at work where a job waits and all hands are held up; a hand on its way is enough."""
        with self._lock:
            is_one_coming = self._hands > len(self._at_jobs)
            if is_one_coming or self._next_jobs() is None or self._is_any_at_work():
                return
            self._hands += 1
        try:
            self._threads.submit(self._work)
        except RuntimeError:  # the system has no more threads, or it is the end
            with self._lock:
                self._hands -= 1
            raise

    def _next_jobs(self) -> deque[Job] | None:
        """Return where the next job is to be taken from; None where none may be begun."""
        if self._errands:
            return self._errands
        return self._reads if self._reads and self._reading < self._most_reading else None

    def _is_any_at_work(self) -> bool:
        """Some hand is at work; the others wait for their disks."""
        return not all(hand.is_held_up for hand in self._at_jobs.values())

    def _work(self) -> None:
        """Take job after job, until none is left, or they are quick and another hand is at work.

        Who was held up stays: the next job will be, too.
        """
        me = threading.get_ident()
        job: Job | None = None
        while True:
            with self._lock:
                last = self._at_jobs.pop(me, None)
                self._reading -= job is not None and job.reads
                was_held_up = last is not None and last.is_held_up
                jobs = self._next_jobs()
                if jobs is None or (not was_held_up and self._is_any_at_work()):
                    self._hands -= 1
                    return
                self._at_jobs[me] = AtJob()
                job = jobs.popleft()
                self._reading += job.reads
            job.run()


class Errands(Executor):
    """The errands of a crew, as an executor."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have an errand done."""
        return self._crew.run_errand(partial(fn, *args, **kwargs))


async def by(crew: Executor, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Have a job done by a thread. Who is cancelled waits for the end of what has begun: what it uses may be closed."""
    await anyio.lowlevel.checkpoint()
    future = crew.submit(job, *args, **kwargs)
    done = asyncio.wrap_future(future)
    try:
        await asyncio.wait([done])
    except asyncio.CancelledError:
        if not future.cancel():
            with anyio.CancelScope(shield=True):
                await asyncio.wait([done])
        raise
    return done.result()


async def read_by(crew: Executor, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Have something read by a thread. Who is cancelled lets go of it, as it may hang and uses nothing of ours."""
    await anyio.lowlevel.checkpoint()
    return await asyncio.wrap_future(crew.submit(job, *args, **kwargs))
