"""Blocking work in steps, so that a call that hangs delays only its own step.

A call on a file system may never return, and its thread cannot be stopped. So the state of the work is kept outside of
the call: a thread takes one step after the other and records its current step. When a step takes long, another thread
takes the following steps. When it takes longer than the limit, its result is given up and the rest continues.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Generic, TypeVar

from bulkstow.quantities import show_duration

STUCK_S = 10.0
"""Time at one step after which another thread takes the following steps. A busy disk responds within a second, one that
retries a bad sector within 7 s; a tape library, or a file server that restarts, takes longer."""

STUCK_SHARE = 0.5
"""The same as a share of a short limit, so that another thread continues before the hanging step is given up."""

GRACE_S = 5.0
"""Time that each call has left when the run ends, as after Ctrl-C."""

CHECK_INTERVAL_S = 1.0
"""Interval of the checks whether a thread is still at the same step; their cost is negligible."""

CALL_S = 0.05
"""Time after which a call that has results ends: other reads wait for its thread, and a body's turn is as long."""

SLOW_STEP_S = 0.0002
"""Steps that take longer by themselves are run ahead: reading the status of a file takes 4 µs from memory, and a round
trip to a file server at least 0.2 ms."""

S = TypeVar("S")
A = TypeVar("A")
R = TypeVar("R")


class ReadLimit:
    """The time limit of one read; used in the event loop only."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._shortened_s: float | None = None
        self._listeners: set[Callable[[], None]] = set()

    @property
    def stuck_s(self) -> float:
        """The time after which another thread continues."""
        return min(STUCK_S, STUCK_SHARE * self._timeout_s)

    @property
    def check_interval_s(self) -> float:
        """The interval of the checks."""
        return min(CHECK_INTERVAL_S, self.stuck_s / 2)

    def allowed_s(self, elapsed_s: float = 0.0) -> float:
        """Return how long a read that has taken `elapsed_s` so far may take altogether.

        A read that began after the shortening has GRACE_S of its own: a request that is finished may go on for long.
        """
        if self._shortened_s is None:
            return self._timeout_s
        before_s = elapsed_s - (time.monotonic() - self._shortened_s)
        return min(self._timeout_s, max(0.0, before_s) + GRACE_S)

    def shorten(self) -> None:
        """Give up calls that hang for GRACE_S from now on: the run has to end."""
        if self._shortened_s is None:
            self._shortened_s = time.monotonic()
            for listener in tuple(self._listeners):
                listener()

    @contextmanager
    def on_shortened(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` when the limit is shortened."""
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)


def timeout_reason(elapsed_s: float) -> str:
    """Return the reason of a read that was given up."""
    return f"the storage has not answered for {show_duration(elapsed_s)}"


class Worker(Generic[S, R]):
    """One thread's progress; guarded by the lock of the work. `is_stuck` and `elapsed_s` belong to the event loop."""

    def __init__(self) -> None:
        self.step: S | None = None
        """The step under way."""
        self.steps = 0
        """The number of steps that have ended; while it stays the same, the thread is at the same step."""
        self.results: list[R] = []
        self.is_given_up = False
        """The step under way was given up: its late result is dropped."""
        self.is_stuck = False
        """Another thread takes the following steps."""
        self.is_paused = False
        """It has left steps to be run ahead."""
        self.checked_steps = -1
        """`steps` at the last check."""
        self._since_s = 0.0

    def take_results(self) -> list[R]:
        """Return the results since the last call."""
        taken, self.results = self.results, []
        return taken

    def elapsed_s(self) -> float:
        """Check, and return the time at the same step since it was first seen; 0 while no step is under way."""
        now_s = time.monotonic()
        if self.step is None or self.steps != self.checked_steps:
            self.checked_steps, self._since_s = self.steps, now_s
        return now_s - self._since_s

    def restart_time(self) -> None:
        """Count the time of the step under way from the next check on."""
        self.steps += 1


class Work(ABC, Generic[S, R]):
    """Steps for one thread or several; a subclass defines the steps and their results.

    `_next_step`, `_finish` and `_time_out` are called with the lock held, and do not block. `_run` blocks, without the
    lock.
    """

    def __init__(self, *, results_per_list: int, list_s: float = CHECK_INTERVAL_S) -> None:
        self._lock = threading.Lock()
        self._results_per_list = results_per_list
        self._list_s = list_s
        self._is_slow = False
        """A list was not full in time, and steps that were run ahead were not quick since."""

    def run_steps(self, worker: Worker[S, R], *, pauses: bool = False) -> list[R]:
        """Take steps until there are results for a list; return an empty list if no step is left. Blocks.

        With `pauses` it also returns, with any list, when the next steps should be run ahead.
        """
        until_s = time.monotonic() + self._list_s
        with self._lock:
            step = worker.step = self._next_step(worker)
        while step is not None:
            result = self._run(step)
            with self._lock:
                if worker.is_given_up:
                    return []
                worker.steps += 1
                self._finish(step, result, worker)
                count = len(worker.results)
                is_full = count >= self._results_per_list
                if not is_full and count > 0 and time.monotonic() > until_s:
                    is_full = self._is_slow = True
                worker.is_paused = pauses and self._is_slow and self._may_run_ahead
                step = worker.step = None if is_full or worker.is_paused else self._next_step(worker)
        return self.partial_results(worker)

    def partial_results(self, worker: Worker[S, R]) -> list[R]:
        """Return the results so far of a worker, which may be at a long step."""
        with self._lock:
            return worker.take_results()

    def give_up(self, worker: Worker[S, R], why: str) -> list[R] | None:
        """Give up the step of the last check; return the result in its place, or None if it has just ended."""
        with self._lock:
            if worker.step is None or worker.steps != worker.checked_steps:
                return None
            worker.is_given_up = True
            self._time_out(worker.step, why, worker)
            return worker.take_results()

    def take_ahead(self) -> Sequence[S]:
        """Return steps for `run_ahead` in several threads; none unless steps are slow."""
        with self._lock:
            return self._take_ahead() if self._is_slow and self._may_run_ahead else ()

    def run_ahead(self, step: S) -> None:
        """Run a step so that it is quick when its turn comes. Blocks."""
        self._run(step)

    def end_ahead(self, steps: int, elapsed_s: float) -> None:
        """Take how long so many steps took that several threads have run ahead."""
        self._is_slow = elapsed_s > steps * SLOW_STEP_S

    @property
    def _may_run_ahead(self) -> bool:
        """True if the next steps can be run ahead, and have not been."""
        return False

    def _take_ahead(self) -> Sequence[S]:
        """Return the next steps that can be run ahead."""
        return ()

    @property
    def has_more(self) -> bool:
        """False if no step is left, as far as known."""
        return True

    @abstractmethod
    def _next_step(self, worker: Worker[S, R]) -> S | None:
        """Return the next step; None if all the rest is under way in other threads."""

    @abstractmethod
    def _run(self, step: S) -> object:
        """Run a step."""

    @abstractmethod
    def _finish(self, step: S, result: object, worker: Worker[S, R]) -> None:
        """Process the result of a step."""

    @abstractmethod
    def _time_out(self, step: S, why: str, worker: Worker[S, R]) -> None:
        """Process a step that has not ended within the limit."""


class Each(Work[int, tuple[int, R]], Generic[A, R]):
    """One step for each item; results have the item's number. `on_timeout` returns the result of an item that hangs."""

    def __init__(
        self, call: Callable[[A], R], items: Sequence[A], on_timeout: Callable[[A, str], R], items_per_list: int
    ) -> None:
        super().__init__(results_per_list=items_per_list, list_s=CALL_S)
        self._call = call
        self._items = items
        self._on_timeout = on_timeout
        self._next = 0

    @property
    def has_more(self) -> bool:
        """False once every item is under way."""
        return self._next < len(self._items)

    def _next_step(self, _worker: Worker[int, tuple[int, R]]) -> int | None:
        number = self._next
        if number == len(self._items):
            return None
        self._next = number + 1
        return number

    def _run(self, step: int) -> R:
        return self._call(self._items[step])

    def _finish(self, step: int, result: object, worker: Worker[int, tuple[int, R]]) -> None:
        worker.results.append((step, result))  # type: ignore[arg-type]  # `_run` returned it

    def _time_out(self, step: int, why: str, worker: Worker[int, tuple[int, R]]) -> None:
        worker.results.append((step, self._on_timeout(self._items[step], why)))


def _check(
    work: Work[S, R], running: dict[asyncio.Future[list[R]], Worker[S, R]], limit: ReadLimit
) -> Iterator[list[R]]:
    """Find workers that are stuck, and remove those whose step exceeds the limit; yield their results."""
    for future, worker in tuple(running.items()):
        elapsed_s = worker.elapsed_s()
        if elapsed_s > limit.stuck_s and not worker.is_stuck:
            worker.is_stuck = True
            yield work.partial_results(worker)
        if elapsed_s > limit.allowed_s(elapsed_s):
            given_up = work.give_up(worker, timeout_reason(elapsed_s))
            if given_up is not None:
                del running[future]
                future.cancel()
                yield given_up


def _ignore() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Helpers:
    """Threads that run steps ahead."""

    threads: Executor
    count: int


async def run_in_threads(
    work: Work[S, R],
    threads: Executor,
    limit: ReadLimit,
    *,
    workers: int = 1,
    helpers: Helpers | None = None,
    on_dry: Callable[[], None] = _ignore,
) -> AsyncGenerator[list[R], None]:
    """Run work in threads, and yield its results as they come; an empty list means that the rest is stuck.

    Up to `workers` run at the same time, not counting stuck ones; while steps are slow, `helpers` run them ahead.
    `on_dry` is called when fewer workers run because no step is left. A caller that leaves early stops waiting for
    them.
    """
    running: dict[asyncio.Future[list[R]], Worker[S, R]] = {}
    is_dry = False
    try:
        while True:
            idle = workers - sum(not worker.is_stuck for worker in running.values())
            if helpers is not None and idle > 0:
                await _run_ahead(work, helpers, limit)
            while idle > 0 and not is_dry and work.has_more:
                worker = Worker[S, R]()
                call = threads.submit(work.run_steps, worker, pauses=helpers is not None)
                running[asyncio.wrap_future(call)] = worker
                idle -= 1
            if idle > 0:
                on_dry()
            if not running:
                return
            if all(worker.is_stuck for worker in running.values()):
                yield []
            done, _ = await asyncio.wait(running, timeout=limit.check_interval_s, return_when=asyncio.FIRST_COMPLETED)
            ended = [running.pop(future) for future in done]
            lists = [future.result() for future in done]
            if ended:
                is_dry = not any(lists) and not any(worker.is_paused for worker in ended)
            under_way = len(running)
            lists += _check(work, running, limit)
            is_dry = is_dry and len(running) == under_way
            for results in filter(None, lists):
                yield results
    finally:
        for future in running:
            future.cancel()


async def _run_ahead(work: Work[S, R], helpers: Helpers, limit: ReadLimit) -> None:
    """Have steps run ahead, if they are slow; stop waiting for those that hang.

    A step that hangs does so again when its turn comes, and is then given up.
    """
    steps = work.take_ahead()
    if not steps:
        return
    started_s = time.monotonic()
    ahead = map_in_threads(
        work.run_ahead,
        steps,
        lambda _step, _why: None,
        helpers.threads,
        limit,
        items_per_list=len(steps),
        workers=helpers.count,
    )
    async with aclosing(ahead):
        await anext(ahead)
    work.end_ahead(len(steps), time.monotonic() - started_s)


async def map_in_threads(
    call: Callable[[A], R],
    items: Sequence[A],
    on_timeout: Callable[[A, str], R],
    threads: Executor,
    limit: ReadLimit,
    *,
    items_per_list: int = 1,
    workers: int = 1,
    on_dry: Callable[[], None] = _ignore,
) -> AsyncGenerator[list[R], None]:
    """Call a function for each item in threads; yield all results in order, or first those of items that do not hang.

    After the first list, which may be empty, follow the results of hanging items as they end or are given up. `on_dry`
    is called when no item is left and a thread is free.
    """

    def in_order(numbered: list[tuple[int, R]]) -> list[R]:
        return [result for _, result in sorted(numbered, key=itemgetter(0))]

    work = Each(call, items, on_timeout, items_per_list)
    workers = min(workers, len(items))
    first: list[tuple[int, R]] = []
    is_first = True
    async with aclosing(run_in_threads(work, threads, limit, workers=workers, on_dry=on_dry)) as lists:
        async for results in lists:
            if is_first and results:
                first += results
                if len(first) == len(items):
                    break
            elif is_first:
                yield in_order(first)
                is_first = False
            elif results:
                yield [result for _, result in results]
    if is_first:
        yield in_order(first)
