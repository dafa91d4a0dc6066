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
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.lowlevel

from bulkstow.blocking import STUCK_S
from bulkstow.errors import StorageGone
from bulkstow.platform.process import thread_cpu_clock

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
"""Look-ups in the ledger for the scan and for copies, outcomes for the ledger: of each one at a time; and now and then
a size that a server refused."""

WALKS_AT_ONCE = 1
"""There is one walk, and one thread at it as long as it does not hang."""

MOST_STUCK = 256
"""Threads that may hang and are not counted: each takes some 30 KB, and a container often allows 1,000 in all. More
hang only where a whole file system has gone."""

_GONE = (
    f"the storage does not answer: {MOST_STUCK} reads hang, and nothing more is read; run the same command again when "
    "it is back"
)

P = ParamSpec("P")
T = TypeVar("T")


class AtJob:
    """A hand from when it took its job; belongs to the hand, and others may look."""

    def __init__(self) -> None:
        # Where it always returns 0, a thread that takes long counts as held up.
        self._cpu_clock = thread_cpu_clock()
        self.is_stuck = False
        """It is not counted any more."""
        self._began_s, self._used_before_s = time.perf_counter(), self._cpu_clock()

    @property
    def elapsed_s(self) -> float:
        """For how long it has been at the job."""
        return time.perf_counter() - self._began_s

    @property
    def is_held_up(self) -> bool:
        """It has been at the job for a while, and mostly waited; or for long."""
        elapsed_s = self.elapsed_s
        if elapsed_s <= HELD_UP_S:
            return False
        return elapsed_s > AT_WORK_S or self._cpu_clock() - self._used_before_s < AT_WORK_SHARE * elapsed_s


@dataclass(slots=True, eq=False)
class Kind:
    """Jobs of one kind, of which so many are under way at most, not counting those that are stuck."""

    most: int
    waiting: deque[Job] = field(default_factory=deque)
    under_way: int = 0

    @property
    def may_begin(self) -> bool:
        """One waits, and is not too many."""
        return bool(self.waiting) and self.under_way < self.most


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done."""

    run: Callable[[], None]
    future: Future[Any]
    kind: Kind


class WorkerThreads(Executor):
    """Threads for everything that blocks in a run; belongs to the event loop that is running.

    `submit` is for what reads the files' contents: so many of these jobs as there are `readers` are under way at once,
    at most. What looks for files goes to `scans`, and what uses no archive's storage to `calls`: a disk that hangs
    does not keep an outcome from being recorded. A job that takes longer than `stuck_s` is not counted any more, and
    another thread begins in its place, up to MOST_STUCK of them; beyond that nothing more is read or looked for, and
    `submit` and what waits raise StorageGone.
    """

    def __init__(self, readers: int, *, stuck_s: float = STUCK_S) -> None:
        self._reads = Kind(readers)
        self._walks = Kind(WALKS_AT_ONCE)
        self._errands = Kind(ERRANDS_AT_ONCE)
        self._kinds = (self._errands, self._walks, self._reads)
        """Errands and walks come first: whole lists and batches wait for them."""
        self._most_hands = sum(kind.most for kind in self._kinds)
        self._stuck_s = stuck_s
        self._threads = ThreadPoolExecutor(self._most_hands + MOST_STUCK, thread_name_prefix="hand")
        self._lock = threading.Lock()
        self._hands = 0
        self._stuck = 0
        self._is_storage_gone = False
        self._at_jobs: dict[int, tuple[AtJob, Job]] = {}
        """By thread; none of them ends while it is in here."""
        self._watched_by: asyncio.AbstractEventLoop | None = None
        self._is_shut = False
        self.calls: Executor = Errands(partial(self._add, self._errands))
        self.scans: Executor = Errands(partial(self._add, self._walks))

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have something read when a hand is free."""
        return self._add(self._reads, partial(fn, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs."""
        self._is_shut = True
        if cancel_futures:
            with self._lock:
                waiting = [job for kind in self._kinds for job in kind.waiting]
                for kind in self._kinds:
                    kind.waiting.clear()
            for job in waiting:
                job.future.cancel()
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)

    def _add(self, kind: Kind, do: Callable[[], T]) -> Future[T]:
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
        if self._is_storage_gone and kind is not self._errands:
            raise StorageGone(_GONE)
        loop = asyncio.get_running_loop()
        with self._lock:
            kind.waiting.append(Job(run, future, kind))
        self._lend_hand()
        if self._watched_by is not loop:
            loop.call_later(HELD_UP_S, self._watch, loop)
            self._watched_by = loop
        return future

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look again and again, as long as jobs wait, whether a hand is missing."""
        if any(kind.waiting for kind in self._kinds):
            self._pass_over_stuck()
            loop.call_later(HELD_UP_S, self._watch, loop)
        else:
            self._watched_by = None
        self._lend_hand()

    def _lend_hand(self) -> None:
        """Have one more hand at work where a job waits and all hands are held up; a hand on its way is enough."""
        with self._lock:
            is_one_coming = self._hands > len(self._at_jobs)
            if is_one_coming or self._next() is None or self._is_any_at_work():
                return
            self._hands += 1
        try:
            self._threads.submit(self._work)
        except RuntimeError:  # the system has no more threads, or it is the end
            with self._lock:
                self._hands -= 1
            raise

    def _pass_over_stuck(self) -> None:
        """Count no more what takes so long that it may never end, so that others are begun."""
        refused: list[Job] = []
        with self._lock:
            for hand, job in self._at_jobs.values():
                if hand.is_stuck or hand.elapsed_s < self._stuck_s:
                    continue
                if self._stuck == MOST_STUCK:
                    self._is_storage_gone = True
                    refused += [*self._walks.waiting, *self._reads.waiting]
                    self._walks.waiting.clear()
                    self._reads.waiting.clear()
                    break
                hand.is_stuck = True
                self._stuck += 1
                job.kind.under_way -= 1
        for job in refused:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(StorageGone(_GONE))

    def _next(self) -> Kind | None:
        """Return of which kind the next job is; None where none may be begun."""
        return next((kind for kind in self._kinds if kind.may_begin), None)

    def _is_any_at_work(self) -> bool:
        """Some hand is at work; the others wait for their disks."""
        return not all(hand.is_held_up for hand, _ in self._at_jobs.values())

    def _work(self) -> None:
        """Take job after job, until none is left, or they are quick and another hand is at work.

        Who was held up stays: the next job will be, too.
        """
        me = threading.get_ident()
        while True:
            with self._lock:
                was_held_up = me in self._at_jobs and self._leave(*self._at_jobs.pop(me))
                kind = self._next()
                if kind is None or (not was_held_up and self._is_any_at_work()):
                    self._hands -= 1
                    return
                job = kind.waiting.popleft()
                self._at_jobs[me] = AtJob(), job
                kind.under_way += 1
            job.run()

    def _leave(self, hand: AtJob, job: Job) -> bool:
        """Take note that a job has ended; return whether its hand was held up."""
        if hand.is_stuck:
            self._stuck -= 1
        else:
            job.kind.under_way -= 1
        return hand.is_held_up


class Errands(Executor):
    """Jobs of one kind, as an executor."""

    def __init__(self, add: Callable[[Callable[[], Any]], Future[Any]]) -> None:
        self._add = add

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have an errand done."""
        return self._add(partial(fn, *args, **kwargs))


async def run_blocking(threads: Executor, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Have a job done by a thread. Who is cancelled waits for the end of what has begun: what it uses may be closed."""
    await anyio.lowlevel.checkpoint()
    future = threads.submit(job, *args, **kwargs)
    done = asyncio.wrap_future(future)
    try:
        await asyncio.wait([done])
    except asyncio.CancelledError:
        if not future.cancel():
            with anyio.CancelScope(shield=True):
                await asyncio.wait([done])
        raise
    return done.result()


async def run_abandonable(threads: Executor, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Have something read by a thread. Who is cancelled lets go of it, as it may hang and uses nothing of ours."""
    await anyio.lowlevel.checkpoint()
    return await asyncio.wrap_future(threads.submit(job, *args, **kwargs))
