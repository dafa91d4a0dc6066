"""The task of an outage: probes the destination until it responds, and stops the run at the limit of --give-up-after.

All decisions are made by `policy.health`; this module has the clock, sends the probes and reports outages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from bulkstow.errors import DestinationRefused, RunStopped
from bulkstow.events import OutageBegan, OutageContinues, OutageEnded, Reporter
from bulkstow.model import NoResponse, Response
from bulkstow.pipeline.turns import Turns
from bulkstow.policy.health import CircuitBreaker, CircuitState, Outage, OutageCause, probe_result
from bulkstow.quantities import show_duration


class Probed(Protocol):
    """The target of the probes during an outage."""

    async def probe(self) -> Response | NoResponse:
        """Make a request that shows whether the server responds."""


@dataclass(slots=True, kw_only=True)
class HealthMonitor:
    """Attends to the outages that the circuit breaker finds, in one task for each."""

    breaker: CircuitBreaker
    destination: Probed
    scheduler: Turns
    reporter: Reporter
    tasks: TaskGroup
    _reported: Outage | None = field(init=False)
    _is_attending: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._reported = self.breaker.outage

    def observe(self) -> None:
        """Report a change of the circuit breaker, and attend to an outage; at the start of a pass there may be one."""
        self._report()
        if self.breaker.is_open and not self._is_attending and self.scheduler.stopped_by is None:
            self._is_attending = True
            self.tasks.start_soon(self._attend)

    async def _attend(self) -> None:
        """Probe until the outage ends or nothing is left to send; give up at the limit."""
        breaker, scheduler = self.breaker, self.scheduler
        try:
            while breaker.is_open and not scheduler.is_over:
                with anyio.move_on_after(breaker.gives_up_in_s(anyio.current_time())):
                    await self._probe()
                outage, now_s = breaker.outage, anyio.current_time()
                if outage is not None and breaker.gives_up_in_s(now_s) <= 0 and not scheduler.is_over:
                    scheduler.give_up(DestinationRefused(_given_up(outage, now_s)))
                    return
        except RunStopped as stop:
            scheduler.stop(stop)
        finally:
            self._is_attending = False

    async def _probe(self) -> None:
        """Probe when an attempt is due and the circuit breaker is open; otherwise wait for the result of a trial."""
        breaker, scheduler = self.breaker, self.scheduler
        while (outage := breaker.outage) is not None and not scheduler.is_over:
            if breaker.state is not CircuitState.OPEN:
                await scheduler.wait_while(
                    lambda: breaker.state in (CircuitState.HALF_OPEN, CircuitState.FULL), math.inf
                )
            elif await scheduler.wait_to_probe(
                lambda: breaker.state is CircuitState.OPEN, max(0.0, outage.next_attempt_s - anyio.current_time())
            ):
                result = probe_result(await self.destination.probe())
                breaker.probed(result, anyio.current_time())
                self._report()
                scheduler.wake()

    def _report(self) -> None:
        before, now = self._reported, self.breaker.outage
        self._reported, now_s = now, anyio.current_time()
        if now is None:
            if before is not None:
                self.reporter.tell(OutageEnded(now_s - before.began_s))
        elif before is None or before.next_attempt_s != now.next_attempt_s:
            event = OutageBegan if before is None else OutageContinues
            self.reporter.tell(event(now.cause, now_s - now.began_s, max(0.0, now.next_attempt_s - now_s)))


def _given_up(outage: Outage, now_s: float) -> str:
    lasted = show_duration(now_s - outage.began_s)
    match outage.cause:
        case OutageCause.NO_ANSWER:
            return f"the server has not answered for {lasted}: run again when it is back"
        case OutageCause.NO_ROOM:
            return f"the server has had no room for {lasted}: run again when it has"
