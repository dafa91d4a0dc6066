"""What a QIDO-RS query settles: instances that the server did not name, or named as failed though it may have them.

`settle_asked` is a pure function. An instance that QIDO-RS lists is stored: nothing shows that an older instance with
this UID, of other content, is not the one that is listed, as QIDO-RS tells no checksum.
"""

from __future__ import annotations

from dataclasses import replace

from bulkstow.model import Cause, Fate, Instance, Interruption, Reply
from bulkstow.policy.errands import AMBIGUOUS_TRIES, Ask, Later, Pressure, Rules, Send, Settlement, outcomes_of
from bulkstow.policy.exchange import is_absence, status_reason
from bulkstow.policy.retry import Delay
from bulkstow.wire.resource_path import instances_path

ASKS_EXCUSED = 8
"""Questions that are rejected for load, or fail in an outage, before that counts as having asked. With backoff it is a
minute: a proxy without QIDO-RS behind it may answer 503 to every question."""

ASKS = 3
"""Servers index late; what QIDO-RS does not find at once it is asked for again, with growing pauses."""


def settle_asked(
    ask: Ask, answer: frozenset[str] | Reply | Interruption, rules: Rules, *, outage: bool = False
) -> Settlement:
    """Decide what a QIDO-RS query settles: the SOP Instance UIDs that are there, or how the query failed.

    What the server neither named nor has was not stored: it is sent again, as often as a failure without a clear
    reason; what the server named as failed and does not have is refused. A server that stores for us may not let us
    ask, or have nobody to ask: that says nothing of its health.
    """
    names = [i for i in ask.batch.instances if instances_path(i.header) is not None]
    if len(names) < len(ask.batch.instances):
        return _without_nameless(ask, names, answer, rules, outage=outage)
    match answer:
        case Interruption(cause=Cause.UNREACHABLE):
            return Settlement(again=(Later(ask, Delay.BACKOFF),), pressure=Pressure.GONE)
        case Interruption() if outage and is_absence(answer) and ask.excused < ASKS_EXCUSED:
            excused = replace(ask, excused=ask.excused + 1)
            return Settlement(again=(Later(excused, Delay.BACKOFF),), pressure=Pressure.GONE)
        case Interruption(cause=cause):
            # Stores may succeed all the same, and only they tell whether the destination is there.
            return _settle_unanswered(ask, f"gave no answer ({cause})", Pressure.NONE)
        case Reply(status=429 | 503, retry_after_s=at_least_s) if ask.excused < ASKS_EXCUSED:
            excused = replace(ask, excused=ask.excused + 1)
            return Settlement(again=(Later(excused, Delay.BACKOFF, at_least_s),), pressure=Pressure.NONE)
        case Reply(status=status, retry_after_s=at_least_s):
            # A service that is not there will not be there next time.
            is_final = status < 500 and status not in (408, 425, 429)
            told = f"answers {status_reason(answer)}"
            return _settle_unanswered(ask, told, Pressure.NONE, at_least_s, is_final=is_final)
        case found:
            return _settle_answered(ask, found, rules)


def _without_nameless(
    ask: Ask,
    names: list[Instance],
    answer: frozenset[str] | Reply | Interruption,
    rules: Rules,
    *,
    outage: bool,
) -> Settlement:
    """Settle instances that cannot be asked for, for which no query was made, and then the others."""
    nameless = tuple(i for i in ask.batch.instances if instances_path(i.header) is None)
    told = "cannot be asked for it: its Study Instance UID is not a UID"
    unasked = outcomes_of(ask.batch, nameless, _unasked_fate(ask), f"{ask.reason}; QIDO-RS {told}")
    if not names:
        return Settlement(unasked, pressure=Pressure.NONE)
    asked = replace(ask, batch=replace(ask.batch, instances=tuple(names)))
    settlement = settle_asked(asked, answer, rules, outage=outage)
    return replace(settlement, outcomes=unasked + settlement.outcomes)


def _settle_answered(ask: Ask, found: frozenset[str], rules: Rules) -> Settlement:
    batch = ask.batch
    there = [i for i in batch.instances if i.header.sop_instance_uid in found]
    missing = replace(batch, instances=tuple(i for i in batch.instances if i.header.sop_instance_uid not in found))
    outcomes = outcomes_of(batch, there, Fate.STORED, f"{ask.reason}; QIDO-RS finds it")
    if not missing.instances:
        return Settlement(outcomes)
    if ask.asked + 1 < ASKS:
        again = replace(ask, batch=missing, asked=ask.asked + 1)
        return Settlement(outcomes, (Later(again, Delay.BACKOFF),))
    doubted = replace(missing, doubts=missing.doubts + 1)
    has_attempts = doubted.faults < rules.attempts and doubted.doubts < min(AMBIGUOUS_TRIES, rules.attempts)
    if ask.otherwise is Fate.UNCONFIRMED and has_attempts:
        return Settlement(outcomes, (Later(Send(doubted), Delay.BACKOFF),))
    reason = f"{ask.reason}; QIDO-RS does not find it"
    return Settlement(outcomes + outcomes_of(missing, missing.instances, ask.otherwise, reason))


def _settle_unanswered(
    ask: Ask, told: str, pressure: Pressure, at_least_s: float | None = None, *, is_final: bool = False
) -> Settlement:
    batch = ask.batch
    if ask.asked + 1 < ASKS and not is_final:
        again = replace(ask, asked=ask.asked + 1)
        return Settlement(again=(Later(again, Delay.BACKOFF, at_least_s),), pressure=pressure)
    reason = f"{ask.reason}; QIDO-RS {told}"
    return Settlement(outcomes_of(batch, batch.instances, _unasked_fate(ask), reason), pressure=pressure)


def _unasked_fate(ask: Ask) -> Fate:
    """Return what becomes of instances where nobody can be asked.

    Where no answer of the server was lost, its word that they failed is all there is, and it stands.
    """
    return Fate.UNCONFIRMED if ask.batch.may_be_stored else ask.otherwise
