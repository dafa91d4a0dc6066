"""The destination's health: a circuit breaker as a pure state machine, and a gate.

Only stores count as proof: a server whose QIDO-RS responds while its STOW-RS hangs is unavailable. The machine is told
how requests and probes ended, with the time; it answers whether a request may start, when the next attempt is due,
which failures the outage explains, and when to give up. `pipeline.health_monitor` sends the probes.
"""

# ruff: noqa: ARG002 - a gate need not use everything that it is told

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, StrEnum

from bulkstow.model import Cause, NoResponse, Response
from bulkstow.policy.exchange import PROXY_STATUSES
from bulkstow.policy.gates import Gate
from bulkstow.policy.work_items import HealthSignal, Query, WorkItem

REJECTED_S = 5.0
"""Rejections for load open the breaker if nothing was stored for this time. A limiter of one request per second stores
five meanwhile; a service that is down behind its proxy, none."""

QUERY_RANK = 10**9
"""Added to the rank of a query during an outage, so that it comes after all stores."""


class OutageCause(StrEnum):
    """Why nothing can be stored."""

    NO_ANSWER = "no answer"
    NO_ROOM = "no room"


class CircuitState(Enum):
    """What may be sent."""

    CLOSED = "closed"
    """Everything: the destination stores."""
    OPEN = "open"
    """Nothing: it is unavailable. It is probed at growing intervals."""
    HALF_OPEN = "half-open"
    """One request, the trial: a probe was answered, but only a store proves that stores succeed."""
    FULL = "full"
    """One request at growing intervals: it is out of space, and would answer a probe nevertheless."""


class ProbeResult(Enum):
    """The result of a probe during an outage."""

    SERVICE = "the service answered"
    PROXY = "a proxy answered in its place, or rejected the probe: perhaps it is only queries that fail"
    SILENCE = "it was connected, and no answer came: perhaps it is only queries that hang"
    NOBODY = "no connection"


def probe_result(exchange: Response | NoResponse) -> ProbeResult:
    """Return what the exchange of a probe says about the destination."""
    match exchange:
        case Response(status=status):
            return ProbeResult.PROXY if status in (429, *PROXY_STATUSES) else ProbeResult.SERVICE
        case NoResponse(cause=Cause.UNREACHABLE):
            return ProbeResult.NOBODY
        case NoResponse(cause=Cause.OVERLONG):
            return ProbeResult.SERVICE
        case NoResponse():
            return ProbeResult.SILENCE


@dataclass(frozen=True, slots=True)
class Outage:
    """The destination stores nothing."""

    cause: OutageCause
    began_s: float
    """When the first of the failures in a row ended."""
    next_attempt_s: float
    """When the next probe or trial is due."""


class CircuitBreaker(Gate):
    """Stops sending while the destination is unavailable or out of space.

    Opens after `trip_after` such failures in a row. Attempts are due at intervals that double, from `first_probe_s` up
    to `cap_s`. Only a store that the destination answered closes it.
    """

    is_by_item = False

    def __init__(
        self,
        *,
        trip_after: int = 3,
        first_probe_s: float = 1.0,
        cap_s: float = 60.0,
        give_up_after_s: float | None = None,
    ) -> None:
        self._trip_after = trip_after
        self._first_probe_s = first_probe_s
        self._cap_s = cap_s
        self._give_up_after_s = math.inf if give_up_after_s is None else give_up_after_s
        self._close()

    def _close(self) -> None:
        self._state = CircuitState.CLOSED
        self._failures = 0
        self._signs = 0
        self._began_s: float | None = None
        """When the first of the failures in a row ended."""
        self._interval_s = self._first_probe_s
        self._due_s = 0.0
        self._trial: object = None
        self._trial_counts = True

    @property
    def state(self) -> CircuitState:
        """What may be sent now."""
        return self._state

    @property
    def is_open(self) -> bool:
        """True during an outage."""
        return self._state is not CircuitState.CLOSED

    @property
    def outage(self) -> Outage | None:
        """The outage; None without one."""
        if not self.is_open or self._began_s is None:
            return None
        cause = OutageCause.NO_ROOM if self._state is CircuitState.FULL else OutageCause.NO_ANSWER
        return Outage(cause, self._began_s, self._due_s)

    def gives_up_in_s(self, now_s: float) -> float:
        """Return seconds until the outage has lasted for too long; inf without an outage or a limit."""
        return math.inf if (outage := self.outage) is None else outage.began_s + self._give_up_after_s - now_s

    def wait_s(self, item: object, now_s: float) -> float:
        """Return seconds until a request may start."""
        match self._state:
            case CircuitState.CLOSED:
                return 0.0
            case CircuitState.OPEN:
                return math.inf
            case CircuitState.HALF_OPEN:
                return 0.0 if self._trial is None else math.inf
            case CircuitState.FULL:
                return max(0.0, self._due_s - now_s) if self._trial is None else math.inf

    def rank(self, item: WorkItem) -> int:
        """Return which items go first; during an outage a store with few requests before it.

        Only stores prove that stores succeed, and a batch that makes the server fail must not be the only trial.
        """
        query_rank = QUERY_RANK if isinstance(item, Query) else 0
        return 1 + item.batch.requests + query_rank if self.is_open else 0

    def started(self, item: object, now_s: float) -> None:
        """Take note of a request; during an outage it is the trial."""
        if self.is_open:
            self._trial = item

    def excuses(self, item: object, *, is_ending: bool = False) -> bool:
        """Return whether an outage explains a failure of this request, so that it counts as no attempt.

        A trial counts if the service itself has answered a probe just before: then its instances may be the reason. At
        the end of a run a lack of space explains nothing: the instances that are left may be those that never fit.
        """
        if is_ending and self._state is CircuitState.FULL:
            return False
        return self.is_open and not (item is self._trial and self._trial_counts)

    def ended(self, item: object, now_s: float, result: HealthSignal) -> None:
        """Take note of how a request ended.

        During an outage only the trial's failure is news: the other requests started before.
        """
        is_trial = item is self._trial
        if is_trial:
            self._trial = None
        match result:
            case HealthSignal.NONE:
                return
            case HealthSignal.EASED | HealthSignal.BUSY:
                if not isinstance(item, Query):
                    self._close()
                return
            case _ if not self.is_open:
                self._count(result, now_s)
                return
            case HealthSignal.FULL:
                self._open(CircuitState.FULL)
            case HealthSignal.GONE | HealthSignal.REJECTED:
                if is_trial or (result is HealthSignal.GONE and self._state is CircuitState.FULL):
                    self._open(CircuitState.OPEN)
        if is_trial:
            self._postpone(now_s)

    def probed(self, result: ProbeResult, now_s: float) -> None:
        """Take note of the result of a probe."""
        if self._state is not CircuitState.OPEN:
            return
        if result is ProbeResult.NOBODY:
            self._postpone(now_s)
        else:
            self._state = CircuitState.HALF_OPEN
            self._trial_counts = result is ProbeResult.SERVICE

    def _count(self, signal: HealthSignal, now_s: float) -> None:
        """Count a failure, and open after too many."""
        self._began_s = now_s if self._began_s is None else self._began_s
        self._signs += 1
        self._failures += signal is not HealthSignal.REJECTED
        lasts = self._signs >= self._trip_after and now_s - self._began_s >= REJECTED_S
        if self._failures >= self._trip_after or lasts:
            self._open(CircuitState.FULL if signal is HealthSignal.FULL else CircuitState.OPEN)
            self._due_s = now_s + self._interval_s

    def _open(self, state: CircuitState) -> None:
        self._state = state
        self._trial_counts = False

    def _postpone(self, now_s: float) -> None:
        """Make the next attempt due after twice the interval."""
        self._interval_s = min(self._cap_s, self._interval_s * 2)
        self._due_s = now_s + self._interval_s
