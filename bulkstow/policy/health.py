"""Whether the destination stores: a circuit breaker as a state machine.

Stores decide: a server whose QIDO-RS answers while its STOW-RS hangs counts as gone. Takes how requests ended, with the
time; says whether a request may start, when the next attempt is due, and which failures the outage explains. Has no
clock and sends nothing (`pipeline.health_monitor` asks the questions, `pipeline.scheduler` lets requests through).
"""

from __future__ import annotations

from enum import Enum, StrEnum

from bulkstow.model import Cause, NoResponse, Response
from bulkstow.policy.work_items import HealthSignal, Query, WorkItem

REJECTED_S = 5.0
"""Rejections for load open the breaker when nothing was stored for so long. A limiter of one request a second stores
five meanwhile; a service that is down behind its proxy, none."""

PROXY_STATUSES = (502, 503, 504)
"""Answers that a proxy gives in the place of a service that is down (RFC 9110 §15.6.3 to §15.6.5)."""


class OutageCause(StrEnum):
    """Why nothing can be stored."""

    NO_ANSWER = "no answer"
    NO_ROOM = "no room"


class State(Enum):
    """What may be sent."""

    CLOSED = "closed"
    """Everything: the destination stores."""
    OPEN = "open"
    """Nothing: it is gone. A question asks at growing intervals whether it is back."""
    HALF_OPEN = "half-open"
    """One request, the trial: a question was not in vain, but only a store proves that stores succeed."""
    FULL = "full"
    """One request at growing intervals: it has no room, and would answer a question all the same."""


class ProbeResult(Enum):
    """What became of a question in an outage."""

    SERVICE = "the service answered"
    PROXY = "a proxy answered in its place, or rejected the question: perhaps only questions find nobody"
    SILENCE = "it was connected, and no answer came: perhaps only questions hang"
    NOBODY = "no connection"


def probe_result(exchange: Response | NoResponse) -> ProbeResult:
    """Return what the result of a question says of the destination."""
    match exchange:
        case Response(status=status):
            return ProbeResult.PROXY if status in (429, *PROXY_STATUSES) else ProbeResult.SERVICE
        case NoResponse(cause=Cause.UNREACHABLE):
            return ProbeResult.NOBODY
        case NoResponse(cause=Cause.OVERLONG):
            return ProbeResult.SERVICE
        case NoResponse():
            return ProbeResult.SILENCE


class CircuitBreaker:
    """Stops sending while the destination is gone or full.

    Opens after `trip_after` failures of that kind in a row. Attempts are due at intervals that double, from
    `first_probe_s` up to `cap_s`. Only a store that the destination answered closes it.
    """

    def __init__(self, *, trip_after: int = 3, first_probe_s: float = 1.0, cap_s: float = 60.0) -> None:
        self._trip_after = trip_after
        self._first_probe_s = first_probe_s
        self._cap_s = cap_s
        self._close()

    def _close(self) -> None:
        self._state = State.CLOSED
        self._failures = 0
        self._signs = 0
        self._began_s: float | None = None
        """When the first of the failures in a row ended."""
        self._interval_s = self._first_probe_s
        self._due_s = 0.0
        self._trial: WorkItem | None = None
        self._trial_counts = True

    @property
    def state(self) -> State:
        """What may be sent now."""
        return self._state

    @property
    def is_open(self) -> bool:
        """True during an outage."""
        return self._state is not State.CLOSED

    @property
    def is_full(self) -> bool:
        """True while the outage is a lack of room."""
        return self._state is State.FULL

    @property
    def cause(self) -> OutageCause:
        """Why nothing can be stored during an outage."""
        return OutageCause.NO_ROOM if self.is_full else OutageCause.NO_ANSWER

    @property
    def began_s(self) -> float | None:
        """The time of the first failure of an outage; None without an outage."""
        return self._began_s if self.is_open else None

    @property
    def due_s(self) -> float:
        """The time of the next attempt during an outage."""
        return self._due_s

    def wait_s(self, now_s: float) -> float:
        """Return seconds until the next attempt is due."""
        return max(0.0, self._due_s - now_s)

    def lasted_s(self, now_s: float) -> float:
        """Return for how many seconds the outage has lasted, from the first failure on; 0 without an outage."""
        return 0.0 if self.began_s is None else now_s - self.began_s

    def allow(self, now_s: float) -> bool:
        """Say whether a request may start now."""
        match self._state:
            case State.CLOSED:
                return True
            case State.OPEN:
                return False
            case State.HALF_OPEN:
                return self._trial is None
            case State.FULL:
                return self._trial is None and now_s >= self._due_s

    def started(self, item: WorkItem) -> None:
        """Take that a request started; during an outage it is the trial."""
        if self.is_open:
            self._trial = item

    def excuses(self, item: WorkItem) -> bool:
        """Say whether an outage explains a failure of this request, so that it counts as no attempt.

        A trial counts where the service itself has answered a question just before: then its instances may be what the
        service chokes on.
        """
        return self.is_open and not (item is self._trial and self._trial_counts)

    def ended(self, item: WorkItem, health_signal: HealthSignal, now_s: float) -> None:
        """Take how a request ended.

        During an outage a failure says something new only if it is the trial's: the others started before.
        """
        is_trial = item is self._trial
        if is_trial:
            self._trial = None
        match health_signal:
            case HealthSignal.NONE:
                return
            case HealthSignal.EASED | HealthSignal.BUSY:
                if not isinstance(item, Query):
                    self._close()
            case _ if not self.is_open:
                self._count(health_signal, now_s)
            case HealthSignal.FULL:
                self._open(State.FULL)
            case HealthSignal.GONE if self.is_full:
                self._open(State.OPEN)
            case HealthSignal.GONE | HealthSignal.REJECTED:
                if is_trial:
                    self._open(State.OPEN)
        if is_trial and self.is_open and health_signal not in (HealthSignal.EASED, HealthSignal.BUSY):
            self._postpone(now_s)

    def asked(self, answer: ProbeResult, now_s: float) -> None:
        """Take what became of the question whether the destination is back."""
        if self._state is not State.OPEN:
            return
        if answer is ProbeResult.NOBODY:
            self._postpone(now_s)
        else:
            self._state = State.HALF_OPEN
            self._trial_counts = answer is ProbeResult.SERVICE

    def _count(self, health_signal: HealthSignal, now_s: float) -> None:
        """Count a failure, and open when they are enough."""
        self._began_s = now_s if self._began_s is None else self._began_s
        self._signs += 1
        self._failures += health_signal is not HealthSignal.REJECTED
        lasts = self._signs >= self._trip_after and now_s - self._began_s >= REJECTED_S
        if self._failures >= self._trip_after or lasts:
            self._open(State.FULL if health_signal is HealthSignal.FULL else State.OPEN)
            self._due_s = now_s + self._interval_s

    def _open(self, state: State) -> None:
        self._state = state
        self._trial_counts = False

    def _postpone(self, now_s: float) -> None:
        """Make the next attempt due after twice the interval."""
        self._interval_s = min(self._cap_s, self._interval_s * 2)
        self._due_s = now_s + self._interval_s
