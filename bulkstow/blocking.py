"""Work that blocks, in steps that several threads can take, so that one that hangs holds up nothing but its own step.

A call on a file system may never return, and its thread cannot be stopped. So the state of the work lies outside of
the call: a thread takes one step after the other, and records which one it is at. When a step takes too long, another
thread takes the steps after it; when it takes longer than the limit, the work goes on without its result.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

S = TypeVar("S")
R = TypeVar("R")


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

    `_take` and `_put` are called with the lock held, and do not block. `_do` blocks, without the lock.
    """

    def __init__(self, *, results_per_turn: int, turn_s: float = float("inf")) -> None:
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
        return turn.take_results()

    def take_over(self, turn: Turn[S, R]) -> list[R]:
        """Return what a turn that is at a long step has brought so far."""
        with self._lock:
            return turn.take_results()

    def give_up(self, turn: Turn[S, R], why: str) -> list[R]:
        """Wait no more for the step under way; return what the turn has brought, and what stands for this step."""
        with self._lock:
            if turn.step is not None:
                turn.is_given_up = True
                self._miss(turn.step, why, turn)
            return turn.take_results()

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
