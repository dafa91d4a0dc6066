"""Faults on demand, as data, and the decision which fault applies to a request.

Owns the kinds of faults, a plan of them, and the choice; `fault_injector` carries out those of store requests,
`read_faults` those of searches and retrievals, and `fault_plan` reads the file. Nothing is truly random: chance is a
function of the plan's seed and the request's number, so the same requests in the same order meet the same faults.

A fault applies where all of its conditions hold; always, if it has none. At most one fault applies to a whole store
request, the first in the order of the plan; faults of instances that a plan names, or that are permanently invalid,
apply in addition. All faults of a search or a retrieval apply together, like the properties of a server.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Operation(StrEnum):
    """The requests that a fault applies to."""

    STORE = "store"
    SEARCH = "search"
    RETRIEVE = "retrieve"
    """Of the files of a study, a series or an instance; metadata, frames and bulk data have no faults."""


class Kind(StrEnum):
    """The kinds of faults, and whether the origin stores the instances of a store request."""

    UNAVAILABLE = "unavailable"
    """503, nothing stored; like all early answers it is sent before the body is read, and the connection is closed."""
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
    """The connection is reset in the middle of the body; the instances before it are stored."""
    HALF_STORED = "half-stored"
    """500 with a stack trace, and every second instance stored."""
    SILENT = "silent"
    """All is stored, then the connection is closed without an answer."""
    TRUNCATED = "truncated"
    """All is stored, and half of the announced answer is sent."""
    NOT_JSON = "not-json"
    """All is stored, and the answer is the word "success"."""
    XML = "xml"
    """The answer is XML, whatever the request accepts."""
    TEXT_PLAIN = "text-plain"
    """The answer is JSON with the media type text/plain."""
    LOWER_CASE = "lower-case"
    """The answer has its tags in lower case."""
    LEFT_OUT = "left-out"
    """The answer does not name the instance, which is stored or not, as `stored` says."""
    NAMELESS = "nameless"
    """The instance is not stored, and failed without its UID, for `reason`."""
    MADE_UP = "made-up"
    """The instance is not stored, and failed under another UID, for `reason`."""
    OUT_OF_RESOURCES = "out-of-resources"
    """The instance is not stored, for `reason` (A700); `times` makes it transient."""
    INVALID = "invalid"
    """The instance is not stored, for `reason` (A900), now and in every later request."""
    DUPLICATE = "duplicate"
    """The instance is held already, and fails with 45070, as on Azure."""
    SLOW_READING = "slow-reading"
    """The body is read at `bytes-per-second`."""
    SLOW_THINKING = "slow-thinking"
    """The answer comes after `delay`."""
    FROZEN = "frozen"
    """The whole origin reads and answers nothing for `delay`, queries included."""
    CLOSED_KEEP_ALIVE = "closed-keep-alive"
    """The connection is closed after an answer that promised to keep it."""
    TRICKLE = "trickle"
    """The answer comes one byte at a time, with `delay` between them."""
    STATUS = "status"
    """The status `status`, nothing stored."""
    PAGE_CAP = "page-cap"
    """A page of a search has at most `page-instances` results, for any `limit`."""
    IGNORED_LIMIT = "ignored-limit"
    """A search ignores `limit`: a page has all results, or those of the page cap."""
    IGNORED_OFFSET = "ignored-offset"
    """A search ignores `offset`: every page is the first."""
    REPEATED = "repeated"
    """Each page of a search begins with the last `repeated-instances` of the page before."""
    EMPTY_LIST = "empty-list"
    """A search without results is answered 200 with an empty list instead of 204."""
    LATE_INDEX = "late-index"
    """A search lists an instance only when `delay` has passed since it was stored."""
    WRONG_INSTANCE = "wrong-instance"
    """A retrieval sends another instance of the study."""


OF_INSTANCES = frozenset(
    {Kind.LEFT_OUT, Kind.NAMELESS, Kind.MADE_UP, Kind.OUT_OF_RESOURCES, Kind.INVALID, Kind.DUPLICATE}
)
"""Kinds that apply to single instances; every other kind applies to a request."""

_ANY = (Operation.STORE, Operation.SEARCH, Operation.RETRIEVE)
_SEARCH = (Operation.SEARCH,)
_OPERATIONS: Mapping[Kind, tuple[Operation, ...]] = {
    Kind.UNAVAILABLE: _ANY,
    Kind.TOO_MANY: _ANY,
    Kind.BAD_GATEWAY: _ANY,
    Kind.UNAUTHORISED: _ANY,
    Kind.STATUS: _ANY,
    Kind.SILENT: _ANY,
    Kind.TRUNCATED: _ANY,
    Kind.SLOW_THINKING: _ANY,
    Kind.FROZEN: _ANY,
    Kind.NOT_JSON: (Operation.STORE, Operation.SEARCH),
    Kind.PAGE_CAP: _SEARCH,
    Kind.IGNORED_LIMIT: _SEARCH,
    Kind.IGNORED_OFFSET: _SEARCH,
    Kind.REPEATED: _SEARCH,
    Kind.EMPTY_LIST: _SEARCH,
    Kind.LATE_INDEX: _SEARCH,
    Kind.WRONG_INSTANCE: (Operation.RETRIEVE,),
}


def operations_of(kind: Kind) -> tuple[Operation, ...]:
    """Return the operations that a kind of fault may apply to; the first is the default of a plan."""
    return _OPERATIONS.get(kind, (Operation.STORE,))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFault:
    """A fault, its conditions and its parameters."""

    kind: Kind
    place: int = 1
    """The position in the plan, from 1."""
    on: Operation = Operation.STORE

    probability: float | None = None
    """Share of the requests, from 0 to 1."""
    requests: frozenset[int] = frozenset()
    """Their numbers, from 1 in the order of arrival; each operation has numbers of its own."""
    every: int | None = None
    """Every so many requests."""
    first: int | None = None
    """The first so many requests."""
    above_bytes: int | None = None
    """Requests with a larger Content-Length; one without has none."""
    instances: frozenset[str] = frozenset()
    """SOP Instance UIDs; of a retrieval, that in its URL. A fault of store requests applies once the head of such an
    instance has been read; if it stores nothing, neither that instance nor the following ones are stored. If this is
    empty, a fault of instances applies to the request's first, or to `everyone`."""
    studies: frozenset[str] = frozenset()
    """Study Instance UIDs of searches and retrievals."""
    times: int | None = None
    """The most often that it applies; for a fault of instances, the most often for each of them."""

    retry_after_s: float | None = None
    as_date: bool = False
    """Retry-After as an HTTP date instead of seconds (RFC 9110 §10.2.3)."""
    delay_s: float = 0.0
    bytes_per_second: int = 0
    status: int = 0
    page_instances: int = 0
    repeated_instances: int = 0
    reason: int = 0
    """FailureReason (PS3.18 Table I.2-2)."""
    stored: bool = True
    everyone: bool = False

    @property
    def applies_to_instances(self) -> bool:
        """True for the kinds that apply to single instances."""
        return self.kind in OF_INSTANCES


@dataclass(frozen=True, slots=True)
class Plan:
    """Faults in the order in which they are considered, and the seed of their probabilities."""

    faults: tuple[PlannedFault, ...] = ()
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Arrival:
    """The facts about a request before its body is read."""

    number: int
    """From 1 in the order of arrival among the requests of its operation."""
    size_bytes: int | None = None
    """Content-Length; None if there is none."""
    operation: Operation = Operation.STORE
    study_uid: str = ""
    """The study of a search or a retrieval, if its URL or its query names one."""
    sop_instance_uid: str = ""
    """The instance of a retrieval, if its URL names one."""


class FaultSelector:
    """Chooses the faults of a plan, and counts how often each kind was injected."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._uses: Counter[tuple[int, str]] = Counter()
        self._invalid: dict[str, PlannedFault] = {}
        self.injected: Counter[Kind] = Counter()
        """How often each kind was injected, in requests or instances."""

    def at_request(self, arrival: Arrival) -> PlannedFault | None:
        """Choose the fault for a whole request; one of instances is counted when they arrive (`at_instance`)."""
        for fault in self._plan.faults:
            if fault.instances or not self._holds(fault, arrival):
                continue
            if fault.applies_to_instances or self._use(fault):
                return fault
        return None

    def at_instance(
        self, arrival: Arrival, uid: str, *, is_first: bool = False, chosen: PlannedFault | None = None
    ) -> PlannedFault | None:
        """Choose the fault for an instance of a request; `chosen` is the fault of the request."""
        if uid in self._invalid:
            return self._invalid[uid]
        for fault in self._plan.faults:
            if fault is chosen:
                meant = fault.applies_to_instances and (is_first or fault.everyone)
            else:
                # A request has one fault at most.
                may = chosen is None or chosen.applies_to_instances or fault.applies_to_instances
                meant = uid in fault.instances and may and self._holds(fault, arrival)
            if meant and self._use(fault, uid if fault.applies_to_instances else ""):
                if fault.kind is Kind.INVALID:
                    self._invalid[uid] = fault
                return fault
        return None

    def at_read(self, arrival: Arrival) -> Iterator[PlannedFault]:
        """Yield the faults of a search or a retrieval, in the order of the plan, and count each."""
        for fault in self._plan.faults:
            is_named = not fault.instances or arrival.sop_instance_uid in fault.instances
            if is_named and self._holds(fault, arrival) and self._use(fault):
                yield fault

    def _holds(self, fault: PlannedFault, arrival: Arrival) -> bool:
        number = arrival.number
        return (
            fault.on is arrival.operation
            and (not fault.studies or arrival.study_uid in fault.studies)
            and (not fault.requests or number in fault.requests)
            and (fault.every is None or number % fault.every == 0)
            and (fault.first is None or number <= fault.first)
            and (fault.above_bytes is None or (arrival.size_bytes or 0) > fault.above_bytes)
            and (fault.kind is not Kind.LENGTH_REQUIRED or arrival.size_bytes is None)
            and (fault.probability is None or self._chance(fault, number) < fault.probability)
        )

    def _chance(self, fault: PlannedFault, number: int) -> float:
        return random.Random(f"{self._plan.seed} {fault.place} {number}").random()

    def _use(self, fault: PlannedFault, uid: str = "") -> bool:
        """Return whether a fault may apply once more, and count it."""
        key = (fault.place, uid)
        if fault.times is not None and self._uses[key] >= fault.times:
            return False
        self._uses[key] += 1
        self.injected[fault.kind] += 1
        return True
