"""Carries out faults of searches and retrievals.

Owns the effect of each kind of fault on an answer; `faults` chooses. The faults of one request apply together: faults
of the answer itself become its `ReadTerms`, the others act before it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web
from anyio import sleep

from bulkstow.server.early_answers import EARLY, early_answer
from bulkstow.server.faults import Arrival, FaultSelector, Kind, Operation, Plan, PlannedFault
from bulkstow.server.message import close
from bulkstow.server.origin import ORIGIN
from bulkstow.server.read_terms import ReadTerms

_CHANGES: Mapping[Kind, Callable[[PlannedFault, float], dict[str, Any]]] = {
    Kind.PAGE_CAP: lambda fault, _now_s: {"page_instances": fault.page_instances},
    Kind.IGNORED_LIMIT: lambda _fault, _now_s: {"ignores_limit": True},
    Kind.IGNORED_OFFSET: lambda _fault, _now_s: {"ignores_offset": True},
    Kind.REPEATED: lambda fault, _now_s: {"repeated_instances": fault.repeated_instances},
    Kind.EMPTY_LIST: lambda _fault, _now_s: {"empty_status": 200},
    Kind.LATE_INDEX: lambda fault, now_s: {"listed_until_s": now_s - fault.delay_s},
    Kind.NOT_JSON: lambda _fault, _now_s: {"is_other_document": True},
    Kind.WRONG_INSTANCE: lambda _fault, _now_s: {"is_other_instance": True},
    Kind.TRUNCATED: lambda _fault, _now_s: {"sent_share": 0.5},
}
"""The terms that each kind changes."""


class ReadFaultInjector:
    """Carries out the faults of searches and retrievals in a plan: the `read_fault` of an origin."""

    def __init__(self, plan: Plan, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives the time to which an instance's time of storing is compared."""
        self._selector = FaultSelector(plan)
        self._clock = clock
        self._requests: Counter[Operation] = Counter()

    @property
    def injected(self) -> Counter[Kind]:
        """How often each kind was injected."""
        return self._selector.injected

    async def terms(self, request: web.Request, operation: Operation) -> ReadTerms:
        """Carry out the faults that come before an answer, and return the terms of the answer.

        Raises a web.HTTPException, which is then the answer.
        """
        self._requests[operation] += 1
        named = request.match_info
        arrival = Arrival(
            self._requests[operation],
            operation=operation,
            study_uid=named.get("study", request.query.get("StudyInstanceUID", "")),
            sop_instance_uid=named.get("instance", ""),
        )
        terms = ReadTerms()
        for fault in self._selector.at_read(arrival):
            if fault.kind in _CHANGES:
                terms = replace(terms, **_CHANGES[fault.kind](fault, self._clock()))
            else:
                await _act(request, fault)
        return terms


async def _act(request: web.Request, fault: PlannedFault) -> None:
    """Carry out a fault that comes before the answer."""
    if fault.kind in EARLY:
        raise early_answer(fault)
    match fault.kind:
        case Kind.SLOW_THINKING:
            await sleep(fault.delay_s)
        case Kind.FROZEN:
            request.app[ORIGIN].freeze(fault.delay_s)
            await request.app[ORIGIN].thawed()
        case _:  # silent: the answer reaches nobody
            close(request)
            raise web.HTTPInternalServerError
