"""Whether the destination stores.

Tells the circuit breaker how requests ended, and tells of the outages that it finds. During an outage it asks at
growing intervals whether the destination is back, and stops the run at the limit of --give-up-after. Sends no instance
and settles none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from bulkstow.destination.stow import Destination
from bulkstow.errors import DestinationRefused, RunStopped
from bulkstow.events import OutageBegan, OutageContinues, OutageEnded, Reporter
from bulkstow.pipeline.scheduler import Scheduler
from bulkstow.policy.health import CircuitBreaker, OutageCause, State, probe_result
from bulkstow.policy.work_items import HealthSignal, WorkItem
from bulkstow.quantities import show_duration


@dataclass(slots=True)
class HealthMonitor:
    """Keeps the circuit breaker of one run.

    Calls `stop` when a question is answered with an error that no retry fixes, and `give_up` when an outage has lasted
    for `give_up_after_s`: requests under way are then not waited for.
    """

    breaker: CircuitBreaker
    destination: Destination
    scheduler: Scheduler
    reporter: Reporter
    tasks: TaskGroup
    stop: Callable[[RunStopped], None]
    give_up: Callable[[RunStopped], None]
    give_up_after_s: float | None = None
    _asking: anyio.CancelScope | None = field(default=None, init=False)
    _is_timing: bool = field(default=False, init=False)

    def excuses(self, item: WorkItem) -> bool:
        """Say whether an outage explains a failure of this request, so that it counts as no attempt.

        At the end of a run a lack of room does not: the instances that are left may be those that never have room.
        """
        return self.breaker.excuses(item) and not (self.breaker.is_full and self.scheduler.is_ending)

    def observe(self, item: WorkItem, health_signal: HealthSignal) -> None:
        """Take what an exchange says of the destination."""
        now_s = anyio.current_time()
        before, due_s, lasted_s = self.breaker.state, self.breaker.due_s, self.breaker.lasted_s(now_s)
        self.breaker.ended(item, health_signal, now_s)
        self._tell(before, due_s, lasted_s)
        self.begin()

    def begin(self) -> None:
        """Do what an outage needs; at the start of a pass there may be one since the last pass."""
        if self.breaker.state is State.OPEN and self._asking is None:
            self._asking = anyio.CancelScope()
            self.tasks.start_soon(self._ask, self._asking)
        if self.breaker.is_open and self.give_up_after_s is not None and not self._is_timing:
            self._is_timing = True
            self.tasks.start_soon(self._time, self.give_up_after_s)

    async def _ask(self, scope: anyio.CancelScope) -> None:
        """Ask until anything answers, or nothing is left to send."""
        breaker, scheduler = self.breaker, self.scheduler
        try:
            with scope:
                while True:
                    await scheduler.rest(breaker.wait_s(anyio.current_time()))
                    if breaker.state is not State.OPEN or scheduler.is_over:
                        return
                    answer = probe_result(await self.destination.probe())
                    before, due_s = breaker.state, breaker.due_s
                    breaker.asked(answer, anyio.current_time())
                    self._tell(before, due_s, 0.0)
        except RunStopped as stop:
            self.stop(stop)
        finally:
            self._asking = None

    async def _time(self, limit_s: float) -> None:
        """Stop the run when an outage has lasted until the limit."""
        breaker = self.breaker
        while (began_s := breaker.began_s) is not None:
            is_over = not await self.scheduler.outage_lasts(began_s + limit_s - anyio.current_time())
            if not is_over and breaker.began_s == began_s:
                if self._asking is not None:
                    self._asking.cancel()
                self.give_up(DestinationRefused(_given_up(breaker.cause, breaker.lasted_s(anyio.current_time()))))
                return
            if self.scheduler.is_over:
                return
        self._is_timing = False

    def _tell(self, before: State, due_s: float, lasted_s: float) -> None:
        """Tell of what has changed since the breaker had this state, and its outage this length."""
        breaker, now_s = self.breaker, anyio.current_time()
        if breaker.state is not before:
            self.scheduler.look_again()
        if not breaker.is_open:
            if before is not State.CLOSED:
                self.reporter.tell(OutageEnded(lasted_s))
        elif before is State.CLOSED:
            self.reporter.tell(OutageBegan(breaker.cause, breaker.lasted_s(now_s), breaker.wait_s(now_s)))
        elif breaker.due_s != due_s:
            self.reporter.tell(OutageContinues(breaker.cause, breaker.lasted_s(now_s), breaker.wait_s(now_s)))


def _given_up(cause: OutageCause, lasted_s: float) -> str:
    lasted = show_duration(lasted_s)
    match cause:
        case OutageCause.NO_ANSWER:
            return f"the server has not answered for {lasted}: run again when it is back"
        case OutageCause.NO_ROOM:
            return f"the server has had no room for {lasted}: run again when it has"
