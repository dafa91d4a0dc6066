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
from contextlib import contextmanager
from typing import Generic, TypeVar

from bulkstow.quantities import show_duration

STUCK_S = 10.0
"""Time at one step after which another thread takes the following steps. A busy disk responds within a second, one that
retries a bad sector within 7 s; a tape library, or a file server that restarts, takes longer."""

STUCK_SHARE = 0.5
"""The same as a share of a short limit: the following steps are taken before the one that hangs is given up."""

GRACE_S = 5.0
"""Time for calls that hang when the run has to end: a person who has pressed Ctrl-C waits about that long."""

LOOK_S = 1.0
"""Interval of the checks whether a thread is still at the same step; they cost nothing."""

S = TypeVar("S")
A = TypeVar("A")
R = TypeVar("R")


class ReadLimit:
    """The time limit of one read; used in the event loop only."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._hurried_s: float | None = None
        self._watchers: set[Callable[[], None]] = set()

    @property
    def stuck_s(self) -> float:
        """The time after which another thread continues."""
        return min(STUCK_S, STUCK_SHARE * self._timeout_s)

    @property
    def look_s(self) -> float:
        """The interval of the checks."""
        return min(LOOK_S, self.stuck_s / 2)

    def allowed_s(self, elapsed_s: float = 0.0) -> float:
        """Return how long a read that has taken `elapsed_s` so far may take altogether."""
        if self._hurried_s is None:
            return self._timeout_s
        left_s = GRACE_S - (time.monotonic() - self._hurried_s)
        return min(self._timeout_s, elapsed_s + max(0.0, left_s))

    def hurry(self) -> None:
        """Give up calls that hang after GRACE_S: the run has to end."""
        if self._hurried_s is None:
            self._hurried_s = time.monotonic()
            for watcher in tuple(self._watchers):
                watcher()

    @contextmanager
    def watched_by(self, watcher: Callable[[], None]) -> Iterator[None]:
        """Call `watcher` when `hurry` is called."""
        self._watchers.add(watcher)
        try:
            yield
        finally:
            self._watchers.discard(watcher)


def unanswered(elapsed_s: float) -> str:
    """Return the reason of a read that was given up."""
    return f"the storage has not answered for {show_duration(elapsed_s)}"


class Turn(Generic[S, R]):
    """The steps that one thread takes; guarded by the lock of the work."""

    def __init__(self) -> None:
        self.step: S | None = None
        """The step under way."""
        self.steps = 0
        """The number of steps that have ended; while it stays the same, the thread is at the same step."""
        self.results: list[R] = []
        self.is_given_up = False
        """The step under way was given up: its late result is dropped."""

    def take_results(self) -> list[R]:
        """Return the results of the steps since the last call."""
        taken, self.results = self.results, []
        return taken


class Work(ABC, Generic[S, R]):
    """Steps for one thread or several; a subclass defines the steps and their results.

    `_take`, `_put` and `_miss` are called with the lock held, and do not block. `_do` blocks, without the lock.
    """

    def __init__(self, *, results_per_turn: int, turn_s: float = LOOK_S) -> None:
        self._lock = threading.Lock()
        self._results_per_turn = results_per_turn
        self._turn_s = turn_s

    def go_on(self, turn: Turn[S, R]) -> list[R]:
        """Take steps until a turn has enough results; return an empty list if no step is left. Blocks."""
        until_s = time.monotonic() + self._turn_s
        with self._lock:
            step = turn.step = self._take(turn)
        while step is not None:
            brought = self._do(step)
            with self._lock:
                if turn.is_given_up:
                    return []
                turn.steps += 1
                self._put(step, brought, turn)
                count = len(turn.results)
                is_over = count >= self._results_per_turn or (count > 0 and time.monotonic() > until_s)
                step = turn.step = None if is_over else self._take(turn)
        with self._lock:
            return turn.take_results()

    def take_over(self, turn: Turn[S, R]) -> list[R]:
        """Return the results so far of a turn that is at a long step."""
        with self._lock:
            return turn.take_results()

    def give_up(self, turn: Turn[S, R], steps: int, why: str) -> list[R] | None:
        """Give up the step after so many; return the result in its place, or None if it has just ended."""
        with self._lock:
            if turn.step is None or turn.steps != steps:
                return None
            turn.is_given_up = True
            self._miss(turn.step, why, turn)
            return turn.take_results()

    @property
    def has_more(self) -> bool:
        """False if no step is left, as far as known."""
        return True

    @abstractmethod
    def _take(self, turn: Turn[S, R]) -> S | None:
        """Return the next step; None if all the rest is under way in other threads."""

    @abstractmethod
    def _do(self, step: S) -> object:
        """Carry out a step."""

    @abstractmethod
    def _put(self, step: S, brought: object, turn: Turn[S, R]) -> None:
        """Take the result of a step."""

    @abstractmethod
    def _miss(self, step: S, why: str, turn: Turn[S, R]) -> None:
        """Take that a step has not ended within the limit."""


class Each(Work[int, tuple[int, R]], Generic[A, R]):
    """One step for each of several items; `missed` returns the result of an item that hangs, from the reason."""

    def __init__(
        self,
        do: Callable[[A], R],
        items: Sequence[A],
        missed: Callable[[A, str], R],
        *,
        items_per_turn: int = 1,
    ) -> None:
        super().__init__(results_per_turn=items_per_turn)
        self._call = do
        self._items = items
        self._missed = missed
        self._next = 0

    @property
    def has_more(self) -> bool:
        """False once every item is under way."""
        return self._next < len(self._items)

    def _take(self, _turn: Turn[int, tuple[int, R]]) -> int | None:
        number = self._next
        if number == len(self._items):
            return None
        self._next = number + 1
        return number

    def _do(self, step: int) -> R:
        return self._call(self._items[step])

    def _put(self, step: int, brought: object, turn: Turn[int, tuple[int, R]]) -> None:
        turn.results.append((step, brought))  # type: ignore[arg-type]  # it is what `_do` returned

    def _miss(self, step: int, why: str, turn: Turn[int, tuple[int, R]]) -> None:
        turn.results.append((step, self._missed(self._items[step], why)))


class _Watched(Generic[S, R]):
    """A turn, and the time since it is at its step."""

    def __init__(self) -> None:
        self.turn = Turn[S, R]()
        self.is_stuck = False
        self.steps = -1
        """The number of its ended steps at the last check."""
        self._since_s = 0.0

    def look(self) -> float:
        """Return the time at the same step, as far as checked; 0 while the turn waits for a thread."""
        now_s = time.monotonic()
        if self.turn.step is None or self.turn.steps != self.steps:
            self.steps, self._since_s = self.turn.steps, now_s
        return now_s - self._since_s


class _Turns(Generic[S, R]):
    """The turns under way at a piece of work."""

    def __init__(self, work: Work[S, R], threads: Executor, limit: ReadLimit) -> None:
        self._work = work
        self._threads = threads
        self._limit = limit
        self._under_way: dict[asyncio.Future[list[R]], _Watched[S, R]] = {}
        self._is_dry = False

    def begin(self, at_once: int) -> bool:
        """Begin turns until so many run, as long as there is work; return whether any is under way."""
        at_work = sum(not watched.is_stuck for watched in self._under_way.values())
        while at_work < at_once and not self._is_dry and self._work.has_more:
            watched = _Watched[S, R]()
            self._under_way[asyncio.wrap_future(self._threads.submit(self._work.go_on, watched.turn))] = watched
            at_work += 1
        return bool(self._under_way)

    @property
    def are_stuck(self) -> bool:
        """Every turn under way is stuck."""
        return all(watched.is_stuck for watched in self._under_way.values())

    async def ended(self) -> list[list[R]]:
        """Wait up to one interval for turns to end, and return their results."""
        done, _ = await asyncio.wait(self._under_way, timeout=self._limit.look_s, return_when=asyncio.FIRST_COMPLETED)
        for ended in done:
            del self._under_way[ended]
        brought = [ended.result() for ended in done]
        if brought:
            self._is_dry = not any(brought)
        return brought

    def look(self) -> Iterator[list[R]]:
        """Find stuck turns, and give up those at their limit; yield their results."""
        for future, watched in tuple(self._under_way.items()):
            elapsed_s = watched.look()
            if elapsed_s > self._limit.stuck_s and not watched.is_stuck:
                watched.is_stuck = True
                yield self._work.take_over(watched.turn)
            if elapsed_s > self._limit.allowed_s(elapsed_s):
                given_up = self._work.give_up(watched.turn, watched.steps, unanswered(elapsed_s))
                if given_up is not None:
                    del self._under_way[future]
                    future.cancel()
                    self._is_dry = False
                    yield given_up

    def let_go(self) -> None:
        """Stop waiting for all turns."""
        for future in self._under_way:
            future.cancel()


async def carry_out(
    work: Work[S, R], threads: Executor, limit: ReadLimit, *, at_once: int = 1
) -> AsyncGenerator[list[R], None]:
    """Do work in threads, and yield its results as they come; an empty list means that the rest is stuck.

    Up to `at_once` turns run at the same time, not counting stuck ones. A caller that leaves early stops waiting for
    the turns under way.
    """
    turns = _Turns(work, threads, limit)
    try:
        while turns.begin(at_once):
            if turns.are_stuck:
                yield []
            for results in await turns.ended():
                if results:
                    yield results
            for results in turns.look():
                if results:
                    yield results
    finally:
        turns.let_go()


async def each(
    do: Callable[[A], R],
    items: Sequence[A],
    missed: Callable[[A, str], R],
    threads: Executor,
    limit: ReadLimit,
    *,
    items_per_turn: int = 1,
    at_once: int = 1,
) -> AsyncGenerator[list[R], None]:
    """Call a function for each item in threads; yield all results in order, or those that do not hang first.

    After the first list, which may be empty, follow the results of stuck items as these end or are given up.
    """
    work = Each(do, items, missed, items_per_turn=items_per_turn)
    at_once = min(at_once, -(-len(items) // items_per_turn))
    first: list[tuple[int, R]] = []
    is_first = True
    results = carry_out(work, threads, limit, at_once=at_once)
    try:
        async for brought in results:
            if is_first and brought:
                first += brought
                if len(first) == len(items):
                    break
            elif is_first:
                yield [result for _, result in sorted(first, key=_number)]
                is_first = False
            elif brought:
                yield [result for _, result in brought]
    finally:
        await results.aclose()
    if is_first:
        yield [result for _, result in sorted(first, key=_number)]


def _number(numbered: tuple[int, object]) -> int:
    return numbered[0]
