"""What a QIDO-RS query settles: instances that the server did not name, or named as failed though it may have them.

`settle_query` is a pure function. An instance that QIDO-RS lists counts as stored, although an older instance with the
same UID and other content may be the listed one: QIDO-RS returns no checksum.
"""

from __future__ import annotations

from dataclasses import replace

from bulkstow.model import Cause, Instance, NoResponse, Outcome, Response
from bulkstow.policy.exchange import is_absence, status_reason
from bulkstow.policy.retry import Delay
from bulkstow.policy.work_items import (
    AMBIGUOUS_TRIES,
    HealthSignal,
    Query,
    Rules,
    Scheduled,
    Settlement,
    Store,
    results_of,
)
from bulkstow.wire.resource_path import instances_path

EXCUSED_QUERIES = 8
"""Queries rejected for load, or failed during an outage, that do not count; with backoff they take a minute. A proxy
without QIDO-RS behind it may answer 503 to every query."""

QUERIES = 3
"""Queries for an instance that is not found, with growing pauses, as servers index late."""


def settle_query(
    query: Query, answer: frozenset[str] | Response | NoResponse, rules: Rules, *, outage: bool = False
) -> Settlement:
    """Decide what a QIDO-RS query settles: `answer` has the SOP Instance UIDs found, or says how the query failed.

    An instance that the server neither named nor has is sent again, as often as after an ambiguous failure; one that it
    named as failed and does not have is refused. A server that stores may lack QIDO-RS, or forbid queries: a failed
    query says nothing about its health.
    """
    queried = [i for i in query.batch.instances if instances_path(i.header) is not None]
    if len(queried) < len(query.batch.instances):
        return _without_unqueried(query, queried, answer, rules, outage=outage)
    match answer:
        case NoResponse(cause=Cause.UNREACHABLE):
            return Settlement(again=(Scheduled(query, Delay.BACKOFF),), health_signal=HealthSignal.GONE)
        case NoResponse() if outage and is_absence(answer) and query.excused < EXCUSED_QUERIES:
            excused = replace(query, excused=query.excused + 1)
            return Settlement(again=(Scheduled(excused, Delay.BACKOFF),), health_signal=HealthSignal.GONE)
        case NoResponse(cause=cause):
            # Store requests may succeed all the same, and only they show whether the destination is reachable.
            return _settle_unanswered(query, f"gave no answer ({cause})")
        case Response(status=429 | 503, retry_after_s=at_least_s) if query.excused < EXCUSED_QUERIES:
            excused = replace(query, excused=query.excused + 1)
            return Settlement(again=(Scheduled(excused, Delay.BACKOFF, at_least_s),), health_signal=HealthSignal.NONE)
        case Response(status=status, retry_after_s=at_least_s):
            # A service that does not exist will not exist next time.
            is_final = status < 500 and status not in (408, 425, 429)
            return _settle_unanswered(query, f"answers {status_reason(answer)}", at_least_s, is_final=is_final)
        case found:
            return _settle_answered(query, found, rules)


def _without_unqueried(
    query: Query,
    queried: list[Instance],
    answer: frozenset[str] | Response | NoResponse,
    rules: Rules,
    *,
    outage: bool,
) -> Settlement:
    """Settle instances that no query can name, and then the others."""
    unqueried = tuple(i for i in query.batch.instances if instances_path(i.header) is None)
    told = "cannot be asked for it: its Study Instance UID is not a UID"
    settled = results_of(query.batch, unqueried, _outcome_without_answer(query), f"{query.reason}; QIDO-RS {told}")
    if not queried:
        return Settlement(settled, health_signal=HealthSignal.NONE)
    rest = replace(query, batch=replace(query.batch, instances=tuple(queried)))
    settlement = settle_query(rest, answer, rules, outage=outage)
    return replace(settlement, results=settled + settlement.results)


def _settle_answered(query: Query, found: frozenset[str], rules: Rules) -> Settlement:
    batch = query.batch
    present = [i for i in batch.instances if i.header.sop_instance_uid in found]
    missing = replace(batch, instances=tuple(i for i in batch.instances if i.header.sop_instance_uid not in found))
    results = results_of(batch, present, Outcome.STORED, f"{query.reason}; QIDO-RS finds it")
    if not missing.instances:
        return Settlement(results)
    if query.asked + 1 < QUERIES:
        again = replace(query, batch=missing, asked=query.asked + 1)
        return Settlement(results, (Scheduled(again, Delay.BACKOFF),))
    ambiguous = replace(missing, ambiguous_failures=missing.ambiguous_failures + 1)
    has_attempts = ambiguous.failed_attempts < rules.attempts and ambiguous.ambiguous_failures < min(
        AMBIGUOUS_TRIES, rules.attempts
    )
    if query.otherwise is Outcome.UNCONFIRMED and has_attempts:
        return Settlement(results, (Scheduled(Store(ambiguous), Delay.BACKOFF),))
    reason = f"{query.reason}; QIDO-RS does not find it"
    return Settlement(results + results_of(missing, missing.instances, query.otherwise, reason))


def _settle_unanswered(
    query: Query, told: str, at_least_s: float | None = None, *, is_final: bool = False
) -> Settlement:
    batch = query.batch
    if query.asked + 1 < QUERIES and not is_final:
        again = replace(query, asked=query.asked + 1)
        return Settlement(again=(Scheduled(again, Delay.BACKOFF, at_least_s),), health_signal=HealthSignal.NONE)
    reason = f"{query.reason}; QIDO-RS {told}"
    results = results_of(batch, batch.instances, _outcome_without_answer(query), reason)
    return Settlement(results, health_signal=HealthSignal.NONE)


def _outcome_without_answer(query: Query) -> Outcome:
    """Return the outcome of instances for which every query failed.

    If no response to a store request was lost, the server's statement that they failed counts.
    """
    return Outcome.UNCONFIRMED if query.batch.may_be_stored else query.otherwise
