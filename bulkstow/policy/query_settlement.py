"""What a QIDO-RS query settles: instances that the server did not name, or named as failed though it may have them.

`settle_query` is a pure function. An instance that QIDO-RS lists is stored: nothing shows that an older instance with
this UID, of other content, is not the one that is listed, as QIDO-RS tells no checksum.
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

ASKS_EXCUSED = 8
"""Questions that are rejected for load, or fail in an outage, before that counts as having asked. With backoff it is a
minute: a proxy without QIDO-RS behind it may answer 503 to every question."""

ASKS = 3
"""Servers index late; what QIDO-RS does not find at once it is asked for again, with growing pauses."""


def settle_query(
    query: Query, answer: frozenset[str] | Response | NoResponse, rules: Rules, *, outage: bool = False
) -> Settlement:
    """Decide what a QIDO-RS query settles: the SOP Instance UIDs that are there, or how the query failed.

    What the server neither named nor has was not stored: it is sent again, as often as a failure without a clear
    reason; what the server named as failed and does not have is refused. A server that stores for us may not let us
    ask, or have nobody to ask: that says nothing of its health.
    """
    names = [i for i in query.batch.instances if instances_path(i.header) is not None]
    if len(names) < len(query.batch.instances):
        return _without_nameless(query, names, answer, rules, outage=outage)
    match answer:
        case NoResponse(cause=Cause.UNREACHABLE):
            return Settlement(again=(Scheduled(query, Delay.BACKOFF),), health_signal=HealthSignal.GONE)
        case NoResponse() if outage and is_absence(answer) and query.excused < ASKS_EXCUSED:
            excused = replace(query, excused=query.excused + 1)
            return Settlement(again=(Scheduled(excused, Delay.BACKOFF),), health_signal=HealthSignal.GONE)
        case NoResponse(cause=cause):
            # Stores may succeed all the same, and only they tell whether the destination is there.
            return _settle_unanswered(query, f"gave no answer ({cause})", HealthSignal.NONE)
        case Response(status=429 | 503, retry_after_s=at_least_s) if query.excused < ASKS_EXCUSED:
            excused = replace(query, excused=query.excused + 1)
            return Settlement(again=(Scheduled(excused, Delay.BACKOFF, at_least_s),), health_signal=HealthSignal.NONE)
        case Response(status=status, retry_after_s=at_least_s):
            # A service that is not there will not be there next time.
            is_final = status < 500 and status not in (408, 425, 429)
            told = f"answers {status_reason(answer)}"
            return _settle_unanswered(query, told, HealthSignal.NONE, at_least_s, is_final=is_final)
        case found:
            return _settle_answered(query, found, rules)


def _without_nameless(
    query: Query,
    names: list[Instance],
    answer: frozenset[str] | Response | NoResponse,
    rules: Rules,
    *,
    outage: bool,
) -> Settlement:
    """Settle instances that cannot be asked for, for which no query was made, and then the others."""
    nameless = tuple(i for i in query.batch.instances if instances_path(i.header) is None)
    told = "cannot be asked for it: its Study Instance UID is not a UID"
    unasked = results_of(query.batch, nameless, _outcome_unasked(query), f"{query.reason}; QIDO-RS {told}")
    if not names:
        return Settlement(unasked, health_signal=HealthSignal.NONE)
    asked = replace(query, batch=replace(query.batch, instances=tuple(names)))
    settlement = settle_query(asked, answer, rules, outage=outage)
    return replace(settlement, results=unasked + settlement.results)


def _settle_answered(query: Query, found: frozenset[str], rules: Rules) -> Settlement:
    batch = query.batch
    there = [i for i in batch.instances if i.header.sop_instance_uid in found]
    missing = replace(batch, instances=tuple(i for i in batch.instances if i.header.sop_instance_uid not in found))
    results = results_of(batch, there, Outcome.STORED, f"{query.reason}; QIDO-RS finds it")
    if not missing.instances:
        return Settlement(results)
    if query.asked + 1 < ASKS:
        again = replace(query, batch=missing, asked=query.asked + 1)
        return Settlement(results, (Scheduled(again, Delay.BACKOFF),))
    doubted = replace(missing, ambiguous_failures=missing.ambiguous_failures + 1)
    has_attempts = doubted.failed_attempts < rules.attempts and doubted.ambiguous_failures < min(
        AMBIGUOUS_TRIES, rules.attempts
    )
    if query.otherwise is Outcome.UNCONFIRMED and has_attempts:
        return Settlement(results, (Scheduled(Store(doubted), Delay.BACKOFF),))
    reason = f"{query.reason}; QIDO-RS does not find it"
    return Settlement(results + results_of(missing, missing.instances, query.otherwise, reason))


def _settle_unanswered(
    query: Query, told: str, health_signal: HealthSignal, at_least_s: float | None = None, *, is_final: bool = False
) -> Settlement:
    batch = query.batch
    if query.asked + 1 < ASKS and not is_final:
        again = replace(query, asked=query.asked + 1)
        return Settlement(again=(Scheduled(again, Delay.BACKOFF, at_least_s),), health_signal=health_signal)
    reason = f"{query.reason}; QIDO-RS {told}"
    return Settlement(results_of(batch, batch.instances, _outcome_unasked(query), reason), health_signal=health_signal)


def _outcome_unasked(query: Query) -> Outcome:
    """Return what becomes of instances where nobody can be asked.

    Where no answer of the server was lost, its word that they failed is all there is, and it stands.
    """
    return Outcome.UNCONFIRMED if query.batch.may_be_stored else query.otherwise
