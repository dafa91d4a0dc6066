"""Work that blocks, in steps that several threads can take, so that one that hangs holds up nothing but its own step.

A call on a file system may never return, and its thread cannot be stopped. So the state of the work lies outside of
the call: a thread takes one step after the other, and records which one it is at. When a step takes long, another
thread takes the steps after it. When it takes longer than the limit, its result is given up and the rest goes on.
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
"""After so long at one step, others go on with what comes after it. A disk that is busy answers within a second, one
that retries a bad sector within 7 s; a tape library, or a file server that restarts, takes longer."""

STUCK_SHARE = 0.5
"""Of the limit, where that is short: the steps behind the one that hangs are taken before it is given up."""

GRACE_S = 5.0
"""What hangs is waited for so long once the run is to end: a person who has pressed Ctrl-C waits about that long."""

LOOK_S = 1.0
"""How often to look whether a thread is still at the same step; seldom enough to cost nothing."""

S = TypeVar("S")
A = TypeVar("A")
R = TypeVar("R")


class ReadLimit:
    """How long one read may take; belongs to the event loop."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._hurried_s: float | None = None
        self._watchers: set[Callable[[], None]] = set()

    @property
    def stuck_s(self) -> float:
        """After so long, others go on."""
        return min(STUCK_S, STUCK_SHARE * self._timeout_s)

    @property
    def look_s(self) -> float:
        """How often to look."""
        return min(LOOK_S, self.stuck_s / 2)

    def allowed_s(self, elapsed_s: float = 0.0) -> float:
        """Return how long a read that has taken `elapsed_s` so far may take altogether."""
        if self._hurried_s is None:
            return self._timeout_s
        left_s = GRACE_S - (time.monotonic() - self._hurried_s)
        return min(self._timeout_s, elapsed_s + max(0.0, left_s))

    def hurry(self) -> None:
        """Give up in a moment what hangs: the run is to end."""
        if self._hurried_s is None:
            self._hurried_s = time.monotonic()
            for watcher in tuple(self._watchers):
                watcher()

    @contextmanager
    def watched_by(self, watcher: Callable[[], None]) -> Iterator[None]:
        """Call `watcher` when there is hurry."""
        self._watchers.add(watcher)
        try:
            yield
        finally:
            self._watchers.discard(watcher)


def unanswered(elapsed_s: float) -> str:
    """Say that a read was given up."""
    return f"the storage has not answered for {show_duration(elapsed_s)}"


class Turn(Generic[S, R]):
    """What one thread does at a piece of work; guarded by the lock of the work."""

    def __init__(self) -> None:
        self.step: S | None = None
        """The step under way."""
        self.steps = 0
        """Steps that ended: while this number stays the same, the thread is at the same step."""
        self.results: list[R] = []
        self.is_given_up = False
        """Nobody waits for the step under way: what it brings after all is dropped."""

    def take_results(self) -> list[R]:
        """Return what the steps have brought since the last call."""
        taken, self.results = self.results, []
        return taken


class Work(ABC, Generic[S, R]):
    """Steps to take, by one thread or by several; a subclass says which, and what each brings.

    `_take`, `_put` and `_miss` are called with the lock held, and do not block. `_do` blocks, without the lock.
    """

    def __init__(self, *, results_per_turn: int, turn_s: float = LOOK_S) -> None:
        self._lock = threading.Lock()
        self._results_per_turn = results_per_turn
        self._turn_s = turn_s

    def go_on(self, turn: Turn[S, R]) -> list[R]:
        """Take steps until a turn's worth of results is there; return none where no step is left to take. Blocks."""
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
        """Return what a turn that is at a long step has brought so far."""
        with self._lock:
            return turn.take_results()

    def give_up(self, turn: Turn[S, R], steps: int, why: str) -> list[R] | None:
        """Wait no more for the step after so many; return what stands for it, or None where it has just ended."""
        with self._lock:
            if turn.step is None or turn.steps != steps:
                return None
            turn.is_given_up = True
            self._miss(turn.step, why, turn)
            return turn.take_results()

    @property
    def has_more(self) -> bool:
        """False where it is known that no step is left to take."""
        return True

    @abstractmethod
    def _take(self, turn: Turn[S, R]) -> S | None:
        """Return the next step; None where nothing is left that no other thread is at."""

    @abstractmethod
    def _do(self, step: S) -> object:
        """Carry out a step."""

    @abstractmethod
    def _put(self, step: S, brought: object, turn: Turn[S, R]) -> None:
        """Take in what a step has brought."""

    @abstractmethod
    def _miss(self, step: S, why: str, turn: Turn[S, R]) -> None:
        """Take in that a step has not ended within the limit."""


class Each(Work[int, tuple[int, R]], Generic[A, R]):
    """One step for each of several items; `missed` gives the result of one that hangs, from the reason."""

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
    """A turn, and since when it is at its step."""

    def __init__(self) -> None:
        self.turn = Turn[S, R]()
        self.is_stuck = False
        self.steps = -1
        """Steps before the one that it was at when it was last looked at."""
        self._since_s = 0.0

    def look(self) -> float:
        """Return for how long it has been at the same step, as far as was looked at; 0 while it waits for a thread."""
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
        """Begin turns until so many are at work, as long as there is work; return whether any is under way."""
        at_work = sum(not watched.is_stuck for watched in self._under_way.values())
        while at_work < at_once and not self._is_dry and self._work.has_more:
            watched = _Watched[S, R]()
            self._under_way[asyncio.wrap_future(self._threads.submit(self._work.go_on, watched.turn))] = watched
            at_work += 1
        return bool(self._under_way)

    @property
    def are_stuck(self) -> bool:
        """None of them is at work."""
        return all(watched.is_stuck for watched in self._under_way.values())

    async def ended(self) -> list[list[R]]:
        """Wait a little for turns to end, and return what they brought."""
        done, _ = await asyncio.wait(self._under_way, timeout=self._limit.look_s, return_when=asyncio.FIRST_COMPLETED)
        for ended in done:
            del self._under_way[ended]
        brought = [ended.result() for ended in done]
        if brought:
            self._is_dry = not any(brought)
        return brought

    def look(self) -> Iterator[list[R]]:
        """Find out which of them are stuck, and give up those at their limit; yield what they have brought."""
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
        """Wait for none of them."""
        for future in self._under_way:
            future.cancel()


async def carry_out(
    work: Work[S, R], threads: Executor, limit: ReadLimit, *, at_once: int = 1
) -> AsyncGenerator[list[R], None]:
    """Have work done by threads, and yield its results as they come; an empty list says that the rest is stuck.

    `at_once` turns are taken at the same time, not counting those that are stuck. A caller that leaves early lets go
    of the turns under way.
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
    """Do something for each item in threads; yield all results in order, or first those of the items that do not hang.

    After the first list, which may be empty, come those of the items that were stuck, as they end or are given up.
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
