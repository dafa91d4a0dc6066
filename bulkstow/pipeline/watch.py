"""Whether the destination is there.

Feels what every exchange says of the destination's health, and when too many in a row say that it is gone, waits for
its return: with questions, at growing intervals. Sends no instance and settles none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from bulkstow.destination.stow import Destination
from bulkstow.errors import DestinationRefused, RunStopped
from bulkstow.model import Reply
from bulkstow.pipeline.outbox import Outbox
from bulkstow.policy.errands import Ask, Errand, Pressure
from bulkstow.policy.exchange import is_absence
from bulkstow.policy.retry import Breaker
from bulkstow.progress.events import Outage, Reporter
from bulkstow.quantities import show_duration


@dataclass(slots=True)
class Watch:
    """Keeps the circuit breaker of one run.

    `stop` is called with what ends the run: the destination stayed away for longer than `give_up_after_s`, or answers
    a question with what no retry mends.
    """

    breaker: Breaker
    destination: Destination
    outbox: Outbox
    reporter: Reporter
    tasks: TaskGroup
    stop: Callable[[RunStopped], None]
    give_up_after_s: float | None = None
    _is_asking: bool = False

    @property
    def is_outage(self) -> bool:
        """What fails now is the destination's doing, and nobody pays for it.

        But what is left at the end, and has no room there, pays: it may be what there is never room for.
        """
        return self.breaker.is_open and not (self.breaker.is_full and self.outbox.is_ending)

    def feel(self, errand: Errand, pressure: Pressure) -> None:
        """Take what an exchange says of the destination."""
        breaker = self.breaker
        was_open = breaker.is_open
        if isinstance(errand, Ask) and breaker.is_full:
            pressure = Pressure.NONE  # who has no room answers questions all the same
        match pressure:
            case Pressure.GONE | Pressure.FULL:
                breaker.gone(anyio.current_time(), full=pressure is Pressure.FULL)
            case Pressure.EASED | Pressure.BUSY:
                breaker.alive()
            case Pressure.NONE:
                breaker.unclear()
        self._tell(was_open=was_open)
        self.begin()

    def begin(self) -> None:
        """Ask for the destination if it counts as gone; at the start of a pass it may have been so since the last."""
        if self.breaker.is_open and not self.breaker.is_full and not self._is_asking:
            self._is_asking = True
            self.tasks.start_soon(self._await_return)

    async def _await_return(self) -> None:
        """Ask until the destination is back, or has been away for too long, or nothing is left to send there."""
        breaker, outbox = self.breaker, self.outbox
        try:
            while True:
                await outbox.rest(breaker.wait_s(anyio.current_time()))
                if outbox.is_over or breaker.is_full or not breaker.is_open:
                    return
                self._judge(await self.destination.probe(), anyio.current_time())
        except RunStopped as stop:
            self.stop(stop)
        finally:
            self._is_asking = False

    def _judge(self, answer: object, now_s: float) -> None:
        breaker = self.breaker
        if isinstance(answer, Reply) and is_absence(answer):
            # A proxy's word: perhaps only the questions have nobody behind it. One errand may try.
            breaker.gone(now_s, full=True)
            self.outbox.look_again()
        elif isinstance(answer, Reply):
            breaker.alive()
            self._tell(was_open=True)
        else:
            breaker.probed_in_vain(now_s)
        gone_for_s = breaker.open_for_s(now_s)
        if self.give_up_after_s is not None and gone_for_s >= self.give_up_after_s:
            gone_for = show_duration(gone_for_s)
            raise DestinationRefused(f"the server has not answered for {gone_for}: run again when it is back")

    def _tell(self, *, was_open: bool) -> None:
        if self.breaker.is_open != was_open:
            self.reporter.tell(Outage(is_over=was_open))
            self.outbox.look_again()
