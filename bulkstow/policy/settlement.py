"""What an exchange proves: what became of each instance, and what has to be sent or asked again.

This is the heart. `settle` and `settle_asked` (`asking`) are pure functions; together they keep these promises:

- *Stored* is said only of an instance that the server named in ReferencedSOPSequence and not in FailedSOPSequence, and
  that after the whole body had left; that it called already stored after a request of ours without its word; that a
  QIDO-RS query found; or whose 2xx the user chose to trust. A status alone proves nothing: Orthanc answers 200 with
  nothing listed, and 400 with instances stored.
- The outcomes and what is to be done again partition the batch: no instance is lost, none is counted twice.
- *Refused* is said of an instance that the server may have, because an earlier request was not answered or ended with
  an ambiguous failure, only after a QIDO-RS query; where nobody answers that, the server's last word counts.
- An exception is raised only for what no repetition mends (login, wrong URL), and it ends the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bulkstow.errors import LoginRefused, StoreResponseError
from bulkstow.model import (
    Attempt,
    Batch,
    Cause,
    Fate,
    Instance,
    Interruption,
    Outcome,
    Referenced,
    Reply,
    Spoiled,
    StoreResponse,
)
from bulkstow.policy.errands import (
    AMBIGUOUS_TRIES,
    Ask,
    Later,
    Pressure,
    Rules,
    Send,
    Settlement,
    after_excuse,
    after_fault,
    gather,
    halves,
    outcomes_of,
    singly,
)
from bulkstow.policy.exchange import is_absence, pressure_of, status_reason, stop_if_hopeless, words_of
from bulkstow.policy.retry import Delay
from bulkstow.wire import store_response
from bulkstow.wire.dialects import FailureClass, classify, meaning
from bulkstow.wire.server_text import printable

LONGEST_WORD_BYTES = 200
"""dcmjs answers `success`; what is longer, or HTML, was not written by a STOW-RS service."""


def settle(attempt: Attempt, rules: Rules, *, outage: bool = False, admitted: bool = False) -> Settlement:
    """Decide what one exchange settles.

    `outage` says that the destination counts as gone: what fails meanwhile is not the instances' doing, and burns no
    attempt. `admitted` says that it has stored something for us already: then a batch that is not authorised speaks of
    its study, not of our login. Raises LoginRefused (401, 403, every instance of a batch not authorised) and
    DestinationRefused (a redirect, 404, 405, 406, 411, 501). Source: PS3.18 §10.5.3 and Annex I; RFC 9110 §15.
    """
    batch = replace(attempt.batch, requests=attempt.batch.requests + 1)
    match attempt.result:
        case Spoiled(is_begun=False) as spoiled:
            return _settle_spoiled(attempt.batch, spoiled)
        case Spoiled() as spoiled:
            return _settle_spoiled(replace(batch, may_be_stored=True), spoiled)
        case Interruption() as interruption:
            return _settle_interruption(batch, interruption, rules, outage=outage)
        case Reply() as reply:
            batch = replace(batch, may_be_stored=batch.may_be_stored or reply.is_replayed)
            settlement = _settle_reply(batch, reply, rules, outage=outage, admitted=admitted)
            return _without_changed(settlement, reply.changed) if reply.changed else settlement


def _settle_spoiled(batch: Batch, spoiled: Spoiled) -> Settlement:
    """Files were not what the scan had found: the others are sent again and pay no attempt for it."""
    spoilt = [i for i in batch.instances if i.header.sop_instance_uid in spoiled.changed]
    rest = tuple(i for i in batch.instances if i.header.sop_instance_uid not in spoiled.changed)
    outcomes = tuple(
        outcome
        for instance in spoilt
        for outcome in outcomes_of(
            batch, [instance], Fate.UNREADABLE, spoiled.changed[instance.header.sop_instance_uid]
        )
    )
    again = (Later(Send(replace(batch, instances=rest))),) if rest else ()
    return Settlement(outcomes, again, Pressure.NONE)


def _without_changed(settlement: Settlement, changed: Mapping[str, str]) -> Settlement:
    """Claim nothing for files that were written to while their bytes left; the next run sends them as they are then."""

    def is_changed(of: Instance | Outcome) -> bool:
        return of.header is not None and of.header.sop_instance_uid in changed

    def spoilt(outcome: Outcome) -> Outcome:
        if not outcome.fate.is_success or outcome.header is None or not is_changed(outcome):
            return outcome
        reason = f"{changed[outcome.header.sop_instance_uid]}; what the server has may be a mixture"
        return replace(outcome, fate=Fate.UNREADABLE, reason=reason)

    outcomes, again = settlement.outcomes, []
    for later in settlement.again:
        batch = later.errand.batch
        if isinstance(later.errand, Ask) and any(map(is_changed, batch.instances)):
            # That the server has it would prove nothing.
            outcomes += outcomes_of(batch, filter(is_changed, batch.instances), Fate.STORED, "")
            rest = tuple(i for i in batch.instances if not is_changed(i))
            later = replace(later, errand=replace(later.errand, batch=replace(batch, instances=rest)))
        if later.errand.batch.instances:
            again.append(later)
    return replace(settlement, outcomes=tuple(map(spoilt, outcomes)), again=tuple(again))


def _settle_interruption(batch: Batch, interruption: Interruption, rules: Rules, *, outage: bool) -> Settlement:
    batch = replace(batch, may_be_stored=batch.may_be_stored or interruption.body_started)
    if interruption.cause is Cause.UNREACHABLE:
        return Settlement(again=(Later(Send(batch), Delay.BACKOFF),), pressure=Pressure.GONE)
    reason = f"{interruption.cause}{f' ({interruption.detail})' if interruption.detail else ''}"
    if outage and is_absence(interruption):
        return Settlement(again=after_excuse(batch, reason), pressure=Pressure.GONE)
    # An answer may grow with the request: a half of it has nearly the same limit.
    halve_from = 1 if interruption.cause is Cause.OVERLONG else 2
    again = after_fault(batch, rules, reason, halve_from=halve_from)
    return Settlement(again=again, pressure=pressure_of(interruption))


def _settle_reply(batch: Batch, reply: Reply, rules: Rules, *, outage: bool, admitted: bool) -> Settlement:
    stop_if_hopeless(reply)
    try:
        response = store_response.read(reply.body)
    except StoreResponseError:
        response = StoreResponse()
    if not reply.is_whole:
        # No server has stored what has not left us; which instances had left is not known.
        response = replace(response, stored=(), warned=())
    named, again, unnamed, pressure = _settle_named(
        batch, response, rules, reply.warning, outage=outage, admitted=admitted
    )
    again = tuple(replace(later, at_least_s=reply.retry_after_s) for later in again)
    if not unnamed:
        return Settlement(named, again, pressure)
    rest = replace(batch, instances=tuple(unnamed))
    lists_any = bool(response.stored or response.warned or response.failed or response.other_failures)
    left = _settle_unnamed(rest, reply, rules, response.comment, sent=batch, lists_any=lists_any, outage=outage)
    return Settlement(named + left.outcomes, again + left.again, left.pressure, left.too_large_bytes)


def _settle_unnamed(
    batch: Batch, reply: Reply, rules: Rules, comment: str, *, sent: Batch, lists_any: bool, outage: bool
) -> Settlement:
    """Settle instances of the batch `sent` that the answer does not name, though it may list others."""
    alone = len(sent.instances) == 1
    reason = status_reason(reply, comment)
    if 200 <= reply.status < 300:
        return _settle_unlisted(batch, reply, rules, alone=alone, lists_any=lists_any)
    match reply.status:
        case 413:
            larger = Settlement(too_large_bytes=sent.size_bytes, pressure=Pressure.BUSY)
            if alone:
                done, again = _refuse(batch, f"{reason}: {batch.size_bytes} bytes are more than the server takes")
                return replace(larger, outcomes=done, again=again)
            return replace(larger, again=singly(batch) if lists_any else halves(batch))
        case 408 | 424 | 425 | 429 | 502 | 503 | 504 | 507:
            return _settle_busy(batch, reply, rules, reason, outage=outage)
        case status if status >= 500:
            again = after_fault(replace(batch, may_be_stored=True), rules, reason, reply.retry_after_s, halve_from=1)
            return Settlement(again=again)
        case 409 if alone and (told := classify(None, words_of(reply, comment))) is not FailureClass.AMBIGUOUS:
            done, again = _settle_failed(batch, batch.instances[0], told, reason, rules, outage=outage)
            return Settlement(done, again)
        case _ if alone:
            # A bare 409 is not 'duplicate', but after a request without an answer it may mean just that.
            return Settlement(*_refuse(batch, reason))
        case _ if lists_any:
            return Settlement(again=singly(batch))
        case _:
            return Settlement(again=halves(batch))


def _settle_busy(batch: Batch, reply: Reply, rules: Rules, reason: str, *, outage: bool) -> Settlement:
    """Settle instances that a server without time, room or service answered."""
    at_least_s, maybe_stored = reply.retry_after_s, replace(batch, may_be_stored=True)
    match reply.status:
        case 507 if outage:
            return Settlement(again=(Later(Send(batch), Delay.LONG, at_least_s),), pressure=Pressure.FULL)
        case 507:
            return Settlement(again=after_fault(maybe_stored, rules, reason, at_least_s), pressure=Pressure.FULL)
        case 425 | 429 | 503:
            # Too many, not too large: the server has not tried the instances, so this is no attempt.
            return Settlement(again=after_excuse(maybe_stored, reason, at_least_s), pressure=Pressure.REJECTED)
        case 502 | 504 if outage:
            return Settlement(again=after_excuse(maybe_stored, reason, at_least_s), pressure=Pressure.GONE)
        case _:
            again = after_fault(maybe_stored, rules, reason, at_least_s, halve_from=2)
            return Settlement(again=again, pressure=Pressure.GONE if is_absence(reply) else Pressure.BUSY)


def _settle_unlisted(batch: Batch, reply: Reply, rules: Rules, *, alone: bool, lists_any: bool) -> Settlement:
    """Settle instances that a 2xx does not name: alone first, then by QIDO-RS; the status proves nothing."""
    if rules.trust_status and reply.is_whole and not lists_any and _is_plain(reply.body):
        return Settlement(outcomes_of(batch, batch.instances, Fate.STORED, f"HTTP {reply.status}, trusted"))
    if alone:
        return Settlement(again=(Later(Ask(batch, f"HTTP {reply.status} without naming it")),))
    return Settlement(again=singly(replace(batch, may_be_stored=True)))


def _settle_named(
    batch: Batch, response: StoreResponse, rules: Rules, warning: str, *, outage: bool, admitted: bool
) -> tuple[tuple[Outcome, ...], tuple[Later, ...], list[Instance], Pressure]:
    """Settle instances that the answer names; return outcomes, what goes again, who is not named, and the pressure."""
    by_uid = {instance.header.sop_instance_uid: instance for instance in batch.instances}
    failed = {item.sop_instance_uid: item for item in response.failed if item.sop_instance_uid in by_uid}
    warned = {item.sop_instance_uid: item for item in response.warned}
    stored = {item.sop_instance_uid for item in response.stored} | warned.keys()
    unnamed = [i for uid, i in by_uid.items() if uid not in failed and uid not in stored]
    anonymous = [i for i in response.failed if i.sop_instance_uid not in by_uid] + list(response.other_failures)
    if len(unnamed) == 1 and anonymous:
        # By elimination: dcm4chee makes a UID up for what it cannot read, Azure leaves it out. Never by position:
        # of several that do not agree, none is known to be its own.
        failed[unnamed.pop().header.sop_instance_uid] = _agreed(anonymous)
    if response.comment and len(failed) == 1 and len(response.failed) + len(response.other_failures) == 1:
        # Beside the sequences it can only speak of the one failure.
        failed = {uid: replace(item, comment=item.comment or response.comment) for uid, item in failed.items()}

    if not admitted:
        _stop_if_not_authorised(batch, failed)
    outcomes: list[Outcome] = []
    again: list[Later] = []
    for uid, instance in by_uid.items():
        if uid in failed:
            item = failed[uid]
            reason = meaning(item.code, item.comment or response.comment)
            done, later = _settle_failed(batch, instance, _class_of(item), reason, rules, outage=outage)
            outcomes += done
            again += later
        elif uid in warned:
            told = f" ({printable(warning)})" if warning else ""
            reason = meaning(warned[uid].code, warned[uid].comment) + told
            outcomes += outcomes_of(batch, [instance], Fate.WARNED, reason)
        elif uid in stored:
            outcomes += outcomes_of(batch, [instance], Fate.STORED, "")
    full = bool(failed) and all(_class_of(i) is FailureClass.BUSY for i in failed.values())
    pressure = Pressure.FULL if full and len(failed) == len(batch.instances) else Pressure.EASED
    return tuple(outcomes), gather(again), unnamed, pressure


def _agreed(failures: Sequence[Referenced]) -> Referenced:
    """Return the code and the words that several failures have in common."""
    codes = {failure.code for failure in failures}
    comments = {failure.comment for failure in failures} if len(codes) == 1 else set()
    return Referenced("", "", codes.pop() if len(codes) == 1 else None, comments.pop() if len(comments) == 1 else "")


def _class_of(failure: Referenced) -> FailureClass:
    return classify(failure.code, failure.comment)


def _stop_if_not_authorised(batch: Batch, failed: dict[str, Referenced]) -> None:
    everyone = len(failed) == len(batch.instances)
    if everyone and all(_class_of(item) is FailureClass.NOT_AUTHORISED for item in failed.values()):
        raise LoginRefused("the server says of every instance that we may not store it (0124): ask for that right")


def _settle_failed(
    batch: Batch, instance: Instance, failure: FailureClass, reason: str, rules: Rules, *, outage: bool
) -> tuple[tuple[Outcome, ...], tuple[Later, ...]]:
    """Settle one instance that the server named as failed."""
    one = replace(batch, instances=(instance,))
    match failure:
        case FailureClass.DUPLICATE if batch.may_be_stored and not instance.rival:
            return outcomes_of(one, [instance], Fate.STORED, f"{reason}, by an earlier request of ours"), ()
        case FailureClass.DUPLICATE:
            return outcomes_of(one, [instance], Fate.DUPLICATE, reason), ()
        case FailureClass.OTHER_CONTENT:
            return outcomes_of(one, [instance], Fate.REFUSED, reason), ()
        case FailureClass.PERMANENT | FailureClass.NOT_AUTHORISED:
            return _refuse(one, reason)
        case FailureClass.AMBIGUOUS:
            one = replace(one, was_ambiguous=True)
            if len(batch.instances) > 1:
                return (), (Later(Send(one)),)
            one = replace(one, doubts=batch.doubts + 1)
            if one.doubts >= min(AMBIGUOUS_TRIES, rules.attempts):
                return _refuse(one, reason)
            return (), (Later(Send(one), Delay.BACKOFF),)
        case FailureClass.BUSY if outage:
            return (), (Later(Send(one), Delay.LONG),)
        case FailureClass.RETRY | FailureClass.RETRY_SLOWLY | FailureClass.BUSY:
            one = replace(one, faults=batch.faults + 1)
            if one.faults >= rules.attempts:
                return _give_up(one, reason, Fate.UNCONFIRMED)
            return (), (Later(Send(one), Delay.BACKOFF if failure is FailureClass.RETRY else Delay.LONG),)


def _refuse(batch: Batch, reason: str) -> tuple[tuple[Outcome, ...], tuple[Later, ...]]:
    return _give_up(batch, reason, Fate.REFUSED)


def _give_up(batch: Batch, reason: str, fate: Fate) -> tuple[tuple[Outcome, ...], tuple[Later, ...]]:
    """Settle a batch as failed; ask first whether it is there, if an earlier request may have stored it."""
    if batch.may_be_stored or batch.was_ambiguous:
        return (), (Later(Ask(batch, reason, otherwise=fate)),)
    return outcomes_of(batch, batch.instances, fate, reason), ()


def _is_plain(body: bytes) -> bool:
    """Say whether a body that lists nothing is empty, a bare word, or a response: not somebody's login page."""
    try:
        store_response.read(body)
    except StoreResponseError:
        return len(body) < LONGEST_WORD_BYTES and b"<" not in body
    return True
