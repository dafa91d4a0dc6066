"""Faults on demand: which of them strikes which store request, as data and as a decision.

Owns the kinds of faults, a plan of them, and the choice. Refuses to do any harm itself (`fault_injector` does), to read files
(`fault_plan` does), and to be truly random: chance is a function of the plan's seed and the request's number, so the
same requests in the same order meet the same faults.

A fault strikes where all of its conditions hold, always where it has none. A request meets one fault at most that was
chosen for the whole of it, the first in the order of the plan; instances that a fault names, and those that are invalid
for good, meet theirs besides.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What goes wrong. What `stored` says of each: whether the origin then has the instances."""

    UNAVAILABLE = "unavailable"
    """503, nothing stored; as all early answers it comes before the body is read, and the connection is closed."""
    TOO_MANY = "too-many"
    """429, nothing stored."""
    BAD_GATEWAY = "bad-gateway"
    """502 with a proxy's HTML page, nothing stored."""
    TOO_LARGE = "too-large"
    """413 with a proxy's HTML page, nothing stored; `above-bytes` makes it a limit."""
    LENGTH_REQUIRED = "length-required"
    """411 to a body without Content-Length, and to no other."""
    UNAUTHORISED = "unauthorised"
    """401, once unless `times` says otherwise."""
    RESET = "reset"
    """The connection is reset in the middle of the body; what came before it is stored."""
    HALF_STORED = "half-stored"
    """500 with a stack trace, and every second instance stored."""
    SILENT = "silent"
    """All is stored, then the connection is closed without an answer."""
    TRUNCATED = "truncated"
    """All is stored, and half of the announced answer is sent."""
    NOT_JSON = "not-json"
    """All is stored, and the answer is the word "success"."""
    XML = "xml"
    """The answer is XML, whatever was asked for."""
    TEXT_PLAIN = "text-plain"
    """The answer is JSON that calls itself text/plain."""
    LOWER_CASE = "lower-case"
    """The answer has its tags in lower case."""
    LEFT_OUT = "left-out"
    """The answer does not name the instance, which is stored or not, as `stored` says."""
    NAMELESS = "nameless"
    """The instance is not stored, and failed without its UID, for `reason`."""
    MADE_UP = "made-up"
    """The instance is not stored, and failed under another UID, for `reason`."""
    OUT_OF_RESOURCES = "out-of-resources"
    """The instance is not stored, for `reason` (A700); `times` makes it pass."""
    INVALID = "invalid"
    """The instance is not stored, for `reason` (A900), this time and for ever."""
    DUPLICATE = "duplicate"
    """The instance is held, and failed as such: 45070, as Azure has it."""
    SLOW_READING = "slow-reading"
    """The body is read at `bytes-per-second`."""
    SLOW_THINKING = "slow-thinking"
    """The answer comes after `delay`."""
    FROZEN = "frozen"
    """The whole origin takes nothing and gives nothing for `delay`, to queries either."""
    CLOSED_KEEP_ALIVE = "closed-keep-alive"
    """The connection is closed after an answer that promised to keep it."""
    TRICKLE = "trickle"
    """The answer comes one byte at a time, with `delay` between them."""


OF_INSTANCES = frozenset(
    {Kind.LEFT_OUT, Kind.NAMELESS, Kind.MADE_UP, Kind.OUT_OF_RESOURCES, Kind.INVALID, Kind.DUPLICATE}
)
"""Kinds that strike single instances; every other one strikes a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFault:
    """A fault, when it strikes, and how."""

    kind: Kind
    place: int = 1
    """In the plan, from 1."""

    probability: float | None = None
    """Share of the requests, from 0 to 1."""
    requests: frozenset[int] = frozenset()
    """Their numbers, from 1 in the order of their coming."""
    every: int | None = None
    """Every so many requests."""
    first: int | None = None
    """The first so many requests."""
    above_bytes: int | None = None
    """Requests with a larger Content-Length; one without has none."""
    instances: frozenset[str] = frozenset()
    """SOP Instance UIDs. A fault of requests strikes as the head of such an instance has been read: neither it nor what
    follows is stored where the fault stores nothing. Where this is empty, a fault of instances strikes the request's
    first, or `everyone`."""
    times: int | None = None
    """At most so often; a fault of instances strikes each of them at most so often."""

    retry_after_s: float | None = None
    as_date: bool = False
    """Retry-After as an HTTP date instead of seconds (RFC 9110 §10.2.3)."""
    delay_s: float = 0.0
    bytes_per_second: int = 0
    reason: int = 0
    """FailureReason (PS3.18 Table I.2-2)."""
    stored: bool = True
    everyone: bool = False

    @property
    def applies_to_instances(self) -> bool:
        """True for the kinds that strike single instances."""
        return self.kind in OF_INSTANCES


@dataclass(frozen=True, slots=True)
class Plan:
    """Faults in the order in which they are looked at, and the seed of their chances."""

    faults: tuple[PlannedFault, ...] = ()
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of a store request before its body is read."""

    number: int
    """From 1 in the order of their coming."""
    size_bytes: int | None = None
    """Content-Length; None where there is none."""


class FaultSelector:
    """The course that a plan takes: chooses the faults, and remembers how often each has struck."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._timing: Counter[tuple[int, str]] = Counter()
        self._for_good: dict[str, PlannedFault] = {}
        self.injected: Counter[Kind] = Counter()
        """How often each kind has struck, in requests or instances."""

    def at_request(self, arrival: Arrival) -> PlannedFault | None:
        """Choose the fault for the whole of a request; one of instances strikes only as they come (`at_instance`)."""
        for fault in self._plan.faults:
            if fault.instances or not self._holds(fault, arrival):
                continue
            if fault.applies_to_instances or self._strike(fault):
                return fault
        return None

    def at_instance(
        self, arrival: Arrival, uid: str, *, is_first: bool = False, chosen: PlannedFault | None = None
    ) -> PlannedFault | None:
        """Choose the fault for an instance of a request, for which `chosen` was chosen as it came."""
        if uid in self._for_good:
            return self._for_good[uid]
        for fault in self._plan.faults:
            if fault is chosen:
                meant = fault.applies_to_instances and (is_first or fault.everyone)
            else:
                # A request has one fault at most.
                may = chosen is None or chosen.applies_to_instances or fault.applies_to_instances
                meant = uid in fault.instances and may and self._holds(fault, arrival)
            if meant and self._strike(fault, uid if fault.applies_to_instances else ""):
                if fault.kind is Kind.INVALID:
                    self._for_good[uid] = fault
                return fault
        return None

    def _holds(self, fault: PlannedFault, arrival: Arrival) -> bool:
        number = arrival.number
        return (
            (not fault.requests or number in fault.requests)
            and (fault.every is None or number % fault.every == 0)
            and (fault.first is None or number <= fault.first)
            and (fault.above_bytes is None or (arrival.size_bytes or 0) > fault.above_bytes)
            and (fault.kind is not Kind.LENGTH_REQUIRED or arrival.size_bytes is None)
            and (fault.probability is None or self._chance(fault, number) < fault.probability)
        )

    def _chance(self, fault: PlannedFault, number: int) -> float:
        return random.Random(f"{self._plan.seed} {fault.place} {number}").random()

    def _strike(self, fault: PlannedFault, uid: str = "") -> bool:
        """Tell whether it may strike once more, and count that it does."""
        key = (fault.place, uid)
        if fault.times is not None and self._timing[key] >= fault.times:
            return False
        self._timing[key] += 1
        self.injected[fault.kind] += 1
        return True
